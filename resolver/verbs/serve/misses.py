"""Limit requests to a registry for content that may not exist, and queue the clients.

Clients choose names freely. A made-up name must cost the registry little, and must not keep other
clients from their answers.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from heapq import nsmallest
from itertools import takewhile
from typing import TYPE_CHECKING

from resolver.verbs.serve import shared_fetch
from resolver.verbs.serve.api import Later
from resolver.verbs.serve.connections import NOBODY, Peer

if TYPE_CHECKING:
    from resolver.clock import Clock

#: Unsuccessful requests per second to one registry, for content that no document lists.
MAX_MISSES = 20
#: Seconds for which it is remembered that something is missing, and entries that are kept.
MISSING, _MAX_KNOWN = 10.0, 10_000
#: Seconds for which misses count against whose they were, for which a client waits for its turn,
#: and after which one that has not come again is gone.
_WINDOW, _PATIENCE, _GONE = 10.0, 60.0, 2.0
#: One call of so many is for the client that has waited for longest.
_OLDEST = 4

#: The subject of a request: kind, repository, tag or digest.
Asked = tuple[str, str, str]


class Busy(Exception):
    """A client has waited for its turn for too long."""


#: A question of a client that waits.
_Waiter = tuple[Peer, Asked]


class _Line:
    """The questions to one registry that it may have no answer to, and who waits to put one."""

    def __init__(self) -> None:
        #: Misses of the last `_WINDOW` seconds, with whose they were.
        self.missed: deque[tuple[float, Peer, str]] = deque()
        #: When the questions under way began.
        self.asking: dict[_Waiter, float] = {}
        #: Since when a client waits, and when it last came; the first to come is the first here.
        self.waiting: dict[_Waiter, tuple[float, float]] = {}
        #: Who may put its question now, and until when.
        self.called: dict[_Waiter, float] = {}
        self._calls = 0

    def room(self, now: float) -> int:
        """Count the questions that may be put now."""
        while self.missed and self.missed[0][0] <= now - _WINDOW:
            self.missed.popleft()
        missed = sum(1 for _ in takewhile(lambda each: each[0] > now - 1.0, reversed(self.missed)))
        moving = sum(now - begun < shared_fetch.STALL for begun in self.asking.values())
        return MAX_MISSES - missed - moving - len(self.called)

    def call(self, now: float) -> None:
        """Call as many of those who wait as there is room for.

        First those with the fewest misses, by address, then by repository, then by connection, so
        that a flood of one client keeps no other one waiting. Every fourth call is for the one
        that has waited for longest.
        """
        for gone in [each for each, until in self.called.items() if until <= now]:
            del self.called[gone]
        for gone in [each for each, (_, came) in self.waiting.items() if came < now - _GONE]:
            del self.waiting[gone]
        room = self.room(now)
        if room <= 0 or not self.waiting:
            return
        hosts = Counter(peer[0] for _, peer, _ in self.missed)
        repositories = Counter((peer[0], name) for _, peer, name in self.missed)
        peers = Counter(peer for _, peer, _ in self.missed)

        def rank(waiter: _Waiter) -> tuple[int, int, int, float]:
            peer, (_, name, _) = waiter
            since, _ = self.waiting[waiter]
            return hosts[peer[0]], repositories[peer[0], name], peers[peer], since

        best = deque(nsmallest(room, self.waiting, rank))
        for _ in range(min(room, len(self.waiting))):
            self._calls += 1
            is_oldest = self._calls % _OLDEST == 0
            chosen = next(iter(self.waiting)) if is_oldest else best.popleft()
            if chosen in self.waiting:
                del self.waiting[chosen]
                self.called[chosen] = now + _GONE


class Misses:
    """Limits requests to registries for content that they lack; safe to share between threads.

    Clients choose names freely, so that a registry gets a limited number of unsuccessful requests
    per second. What it lacks is remembered for a short time. Requests for anything else wait, and
    are never answered with an unconfirmed "not found".
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[Asked, float] = {}
        self._lines: defaultdict[str, _Line] = defaultdict(_Line)

    def check(self, registry: str, request: Asked, peer: Peer = NOBODY) -> bool:
        """Whether a registry may get the request now; False if it is known to lack the content.

        After True, call `done` or `put_back`.
        """
        now, waiter = self._clock.monotonic(), (peer, request)
        with self._lock:
            line = self._lines[registry]
            if self._until.get(request, now) > now:
                line.waiting.pop(waiter, None)
                line.called.pop(waiter, None)
                return False
            if waiter not in line.called:
                since, _ = line.waiting.get(waiter, (now, now))
                if now - since >= _PATIENCE:
                    del line.waiting[waiter]
                    raise Busy
                line.waiting[waiter] = since, now
                if line.room(now) > 0:
                    line.call(now)
            if waiter in line.called:
                del line.called[waiter]
                line.asking[waiter] = now
                return True
        raise Later

    def put_back(self, registry: str, request: Asked, peer: Peer = NOBODY) -> None:
        """Note that a question was not put after all; its client is still the next one."""
        with self._lock:
            line = self._lines[registry]
            line.asking.pop((peer, request), None)
            line.called[peer, request] = self._clock.monotonic() + _GONE

    def done(
        self, registry: str, request: Asked, peer: Peer = NOBODY, *, missing: float | None = None
    ) -> None:
        """Note that a question was answered; `missing` in vain, to be remembered for so long."""
        now = self._clock.monotonic()
        with self._lock:
            line = self._lines[registry]
            line.asking.pop((peer, request), None)
            if missing is not None:
                line.missed.append((now, peer, request[1]))
                self._until[request] = now + missing
                while len(self._until) > _MAX_KNOWN:
                    self._until.pop(next(iter(self._until)))
