"""A blob that is still on its way, for any number of clients: one fetch, and all read behind it.

Nobody gets the last byte before all of them were hashed: what a liar sent is never complete in a
client's hands, whatever the client checks.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from resolver.errors import ConnectionFailed, ResolverError

if TYPE_CHECKING:
    from resolver.core.descriptor import Descriptor
    from resolver.flow.regular import RegularFile
    from resolver.store.receiving import Receiving


#: Seconds that a fetch may go on while another registry could give the same blob, and the bytes
#: that it must bring in each second to go on for longer.
_GRACE, _PACE = 5.0, 16_384


class Fetch:
    """One blob under way; `began`, `done` and `failed` are told by the thread that fetches it."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self._state = threading.Condition()
        self._receiving: Receiving | None = None
        self._round = 0
        self._done = False
        self._error: ResolverError | None = None
        self._contested: tuple[float, int] | None = None

    def contest(self, now: float) -> None:
        """Note that another registry is asked for this blob too, and has to wait; in seconds."""
        with self._state:
            if self._contested is None:
                self._contested = now, self._come()

    def is_in_the_way(self, now: float) -> bool:
        """Say whether it keeps another registry from giving the blob, and brings little itself."""
        with self._state:
            if self._contested is None or self._receiving is None:
                return False
            since, come = self._contested
            return now - since >= _GRACE and self._come() - come < _PACE * (now - since)

    def _come(self) -> int:
        ranges = self._receiving.ranges if self._receiving is not None else ()
        return sum(end - start for start, end in ranges)

    def began(self, receiving: Receiving) -> None:
        """Note that bytes begin to come; a second time when those before were no good."""
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
        """Note that it cannot be had."""
        with self._state:
            self._error = error
            self._state.notify_all()

    def known(self) -> tuple[Receiving | None, int] | None:
        """Say where the bytes are: in the store once all are, which is None in place of a file.

        With the number of the try that they belong to; None while no byte has begun to come.

        Raises:
            ResolverError: it cannot be had.

        """
        with self._state:
            if self._error is not None:
                raise self._error
            if self._done:
                return None, self._round
            return None if self._receiving is None else (self._receiving, self._round)


class Growing:
    """One client's view of a blob under way; to be read in one thread, and closed.

    Attributes:
        size: of the whole blob, in bytes.

    """

    def __init__(self, fetch: Fetch, file: RegularFile) -> None:
        self.size = fetch.descriptor.size
        self._fetch = fetch
        self._file = file
        self._number = -1
        self._round = 0

    def __len__(self) -> int:
        return self.size

    def has_begun(self) -> bool:
        """Say whether there is something to send, or the blob is empty.

        Raises:
            ResolverError: it cannot be had.

        """
        known = self._fetch.known()
        if known is None:
            return False
        return known[0] is None or known[0].available(0, 0.0) > 0

    def take(self, position: int, most: int) -> bytes | None:
        """Give what there is from a position on; None while nothing is, empty at an early end.

        Raises:
            ResolverError: it will not come, or what was given before was no good.
            OSError: it cannot be read here.

        """
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
        return None

    def close(self) -> None:
        """Give the file back."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1

    def _open(self, receiving: Receiving, count: int) -> None:
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
