"""Negative controls: deliberately defective stores, which the checks must detect.

A green run of this folder would prove nothing if these did not fail it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from resolver.store import LocalStore
from tests.faults import invariants
from tests.faults.injection import Fault
from tests.faults.samples import AMD64, MIB, digest_of, img_a, layers
from tests.faults.test_concurrency import Sampler, counted
from tests.kit.messages import Reply, Seen
from tests.kit.outcomes import (
    PASSWORD,
    TOKEN,
    Broken,
    Outcome,
    clean_text,
    no_credentials_received,
)
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.ground import Ground

L2 = layers()[1]
D2 = digest_of(img_a().child(AMD64), L2)
PATH = f"/v2/img-a/blobs/{D2}"


def pulled_badly(ground: Ground, sabotage: str, **fault: object) -> list[invariants.Call]:
    """Pull the small image with a defect; return its calls."""
    log = ground.folder / "log"
    ground.outputs.append(log)
    described = Fault(str(ground.store), log=str(log), **fault)  # type: ignore[arg-type]
    job = ground.pulling(ground.reference("small"), fault=described, sabotage=sabotage)
    ground.together(job, killed=True)
    return invariants.read_log(log)


@pytest.mark.parametrize("sabotage", ["no_sync", "sync_behind_the_name", "no_folder_sync"])
def test_control_finds_a_wrong_write_order(tiny: Ground, sabotage: str) -> None:
    calls = pulled_badly(tiny, sabotage)

    with pytest.raises(Broken, match="order"):
        invariants.durable(calls, tiny.store)


@pytest.mark.parametrize("sabotage", ["no_sync", "no_folder_sync"])
def test_power_cut_control_finds_unsynced_content(tiny: Ground, sabotage: str) -> None:
    calls = pulled_badly(tiny, sabotage)
    before = invariants.intact(tiny.store)
    assert len(before) == 4

    # Either missing, because the rename was lost, or empty.
    invariants.lose_power(calls)

    assert invariants.intact(tiny.store) != before or not invariants.names(tiny.store)


def test_power_cut_control_finds_a_sync_after_the_rename(tiny: Ground) -> None:
    calls = pulled_badly(tiny, "sync_behind_the_name")
    named, renamed = next((n, where) for n, (_, where) in enumerate(calls) if "/data -> " in where)
    folder = renamed.rpartition(" -> ")[2].rpartition("/")[0]
    # Other threads work as well: the moment is when the folder of this name has been synced.
    synced = calls.index(("fsync", folder), named)

    invariants.lose_power(calls[: synced + 1])

    with pytest.raises(Broken, match="I1"):
        tiny.look()


def test_control_finds_unverified_content(ground: Ground) -> None:
    wrong = L2[:MIB] + bytes([L2[MIB] ^ 1]) + L2[MIB + 1 :]
    ground.registry.on("GET", PATH, Reply(body=wrong))

    with pytest.raises(Broken, match="I1"):
        ground.together(ground.pulling(sabotage="no_verification"))


def test_control_finds_incomplete_content_under_its_name(ground: Ground) -> None:
    held = threading.Event()
    ground.registry.on("GET", PATH, Reply(body=L2, hold=held, hold_after=MIB), times=1)
    before = ground.begin()
    (pid,) = ground.crew.start(ground.pulling(sabotage="partial_under_its_name"))
    assert ground.registry.wait_for(lambda: any(seen.sent >= MIB for seen in ground.gets(D2)))
    os.kill(pid, 9)

    with pytest.raises(Broken, match="I1"):
        ground.ended([pid], before, killed=True)
    held.set()


def test_control_finds_a_name_before_its_content(tiny: Ground) -> None:
    calls = pulled_badly(tiny, "name_first")
    at = next(n for n, (name, where) in enumerate(calls) if "/names/" in where) + 5
    here = tiny.apart("again")

    with pytest.raises(Broken, match="I9"):
        pulled_badly(here, "name_first", at=at)


def test_control_finds_a_name_written_in_place(tiny: Ground) -> None:
    calls = pulled_badly(tiny, "in_place")
    writes = [n for n, (name, where) in enumerate(calls) if name == "write" and "/names/" in where]
    here = tiny.apart("again")

    with pytest.raises(Broken, match="I9"):
        pulled_badly(here, "in_place", at=writes[1])


def test_control_finds_lost_name_updates(tiny: Ground) -> None:
    for tag in "12":
        tiny.together(tiny.pulling(tiny.reference("small", tag), sabotage="shared_index"))

    references = {tiny.reference("small", tag) for tag in "12"}
    assert set(invariants.names(tiny.store)) != references


def test_control_finds_gc_that_ignores_leases(tiny: Ground) -> None:
    assert tiny.pull(tiny.reference("small")).status == 0

    with pytest.raises(Broken, match="I9"):
        tiny.together(tiny.job("gc", "--grace", "0s", sabotage="age_alone"))


def test_control_finds_gc_that_ignores_running_pulls(ground: Ground) -> None:
    """The state that test_con_006 checks: a running pull has stored content."""
    held = threading.Event()
    ground.registry.on("GET", PATH, Reply(body=L2, hold=held, hold_after=MIB), times=1)
    (pid,) = ground.crew.start(ground.pulling())
    assert ground.registry.wait_for(
        lambda: ground.store.is_dir() and len(invariants.intact(ground.store)) >= 3
    )
    (bad,) = ground.crew.run(ground.job("gc", "--grace", "0s", sabotage="no_lease"))
    held.set()
    ground.crew.wait(pid)
    outcome = Outcome(bad.status, bad.stdout, bad.stderr)

    assert outcome.answer["removed"] != []


def test_control_finds_leftover_temporary_files(ground: Ground) -> None:
    held = threading.Event()
    ground.registry.on("GET", PATH, Reply(body=L2, hold=held, hold_after=MIB), times=1)
    before = ground.begin()
    (pid,) = ground.crew.start(ground.pulling())
    assert ground.registry.wait_for(lambda: any(seen.sent >= MIB for seen in ground.gets(D2)))
    os.kill(pid, 9)
    ground.ended([pid], before, killed=True)
    held.set()
    ground.together(ground.job("gc", "--grace", "0s", sabotage="nothing_is_litter"))

    with pytest.raises(Broken, match="I10"):
        invariants.clean(ground.store)


def test_control_finds_repeated_fetches_of_held_content(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ground.pull().status == 0
    monkeypatch.setattr(LocalStore, "held", lambda *_a, **_k: False)

    with pytest.raises(Broken, match="I8"):
        ground.recovers(img_a())


def test_control_finds_processes_without_locks(ground: Ground) -> None:
    blobs = img_a().child(AMD64).blobs
    again = {digest: threading.Event() for digest in blobs}
    asked: set[str] = set()

    def until_another_asks(seen: Seen) -> None:
        digest = seen.path.rpartition("/")[2]
        if digest in asked:
            again[digest].set()
        asked.add(digest)
        again[digest].wait(10)

    for digest in blobs:
        ground.registry.on("GET", f"/v2/img-a/blobs/{digest}", until_another_asks)
    jobs = [ground.pulling(sabotage="no_locks") for _ in range(8)]

    ground.crew.run(*jobs)

    # Each process fetches everything: without locks, eight fetch the same content.
    assert any(counted(ground, digest) > 1 for digest in blobs)


def test_sampler_finds_a_momentary_fault(tiny: Ground) -> None:
    assert tiny.pull(tiny.reference("small")).status == 0
    path = next(invariants.blobs(tiny.store))
    seen = threading.Event()
    sampler = Sampler(tiny)
    path.rename(tiny.folder / "aside")

    def look() -> None:
        with sampler:
            seen.wait(0.1)

    with pytest.raises(Broken, match="I9"):
        look()


# Each check by itself


def test_control_finds_changes_outside_the_store(ground: Ground) -> None:
    canary = ground.folder / "canary"
    canary.write_text("alive")
    before = ground.begin()
    canary.write_text("dead!")
    with pytest.raises(Broken, match="I2"):
        ground.look(before)
    canary.unlink()
    with pytest.raises(Broken, match="I2"):
        ground.look(before)


def test_control_finds_leaked_secrets(ground: Ground) -> None:
    assert ground.pull().status == 0
    for text in (PASSWORD, "dTVlcjpTM2NyM3RQYTU1"):
        path = ground.store / "seen" / "note"
        path.write_text(f"x{text}x")
        with pytest.raises(Broken, match="I3"):
            ground.look()
        path.unlink()


def test_control_finds_credentials_sent_to_another_host(ground: Ground) -> None:
    with FakeRegistry() as evil:
        evil.serve("img-a", None, img_a())
        evil.on("*", PATH, lambda _seen: Reply(body=L2))
        ground.registry.redirect(PATH, f"{evil.url}{PATH}?t={TOKEN}")
        ground.pull()
        with pytest.raises(Broken, match="I3"):
            no_credentials_received(evil)
    with pytest.raises(Broken, match="I4"):
        no_credentials_received(ground.registry)


def test_control_finds_a_lock_without_an_owner(ground: Ground) -> None:
    assert ground.pull().status == 0
    for name in ("gate", "lock", "names.lock"):
        with (ground.store / name).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            with pytest.raises(Broken, match="I11"):
                ground.look()


BAD_RESULTS: dict[str, tuple[str, Callable[[Outcome], None]]] = {
    "status": ("I6", lambda good: check_result(replace(good, status=70))),
    "traceback": ("I6", lambda good: check_result(replace(good, stderr=b"Traceback (most recent"))),
    "two errors": ("I6", lambda good: check_result(replace(good, stderr=b"error: a\nerror: b\n"))),
    "no error": ("I6", lambda good: check_result(replace(good, stderr=b""))),
    "no document": ("I6", lambda good: check_result(replace(good, stdout=b"{"))),
    "escape": ("I7", lambda good: clean_text(replace(good, stderr=b"error: \x1b[2J"))),
    "command": ("I7", lambda good: clean_text(replace(good, stdout=b"::add-mask::x"))),
    "slow": ("I5", lambda good: invariants.within(replace(good, seconds=31.0), 0)),
    "large": ("I5", lambda good: invariants.within(replace(good, rss=300 * 1024), 0)),
    "storm": ("I5", lambda good: invariants.within(good, 101)),
}


def check_result(outcome: Outcome) -> None:
    invariants.clean_result(outcome, as_json=True)


@pytest.mark.parametrize(("name", "check"), BAD_RESULTS.values(), ids=BAD_RESULTS.keys())
def test_control_finds_unclean_results(name: str, check: Callable[[Outcome], None]) -> None:
    good = Outcome(3, b"{}", b"error: no\n")
    check_result(good)
    clean_text(good)
    invariants.within(good, 1)
    with pytest.raises(Broken, match=name):
        check(good)


def test_control_finds_different_answers(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ground.pull().status == 0
    assert ground.pull(ground.reference(tag="2")).status == 0
    images = LocalStore.images
    turn = iter([1, -1] * 10)
    monkeypatch.setattr(LocalStore, "images", lambda self: images(self)[:: next(turn)])
    with pytest.raises(Broken, match="I12"):
        ground.settles()


def test_control_finds_writable_store_files(ground: Ground) -> None:
    assert ground.pull().status == 0
    path = next(invariants.blobs(ground.store))
    path.chmod(0o666)
    with pytest.raises(Broken, match="I1"):
        ground.look()
    with pytest.raises(Broken, match="ownership"):
        invariants.private(ground.store)


@pytest.mark.parametrize("kind", ["empty", "cut", "link", "folder"])
def test_control_finds_a_file_that_is_not_a_blob(ground: Ground, kind: str, tmp_path: Path) -> None:
    assert ground.pull().status == 0
    path = ground.store / "blobs" / D2.replace(":", "/")
    path.unlink()
    match kind:
        case "empty":
            path.touch()
        case "cut":
            path.write_bytes(L2[:-1])
        case "link":
            target = tmp_path / "elsewhere"
            target.write_bytes(L2)
            path.symlink_to(target)
        case _:
            path.mkdir()
    with pytest.raises(Broken, match="I1"):
        ground.look()
