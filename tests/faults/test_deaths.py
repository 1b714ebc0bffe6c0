"""Processes killed or refused at any system call, and power cuts at that moment.

The next pull needs no repair and fetches what is missing, nothing else. By default some of the
calls are looked at, others each time; RESOLVER_SOAK=1 looks at all of them.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults import invariants
from tests.faults.injection import Fault
from tests.faults.samples import AMD64, digest_of, img_a, img_a2, layers, small
from tests.kit.messages import Reply
from tests.kit.soak import SOAK, seeded, times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.crew import Job
    from tests.faults.ground import Ground

ERRORS = (
    errno.EIO,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EROFS,
    errno.EXDEV,
    errno.ENOLCK,
    errno.EMFILE,
)


def calls_of(ground: Ground, make: Job) -> int:
    """Count the calls of a run without faults."""
    assert make.fault is not None
    ground.together(make)
    return len(invariants.read_log(ground.folder / "log"))


def points(count: int, few: int, seed: str) -> Iterator[int]:
    """Choose the calls to test: all, or some that differ from run to run."""
    yield from range(count) if SOAK else sorted(seeded(seed).sample(range(count), few))


def faulty(ground: Ground, *words: str, **fault: object) -> Job:
    """Make a command with an injected fault, whose calls are logged."""
    log = ground.folder / "log"
    ground.outputs.append(log)
    return ground.job(*words, fault=Fault(str(ground.store), log=str(log), **fault))  # type: ignore[arg-type]


def pull_words(ground: Ground, tag: str = "1") -> tuple[str, ...]:
    return ("pull", ground.reference("small", tag), "-p", AMD64)


def test_flt_007_write_order_survives_a_power_cut(tiny: Ground) -> None:
    (outcome,) = tiny.together(faulty(tiny, *pull_words(tiny)))

    assert outcome.status == 0
    calls = invariants.read_log(tiny.folder / "log")
    invariants.durable(calls, tiny.store)
    assert len([name for name, where in calls if name == "rename" and "/blobs/" in where]) == 4
    before = invariants.intact(tiny.store)
    # After exit 0 a power cut loses nothing of the pulled image.
    invariants.lose_power(calls)
    tiny.look()
    assert invariants.intact(tiny.store) == before
    assert list(invariants.names(tiny.store)) == [tiny.reference("small")]


def test_flt_007_progress_of_large_blobs_is_recorded_without_a_rename(ground: Ground) -> None:
    ground.registry.serve("img-a", "1", img_a())
    (outcome,) = ground.together(faulty(ground, "pull", ground.reference(), "-p", "all"))

    assert outcome.status == 0
    calls = invariants.read_log(ground.folder / "log")
    assert [where for name, where in calls if name == "write" and "/meta.json" in where]
    invariants.durable(calls, ground.store)


def test_flt_001_pull_killed_at_any_call_is_completed_by_the_next(tiny: Ground) -> None:
    count = calls_of(tiny, faulty(tiny, *pull_words(tiny)))
    assert count > 80
    for at in points(count, 24, "killed"):
        here = tiny.apart(at)
        (outcome,) = here.together(faulty(here, *pull_words(here), at=at), killed=True)
        assert outcome.status in {-1, 0}, at
        if here.store.is_dir():
            after = here.apart("power")
            shutil.copytree(here.store, after.store)
            calls = invariants.read_log(here.folder / "log")
            here.outputs.append(after.folder)
            power_fails(here, after, calls)
        here.recovers(small(), here.reference("small"))
        shutil.rmtree(here.folder)


def test_flt_007_unsynced_content_of_a_dead_process_is_synced_before_naming(
    tiny: Ground,
) -> None:
    fault = {"at": 1, "functions": ("fsync",), "below": "/blobs/sha256"}
    (outcome,) = tiny.together(faulty(tiny, *pull_words(tiny), **fault), killed=True)
    assert outcome.status == -1
    assert len(invariants.intact(tiny.store)) == 4
    log = tiny.folder / "log"
    log.unlink()

    (outcome,) = tiny.together(faulty(tiny, *pull_words(tiny)))

    assert outcome.status == 0
    calls = invariants.read_log(log)
    synced = calls.index(("fsync", str(tiny.store / "blobs" / "sha256")))
    named = next(n for n, (call, where) in enumerate(calls) if "/names/" in where)
    assert synced < named


def test_flt_007_folders_of_an_incomplete_store_are_synced_on_completion(
    tiny: Ground,
) -> None:
    fault = {"at": 0, "functions": ("fsync",), "below": "/blobs"}
    (outcome,) = tiny.together(faulty(tiny, *pull_words(tiny), **fault), killed=True)
    assert outcome.status == -1
    log = tiny.folder / "log"
    log.unlink()

    (outcome,) = tiny.together(faulty(tiny, *pull_words(tiny)))

    assert outcome.status == 0
    assert ("fsync", str(tiny.store / "blobs")) in invariants.read_log(log)


def power_fails(here: Ground, after: Ground, calls: list[invariants.Call]) -> None:
    """Simulate a power cut, on a copy, at the moment when the process died."""
    moved = [(name, where.replace(str(here.store), str(after.store))) for name, where in calls[:-1]]
    invariants.lose_power(moved)
    after.look()
    after.recovers(small(), after.reference("small"))


@pytest.mark.parametrize("what", ["gc", "rm", "pull"])
def test_flt_001_change_killed_at_any_call_leaves_other_content_complete(
    tiny: Ground, what: str
) -> None:
    def prepared(name: object) -> Ground:
        here = tiny.apart(name)
        assert here.pull(here.reference("small")).status == 0
        assert here.pull(here.reference("small", "2")).status == 0
        return here

    def command(here: Ground, **fault: object) -> Job:
        match what:
            case "gc":
                return faulty(here, "gc", "--grace", "0s", "--max-size", "5KB", **fault)
            case "rm":
                return faulty(here, "rm", here.reference("small", "2"), **fault)
            case _:
                # The tag has moved: a name is replaced.
                return faulty(here, *pull_words(here, "2"), **fault)

    here = prepared("count")
    if what == "pull":
        tiny.registry.serve("small", "2", small(2))
    count = calls_of(here, command(here))
    for at in points(count, 6, what):
        if what == "pull":
            tiny.registry.serve("small", "2", small(1))
        here = prepared(at)
        if what == "pull":
            tiny.registry.serve("small", "2", small(2))
        (outcome,) = here.together(command(here, at=at), killed=True)
        assert outcome.status in {-1, 0}, at
        here.look()
        here.settles()
        here.recovers(small(), here.reference("small"))
        here.recovers(small(2 if what == "pull" else 1), here.reference("small", "2"))
        shutil.rmtree(here.folder)


def test_flt_007_failing_call_is_a_store_error_and_publishes_nothing(tiny: Ground) -> None:
    count = calls_of(tiny, faulty(tiny, *pull_words(tiny)))
    errors = ERRORS if SOAK else ERRORS[:4]
    failed = 0
    for number, at in enumerate(points(count, 24, "failing")):
        for error in errors if SOAK else [errors[number % len(errors)]]:
            here = tiny.apart(f"{at}-{error}")
            job = faulty(here, *pull_words(here), at=at, error=error)
            (outcome,) = here.together(job)
            assert outcome.status in {0, 8}, (at, errno.errorcode[error], outcome)
            if outcome.status == 8:
                failed += 1
                here.refused(outcome, "STORE", str(here.store))
                assert invariants.names(here.store) == {} or names_were_written(here)
            here.recovers(small(), here.reference("small"))
            shutil.rmtree(here.folder)
    assert failed > 5


def names_were_written(ground: Ground) -> bool:
    """Whether the failing call came after the name was written, as the sync of its folder does."""
    calls = invariants.read_log(ground.folder / "log")
    return any(name == "rename" and "/names/" in where for name, where in calls)


@pytest.mark.parametrize(
    "error", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EXDEV, errno.EIO, errno.EEXIST]
)
def test_flt_007_failed_rename_is_a_store_error(tiny: Ground, error: int) -> None:
    for below in ("/blobs/", "/names/"):
        here = tiny.apart(f"{error}{below.strip('/')}")
        job = faulty(
            here,
            *pull_words(here),
            at=0,
            error=error,
            lasting=True,
            functions=("rename", "replace", "link"),
            below=below,
        )
        (outcome,) = here.together(job)
        here.refused(outcome, "STORE", below.strip("/"))
        assert invariants.names(here.store) == {}
        if below == "/blobs/":
            assert invariants.intact(here.store) == {}
        here.recovers(small(), here.reference("small"))


def test_flt_007_failed_sync_is_final_for_its_file(tiny: Ground) -> None:
    log = tiny.folder / "log"
    count = calls_of(tiny, faulty(tiny, *pull_words(tiny), functions=("fsync",)))
    log.unlink()
    for at in points(count, min(10, count), "syncs"):
        here = tiny.apart(at)
        fault = {"at": at, "error": errno.EIO, "functions": ("fsync",)}
        (outcome,) = here.together(faulty(here, *pull_words(here), **fault))
        calls = invariants.read_log(here.folder / "log")
        where = calls[at][1]
        is_data = where.endswith("/data") or "/new-" in where
        # Recording the resolved name may fail: the answer does not depend on it.
        assert outcome.status == 8 or "/seen" in where or "/tmp/" in where, (where, outcome)
        if is_data:
            assert [path for _name, path in calls].count(where) == 1
            assert not os.path.lexists(where)
        here.recovers(small(), here.reference("small"))
        shutil.rmtree(here.folder)


@pytest.mark.parametrize("functions", [("write", "pwrite")])
def test_flt_008_short_writes_are_completed(tiny: Ground, functions: tuple[str, ...]) -> None:
    fault = {"at": 0, "error": -1, "lasting": True, "functions": functions}

    (outcome,) = tiny.together(faulty(tiny, *pull_words(tiny), **fault))

    assert outcome.status == 0
    tiny.recovers(small(), tiny.reference("small"), most=0)


def test_flt_008_error_at_close_prevents_publication(tiny: Ground) -> None:
    for below in ("/partial/", "/tmp/new-"):
        here = tiny.apart(below.strip("/").replace("/", "-"))
        fault = {"at": 0, "error": errno.EIO, "functions": ("close",), "lasting": True}
        (outcome,) = here.together(faulty(here, *pull_words(here), below=below, **fault))
        if below == "/partial/":
            here.refused(outcome, "STORE")
            digest = next(d for d in small().blobs if not small().blobs[d].startswith(b"{"))
            assert digest not in invariants.intact(here.store)
        else:
            here.refused(outcome, "STORE")
            assert invariants.names(here.store) == {}
        here.recovers(small(), here.reference("small"))


def test_flt_001_pulls_killed_at_any_moment(ground: Ground) -> None:
    random = seeded("moments")
    rounds = times(10, 200)
    for number in range(rounds):
        delay = random.uniform(0, 0.25)
        tag = random.choice("12")
        before = ground.begin()
        pids = ground.crew.start(
            *[ground.pulling(ground.reference(tag=tag)) for _ in range(random.choice([1, 1, 2]))]
        )
        # The moment is random; the test waits for nothing.
        time.sleep(delay)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        ground.ended(pids, before, killed=True)
        verified = ground("verify", "--full")
        assert verified.status == 0, (number, delay, verified)
        if number % 5 == 4:
            ground.recovers(img_a() if tag == "1" else img_a2(), ground.reference(tag=tag))
            ground("rm", ground.reference(tag=tag))
    ground.recovers(img_a())


def test_flt_001_killed_pull_keeps_fetched_content(ground: Ground) -> None:
    """What a first pull has noted is not fetched by the second one; held is the moment."""
    l1, l2, l3 = (digest_of(img_a().child(AMD64), body) for body in layers())
    held = threading.Event()
    reply = Reply(body=layers()[1], hold=held, hold_after=1_000_000)
    ground.registry.on("GET", f"/v2/img-a/blobs/{l2}", reply, times=1)
    before = ground.begin()
    (pid,) = ground.crew.start(ground.pulling())
    assert ground.registry.wait_for(
        lambda: {l1, l3} <= set(invariants.intact(ground.store)) if ground.store.is_dir() else False
    )
    os.kill(pid, signal.SIGKILL)
    ground.ended([pid], before, killed=True)
    held.set()
    begin = len(ground.registry.log)

    ground.recovers(img_a())

    assert ground.gets(l1, begin=begin) == ground.gets(l3, begin=begin) == []
