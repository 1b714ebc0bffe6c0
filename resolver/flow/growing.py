"""A blob that is still on its way, for any number of clients: one fetch, and all read behind it.

Nobody gets the last byte before all of them were hashed: what a liar sent is never complete in a
client's hands, whatever the client checks.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from resolver.errors import ConnectionFailed, ResolverError

if TYPE_CHECKING:
    from resolver.core.descriptor import Descriptor
    from resolver.flow.regular import RegularFile
    from resolver.store.receiving import Receiving

#: Seconds between two looks at what has come, where nobody tells.
_STEP: Final = 0.25
#: Likewise, where the transfer has ended and its outcome is about to be told.
_SHORT: Final = 0.02


class Fetch:
    """One blob under way; `began`, `done` and `failed` are told by the thread that fetches it."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self._state = threading.Condition()
        self._receiving: Receiving | None = None
        self._round = 0
        self._done = False
        self._error: ResolverError | None = None

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

    def wait_for_first(self) -> None:
        """Wait until there is something to send, so that a refusal still has a status.

        Raises:
            ResolverError: it cannot be had.

        """
        while True:
            receiving, _ = self.current()
            if receiving is None or receiving.available(0, _STEP) or self.is_over(_SHORT):
                return

    def current(self) -> tuple[Receiving | None, int]:
        """Wait until it is known where the bytes are; None once all are in the store.

        Raises:
            ResolverError: it cannot be had.

        """
        with self._state:
            self._state.wait_for(lambda: self._done or self._error or self._receiving)
            if self._error is not None:
                raise self._error
            return (None, self._round) if self._done else (self._receiving, self._round)

    def is_over(self, seconds: float) -> bool:
        """Wait for the end a little; whether it has come.

        Raises:
            ResolverError: it cannot be had.

        """
        with self._state:
            self._state.wait_for(lambda: self._done or self._error, seconds)
            if self._error is not None:
                raise self._error
            return self._done


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

    def read(self, position: int, most: int) -> bytes:
        """Give what there is from a position on, as soon as there is something.

        Raises:
            ResolverError: it will not come, or what was given before was no good.
            OSError: it cannot be read here.

        """
        while True:
            receiving, count = self._fetch.current()
            if receiving is None:
                return self._take(position, most)
            self._open(receiving, count)
            end = receiving.available(position, _STEP)
            # The last byte is for those who know that all of them are right.
            end = min(end, self.size - 1)
            if end > position and self._number >= 0:
                return os.pread(self._number, min(most, end - position), position)
            self._fetch.is_over(_SHORT)

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
