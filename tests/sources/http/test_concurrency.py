"""Requests at once to one host: how the limit follows what the host can take."""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

import resolver
from resolver.settings import Flags
from resolver.sources.http.retry import START, HostLimiter
from tests.kit.clients import FakeClock
from tests.kit.images import build_image, build_index
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolver.sources.http.retry import RequestSlot
    from tests.kit.messages import Seen

ROUND_TRIP = 0.05


@dataclass
class Host:
    """A simulated host: refuses above `takes` requests at once, and slows down above `fast`."""

    takes: int = 1_000
    fast: int = 1_000
    status: int = 429
    active: int = 0
    most: int = 0
    #: Time and status of every answer.
    answers: list[tuple[float, int]] = field(default_factory=list)

    def refused(self, since: float = 0.0, until: float = 1e9) -> float:
        """Return the share of refusals among the answers of a time."""
        seen = [status for moment, status in self.answers if since <= moment < until]
        return sum(status != 200 for status in seen) / len(seen)


def simulate(
    host: Host, limiter: HostLimiter, clock: FakeClock, *, good: int = 1_000, workers: int = 64
) -> float:
    """Send requests until there are enough good answers; return the seconds that took.

    A refused request is sent again after 0.1 s, by a worker that waits for it.
    """
    begun, done, number = clock.now, 0, 0
    events: list[tuple[float, int, str, RequestSlot | None, float]] = []
    ready = workers
    while done < good:
        while ready and (len(limiter._held) < limiter.limit or limiter._may_probe()):
            slot = limiter.take()
            ready -= 1
            host.active += 1
            host.most = max(host.most, host.active)
            status = "ok" if host.active <= host.takes else "refused"
            delay = ROUND_TRIP * max(1.0, host.active / host.fast)
            heapq.heappush(events, (clock.now + delay, number, status, slot, clock.now))
            number += 1
        # Workers that wait for a slot: the limit is in use.
        limiter._is_used |= ready > 0
        clock.now, _, what, held, sent = heapq.heappop(events)
        if held is None:
            ready += 1
            continue
        host.active -= 1
        code = 200 if what == "ok" else host.status
        host.answers.append((clock.now - begun, code))
        held.answered(code, clock.now - sent)
        held.release()
        if what == "ok":
            done += 1
            ready += 1
        else:
            number += 1
            heapq.heappush(events, (clock.now + 0.1, number, "again", None, 0.0))
    return clock.now - begun


@pytest.mark.parametrize("takes", [1, 3, 9, 20, 33, 63])
def test_concurrency_settles_below_the_level_that_a_host_refuses(takes: int) -> None:
    host, clock = Host(takes=takes), FakeClock()
    limiter = HostLimiter(64, clock)

    simulate(host, limiter, clock, good=max(1_000, 200 * takes))

    assert host.refused(since=1.0) < 0.01
    # It is used as well, once it is known.
    assert takes * 0.7 <= limiter.limit <= takes + 1


def test_concurrency_grows_until_a_thousand_answers_take_little_more_than_a_second() -> None:
    host, clock = Host(takes=100), FakeClock()
    limiter = HostLimiter(64, clock)

    seconds = simulate(host, limiter, clock)

    assert seconds < 1.5
    assert host.most == 64
    assert host.refused() == 0


@pytest.mark.parametrize("cap", [1, 5, 8, 30])
def test_concurrency_never_exceeds_the_cap(cap: int) -> None:
    host, clock = Host(), FakeClock()

    simulate(host, HostLimiter(cap, clock), clock)

    assert host.most == cap


def test_concurrency_stops_growing_when_answers_get_slower() -> None:
    host, clock = Host(fast=10), FakeClock()
    limiter = HostLimiter(64, clock)

    simulate(host, limiter, clock, good=3_000)

    assert 10 <= host.most <= 18


def test_concurrency_follows_a_host_that_takes_more_later() -> None:
    host, clock = Host(takes=10), FakeClock()
    limiter = HostLimiter(64, clock)
    simulate(host, limiter, clock)

    host.takes = 1_000
    simulate(host, limiter, clock, good=20_000)

    assert limiter.limit > 40


def test_concurrency_is_halved_once_for_requests_that_fail_together() -> None:
    for fail in (answers(503), answers(429), times_out):
        limiter = HostLimiter(64, FakeClock())
        slots = [limiter.take() for _ in range(START)]
        for slot in slots:
            fail(slot)
            slot.release()
        assert limiter.limit == START // 2
        fail(limiter.take())
        assert limiter.limit == START // 4


def answers(status: int) -> Callable[[RequestSlot], None]:
    return lambda slot: slot.answered(status, ROUND_TRIP)


def times_out(slot: RequestSlot) -> None:
    slot.timed_out()


def test_concurrency_does_not_grow_while_the_limit_is_not_in_use() -> None:
    limiter = HostLimiter(64, FakeClock())

    for _ in range(1_000):
        slot = limiter.take()
        slot.answered(200, ROUND_TRIP)
        slot.release()

    assert limiter.limit == START


class Crowd:
    """A manifest handler that counts requests under way, and refuses above `takes`."""

    def __init__(self, takes: int, body: Reply) -> None:
        self.most = 0
        self._takes = takes
        self._body = body
        self._active = 0
        self._lock = threading.Lock()
        self.answers: list[tuple[float, int]] = []

    def __call__(self, _seen: Seen) -> Reply:
        with self._lock:
            self._active += 1
            self.most = max(self.most, self._active)
            refused = self._active > self._takes
        time.sleep(ROUND_TRIP)
        with self._lock:
            self._active -= 1
            self.answers.append((time.monotonic(), 429 if refused else 200))
        return Reply(429, {"Retry-After": "0"}) if refused else self._body


@pytest.mark.parametrize(("jobs", "takes"), [(None, 20), (None, 100), (5, 100)])
def test_batch_adapts_to_the_registry_and_keeps_to_jobs(
    tmp_path: Path, jobs: int | None, takes: int
) -> None:
    image = build_index([build_image("linux/amd64"), build_image("linux/arm64")])
    kind, body = image.documents[image.digest]
    crowd = Crowd(takes, Reply(200, {"Content-Type": kind}, body))
    with FakeRegistry() as registry:
        names = [f"{registry.host}/team/app:{number}" for number in range(600)]
        for number in range(600):
            registry.on("*", f"/v2/team/app/manifests/{number}", crowd)
        flags = Flags(jobs=jobs, no_fsync=True)
        with resolver.Session(tmp_path / "store", flags=flags, environment={}) as session:
            found = list(session.resolve_each(names, ["linux/amd64"]))

    assert [one for one in found if isinstance(one, resolver.Failure)] == []
    assert len(found) == 600
    counts = Counter(status for _, status in crowd.answers)
    first = min((moment for moment, status in crowd.answers if status == 429), default=0.0)
    later = [status for moment, status in crowd.answers if moment > first + 1]
    assert counts[429] < 0.1 * counts[200]
    assert later.count(429) <= max(1, 0.01 * len(later))
    if jobs is not None:
        assert crowd.most == jobs
    elif takes > 64:
        assert counts[429] == 0
        assert crowd.most > 2 * START
