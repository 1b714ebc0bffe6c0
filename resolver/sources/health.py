"""Which endpoints are left alone for a while, and which have lied; shared by all repositories."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from resolver.core.digest import Digest
    from resolver.core.hosts import Endpoint
    from resolver.sources.retry import Clock

#: Seconds in which an endpoint that did not answer is not asked again. Source: protocol.md 13.
REST: Final = 60.0
#: Pieces of content that an endpoint may get wrong before it is not asked for any more.
MAX_LIES: Final = 3


class Health:
    """What is known of endpoints in this run; safe to share between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}
        self._lies: dict[str, set[Digest]] = {}

    def rest(self, endpoint: Endpoint, seconds: float = REST) -> bool:
        """Leave an endpoint alone for a while; False if it is already."""
        now = self._clock.monotonic()
        with self._lock:
            is_new = self._until.get(endpoint.url, now) <= now
            self._until[endpoint.url] = now + seconds
            return is_new

    def lied(self, endpoint: Endpoint, digest: Digest) -> bool:
        """Note that an endpoint gave other bytes for a digest; False if that is known."""
        with self._lock:
            lies = self._lies.setdefault(endpoint.url, set())
            is_new = digest not in lies
            lies.add(digest)
            return is_new

    def may_ask(self, endpoint: Endpoint, digest: Digest | None) -> bool:
        """Whether there is sense in asking an endpoint now, for this digest."""
        with self._lock:
            if self._until.get(endpoint.url, 0.0) > self._clock.monotonic():
                return False
            lies = self._lies.get(endpoint.url, set())
            return digest not in lies and len(lies) < MAX_LIES
