"""Garbage collection: unneeded content is removed, and nothing else."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_INDEX
from resolver.core.oci.digest import Digest
from resolver.core.results.pull import PulledName
from resolver.core.results.store import Collected, Retention
from resolver.errors import StoreFault
from resolver.store import LocalStore, NameRecord, Patience
from tests.kit.images import (
    Image,
    build_index,
    entry,
    from_dict,
    multi_platform,
)
from tests.kit.stored_images import (
    HOUR,
    ONE,
    TWO,
    age,
    blob_of,
    everything,
    fill,
    held,
    place,
    pull,
    put,
)
from tests.store import faults as store_faults
from tests.store.faults import Stopped, unverified, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MANY = multi_platform("linux/amd64", "linux/arm64/v8", attestations=True)
NOW = Retention(grace=0)


def kinds(collected: Collected) -> list[str]:
    return [item.kind for item in collected.removed]


def names(collected: Collected) -> set[str]:
    return {item.name for item in collected.removed}


def test_gc_of_a_missing_store_creates_nothing(store: LocalStore) -> None:
    assert store.collect().removed == ()
    assert not store.root.exists()


def test_gc_keeps_named_content_and_removes_the_rest_parents_first(store: LocalStore) -> None:
    pull(store, "localhost/one:1", ONE)
    fill(store, TWO)
    stray = put(store, b"stray")
    age(store)

    collected = store.collect()

    assert held(store) == everything(ONE)
    assert names(collected) == everything(TWO) - everything(ONE) | {str(stray)}
    assert kinds(collected) == ["manifest", "config", "layer", "blob"]
    assert collected.freed == sum(item.size for item in collected.removed)
    assert collected.kept == len(everything(ONE))
    assert collected.missing == ()
    assert store.collect().removed == ()


def test_gc_keeps_only_pulled_platforms_of_a_name(store: LocalStore) -> None:
    fill(store, MANY)
    pull(store, "localhost/many:1", MANY, ["linux/arm64/v8"])
    age(store)

    store.collect()

    assert held(store) == everything(MANY, ["linux/arm64/v8"])


def test_gc_follows_nested_indexes(store: LocalStore) -> None:
    outer = build_index([multi_platform("linux/amd64"), ONE])
    inner = outer.children[0]
    fill(store, inner)
    fill(store, outer)
    image = inner.children[0]
    record = pull(store, "localhost/outer:1", outer, [])
    assert record.images == ()
    pull(store, "localhost/inner:1", image)
    age(store)

    store.collect()

    assert {outer.digest, inner.digest} | everything(image) <= held(store)
    assert ONE.digest not in held(store)


def test_gc_reads_repeated_indexes_once(store: LocalStore) -> None:
    """Ten copies of ten copies of …: a hundred million paths to one image."""
    image: Image = ONE
    for _ in range(8):
        image = from_dict(
            {
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "manifests": [entry(image, platform="")] * 10,
            },
            parts=[image],
        )
    for digest, (_, body) in image.documents.items():
        assert str(put(store, body)) == digest
    store.name(PulledName("localhost/deep:1", image.descriptor, ()))
    age(store)

    collected = store.collect()

    assert names(collected) == {ONE.digest}
    with store.lease([Digest.parse(image.digest)]):
        assert store.collect(NOW).removed == ()
    store.remove("localhost/deep:1")
    assert held(store) == set()


def test_gc_keeps_only_the_root_seen_by_a_resolve(store: LocalStore) -> None:
    fill(store, MANY)
    store.remember(NameRecord("localhost/many:1", MANY.descriptor))
    age(store)

    store.collect()

    assert held(store) == {MANY.digest}


@pytest.mark.parametrize(
    ("seconds", "rules", "goes"),
    [
        (2 * HOUR, Retention(), True),
        (10, Retention(), False),
        (10, Retention(grace=0), True),
        (-1e9, Retention(), False),
        (2 * HOUR, Retention(keep_newer=3 * HOUR), False),
        (4 * HOUR, Retention(keep_newer=3 * HOUR), True),
    ],
)
def test_gc_keeps_young_and_future_content(
    store: LocalStore, seconds: float, rules: Retention, *, goes: bool
) -> None:
    stray = put(store, b"stray")
    age(store, seconds)

    assert (str(stray) in names(store.collect(rules))) == goes
    assert (str(stray) not in held(store)) == goes


def test_gc_counts_content_added_again_as_young(store: LocalStore) -> None:
    stray = put(store, b"stray")
    age(store)
    put(store, b"stray")

    store.collect()

    assert held(store) == {str(stray)}


def test_gc_dry_run_reports_the_same_and_changes_nothing(store: LocalStore) -> None:
    pull(store, "localhost/one:1", ONE, at=1)
    pull(store, "localhost/two:1", TWO, at=2)
    put(store, b"stray")
    with store.receive(blob_of(b"partial")) as receiving:
        assert receiving is not None
        receiving.write(0, b"par")
    age(store)
    before = sorted(str(path) for path in store.root.rglob("*"))
    rules = Retention(max_size=1)

    dry = store.collect(rules, dry_run=True)

    assert sorted(str(path) for path in store.root.rglob("*")) == before
    wet = store.collect(rules)
    assert dry.dry_run
    assert not wet.dry_run
    assert dry.removed == wet.removed
    assert dry.freed == wet.freed
    assert held(store) == set()


# Content of running processes


def test_gc_keeps_leased_content_and_its_descendants(store: LocalStore) -> None:
    fill(store, MANY)
    stray, other = put(store, b"stray"), put(store, b"other")
    age(store)

    with store.lease([stray, Digest.parse(MANY.digest)]):
        store.collect(NOW)
        assert held(store) == {str(stray)} | everything(MANY)
    age(store)
    store.collect(NOW)

    assert held(store) == set()
    assert str(other) not in held(store)


def test_gc_keeps_content_newer_than_a_lease(
    store: LocalStore,
) -> None:
    old = put(store, b"old")
    age(store)
    with store.lease():
        new = put(store, b"new")
        store.collect(NOW)
        assert held(store) == {str(new)}

    assert str(old) not in held(store)


def test_gc_keeps_an_active_transfer_and_removes_a_dead_one(
    store: LocalStore,
) -> None:
    with store.receive(blob_of(b"dead")) as receiving:
        assert receiving is not None
        receiving.write(0, b"de")
    with store.receive(blob_of(b"living")) as receiving:
        assert receiving is not None
        receiving.write(0, b"li")
        age(store)
        collected = store.collect()
        receiving.write(2, b"ving")
        receiving.finish()

    assert kinds(collected) == ["partial"]
    assert store.held(blob_of(b"living"), full=True)
    assert list((store.root / "partial").iterdir()) == []


def test_gc_keeps_young_partials_for_the_next_pull(store: LocalStore) -> None:
    with store.receive(blob_of(b"partial")) as receiving:
        assert receiving is not None
        receiving.write(0, b"par")

    assert store.collect().removed == ()
    assert store.partial(blob_of(b"partial")) == 3


def test_gc_without_grace_leaves_nothing_behind(store: LocalStore) -> None:
    put(store, b"x")
    with store.receive(blob_of(b"partial")) as receiving:
        assert receiving is not None
        receiving.write(0, b"par")
    (store.root / "leases" / ("0" * 32)).write_text("dead")
    (store.root / "tmp" / f"new-{'0' * 32}").write_text("dead")
    (store.root / "tmp" / f"bad-{'0' * 32}").mkdir()

    collected = store.collect(NOW)

    assert sorted(kinds(collected)) == ["blob", "lease", "partial", "temporary", "temporary"]
    for name in ("blobs/sha256", "partial", "leases", "tmp"):
        assert list((store.root / name).iterdir()) == []


# A living process whose lease cannot be read


def spoil_lease(store: LocalStore, nonsense: bytes = b"nonsense\n") -> Path:
    """Damage the only lease."""
    (path,) = (store.root / "leases").iterdir()
    with path.open("ab") as file:
        file.write(nonsense)
    return path


@pytest.mark.parametrize("nonsense", [b"nonsense\n", bytes(3 << 20), b'{"digests":["sha256:..'])
def test_unreadable_lease_keeps_content_and_names_its_process(
    store: LocalStore, nonsense: bytes
) -> None:
    pull(store, "app:1", ONE)
    stray = put(store, b"stray")
    with store.receive(blob_of(b"partial")) as receiving:
        assert receiving is not None
        receiving.write(0, b"par")
    (store.root / "leases" / ("0" * 32)).write_text("dead")
    (store.root / "tmp" / f"new-{'0' * 32}").write_text("dead")
    age(store)
    (store.root / "leases" / ("0" * 32)).unlink()
    with store.lease([stray], "serve --mirror"):
        path = spoil_lease(store, nonsense)
        (store.root / "leases" / ("0" * 32)).write_text("dead")
        # The process may be writing this one.
        (store.root / "tmp" / f"new-{'1' * 32}").write_text("young")
        before = held(store)
        dry = store.collect(Retention(grace=0, max_size=0), dry_run=True)
        collected = store.collect(Retention(grace=0, max_size=0))
        assert dry.removed == collected.removed
        assert sorted(kinds(collected)) == ["lease", "partial", "temporary"]
        assert f"tmp/new-{'0' * 32}" in names(collected)
        assert held(store) == before
        assert [each.reference for each in store.pulled_names()] == ["app:1"]
        (unread,) = collected.unread
        assert collected.is_partial
        assert (unread.path, unread.purpose, unread.pid) == (
            str(path),
            "serve --mirror",
            os.getpid(),
        )
        assert f"`serve --mirror` uses it (process {os.getpid()})" in str(unread)
        # Removal of images stops.
        with pytest.raises(StoreFault, match=f"process {os.getpid()}"):
            store.remove("app:1", force=True)
    assert not store.collect(NOW).is_partial
    assert str(stray) not in held(store)


def test_lease_without_a_readable_header_keeps_every_temporary_file(store: LocalStore) -> None:
    put(store, b"x")
    (store.root / "tmp" / f"new-{'0' * 32}").write_text("whose is it")
    age(store)
    path = store.root / "leases" / ("0" * 32)
    path.write_bytes(b"\xff\n")
    descriptor = os.open(path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        collected = store.collect(NOW)
    finally:
        os.close(descriptor)
    assert collected.removed == ()
    (unread,) = collected.unread
    assert (unread.purpose, unread.pid, unread.since) == ("", os.getpid(), None)


def test_lease_of_another_user_counts_as_active(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = put(store, b"stray")
    path = store.root / "leases" / ("0" * 32)
    path.parent.mkdir(exist_ok=True)
    path.write_text("of another user")
    age(store)
    real = os.open

    def refuse(name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if name == path.name:
            raise PermissionError(13, "Permission denied")
        return real(name, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    collected = store.collect(NOW)
    assert str(stray) in held(store)
    assert [each.reason for each in collected.unread] == ["it belongs to another user"]
    assert path.exists()


# Content that must be kept


def test_gc_neither_removes_nor_counts_foreign_files(store: LocalStore, tmp_path: Path) -> None:
    put(store, b"x")
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file").write_text("mine")
    foreign = [
        "README",
        "blobs/.DS_Store",
        "blobs/sha256/notahex",
        f"blobs/sha256/{'a' * 64}.bak",
        f"blobs/sha256/{'A' * 64}",
        f"blobs/sha256/{'a' * 63}",
        "partial/README",
        f"partial/md5-{'a' * 32}",
        "tmp/report",
        "leases/README",
        "names/README",
    ]
    for name in foreign:
        (store.root / name).write_text("mine")
    (store.root / "blobs" / "md5").mkdir()
    (store.root / "blobs" / "md5" / ("a" * 32)).write_text("mine")
    (store.root / "blobs" / "sha256" / ("b" * 64)).symlink_to(canary / "file")
    (store.root / "partial" / f"sha256-{'c' * 64}").symlink_to(canary)
    (store.root / "blobs" / "sha256" / ("d" * 64)).mkdir()

    store.collect(NOW)

    assert all((store.root / name).read_text() == "mine" for name in foreign)
    assert (store.root / "blobs" / "md5" / ("a" * 32)).exists()
    assert (canary / "file").read_text() == "mine"
    # A link under a digest's name is no content; the link goes, not what it leads to.
    assert not (store.root / "blobs" / "sha256" / ("b" * 64)).is_symlink()


def spoil(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(b"{spoiled")


def bad_name(store: LocalStore) -> Path:
    (path,) = (store.root / "names").glob("*.json")
    spoil(path)
    return path


def bad_manifest(store: LocalStore) -> Path:
    spoil(place(store, ONE.digest))
    return place(store, ONE.digest)


def manifest_that_is_a_folder(store: LocalStore) -> Path:
    place(store, ONE.digest).unlink()
    place(store, ONE.digest).mkdir()
    return place(store, ONE.digest)


def newer_version(store: LocalStore) -> Path:
    (store.root / "version").write_text("2\n")
    return store.root / "version"


@pytest.mark.parametrize("harm", [bad_name, bad_manifest, manifest_that_is_a_folder, newer_version])
def test_gc_stops_at_unknown_content_before_removing_anything(
    store: LocalStore, harm: Callable[[LocalStore], Path]
) -> None:
    pull(store, "localhost/one:1", ONE)
    put(store, b"stray")
    path = harm(store)
    age(store)
    before = held(store)

    with pytest.raises(StoreFault) as caught:
        store.collect()

    assert caught.value.path == str(path)
    assert caught.value.hints()
    assert held(store) == before


def test_gc_reports_a_missing_child_and_continues(store: LocalStore) -> None:
    pull(store, "localhost/one:1", ONE)
    stray = put(store, b"stray")
    lost = next(iter(ONE.blobs))
    place(store, lost).unlink()
    age(store)

    collected = store.collect()

    assert names(collected) == {str(stray)}
    assert [str(digest) for digest in collected.missing] == [lost]


def test_gc_refuses_a_folder_that_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "README").touch()

    with pytest.raises(StoreFault):
        LocalStore(tmp_path).collect(NOW)

    assert [path.name for path in tmp_path.iterdir()] == ["README"]


# Removal of names


def test_gc_size_limit_removes_the_longest_unused_names_first(store: LocalStore) -> None:
    pull(store, "localhost/two:1", TWO, at=20)
    pull(store, "localhost/one:1", ONE, at=10)
    size = sum(path.stat().st_size for path in (store.root / "blobs" / "sha256").iterdir())

    assert store.collect(Retention(max_size=size)).removed == ()
    collected = store.collect(Retention(max_size=size - 1))

    assert collected.removed[0].name == "localhost/one:1"
    assert store.pulled("localhost/one:1") is None
    assert store.pulled("localhost/two:1") is not None
    assert held(store) == everything(TWO)


def test_gc_keeps_names_in_use_or_protected_above_the_size(store: LocalStore) -> None:
    pull(store, "localhost/one:1", ONE, at=10)
    pull(store, "localhost/two:1", TWO, at=int(time.time()))

    with store.lease([Digest.parse(ONE.digest)]):
        store.collect(Retention(max_size=0, keep_newer=HOUR))

    assert {record.reference for record in store.pulled_names()} == {
        "localhost/one:1",
        "localhost/two:1",
    }
    assert held(store) == everything(ONE) | everything(TWO)


def test_gc_keeps_names_used_by_the_job(store: LocalStore) -> None:
    pull(store, "localhost/one:1", ONE, at=10)
    pull(store, "localhost/two:1", TWO, at=20)
    pull(store, "localhost/many:1", MANY, at=5)
    store.remember(NameRecord("localhost/other:1", MANY.descriptor))

    store.collect(Retention(grace=0, used_since=20, keep=frozenset({"localhost/many:1"})))

    assert {r.reference for r in store.pulled_names()} == {"localhost/two:1", "localhost/many:1"}
    assert held(store) == everything(TWO) | everything(MANY)
    assert store.recall("localhost/other:1") is None


# Interrupted collections


def prepared(root: Path) -> LocalStore:
    store = LocalStore(root, fsync=False)
    pull(store, "localhost/one:1", ONE, at=10)
    pull(store, "localhost/two:1", TWO, at=20)
    put(store, b"stray")
    return LocalStore(root)


def is_closed(store: LocalStore) -> bool:
    """Return whether every name is complete (I9) and every blob correct (I1)."""
    images = [image for image in store.images() if not image.dangling]
    return unverified(store.root) == [] and not any(image.missing for image in images)


@pytest.mark.parametrize("failure", [None, store_faults.no_room, store_faults.broken_disk])
def test_gc_interrupted_at_any_call_leaves_every_name_complete(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Callable[[str], BaseException] | None,
) -> None:
    at = 0
    prepared(tmp_path / "model")
    while True:
        root = tmp_path / "store"
        shutil.copytree(tmp_path / "model", root)
        store = LocalStore(root)
        with monkeypatch.context() as patch:
            watched = watch(patch, at, failure)
            with suppress(Stopped, StoreFault):
                store.collect(Retention(grace=0, used_since=20))
            watched.end()
        assert is_closed(store), at
        store.collect(Retention(grace=0, used_since=20))
        assert held(store) == everything(TWO), at
        shutil.rmtree(root)
        if not watched.is_reached:
            break
        at += 1
    assert at > 100


def test_name_is_written_only_when_its_content_is_complete(store: LocalStore) -> None:
    record = pull(store, "localhost/one:1", ONE)
    store.unname("localhost/one:1")
    for digest in everything(ONE):
        kept = place(store, digest).read_bytes()
        place(store, digest).unlink()
        with pytest.raises(StoreFault) as caught:
            store.name(record)
        assert digest.partition(":")[2] in caught.value.path
        assert store.pulled("localhost/one:1") is None
        put(store, kept)

    assert store.name(record) == record


def test_gc_keeps_a_root_read_again_before_it_is_leased(store: LocalStore) -> None:
    """A pull reads its index before it can list what it needs."""
    fill(store, ONE)
    age(store)
    with store.lease(purpose="pull"):
        store.add_document(Document(ONE.descriptor, ONE.body))
        store.collect(NOW)

    assert ONE.digest in held(store)


def test_gc_waits_for_writers(store: LocalStore) -> None:
    put(store, b"x")
    with store.writing(), pytest.raises(StoreFault, match="lock"):
        LocalStore(store.root, patience=Patience(0)).collect()


def test_waiting_gc_lets_no_new_writer_in(store: LocalStore) -> None:
    """Otherwise a stream of writers would keep it waiting forever."""
    put(store, b"x")
    late: list[str] = []
    inside = store.writing()
    inside.__enter__()

    def meanwhile(_seconds: float) -> None:
        if not late:
            with pytest.raises(StoreFault) as caught:
                put(LocalStore(store.root, patience=Patience(0)), b"y")
            late.append(caught.value.path)
            inside.__exit__(None, None, None)

    LocalStore(store.root, patience=Patience(60, sleep=meanwhile)).collect()

    assert late == [str(store.root / "gate")]
