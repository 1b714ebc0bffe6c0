"""Retries, rate limits and connection limits (docs/wire-protocol.md, "Retry and back-off").

Time, sleep and randomness come from `Clock`, so that tests never wait.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from datetime import UTC
from typing import TYPE_CHECKING, Final

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.clock import Clock
    from resolver.sources.http.messages import RetryableFailure

#: Statuses that are retried; CDNs send 499 and 522.
RETRIED = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
TOO_MANY, UNAVAILABLE = 429, 503

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
    """Delays all requests to a host that asked for it; shared by all threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def shut(self, host: str, seconds: float) -> None:
        """Delay requests to this host; a longer earlier delay remains."""
        until = self._clock.monotonic() + seconds
        with self._lock:
            self._until[host] = max(self._until.get(host, 0.0), until)

    def left(self, host: str) -> float:
        """Return the seconds until requests to this host are allowed; 0 if they are now."""
        with self._lock:
            return max(self._until.get(host, 0.0) - self._clock.monotonic(), 0.0)

    def wait(self, host: str, stop: threading.Event) -> None:
        """Wait until requests to this host are allowed."""
        left = self.left(host)
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
    import email.utils  # noqa: PLC0415 - 7 ms, for a date alone

    try:
        when = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    seconds = when.timestamp() - now
    return seconds if seconds > 0 else None


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


#: Requests to a host at once as long as nothing is known about it, and good answers after which
#: one more is tried until the host refuses for the first time.
START: Final = 8
#: Growth stops while the median time of a window is longer than the best one by this factor.
_SLOWER: Final = 1.5
#: Good answers at the most that a host accepts before one more is tried, doubled each time it
#: refuses, up to the second number. Fewer than 1 % of the answers are refusals.
_PROBE, _LONGEST_PROBE = 500, 8_000
#: Seconds without a byte after which a request stops counting against the limit.
SILENT: Final = 3.0
#: Seconds between two checks for silent requests.
_LOOK: Final = 0.25
_FIRST_FAULT: Final = 500


class RequestSlot:
    """Permission for one request, until `release`."""

    def __init__(self, limiter: HostLimiter) -> None:
        self._limiter = limiter
        self.turn = threading.Lock()
        self.turn.acquire()
        #: Set when granted: requests under way, this one included; the number of cuts so far; and
        #: whether this one goes beyond what the host accepted.
        self.level = self.cuts = 0
        self.is_probe = False
        self.moved_at = 0.0
        #: Gives back what other processes share, see `SharedLimits`.
        self.give_back_shared: Callable[[], None] | None = None

    def moved(self) -> None:
        """Record received bytes."""
        self.moved_at = self._limiter.clock.monotonic()

    def answered(self, status: int, seconds: float) -> None:
        """Record a response whose headers took some seconds."""
        self.moved()
        if status in (TOO_MANY, UNAVAILABLE):
            self._limiter.shrink(self, refused=status == TOO_MANY)
        elif status < _FIRST_FAULT:
            self._limiter.grow(self, seconds)

    def timed_out(self) -> None:
        """Record that no answer, or no more of it, came in time."""
        self._limiter.shrink(self, refused=False)

    def release(self) -> None:
        """Release the slot; a second call does nothing."""
        if self._limiter.give_back(self) and self.give_back_shared is not None:
            self.give_back_shared()


class HostLimiter:
    """The number of requests to one host at once, adapted to what the host can take.

    It starts at `START` and grows by one for each window of good answers, as long as the limit is
    in use and answers do not get slower. A refusal or a timeout halves it. The level that a host
    refused with 429 is remembered, and tried again only rarely and by a single request. Slots are
    granted in order of request. A stalled request does not block others: once silent for `SILENT`
    seconds, a waiting request gets an additional slot.

    Args:
        cap: most requests, silent ones included.
        clock: measures silence.

    See docs/wire-protocol.md, "Concurrency".

    """

    def __init__(self, cap: int, clock: Clock) -> None:
        self.clock = clock
        self._cap = cap
        self._limit = min(START, cap)
        self._lock = threading.Lock()
        self._queue: deque[RequestSlot] = deque()
        self._held: set[RequestSlot] = set()
        self._times: list[float] = []
        self._best = float("inf")
        self._cuts = 0
        self._is_used = False
        #: Most requests at once that the host accepts; the cap if it never refused.
        self._ceiling = cap
        self._at_ceiling = 0
        self._wait = self._next_probe = _PROBE
        self._is_probing = False

    @property
    def limit(self) -> int:
        """The current limit."""
        return self._limit

    def cap(self, most: int) -> None:
        """Lower the cap; it is never raised."""
        with self._lock:
            self._cap = min(self._cap, most)
            self._ceiling = min(self._ceiling, self._cap)
            self._limit = min(self._limit, self._cap)

    def take(self) -> RequestSlot:
        """Wait for a slot."""
        slot = RequestSlot(self)
        with self._lock:
            self._queue.append(slot)
            self._admit()
            self._is_used |= len(self._held) >= self._limit
        try:
            # A waiting request checks for silent ones at intervals.
            while not slot.turn.acquire(timeout=_LOOK):
                with self._lock:
                    self._admit(silent=True)
        except BaseException:
            with self._lock:
                if slot in self._queue:
                    self._queue.remove(slot)
            self.give_back(slot)
            raise
        return slot

    def give_back(self, slot: RequestSlot) -> bool:
        """Return a slot; a second call does nothing. False if it was not held."""
        with self._lock:
            was_held = slot in self._held
            self._held.discard(slot)
            if slot.is_probe:
                slot.is_probe = self._is_probing = False
            self._admit()
        return was_held

    def grow(self, slot: RequestSlot, seconds: float) -> None:
        """Count a good answer, and allow one more request after a window of them."""
        with self._lock:
            if slot.is_probe and self._ceiling < self._cap:
                # The host takes more than before: go on soon.
                self._ceiling += 1
                self._limit = max(self._limit, self._ceiling)
                self._at_ceiling, self._next_probe = 0, 2 * self._limit
            self._at_ceiling += self._limit >= self._ceiling
            self._times.append(seconds)
            window = max(START, self._limit if self._cuts else 0)
            if len(self._times) < window:
                return
            self._times.sort()
            median = self._times[len(self._times) // 2]
            self._times.clear()
            self._best = min(self._best, median)
            is_used, self._is_used = self._is_used, bool(self._queue)
            if is_used and median <= _SLOWER * self._best and self._limit < self._ceiling:
                self._limit += 1
                self._admit()

    def shrink(self, slot: RequestSlot, *, refused: bool) -> None:
        """Halve the limit, once for all requests that were under way together.

        `refused` means that the host stated that there were too many.
        """
        with self._lock:
            if refused and slot.is_probe:
                # What was known is confirmed.
                self._at_ceiling, self._next_probe = 0, self._wait
                self._wait = min(2 * self._wait, _LONGEST_PROBE)
                return
            if slot.cuts == self._cuts:
                self._cuts += 1
                self._limit = max(self._limit // 2, 1)
                self._times.clear()
                self._at_ceiling, self._next_probe = 0, self._wait
            if refused:
                # Requests arrive in another order than they were granted, so the level is not
                # exact: stay a tenth below it, and let single requests find out.
                below = slot.level - 1 - slot.level // 10
                self._ceiling = min(self._ceiling, max(below, self._limit))

    def _admit(self, *, silent: bool = False) -> None:
        """Grant slots to the first in line; called with the lock held."""
        while self._queue:
            has_room = len(self._held) < self._limit
            is_probe = not has_room and self._may_probe()
            if not (has_room or is_probe or (silent and self._is_stalled())):
                return
            slot = self._queue.popleft()
            self._held.add(slot)
            slot.level, slot.cuts, slot.is_probe = len(self._held), self._cuts, is_probe
            self._is_probing |= is_probe
            slot.moved()
            slot.turn.release()

    def _may_probe(self) -> bool:
        """Whether a single request beyond the ceiling is due."""
        return (
            self._ceiling < self._cap
            and not self._is_probing
            and self._at_ceiling >= self._next_probe
            and len(self._held) == self._ceiling
        )

    def _is_stalled(self) -> bool:
        since = self.clock.monotonic() - SILENT
        moving = sum(slot.moved_at > since for slot in self._held)
        return moving < self._limit and len(self._held) < self._cap
