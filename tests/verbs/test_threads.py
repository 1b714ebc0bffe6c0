"""Pools run a limited number of tasks and do not delay exit."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from functools import partial

import pytest

from resolver.verbs.threads import DaemonPool


def test_pool_runs_every_task_and_returns_results() -> None:
    workers = DaemonPool(3, "test")
    futures = [workers.submit(partial(pow, number, 2)) for number in range(50)]

    assert [future.result(5) for future in futures] == [number**2 for number in range(50)]
    assert workers.close(5)


def test_pool_runs_exactly_its_number_of_threads() -> None:
    workers = DaemonPool(3, "test")
    meeting = threading.Barrier(3)
    now, most, lock = [0], [0], threading.Lock()

    def work() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        # Passes only when three threads arrive.
        meeting.wait(5)
        with lock:
            now[0] -= 1

    for future in [workers.submit(work) for _ in range(9)]:
        future.result(5)
    workers.close(5)
    assert most == [3]


def test_pool_starts_daemon_threads_on_demand() -> None:
    workers = DaemonPool(8, "a name of their own")
    for _ in range(5):
        workers.submit(lambda: None).result(5)
    names = [thread for thread in threading.enumerate() if thread.name == "a name of their own"]

    assert len(names) <= 2
    assert all(thread.daemon for thread in names)
    assert workers.close(5)


def test_thread_without_memory_for_a_lock_ends_and_the_work_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = DaemonPool(2, "test")

    def fail(*_: object) -> None:
        raise RuntimeError("can't allocate lock")

    with monkeypatch.context() as patch:
        patch.setattr(workers._state, "wait_for", fail)
        futures = [workers.submit(partial(pow, number, 2)) for number in range(50)]

        assert [future.result(5) for future in futures] == [number**2 for number in range(50)]
    assert workers.close(5)


def test_pool_raises_a_failure_with_its_result() -> None:
    workers = DaemonPool(1, "test")

    def broken() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        workers.submit(broken).result(5)
    assert workers.submit(lambda: "alive").result(5) == "alive"
    workers.close(5)


def test_closing_a_pool_drops_waiting_tasks_without_waiting_for_running_ones() -> None:
    workers = DaemonPool(1, "test")
    begun, go_on = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        go_on.wait(5)
        return "done"

    first, second = workers.submit(work), workers.submit(work)
    assert begun.wait(5)

    assert not workers.close(0.01)
    with pytest.raises(CancelledError):
        second.result(5)
    with pytest.raises(CancelledError):
        workers.submit(work).result(5)
    go_on.set()
    assert first.result(5) == "done"
    assert workers.close(5)


def test_pool_can_grow_and_shrink() -> None:
    workers = DaemonPool(1, "test of size")
    gate, meeting = threading.Event(), threading.Barrier(3)
    stuck = workers.submit(gate.wait)
    waiting = [workers.submit(partial(meeting.wait, 5)) for _ in range(3)]
    workers.resize(4)
    # Passes only when all three are done beside what is stuck.
    for future in waiting:
        future.result(5)
    workers.resize(1)
    gate.set()
    assert stuck.result(5)
    assert workers.submit(lambda: 1).result(5) == 1
    assert workers.close(5)


def test_pool_queues_are_served_in_turn() -> None:
    workers = DaemonPool(1, "test of lines")
    gate, done = threading.Event(), list[str]()
    workers.submit(gate.wait)
    names = ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]
    futures = [workers.submit(partial(done.append, name), name[0]) for name in names]
    gate.set()
    for future in futures:
        future.result(5)
    assert done == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
    assert workers.close(5)


def test_closing_a_pool_cancels_every_queue() -> None:
    workers = DaemonPool(1, "test of lines")
    gate = threading.Event()
    workers.submit(gate.wait)
    futures = [workers.submit(partial(pow, 2, 2), line) for line in "aab"]
    assert not workers.close(0)
    gate.set()
    assert all(future.cancelled() for future in futures)
