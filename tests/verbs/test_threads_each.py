"""`for_each`: order, failures as values, and interrupts."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from resolver.errors import NotFound, ResolverError
from resolver.verbs.threads import parallel

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_for_each_keeps_the_order() -> None:
    first = threading.Event()

    def do(number: int) -> int:
        # The first task ends last.
        if number == 0:
            assert first.wait(10)
        if number == 5:
            first.set()
        return number * 2

    found = [outcome.value for outcome in parallel(do, range(6), jobs=6)]

    assert found == [0, 2, 4, 6, 8, 10]


def test_for_each_returns_failures_as_values() -> None:
    def do(number: int) -> int:
        if number == 1:
            raise NotFound("no 1")
        return number

    found = [outcome.value for outcome in parallel(do, range(3), jobs=2)]

    assert found[0] == 0
    assert isinstance(found[1], NotFound)
    assert found[2] == 2


def test_for_each_ends_at_an_unexpected_error() -> None:
    begun = []

    def do(number: int) -> int:
        begun.append(number)
        if number == 0:
            raise ZeroDivisionError
        return number

    with pytest.raises(ZeroDivisionError):
        list(parallel(do, range(10_000), jobs=2))

    assert len(begun) < 10_000


def test_for_each_reads_an_endless_input_lazily() -> None:
    taken: list[int] = []

    def questions() -> Iterator[int]:
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    with closing(parallel(abs, questions(), jobs=4)) as answers:
        got = [next(answers).value for _ in range(10)]

    assert got == list(range(10))
    assert len(taken) < 100


def test_for_each_limits_concurrency() -> None:
    lock = threading.Lock()
    running, most = 0, 0
    together = threading.Barrier(3, timeout=10)

    def do(_number: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()
        with lock:
            running -= 1

    list(parallel(do, range(9), jobs=3))

    assert most == 3


@pytest.mark.parametrize("count", [0, 1])
def test_for_each_of_one_or_none_starts_no_thread(count: int) -> None:
    def do(_number: int) -> str:
        return threading.current_thread().name

    names = [outcome.value for outcome in parallel(do, range(count), jobs=4)]

    assert names == [threading.current_thread().name] * count


def test_outcome_has_its_input() -> None:
    def do(text: str) -> str:
        raise ResolverError(text)

    assert [outcome.item for outcome in parallel(do, ["a", "b"], jobs=2)] == ["a", "b"]


def test_interrupt_does_not_wait_for_running_tasks() -> None:
    release = threading.Event()
    begun = threading.Event()

    def do(number: int) -> int:
        if number == 0:
            assert begun.wait(10)
            return 0
        begun.set()
        # It continues only when the test ends.
        assert release.wait(60)
        return number

    answers = parallel(do, range(2), jobs=2)
    assert next(answers).value == 0
    with pytest.raises(KeyboardInterrupt):
        answers.throw(KeyboardInterrupt())
    release.set()
