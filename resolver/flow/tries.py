"""How often a transfer that breaks off is taken up again: as long as it gets on (R16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from resolver.errors import ResolverError
    from resolver.sources.retry import Clock

#: What counts as progress, in bytes, and the tries without. Source: reliability.md section 5.
PROGRESS = 1 << 20
MAX_TRIES = 5
#: Seconds without progress after which a second failure is the last.
#: Source: containers/image docker/body_reader.go, which resumes after 60 s.
PATIENCE = 60.0
#: Seconds before the first new try, and the most before any. Source: reliability.md section 5.
_BASE, _CAP = 0.2, 30.0


class Tries:
    """The tries of one stretch of a blob.

    Args:
        clock: for waiting.
        stop: ends a wait early.
        position: where the stretch begins, in bytes.

    """

    def __init__(self, clock: Clock, stop: threading.Event, position: int) -> None:
        self._clock = clock
        self._stop = stop
        self._reached = position
        self._failed = 0
        self._since = clock.monotonic()

    def wait_after(self, error: ResolverError, position: int) -> float:
        """Count a failure, and wait for as long as is decent; gives the seconds.

        Raises:
            ResolverError: `error`, when there is no sense in going on.

        """
        now = self._clock.monotonic()
        if position >= self._reached + PROGRESS:
            self._reached, self._failed, self._since = position, 0, now
        self._failed += 1
        too_long = self._failed > 1 and now - self._since >= PATIENCE
        if self._failed >= MAX_TRIES or too_long or self._stop.is_set():
            raise error
        longest = min(_BASE * float(2 ** (self._failed - 1)), _CAP)
        wait = longest * self._clock.chance()
        self._clock.sleep(wait, self._stop)
        return wait
