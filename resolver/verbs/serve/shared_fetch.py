"""Stream a blob to any number of clients while it is fetched once.

No client gets the last byte before the digest is verified: corrupt content is never complete at a
client, even one that verifies nothing.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import IO, TYPE_CHECKING

from resolver.errors import ConnectionFailed, ResolverError
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.oci.descriptor import Descriptor
    from resolver.store.receive import BlobWriter


#: Seconds that a fetch may delay another registry's fetch of the same blob, and the bytes per
#: second that it must receive to continue for longer.
_GRACE, _PACE = 5.0, 16_384
#: Seconds without a byte after which a fetch is stalled.
STALL = 3.0


class Fetch:
    """One blob being fetched; the fetching thread calls `began`, `done` and `failed`."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self._state = threading.Condition()
        self._receiving: BlobWriter | None = None
        self._round = 0
        self._done = False
        self._error: ResolverError | None = None
        self._contested: tuple[float, int] | None = None
        self._moved = 0.0, -1

    def contest(self, now: float) -> None:
        """Record since when another registry's fetch of this blob waits; in seconds."""
        with self._state:
            if self._contested is None:
                self._contested = now, self._come()

    def is_in_the_way(self, now: float) -> bool:
        """Whether this fetch delays another registry's, and receives too little itself."""
        with self._state:
            if self._contested is None or self._receiving is None:
                return False
            since, come = self._contested
            return now - since >= _GRACE and self._come() - come < _PACE * (now - since)

    @property
    def has_begun(self) -> bool:
        """Whether its thread has the right to fetch the blob."""
        return self._receiving is not None

    def is_stalled(self, now: float) -> bool:
        """Whether no byte has arrived for `STALL` seconds, as of the previous checks."""
        with self._state:
            come = self._come()
            since, before = self._moved
            if come != before:
                self._moved = now, come
            return come == before and now - since >= STALL

    def give_up(self, error: ResolverError) -> bool:
        """End the fetch although its thread still waits for bytes; keep what has arrived.

        Returns False when all bytes are here already, or when it has ended.
        """
        with self._state:
            receiving = self._receiving
        if receiving is None or not receiving.abandon():
            return False
        self.failed(error)
        return True

    def _come(self) -> int:
        ranges = self._receiving.ranges if self._receiving is not None else ()
        return sum(end - start for start, end in ranges)

    def began(self, receiving: BlobWriter) -> None:
        """Record that bytes arrive; called again after wrong bytes were discarded."""
        with self._state:
            self._receiving = receiving
            self._round += 1
            self._state.notify_all()

    def done(self) -> None:
        """Note that the blob is here, whole and verified."""
        with self._state:
            self._done = True
            self._state.notify_all()

    def failed(self, error: ResolverError) -> None:
        """Record the failure; the first reason counts."""
        with self._state:
            self._error = self._error or error
            self._state.notify_all()

    def known(self) -> tuple[BlobWriter | None, int] | None:
        """Return the open file of the bytes, or None once all are in the store.

        With the number of the attempt that wrote them; None while no byte has arrived.
        """
        with self._state:
            if self._error is not None:
                raise self._error
            if self._done:
                return None, self._round
            return None if self._receiving is None else (self._receiving, self._round)


class PartialBlobReader:
    """One client's view of a blob being fetched; use it in one thread, and close it.

    Args:
        waits: called when the next byte has not arrived yet.

    Attributes:
        size: of the whole blob, in bytes.
    """

    def __init__(
        self, fetch: Fetch, file: RegularFile, waits: Callable[[], None] = lambda: None
    ) -> None:
        self.size = fetch.descriptor.size
        self._fetch = fetch
        self._file = file
        self._waits = waits
        self._number = -1
        self._round = 0

    def __len__(self) -> int:
        return self.size

    def has_begun(self) -> bool:
        """Whether there are bytes to send, or the blob is empty."""
        known = self._fetch.known()
        if known is None:
            self._waits()
            return False
        return known[0] is None or known[0].available(0, 0.0) > 0

    def take(self, position: int, most: int) -> bytes | None:
        """Return the bytes available at a position; None while there are none, empty at the end."""
        known = self._fetch.known()
        if known is None:
            return None
        receiving, count = known
        if receiving is None:
            return self._take(position, most)
        self._open(receiving, count)
        # The last byte is for those who know that all of them are right.
        end = min(receiving.available(position, 0.0), self.size - 1)
        if end > position and self._number >= 0:
            return os.pread(self._number, min(most, end - position), position)
        self._waits()
        return None

    def close(self) -> None:
        """Close the file."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1

    def _open(self, receiving: BlobWriter, count: int) -> None:
        if self._number >= 0 and count != self._round:
            raise ConnectionFailed("what was sent so far has turned out to be wrong")
        if self._number < 0:
            self._number = receiving.duplicate() or -1
            self._round = count

    def _take(self, position: int, most: int) -> bytes:
        """Read from what is whole by now: the same file, or the store's."""
        if self._number < 0:
            with self._file.open() as file:
                self._number = os.dup(file.fileno())
        return os.pread(self._number, most, position)


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class RegularFile:
    """A file, as a folder chosen by the user and validated names below it.

    Attributes:
        folder: may be, or contain, symbolic links: the user chose it.
        names: below the folder; the last is the file's.
    """

    folder: str
    names: tuple[str, ...]

    def open(self) -> IO[bytes]:
        """Open it for reading, unbuffered; the caller closes it."""
        here = os.open(self.folder, _FOLDER)
        try:
            for name in self.names[:-1]:
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
                os.close(here)
                here = inner
            number = os.open(self.names[-1], _FILE, dir_fd=here)
        finally:
            os.close(here)
        # `fdopen` itself refuses a folder, in words of its own.
        is_regular = stat.S_ISREG(os.fstat(number).st_mode)
        file = os.fdopen(number, "rb", buffering=0) if is_regular else None
        if file is None:
            os.close(number)
            raise OSError(errno.EINVAL, "it is not a regular file", self.path)
        return file

    @property
    def path(self) -> str:
        """For messages."""
        return "/".join((self.folder, *self.names))
