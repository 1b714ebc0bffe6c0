"""Content, permissions and foreign files of a store (area "store" of the catalogue)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults import invariants
from tests.faults.injection import Fault
from tests.faults.inside import mounted, needs_mounts, needs_root
from tests.faults.samples import AMD64, digest_of, img_a, layer, layers, needed, small
from tests.kit.images import build_image, build_index

if TYPE_CHECKING:
    from tests.faults.ground import Ground

NOBODY = 65534
D2 = digest_of(img_a().child(AMD64), layers()[1])


def blob(ground: Ground, digest: str) -> Path:
    return ground.store / "blobs" / digest.replace(":", "/")


def orphan(ground: Ground, body: bytes, age: float) -> str:
    """Store a blob that no image needs."""
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    path = blob(ground, digest)
    path.write_bytes(body)
    path.chmod(0o444)
    then = time.time() - age
    os.utime(path, (then, then))
    return digest


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_sto_001_store_files_are_not_writable_by_others(ground: Ground, umask: int) -> None:
    (outcome,) = ground.together(ground.pulling(umask=umask))

    assert outcome.status == 0
    invariants.private(ground.store)
    assert stat.S_IMODE(ground.store.stat().st_mode) == 0o700
    for path in invariants.blobs(ground.store):
        assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_sto_002_planted_link_is_never_followed(ground: Ground) -> None:
    canary = ground.folder / "canary"
    canary.write_bytes(layers()[1])
    canary.chmod(0o644)
    os.utime(canary, (1, 1))
    assert ground.pull(ground.reference(tag="2")).status == 0
    ground.damaged = True
    blob(ground, D2).unlink()
    blob(ground, D2).symlink_to(canary)

    assert ground("verify", "--full").status == 1
    blob(ground, D2).unlink(missing_ok=True)
    blob(ground, D2).symlink_to(canary)
    assert ground.pull().status == 0
    ground.damaged = False
    assert not blob(ground, D2).is_symlink()
    link = blob(ground, "sha256:" + "5" * 64)
    link.symlink_to(canary)
    ground.damaged = True
    assert ground("gc", "--grace", "0s").status == 0
    link.unlink(missing_ok=True)
    ground.damaged = False
    ground.look()


@pytest.mark.parametrize("kind", ["fifo", "folder", "hard link", "empty"])
def test_sto_002_invalid_blob_file_is_replaced(ground: Ground, kind: str) -> None:
    canary = ground.folder / "canary"
    canary.write_bytes(b"other")
    assert ground.pull(ground.reference(tag="2")).status == 0
    path = blob(ground, D2)
    path.unlink()
    ground.damaged = True
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "hard link":
            path.hardlink_to(canary)
        case _:
            path.touch()

    ground.recovers(img_a(), most=ground.missing(img_a()))
    assert canary.read_bytes() == b"other"


@needs_mounts
def test_sto_006_read_only_store_answers_and_changes_nothing(ground: Ground) -> None:
    assert ground.pull().status == 0
    ground("resolve", ground.reference(), "-p", AMD64)
    done = mounted(ground, "read_only")

    for words in ("resolve", "inspect", "ls", "du", "verify", "pull of the same", "plan"):
        assert done[words].status == 0, (words, done[words])
    for words in ("pull of another", "gc", "rm"):
        ground.refused(done[words], "STORE", str(ground.store))


@needs_root
def test_sto_007_store_without_permission_is_a_store_error(ground: Ground) -> None:
    assert ground.pull().status == 0
    for path in (ground.store, *ground.store.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    hidden = ground.store / "blobs" / "sha256"
    held = set(invariants.intact(ground.store))
    with opened_up(ground.folder):
        hidden.chmod(0)
        jobs = [
            ground.pulling(ground.reference(tag="2"), user=NOBODY),
            ground.job("gc", "--grace", "0s", user=NOBODY),
            ground.job("export", ground.reference(), "--to", "/nonexistent/out.tar", user=NOBODY),
        ]
        # One by one: a collection keeps others from the lock.
        outcomes = []
        ground.damaged = True
        for job in jobs:
            (outcome,) = ground.together(job)
            outcomes.append(outcome)
        hidden.chmod(0o700)
    ground.damaged = False
    for outcome in outcomes:
        ground.refused(outcome, "STORE", str(hidden))
    assert set(invariants.intact(ground.store)) == held


@contextlib.contextmanager
def opened_up(folder: Path):  # type: ignore[no-untyped-def]  # noqa: ANN201 - set below
    """Make the parent folders accessible to other users in this block."""
    changed = []
    for path in (folder, *folder.parents):
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & 0o001:
            changed.append((path, mode))
            path.chmod(mode | 0o011)
    try:
        yield
    finally:
        for path, mode in changed:
            path.chmod(mode)


def test_sto_008_foreign_files_are_left_alone(ground: Ground) -> None:
    assert ground.pull().status == 0
    foreign = [
        ground.store / "README",
        ground.store / "blobs" / ".DS_Store",
        ground.store / "blobs" / "sha256" / "notahex",
        ground.store / "blobs" / "sha256" / f"{'a' * 64}.bak",
        ground.store / "blobs" / "md5" / ("b" * 32),
        ground.store / "blobs" / "sha256" / ("C" * 64),
        ground.store / "tmp" / "mine",
        ground.store / "leases" / "notes",
        ground.store / "partial" / "sha256-xyz" / "data",
        ground.store / "names" / "notes.txt",
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        os.utime(path, (1, 1))
    before = {str(path): path.stat().st_mtime_ns for path in foreign}

    collected = ground("gc", "--grace", "0s")
    verified = ground("verify", "--full", "--repair")
    listed = ground("ls")

    assert collected.status == verified.status == listed.status == 0
    assert collected.answer["removed"] == []
    assert verified.answer["blobs"] == len(needed(img_a()))
    assert {str(path): path.stat().st_mtime_ns for path in foreign} == before


def test_sto_012_orphans_are_removed_after_the_grace_period(ground: Ground) -> None:
    assert ground.pull().status == 0
    old = orphan(ground, b"old", 7200)
    young = orphan(ground, b"young", 10)
    future = orphan(ground, b"future", -7200)

    outcome = ground("gc", "--grace", "1h")

    assert outcome.status == 0
    assert [(row["name"], row["size"]) for row in outcome.answer["removed"]] == [(old, 3)]
    assert not blob(ground, old).exists()
    assert blob(ground, young).exists()
    assert blob(ground, future).exists()


def test_sto_014_dry_run_reports_the_same_and_changes_nothing(ground: Ground) -> None:
    assert ground.pull().status == 0
    for number in range(20):
        orphan(ground, b"%d" % number, 7200)
    before = invariants.snapshot(ground.store)

    dry = ground("gc", "--dry-run")
    after = invariants.snapshot(ground.store)
    wet = ground("gc")

    locks = {str(ground.store / name) for name in ("gate", "lock")}
    assert {k: v for k, v in before.items() if k not in locks} == {
        k: v for k, v in after.items() if k not in locks
    }
    assert len(dry.answer["removed"]) == 20
    assert dry.answer["removed"] == wet.answer["removed"]


def test_sto_015_verify_finds_exactly_the_damage_and_repairs_it(ground: Ground) -> None:
    bodies = [layer(1024, 200 + number) for number in range(50)]
    image = build_index([build_image(AMD64, bodies)])
    ground.registry.serve("many", "1", image)
    reference = ground.reference("many")
    assert ground.pull(reference).status == 0
    ground.damaged = True
    flipped, cut = (digest_of(image.child(AMD64), body) for body in bodies[7:9])
    for digest, body in ((flipped, bodies[7][:-1] + b"!"), (cut, bodies[8][:100])):
        path = blob(ground, digest)
        path.chmod(0o644)
        path.write_bytes(body)
        path.chmod(0o444)
    extra = ground.store / "blobs" / "sha256" / "wrong-name"
    extra.touch()

    found = ground("verify")
    assert found.status == 1
    assert {row["name"] for row in found.answer["damaged"]} == {flipped, cut}
    mended = ground("verify", "--repair")
    assert mended.status == 0, mended
    ground.damaged = False
    assert ground("verify", "--full").answer["damaged"] == []
    extra.unlink()
    ground.recovers(image, reference, most=0)


def test_sto_017_everything_is_written_inside_the_store(ground: Ground) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == ground.folder.stat().st_dev:
        pytest.skip("there is no second file system here")
    log = ground.folder / "log"
    ground.outputs.append(log)
    # All calls below `/` are written down, to see those outside the store.
    fault = Fault("/", log=str(log))
    environment = {"TMPDIR": str(elsewhere)}
    (outcome,) = ground.together(ground.pulling(fault=fault, environment=environment))

    assert outcome.status == 0
    calls = invariants.read_log(log)
    outside = [
        (name, where)
        for name, where in calls
        if name in {"open", "mkdir", "rename", "link"}
        for path in where.split(" -> ")
        if not path.startswith((str(ground.store), "/proc/", "/dev/"))
    ]
    assert outside == []
    assert len(calls) > 50


def test_sto_018_very_long_references_are_stored(ground: Ground) -> None:
    repository = "/".join("r" * 59 for _ in range(4))
    tag = "t" * 128
    ground.registry.serve(repository, tag, small())
    reference = ground.reference(repository, tag)

    assert len(repository) == 239
    assert ground.pull(reference).status == 0
    assert [row["reference"] for row in ground("ls").answer["images"]] == [reference]
    ground.settles()


@pytest.mark.parametrize("version", ["2\n", "9.9.9\n", "1" * 5000, "\0", "1 and more"])
def test_sto_021_store_of_another_version_is_not_written(ground: Ground, version: str) -> None:
    assert ground.pull().status == 0
    (ground.store / "version").write_text(version)
    before = invariants.snapshot(ground.store)

    pulled = ground.pull(ground.reference(tag="2"))
    collected = ground("gc", "--grace", "0s")

    ground.refused(pulled, "STORE", "version")
    ground.refused(collected, "STORE", "version")
    invariants.unchanged(before, invariants.snapshot(ground.store))


@pytest.mark.parametrize("mark", ["nothing", "other tag", "oci-layout", "git"])
def test_sto_021_foreign_folder_is_not_adopted(ground: Ground, mark: str) -> None:
    ground.store.mkdir()
    (ground.store / "thesis.txt").write_text("ten years of work")
    if mark == "other tag":
        tag = "Signature: 8a477f597d28d172789f06886806bc55\n# of some other program\n"
        (ground.store / "CACHEDIR.TAG").write_text(tag)
    elif mark == "oci-layout":
        (ground.store / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "9.9.9"}))
        (ground.store / "blobs" / "sha256").mkdir(parents=True)
        (ground.store / "blobs" / "sha256" / ("a" * 64)).write_text("x")
    elif mark == "git":
        (ground.store / "names").mkdir()
    before = invariants.snapshot(ground.store)
    ground.damaged = True

    pulled = ground.pull()
    collected = ground("gc", "--grace", "0s")

    ground.refused(pulled, "STORE", str(ground.store))
    assert collected.status == 8, collected
    invariants.unchanged(before, invariants.snapshot(ground.store))
    shutil.rmtree(ground.store)
