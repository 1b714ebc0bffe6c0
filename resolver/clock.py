"""Clocks: the time that code waits by, real or scripted."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading


class Clock(Protocol):
    """Time as this program sees it."""

    def monotonic(self) -> float:
        """Seconds that only ever grow."""
        ...

    def wall(self) -> float:
        """Seconds since 1970, UTC."""
        ...

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        """Wait, or return early when `stop` is set."""
        ...

    def chance(self) -> float:
        """Draw a number from 0 to 1."""
        ...


class SystemClock:
    """The real thing."""

    def monotonic(self) -> float:
        """Seconds that only ever grow."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time()

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        """Wait, or return early when `stop` is set."""
        stop.wait(seconds)

    def chance(self) -> float:
        """Draw a number from 0 to 1."""
        return random.random()  # noqa: S311 - spreads retries, guards nothing
