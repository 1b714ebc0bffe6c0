"""When to try again, and when to wait (protocol.md 10).

Time, sleep and chance come in through `Clock`, so that tests never wait.
"""

from __future__ import annotations

import email.utils
import re
import threading
from datetime import UTC
from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.clock import Clock
    from resolver.sources.http.messages import RetryableFailure

#: Answers that may be another one later. Source: protocol.md 10; 499 and 522 are CDNs' own.
RETRIED = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
TOO_MANY = 429

_SECONDS = re.compile(r"[0-9]{1,10}")
_MAX_DATE = 64


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long; times in seconds.

    Attributes:
        attempts: in all, the first one included.
        base, cap: of the exponential back-off, before jitter.
        longest_wait: a server that asks for more is given up at once.
        deadline: for everything together, waits included.
        silence: for a host that takes no connection at all, as behind a firewall that drops.

    Source: reliability.md section 5; of `silence`, its section 7 and case FLT-012.

    """

    attempts: int = 5
    base: float = 0.2
    cap: float = 30.0
    longest_wait: float = 60.0
    deadline: float = 120.0
    silence: float = 30.0


class Budget:
    """The attempts of one question; of a part of one, `within` gives the deadline.

    Attributes:
        end: the deadline, in seconds on the monotonic clock.
        stop: set when nobody waits for the answer any more.
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
        """Attempts that have failed."""
        return self._tried

    def remaining(self) -> float:
        """Seconds until the deadline; never below a small rest, so that timeouts stay valid."""
        return max(self.end - self._clock.monotonic(), 0.001)

    def wait_after(self, trouble: RetryableFailure) -> float | None:
        """Count a failed attempt and say how many seconds to wait; None to give up."""
        self._tried += 1
        called_off = self.stop.is_set()
        if called_off or not trouble.transient or self._tried >= self._policy.attempts:
            return None
        asked = trouble.retry_after or 0.0
        if asked > self._policy.longest_wait:
            return None
        longest = min(self._policy.base * 2 ** (self._tried - 1), self._policy.cap)
        # Full jitter: many clients that failed together must not come back together.
        wait = max(longest * self._clock.chance(), asked)
        now = self._clock.monotonic()
        if trouble.unconnected and self._is_too_silent(now - self._begun, wait):
            return None
        return wait if now + wait < self.end else None

    def _is_too_silent(self, spent: float, wait: float) -> bool:
        """Whether another attempt as long as those so far would go past what silence may take."""
        return spent + wait + spent / self._tried > self._policy.silence


class Gate:
    """Holds back every request to a host that has said "too many"; shared by all threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def shut(self, host: str, seconds: float) -> None:
        """Let nobody ask this host for so long; an earlier, longer pause stands."""
        until = self._clock.monotonic() + seconds
        with self._lock:
            self._until[host] = max(self._until.get(host, 0.0), until)

    def wait(self, host: str, stop: threading.Event) -> None:
        """Wait until this host may be asked."""
        with self._lock:
            left = self._until.get(host, 0.0) - self._clock.monotonic()
        if left > 0:
            self._clock.sleep(left, stop)


def parse_retry_after(text: str | None, now: float) -> float | None:
    """Read `Retry-After`: whole seconds, or a date in any of HTTP's three forms.

    `now` is in seconds since 1970, UTC. The result is in seconds; None for what is absent, past
    or unreadable.

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
