"""Retries and waits, on a fake clock."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.clock import SystemClock
from resolver.core.results.events import Noted
from resolver.errors import ConnectionFailed, RateLimited, ServerFault, TimedOut
from resolver.sources.http.connection import paced
from resolver.sources.http.messages import RetryableFailure
from resolver.sources.http.retry import Budget, Gate, RetryPolicy, parse_retry_after
from tests.kit.clients import ENGINES, NEW_YEAR, FakeClock, source
from tests.kit.images import build_image
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.results.events import Event

IMAGE = build_image()
MANIFEST = "/v2/team/app/manifests/1.0"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        fake.serve("team/app", "1.0", IMAGE)
        yield fake


def trouble(*, transient: bool = True, retry_after: float | None = None) -> RetryableFailure:
    return RetryableFailure(ConnectionFailed("x"), transient=transient, retry_after=retry_after)


@pytest.mark.parametrize("status", [408, 429, 499, 500, 502, 503, 504, 522])
def test_transient_statuses_are_retried(registry: FakeRegistry, status: int) -> None:
    registry.on("GET", MANIFEST, Reply(status), times=4)
    clock = FakeClock()
    with source(registry.host, clock=clock) as app:
        app.document("1.0")
    assert len(registry.log) == 5
    assert clock.slept == [0.2, 0.4, 0.8, 1.6]


@pytest.mark.parametrize("status", [400, 403, 404, 405, 406, 410, 416, 418, 501, 505])
def test_permanent_statuses_are_returned(registry: FakeRegistry, status: int) -> None:
    registry.on("GET", MANIFEST, Reply(status))
    clock = FakeClock()
    with source(registry.host, clock=clock) as app, pytest.raises(Exception, match=r"."):
        app.document("1.0")
    assert len(registry.log) == 1
    assert clock.slept == []


@pytest.mark.parametrize("engine", ENGINES)
def test_broken_connections_are_retried(engine: str, registry: FakeRegistry) -> None:
    registry.on("GET", MANIFEST, Reply(silent=True), Reply(silent=True, reset=True), times=2)
    with source(registry.host, engine=engine) as app:
        assert app.document("1.0").body == IMAGE.body
    assert len(registry.log) == 3


def test_five_attempts_are_the_limit(registry: FakeRegistry) -> None:
    registry.on("GET", MANIFEST, Reply(503, {}, b'{"errors":[{"message":"down for tea"}]}'))
    events: list[Event] = []
    with (
        source(registry.host, events=events) as app,
        pytest.raises(ServerFault, match="503: down for tea"),
    ):
        app.document("1.0")
    assert len(registry.log) == 5
    assert sum(isinstance(event, Noted) for event in events) == 4


def test_short_retry_after_is_respected(registry: FakeRegistry) -> None:
    registry.rate_limit(MANIFEST, 1, 7)
    clock = FakeClock()
    with source(registry.host, clock=clock) as app:
        app.document("1.0")
    assert clock.slept == [7.0]


def test_retry_after_date_is_respected(registry: FakeRegistry) -> None:
    registry.rate_limit(MANIFEST, 1, "Thu, 01 Jan 2026 00:00:09 GMT")
    clock = FakeClock()
    with source(registry.host, clock=clock) as app:
        app.document("1.0")
    assert clock.slept == [9.0]


@pytest.mark.parametrize(("seconds", "waits"), [(60, True), (61, False)])
def test_long_retry_after_is_returned_immediately(
    registry: FakeRegistry, seconds: int, waits: bool
) -> None:
    registry.rate_limit(MANIFEST, 1, seconds)
    clock = FakeClock()
    with source(registry.host, clock=clock) as app:
        if waits:
            app.document("1.0")
        else:
            with pytest.raises(RateLimited) as caught:
                app.document("1.0")
            assert caught.value.retry_after == 61
            assert clock.slept == []


@pytest.mark.parametrize("retry_after", ["-1", "soon", "Thu, 01 Jan 2020 00:00:00 GMT", ""])
def test_invalid_retry_after_is_ignored(registry: FakeRegistry, retry_after: str) -> None:
    registry.on("GET", MANIFEST, Reply(429, {"Retry-After": retry_after}), times=1)
    clock = FakeClock()
    with source(registry.host, clock=clock) as app:
        app.document("1.0")
    assert clock.slept == [0.2]


def test_rate_limit_code_counts_with_any_status(registry: FakeRegistry) -> None:
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}'
    registry.on("GET", MANIFEST, Reply(403, {}, body), times=1)
    with source(registry.host) as app:
        app.document("1.0")
    assert len(registry.log) == 2


def test_plain_text_rate_limit_is_retried(registry: FakeRegistry) -> None:
    headers = {"Retry-After": "60", "Content-Type": "text/plain"}
    registry.on("GET", MANIFEST, Reply(429, headers, b"Too Many Requests (HAP429)."), times=1)
    clock = FakeClock()
    with source(registry.host, clock=clock) as app:
        app.document("1.0")
    assert clock.slept == [60.0]


def test_deadline_ends_waiting(registry: FakeRegistry) -> None:
    registry.rate_limit(MANIFEST, None, 50)
    clock = FakeClock()
    with source(registry.host, clock=clock) as app, pytest.raises(RateLimited):
        app.document("1.0")
    assert clock.slept == [50.0, 50.0]


def test_rate_limit_holds_back_every_request(registry: FakeRegistry) -> None:
    clock = FakeClock()
    gate, stop = Gate(clock), threading.Event()
    gate.shut("a.test", 5)
    gate.shut("a.test", 3)
    gate.wait("b.test", stop)
    assert clock.slept == []
    gate.wait("a.test", stop)
    assert clock.slept == [5.0]
    gate.wait("a.test", stop)
    assert clock.slept == [5.0]
    assert registry.log == []


@pytest.mark.parametrize(("chance", "wait"), [(0.0, 0.0), (0.5, 0.1), (1.0, 0.2)])
def test_retry_jitter_covers_the_whole_wait(chance: float, wait: float) -> None:
    assert Budget(RetryPolicy(), FakeClock(chance)).wait_after(trouble()) == wait


def test_retry_wait_is_capped() -> None:
    budget = Budget(RetryPolicy(attempts=99, deadline=9_999), FakeClock())
    waits = [budget.wait_after(trouble()) for _ in range(12)]
    assert waits[-1] == 30.0
    assert waits[:3] == [0.2, 0.4, 0.8]


def test_host_without_connections_is_given_up_within_30_seconds() -> None:
    clock = FakeClock()
    budget = Budget(RetryPolicy(), clock)
    silent = RetryableFailure(TimedOut("x"), transient=True, unconnected=True)
    waits: list[float | None] = []
    while not waits or waits[-1] is not None:
        clock.now += 10
        waits.append(budget.wait_after(silent))

    assert waits == [0.2, None]


def test_permanent_failure_is_not_waited_for() -> None:
    assert Budget(RetryPolicy(), FakeClock()).wait_after(trouble(transient=False)) is None


def test_longer_of_two_waits_is_used() -> None:
    assert Budget(RetryPolicy(), FakeClock()).wait_after(trouble(retry_after=3)) == 3
    budget = Budget(RetryPolicy(base=10), FakeClock())
    assert budget.wait_after(trouble(retry_after=3)) == 10


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("120", 120),
        (" 5 ", 5),
        ("5.5", None),
        ("+5", None),
        ("5_0", None),
        ("\uff19", None),
        ("99999999999", None),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60),
        ("Thursday, 01-Jan-26 00:01:00 GMT", 60),
        ("Thu Jan  1 00:01:00 2026", 60),
        ("Thu, 01 Jan 2025 00:01:00 GMT", None),
        ("Thu, 99 Jan 2026 00:01:00 GMT", None),
        ("x" * 500, None),
    ],
)
def test_retry_after_is_parsed_in_all_forms(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, NEW_YEAR) == seconds


@given(st.text(max_size=70))
def test_any_retry_after_is_a_time_or_none(text: str) -> None:
    seconds = parse_retry_after(text, NEW_YEAR)
    assert seconds is None or seconds >= 0


def test_trickling_response_is_cut_off() -> None:
    clock = FakeClock()

    def trickle() -> Iterator[bytes]:
        while True:
            clock.now += 10
            yield b"x"

    with pytest.raises(RetryableFailure) as caught:
        list(paced(trickle(), clock, "a.test", None))
    assert isinstance(caught.value.error, TimedOut)
    assert clock.now < 1_100


def test_whole_response_has_a_deadline() -> None:
    clock = FakeClock()

    def endless() -> Iterator[bytes]:
        while True:
            clock.now += 1
            yield b"x" * 1_000_000

    with pytest.raises(RetryableFailure, match="120 s"):
        list(paced(endless(), clock, "a.test", 120))


def test_slow_but_steady_stream_is_accepted() -> None:
    clock = FakeClock()

    def steady() -> Iterator[bytes]:
        for _ in range(100):
            clock.now += 5
            yield b"x" * 10_000

    assert sum(map(len, paced(steady(), clock, "a.test", None))) == 1_000_000


def test_system_clock_advances() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(0, threading.Event())
    assert clock.monotonic() >= before
    assert clock.wall() > NEW_YEAR
    assert 0 <= clock.chance() <= 1


def test_rate_limit_pauses_other_threads(registry: FakeRegistry) -> None:
    registry.rate_limit(MANIFEST, 1, 30)
    clock = FakeClock()
    with source(registry.host, clock=clock) as app:
        threads = [threading.Thread(target=app.document, args=("1.0",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert max(clock.slept) == 30.0


@pytest.mark.parametrize("engine", ENGINES)
def test_closing_ends_waiting_without_another_attempt(engine: str, registry: FakeRegistry) -> None:
    registry.rate_limit(MANIFEST, None, 30)
    failures: list[RateLimited] = []
    waiting = threading.Event()

    class Watched(SystemClock):
        def sleep(self, seconds: float, stop: threading.Event) -> None:
            waiting.set()
            super().sleep(seconds, stop)

    with source(registry.host, engine=engine, clock=Watched()) as app:

        def ask() -> None:
            with pytest.raises(RateLimited) as caught:
                app.document("1.0")
            failures.append(caught.value)

        thread = threading.Thread(target=ask)
        thread.start()
        assert waiting.wait(5)
        app._transport.close()
        thread.join(5)
    assert len(failures) == 1
    assert len(registry.log) == 1


def test_closed_client_can_be_used_again(registry: FakeRegistry) -> None:
    with source(registry.host) as app:
        app.document("1.0")
        app._transport.close()
        assert app.document("1.0").body == IMAGE.body
