"""Counting what arrives, and saying so now and then."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from resolver.core.transfers import Advanced

if TYPE_CHECKING:
    from resolver.core.descriptor import Descriptor
    from resolver.core.events import Observer
    from resolver.sources.retry import Clock

#: Seconds between two events of one piece: a line that people watch need not move faster.
_STEP = 0.1


class Progress:
    """The bytes of one piece; several threads may bring them.

    Args:
        tell: is told.
        clock: decides how often.
        descriptor: of the piece.
        done: bytes that were here before.

    """

    def __init__(self, tell: Observer, clock: Clock, descriptor: Descriptor, done: int) -> None:
        self._tell = tell
        self._clock = clock
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._done = done
        self._untold = 0
        self._told_at = clock.monotonic()

    @property
    def done(self) -> int:
        """Bytes that are here."""
        return self._done

    def add(self, size: int) -> None:
        """Count bytes that have arrived."""
        with self._lock:
            self._done += size
            self._untold += size
            if self._clock.monotonic() - self._told_at < _STEP:
                return
            self._say()

    def flush(self) -> None:
        """Say what was not said yet."""
        with self._lock:
            if self._untold:
                self._say()

    def restart(self) -> None:
        """Begin again: what was here cannot be used."""
        with self._lock:
            self._done = 0
            self._untold = 0

    def _say(self) -> None:
        size, self._untold = self._untold, 0
        self._told_at = self._clock.monotonic()
        done, total = self._done, self._descriptor.size
        self._tell(Advanced(self._descriptor.digest, size, done, total))
