"""What is particular about asking one host: whom to believe, what to send, how fast."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import field
from typing import TYPE_CHECKING, Final

from resolver.sources.credentials.secrets import Secret
from resolver.sources.http.tls import trust_of_host
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.clock import Clock
    from resolver.core.registry.endpoints import HostSettings
    from resolver.sources.http.tls import Trust


#: Seconds without a byte after which a connection makes room for one that waits, and how many
#: times the usual number of connections may be open then.
SILENT: Final = 3.0
MOST_SILENT: Final = 8
#: Seconds between two looks at connections that may have fallen silent.
_LOOK: Final = 0.25


@dataclass(frozen=True, slots=True)
class HostOptions:
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


def way_of(settings: HostSettings, usual: HostOptions) -> HostOptions:
    """Read what a host's settings say.

    Raises:
        InvalidConfiguration: a file they name cannot be used.

    """
    return HostOptions(
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


class Place:
    """The right to one connection, until `release`."""

    def __init__(self, places: Places, now: float) -> None:
        self._places = places
        self.moved_at = now

    def moved(self) -> None:
        """Note that bytes came."""
        self.moved_at = self._places.clock.monotonic()

    def release(self) -> None:
        """Let the next one have it."""
        self._places.give_back(self)


class Places:
    """The connections to one host, given out in the order in which they are asked for.

    A stalled connection does not delay the others: while it has been silent for `SILENT` seconds,
    one that waits gets a place beside it.

    Args:
        count: connections at once, of which bytes come.
        most: connections at once, silent ones included.
        clock: tells how long a connection has been silent.

    """

    def __init__(self, count: int, most: int, clock: Clock) -> None:
        self.clock = clock
        self._count = count
        self._most = most
        self._state = threading.Condition()
        self._queue: deque[object] = deque()
        self._held: set[Place] = set()

    def take(self) -> Place:
        """Wait for a place."""
        turn = object()
        with self._state, self._in_line(turn):
            while self._queue[0] is not turn or not self._has_room():
                # Only the first in line looks for silent connections.
                self._state.wait(_LOOK if self._queue[0] is turn else None)
            place = Place(self, self.clock.monotonic())
            self._held.add(place)
            return place

    def give_back(self, place: Place) -> None:
        """Take a place back; a second time does nothing."""
        with self._state:
            self._held.discard(place)
            self._state.notify_all()

    @contextmanager
    def _in_line(self, turn: object) -> Iterator[None]:
        self._queue.append(turn)
        try:
            yield
        finally:
            self._queue.remove(turn)
            self._state.notify_all()

    def _has_room(self) -> bool:
        if len(self._held) < self._count:
            return True
        since = self.clock.monotonic() - SILENT
        moving = sum(place.moved_at > since for place in self._held)
        return moving < self._count and len(self._held) < self._most
