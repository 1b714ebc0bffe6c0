"""Retries, rate limits and connection limits (docs/wire-protocol.md, "Retry and back-off").

Time, sleep and randomness come from `Clock`, so that tests never wait.
"""

from __future__ import annotations

import email.utils
import re
import threading
from collections import deque
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Final

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.clock import Clock
    from resolver.sources.http.messages import RetryableFailure

#: Statuses that are retried; CDNs send 499 and 522.
RETRIED = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
TOO_MANY = 429

_SECONDS = re.compile(r"[0-9]{1,10}")
_MAX_DATE = 64


#: Seconds before the first retry, before jitter, and the most before any.
BASE, CAP = 0.2, 30.0


def backoff(failures: int, clock: Clock, base: float = BASE, cap: float = CAP) -> float:
    """Return the seconds to wait after a number of failures: exponential, with full jitter.

    The jitter keeps clients that failed together from retrying together.
    """
    return min(base * 2.0 ** (failures - 1), cap) * clock.chance()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits of retries; times in seconds.

    Attributes:
        attempts: in total, the first included.
        base, cap: of the exponential back-off, before jitter.
        longest_wait: give up if the server requests a longer wait.
        deadline: of all attempts, waits included.
        silence: limit for a host that accepts no connection, as behind a firewall that drops
            packets.

    See docs/wire-protocol.md, "Retry and back-off".

    """

    attempts: int = 5
    base: float = BASE
    cap: float = CAP
    longest_wait: float = 60.0
    deadline: float = 120.0
    silence: float = 30.0


class Budget:
    """The attempts of one request; `within` sets the deadline of a sub-request.

    Attributes:
        end: the deadline, in seconds on the monotonic clock.
        stop: set when the request is cancelled.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        clock: Clock,
        stop: threading.Event | None = None,
        within: Budget | None = None,
    ) -> None:
        self.stop = stop or threading.Event()
        self._policy = policy
        self._clock = clock
        self._begun = clock.monotonic()
        self.end: float = within.end if within else self._begun + policy.deadline
        self._tried = 0

    @property
    def tried(self) -> int:
        """Number of failed attempts."""
        return self._tried

    def remaining(self) -> float:
        """Return the seconds until the deadline; always positive, so that timeouts stay valid."""
        return max(self.end - self._clock.monotonic(), 0.001)

    def wait_after(self, failure: RetryableFailure) -> float | None:
        """Count a failed attempt and return the seconds to wait; None to give up."""
        self._tried += 1
        called_off = self.stop.is_set()
        if called_off or not failure.transient or self._tried >= self._policy.attempts:
            return None
        requested = failure.retry_after or 0.0
        if requested > self._policy.longest_wait:
            return None
        wait = max(
            backoff(self._tried, self._clock, self._policy.base, self._policy.cap), requested
        )
        now = self._clock.monotonic()
        if failure.unconnected and self._is_too_silent(now - self._begun, wait):
            return None
        return wait if now + wait < self.end else None

    def _is_too_silent(self, spent: float, wait: float) -> bool:
        """Whether another attempt of average length would exceed the limit for silence."""
        return spent + wait + spent / self._tried > self._policy.silence


class Gate:
    """Delays all requests to a host that answered 429; shared by all threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def shut(self, host: str, seconds: float) -> None:
        """Delay requests to this host; a longer earlier delay remains."""
        until = self._clock.monotonic() + seconds
        with self._lock:
            self._until[host] = max(self._until.get(host, 0.0), until)

    def wait(self, host: str, stop: threading.Event) -> None:
        """Wait until requests to this host are allowed."""
        with self._lock:
            left = self._until.get(host, 0.0) - self._clock.monotonic()
        if left > 0:
            self._clock.sleep(left, stop)


def parse_retry_after(text: str | None, now: float) -> float | None:
    """Parse `Retry-After`: whole seconds, or a date in any of HTTP's three formats.

    `now` is in seconds since 1970, UTC. Returns seconds; None if absent, past or invalid.

    Source: RFC 9110, 10.2.3 and 5.6.7.

    """
    text = (text or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    if not text or len(text) > _MAX_DATE or not text.isascii():
        return None
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    seconds = when.timestamp() - now
    return seconds if seconds > 0 else None


#: Seconds without a byte after which a connection stops counting against the limit, and the factor
#: by which the limit can be exceeded then.
SILENT: Final = 3.0


MOST_SILENT: Final = 8


#: Seconds between two checks for silent connections.
_LOOK: Final = 0.25


class Pacer:
    """Limits the rate of requests to one host, evenly spaced."""

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


class ConnectionSlot:
    """Permission for one connection, until `release`."""

    def __init__(self, slots: ConnectionSlots, now: float) -> None:
        self._slots = slots
        self.moved_at = now

    def moved(self) -> None:
        """Record received bytes."""
        self.moved_at = self._slots.clock.monotonic()

    def release(self) -> None:
        """Release the slot."""
        self._slots.give_back(self)


class ConnectionSlots:
    """The connections to one host, granted in order of request.

    A stalled connection does not block others: once silent for `SILENT` seconds, a waiting request
        gets an additional slot.

    Args:
        count: most active connections.
        most: most connections, silent ones included.
        clock: measures silence.

    """

    def __init__(self, count: int, most: int, clock: Clock) -> None:
        self.clock = clock
        self._count = count
        self._most = most
        self._state = threading.Condition()
        self._queue: deque[object] = deque()
        self._held: set[ConnectionSlot] = set()

    def take(self) -> ConnectionSlot:
        """Wait for a slot."""
        turn = object()
        with self._state, self._in_line(turn):
            while self._queue[0] is not turn or not self._has_room():
                # Only the first in line checks for silent connections.
                self._state.wait(_LOOK if self._queue[0] is turn else None)
            slot = ConnectionSlot(self, self.clock.monotonic())
            self._held.add(slot)
            return slot

    def give_back(self, slot: ConnectionSlot) -> None:
        """Return a slot; a second call does nothing."""
        with self._state:
            self._held.discard(slot)
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
        moving = sum(slot.moved_at > since for slot in self._held)
        return moving < self._count and len(self._held) < self._most
