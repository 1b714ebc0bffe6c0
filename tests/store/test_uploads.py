"""Upload sessions: what they keep, and how they end at every call to the system."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.digest import Digest
from resolver.core.results.store import Retention
from resolver.errors import DigestMismatch, StoreFault
from resolver.store import LocalStore, Patience
from resolver.store.uploads import UploadBusy
from tests.kit.stored_images import blob_of
from tests.store import faults as store_faults
from tests.store.faults import Stopped, unverified, watch

if TYPE_CHECKING:
    from pathlib import Path

BODY = bytes(range(256)) * 64
BLOB = blob_of(BODY)
HALF = len(BODY) // 2
REPOSITORY = "team/app"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store", fsync=False)


def send(store: LocalStore) -> None:
    """Upload one blob in two requests, as `serve --writable` does."""
    store.uploads.mark(REPOSITORY)
    identity, upload = store.uploads.begin(REPOSITORY)
    try:
        upload.write(BODY[:HALF])
        upload.commit()
    finally:
        store.uploads.leave(upload)
    resumed = store.uploads.resume(REPOSITORY, identity)
    assert resumed is not None
    try:
        resumed.begin(resumed.size)
        resumed.write(BODY[HALF:])
        resumed.finish(BLOB.digest)
        store.uploads.mark(REPOSITORY, BLOB.digest)
    finally:
        store.uploads.leave(resumed)


def fresh(root: Path) -> None:
    LocalStore(root, fsync=False).add(blob_of(b"other"), [b"other"])


def is_whole_at_once(root: Path) -> bool:
    """Whether the next upload needs no repair, and a collection leaves nothing of the old one."""
    store = LocalStore(root, fsync=False, patience=Patience(0))
    send(store)
    good = store.held(BLOB, full=True) and unverified(root) == []
    good = good and store.uploads.is_marked(REPOSITORY, BLOB.digest)
    store.collect(Retention(grace=0))
    left = [path for name in ("uploads", "leases", "tmp") for path in (root / name).iterdir()]
    return good and left == []


def test_upload_killed_at_any_call_leaves_a_correct_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 0
    while True:
        root = tmp_path / str(at)
        fresh(root)
        died = False
        with monkeypatch.context() as patch:
            watched = watch(patch, at)
            try:
                send(LocalStore(root))
            except Stopped:
                died = True
            watched.end()
        if not died:
            break
        store = LocalStore(root, fsync=False)
        assert unverified(root) == [], at
        # A blob is never one of a repository before it is here.
        assert not store.uploads.is_marked(REPOSITORY, BLOB.digest) or store.held(BLOB), at
        assert is_whole_at_once(root), at
        shutil.rmtree(root)
        at += 1
    assert at > 100


def test_failing_call_in_an_upload_is_a_store_error_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 0
    while True:
        root = tmp_path / str(at)
        fresh(root)
        fault: StoreFault | None = None
        with monkeypatch.context() as patch:
            watched = watch(patch, at, store_faults.no_room)
            try:
                send(LocalStore(root))
            except StoreFault as error:
                fault = error
            except UploadBusy:
                # What was not closed is still locked.
                assert watched.names()[at] == "close"
            watched.end()
        if not watched.is_reached:
            break
        if fault is not None:
            assert fault.path.startswith(str(root)), at
            assert fault.hints(), at
        assert unverified(root) == [], at
        assert is_whole_at_once(root), at
        shutil.rmtree(root)
        at += 1
    assert at > 100


def test_blob_is_synced_before_it_has_its_name(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = LocalStore(store.root)
    send(synced)
    watched = watch(monkeypatch)
    send(synced)
    names = watched.names()
    watched.end()

    renamed = max(at for at, name in enumerate(names) if name == "rename")
    assert "fsync" in names[:renamed]
    assert "fsync" in names[renamed:]


def test_upload_in_another_store_object_continues(store: LocalStore) -> None:
    identity, upload = store.uploads.begin(REPOSITORY)
    upload.write(BODY[:HALF])
    upload.commit()
    upload.write(BODY[HALF:-1])
    store.uploads.leave(upload)

    resumed = LocalStore(store.root, fsync=False).uploads.resume(REPOSITORY, identity)

    assert resumed is not None
    assert (resumed.committed, resumed.size) == (HALF, len(BODY) - 1)
    resumed.begin(HALF)
    assert resumed.size == HALF
    resumed.write(BODY[HALF:])
    resumed.finish(BLOB.digest)
    assert store.held(BLOB, full=True)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_hash_covers_bytes_that_were_overwritten(store: LocalStore, algorithm: str) -> None:
    identity, upload = store.uploads.begin(REPOSITORY, "sha256")
    upload.write(b"wrong bytes that are longer" * 1000)
    upload.begin(5)
    upload.write(b"!")
    store.uploads.leave(upload)
    resumed = store.uploads.resume(REPOSITORY, identity)
    assert resumed is not None
    digest = Digest.of(b"wrong!", algorithm)

    resumed.finish(digest)

    assert store.load(digest) == b"wrong!"


def test_upload_that_does_not_match_is_removed(store: LocalStore) -> None:
    _, upload = store.uploads.begin(REPOSITORY)
    upload.write(BODY)

    with pytest.raises(DigestMismatch):
        upload.finish(blob_of(b"other").digest)

    assert list((store.root / "uploads").iterdir()) == []
    with pytest.raises(UploadBusy):
        upload.write(b"more")


@pytest.mark.parametrize("ending", ["finish", "remove", "leave"])
def test_ended_upload_touches_no_other_file(store: LocalStore, ending: str) -> None:
    _, upload = store.uploads.begin(REPOSITORY)
    upload.write(BODY)
    match ending:
        case "finish":
            upload.finish(BLOB.digest)
        case "remove":
            upload.remove()
        case _:
            store.uploads.leave(upload)
    # It has the number of the file that was closed.
    with (store.root / "version").open("rb") as other:
        upload.remove()
        upload.close()
        store.uploads.leave(upload)

        assert other.read() == b"1\n"
    assert len(list((store.root / "uploads").iterdir())) == (1 if ending == "leave" else 0)


def test_session_is_bound_to_its_repository(store: LocalStore) -> None:
    identity, upload = store.uploads.begin(REPOSITORY)
    store.uploads.leave(upload)

    assert store.uploads.resume("team/other", identity) is None
    assert LocalStore(store.root / "none").uploads.is_marked(REPOSITORY) is False


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "folder"])
def test_planted_session_is_not_written(store: LocalStore, tmp_path: Path, kind: str) -> None:
    identity, upload = store.uploads.begin(REPOSITORY)
    store.uploads.leave(upload)
    path = store.root / "uploads" / upload.name
    path.unlink()
    target = tmp_path / "target"
    target.write_bytes(b"untouched")
    match kind:
        case "link":
            path.symlink_to(target)
        case "hard link":
            path.hardlink_to(target)
        case "fifo":
            os.mkfifo(path)
        case _:
            path.mkdir()

    assert store.uploads.resume(REPOSITORY, identity) is None
    assert target.read_bytes() == b"untouched"


def test_session_that_a_request_has_is_not_collected(store: LocalStore) -> None:
    identity, upload = store.uploads.begin(REPOSITORY)
    upload.write(BODY)
    os.utime(store.root / "uploads" / upload.name, (0, 0))

    store.collect(Retention(grace=0))

    upload.finish(BLOB.digest)
    assert store.held(BLOB, full=True)
    with suppress(UploadBusy):
        assert store.uploads.resume(REPOSITORY, identity) is None


def test_process_that_died_before_publishing_left_a_session_that_continues(
    store: LocalStore,
) -> None:
    identity, upload = store.uploads.begin(REPOSITORY)
    upload.write(BODY)
    store.uploads.leave(upload)
    (store.root / "uploads" / upload.name).chmod(0o444)

    resumed = store.uploads.resume(REPOSITORY, identity)

    assert resumed is not None
    resumed.finish(BLOB.digest)
    assert store.held(BLOB, full=True)
