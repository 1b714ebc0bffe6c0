"""What is particular about asking one host: whom to believe, what to send, how fast."""

from __future__ import annotations

import threading
from dataclasses import field
from typing import TYPE_CHECKING

from resolver.sources.credential_values import Secret
from resolver.sources.trust import trust_of_host
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.hosts import HostSettings
    from resolver.sources.retry import Clock
    from resolver.sources.trust import Trust


@dataclass(frozen=True, slots=True)
class Way:
    """How one host is asked.

    Attributes:
        trust: for this host alone, the usual one included.
        headers: go to its own origin and nowhere else.
        connect_timeout, read_timeout: in seconds.
        rate: requests per second at most; None for as many as there are.
        jobs: requests at once at most; None for the usual number.

    """

    trust: Trust
    connect_timeout: float
    read_timeout: float
    headers: tuple[tuple[str, Secret], ...] = field(default=(), repr=False)
    rate: float | None = None
    jobs: int | None = None


def way_of(settings: HostSettings, usual: Way) -> Way:
    """Read what a host's settings say.

    Raises:
        InvalidConfiguration: a file they name cannot be used.

    """
    return Way(
        trust_of_host(usual.trust, settings),
        settings.connect_timeout or usual.connect_timeout,
        settings.read_timeout or usual.read_timeout,
        tuple((name, Secret(value)) for name, value in settings.headers),
        settings.rate,
        settings.jobs,
    )


class Pacer:
    """Spreads requests to one host evenly: so many in a second, and no more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}

    def wait(self, host: str, rate: float, stop: threading.Event) -> None:
        """Wait for this request's turn."""
        now = self._clock.monotonic()
        with self._lock:
            turn = max(self._next.get(host, now), now)
            self._next[host] = turn + 1 / rate
        if turn > now and not stop.is_set():
            self._clock.sleep(turn - now, stop)
