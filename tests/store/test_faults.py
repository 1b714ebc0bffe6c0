"""Failing calls, killed processes and held locks of a store."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_INDEX, Descriptor
from resolver.core.oci.digest import Digest
from resolver.errors import StoreFault
from resolver.store import LocalStore, NameRecord, Patience
from resolver.store.files import StoreFolder, fault, refuse_remote
from resolver.verbs.output_files import export_fault
from tests.kit.processes import ROOT as PACKAGE
from tests.kit.processes import python
from tests.store import faults as store_faults
from tests.store.faults import Stopped, litter, unverified, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OLD, NEW = b'{"old":1}', b'{"new":1}'
APP = "docker.io/library/app:1"


def document(body: bytes) -> Document:
    return Document(Descriptor(OCI_INDEX, Digest.of(body), len(body)), body)


def keep(store: LocalStore, body: bytes) -> None:
    """Store an answer as a resolve does."""
    store.add_document(document(body))
    store.remember(NameRecord(APP, document(body).descriptor))


def fresh(root: Path) -> LocalStore:
    """Prepare nothing: the first write creates the store."""
    return LocalStore(root)


def filled(root: Path) -> LocalStore:
    """Prepare a store with an older answer."""
    store = LocalStore(root, fsync=False)
    keep(store, OLD)
    return LocalStore(root)


def damaged(root: Path) -> LocalStore:
    """Prepare a store that has the new content, but damaged."""
    store = filled(root)
    (root / "blobs" / "sha256" / Digest.of(NEW).hex).write_bytes(b"")
    return store


def is_consistent(root: Path) -> bool:
    """Whether everything visible is verified, and the name means the old or new content."""
    store = LocalStore(root)
    known = store.recall(APP)
    if known is not None and store.load(known.root.digest, known.root.size) not in (OLD, NEW):
        return False
    return unverified(root) == []


@pytest.mark.parametrize("prepare", [fresh, filled, damaged])
def test_store_change_killed_at_any_call_needs_no_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Path], LocalStore]
) -> None:
    at = 0
    while True:
        root = tmp_path / str(at)
        store = prepare(root)
        with monkeypatch.context() as patch:
            watched = watch(patch, at)
            died = False
            try:
                keep(store, NEW)
            except Stopped:
                died = True
            watched.end()
        if not died:
            break
        if prepare is not damaged:
            assert unverified(root) == [], at
        retry = LocalStore(root, fsync=False, patience=Patience(0))
        keep(retry, NEW)
        assert retry.load(Digest.of(NEW)) == NEW, at
        assert is_consistent(root), at
        shutil.rmtree(root)
        at += 1
    assert at > 50


@pytest.mark.parametrize("failure", [store_faults.no_room, store_faults.broken_disk])
@pytest.mark.parametrize("prepare", [fresh, filled, damaged])
def test_failing_call_is_a_store_error_without_leftovers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[Path], LocalStore],
    failure: Callable[[str], BaseException],
) -> None:
    at = 0
    while True:
        root = tmp_path / str(at)
        store = prepare(root)
        with monkeypatch.context() as patch:
            watched = watch(patch, at, failure)
            fault: StoreFault | None = None
            try:
                keep(store, NEW)
            except StoreFault as error:
                fault = error
            watched.end()
        if not watched.is_reached:
            break
        if fault is not None:
            assert fault.path.startswith(str(tmp_path)), at
            assert fault.hints(), at
        assert [name for name in litter(root) if not name.startswith("bad-")] == [], at
        retry = LocalStore(root, fsync=False, patience=Patience(0))
        keep(retry, NEW)
        assert is_consistent(root), at
        shutil.rmtree(root)
        at += 1
    assert at > 50


def test_failed_sync_is_final_for_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "store")
    # Permissions are checked once.
    store.add_document(document(b"first"))
    with monkeypatch.context() as patch:
        calls = watch(patch)
        store.add_document(document(b"rehearsal"))
    at = calls.names().index("fsync")

    with monkeypatch.context() as patch:
        watched = watch(patch, at, store_faults.broken_disk)
        with pytest.raises(StoreFault, match="input/output error"):
            store.add_document(document(NEW))

    after = watched.names()[at + 1 :]
    assert "fsync" not in after
    assert "rename" not in after
    assert litter(store.root) == []
    assert store.load(Digest.of(NEW)) is None


def test_content_is_synced_before_its_name_and_the_name_before_a_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path / "store")
    with monkeypatch.context() as patch:
        watched = watch(patch)
        keep(store, NEW)

    order = [name for name in watched.names() if name in {"write", "fsync", "fchmod", "rename"}]
    assert order == ["write", "fsync", "fchmod", "rename", "fsync"] * 2


def test_no_fsync_makes_no_sync_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        watched = watch(patch)
        keep(LocalStore(tmp_path / "store", fsync=False), NEW)

    assert "fsync" not in watched.names()


def test_temporary_files_are_created_inside_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", None)

    keep(LocalStore(tmp_path / "store", fsync=False), NEW)


# Real limits and real users


LIMITED = """
import resource, sys
from pathlib import Path
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.errors import StoreFault
from resolver.store import LocalStore

store = LocalStore(Path(sys.argv[1]))
store.add(Descriptor("", Digest.of(b"small"), 5), [b"small"])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
body = bytes(65536)
try:
    store.add(Descriptor("", Digest.of(body), len(body)), [body])
except StoreFault as error:
    print(error, *error.hints())
"""


def test_file_size_limit_is_a_store_error_with_a_hint(tmp_path: Path) -> None:
    result = python("-c", LIMITED, str(tmp_path / "store"), measured=False)

    assert result.returncode == 0, result.stderr
    assert b"file too large" in result.stdout
    assert b"ulimit -f" in result.stdout
    assert litter(tmp_path / "store") == []
    assert unverified(tmp_path / "store") == []


READ_ONLY = """
import sys
from pathlib import Path
from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_INDEX, Descriptor
from resolver.core.oci.digest import Digest
from resolver.errors import StoreFault
from resolver.store import LocalStore, NameRecord

events = []
store = LocalStore(Path(sys.argv[1]), observe=events.append)
old, new, hurt = (bytes.fromhex(text) for text in sys.argv[2:])
assert store.load(Digest.of(old)) == old
assert store.recall("docker.io/library/app:1").root.digest == Digest.of(old)
assert events == []
assert store.load(Digest.of(hurt)) is None
document = Document(Descriptor(OCI_INDEX, Digest.of(new), len(new)), new)
assert not store.try_add(document)
assert not store.try_remember(NameRecord("docker.io/library/app:2", document.descriptor))
print(*(event.code for event in events))
try:
    store.add_document(document)
except StoreFault as error:
    print(error.path, *error.hints())
"""


@pytest.fixture
def shared_root() -> Iterator[Path]:
    """A folder that other users can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder / "store"
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o700)
    shutil.rmtree(folder)


def as_another_user() -> list[str]:
    """Return a command prefix that makes permissions apply to root too."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root, and no setpriv (apt-get install util-linux)")
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    probe = subprocess.run(
        [*command, sys.executable, "-c", "import resolver.store"],
        check=False,
        capture_output=True,
        env={"PYTHONPATH": str(PACKAGE)},
    )
    if probe.returncode:
        pytest.skip("root, and other users cannot read this checkout")
    return command


def snapshot(root: Path) -> list[tuple[str, int, float]]:
    return sorted(
        (str(path), path.lstat().st_mode, path.lstat().st_mtime) for path in root.rglob("*")
    )


def test_read_only_store_answers_and_is_unchanged(
    shared_root: Path,
) -> None:
    user = as_another_user()
    hurt = b'{"hurt":1}'
    filled(shared_root).add_document(document(hurt))
    (shared_root / "lock").unlink()
    path = shared_root / "blobs" / "sha256" / Digest.of(hurt).hex
    path.chmod(0o600)
    path.write_bytes(b"")
    for inner in (shared_root, *shared_root.rglob("*")):
        inner.chmod(0o555 if inner.is_dir() else 0o444)
    before = snapshot(shared_root)

    result = subprocess.run(
        [*user, sys.executable, "-c", READ_ONLY, shared_root, OLD.hex(), NEW.hex(), hurt.hex()],
        check=False,
        capture_output=True,
        env={"PYTHONPATH": str(PACKAGE)},
        timeout=60,
    )

    assert result.returncode == 0, result.stderr
    message = result.stdout.decode().splitlines()
    assert message[0] == "store-damaged store-read-only"
    assert message[1].startswith(str(shared_root))
    assert "make it writable" in message[1]
    assert snapshot(shared_root) == before


# Locks


@pytest.fixture
def held(tmp_path: Path) -> Iterator[LocalStore]:
    """A store under collection; its clock is not used."""
    clock = iter(range(1000))
    patience = Patience(60, clock=lambda: float(next(clock)), sleep=lambda _seconds: None)
    filled(tmp_path / "store")
    descriptor = os.open(tmp_path / "store" / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield LocalStore(tmp_path / "store", patience=patience)
    os.close(descriptor)


def test_lock_that_is_never_released_is_an_error_that_names_it(held: LocalStore) -> None:
    with pytest.raises(StoreFault, match="for 60 s") as caught:
        held.add_document(document(NEW))

    assert caught.value.path == str(held.root / "lock")
    assert "fuser" in caught.value.hints()[0]


def test_reading_takes_no_lock(held: LocalStore) -> None:
    assert held.load(Digest.of(OLD)) == OLD
    assert held.recall(APP) is not None


def test_disabled_locking_waits_for_nothing(held: LocalStore) -> None:
    LocalStore(held.root, lock=False).add_document(document(NEW))

    assert held.load(Digest.of(NEW)) == NEW


def test_writers_do_not_wait_for_each_other(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    with store.writing():
        LocalStore(store.root, patience=Patience(0)).add_document(document(NEW))


def test_removed_lock_file_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path / "store")
    flock = fcntl.flock
    removed: list[int] = []

    def remove_first(descriptor: int, operation: int) -> None:
        if not removed:
            (store.root / "lock").unlink()
            removed.append(os.fstat(descriptor).st_ino)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with store.writing():
        assert (store.root / "lock").is_file()
        descriptor = os.open(store.root / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    assert removed


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_store_on_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = filled(tmp_path / "store")

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreFault) as caught:
        store.add_document(document(NEW))
    assert caught.value.hints()


def test_irregular_lock_file_is_refused_without_waiting(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    (store.root / "lock").unlink()
    os.mkfifo(store.root / "lock")
    with pytest.raises(StoreFault, match="lock"):
        store.add_document(document(NEW))

    (store.root / "lock").unlink()
    (store.root / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreFault, match="lock"):
        store.add_document(document(NEW))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("kind", "is_refused"),
    [
        ("nfs4", True),
        ("cifs", True),
        ("fuse.sshfs", True),
        ("fuse.fuse-overlayfs", False),
        ("ext4", False),
        ("tmpfs", False),
    ],
)
def test_store_on_a_network_file_system_is_refused(
    tmp_path: Path, kind: str, *, is_refused: bool
) -> None:
    device = tmp_path.stat().st_dev
    where = f"{os.major(device)}:{os.minor(device)}"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:1 / /proc rw shared:1 - proc proc rw\n"
        f"23 1 {where} / /mnt/x rw,noatime shared:2 - {kind} server:/export rw\n"
    )
    folder = StoreFolder.at(str(tmp_path))
    assert folder is not None
    with folder:
        if is_refused:
            with pytest.raises(StoreFault, match="network file system") as caught:
                refuse_remote(folder, mounts)
            assert "--unsafe-no-lock" in caught.value.hints()[0]
        else:
            refuse_remote(folder, mounts)
        refuse_remote(folder, tmp_path / "absent")


# Many processes at once


WORKER = """
import sys
from pathlib import Path
from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_INDEX, Descriptor
from resolver.core.oci.digest import Digest
from resolver.store import LocalStore, NameRecord

number = int(sys.argv[2])
store = LocalStore(Path(sys.argv[1]), fsync=False)
print("ready", flush=True)
sys.stdin.readline()
for item in range(40):
    body = b'{"item":%d}' % ((item + number * 5) % 60)
    document = Document(Descriptor(OCI_INDEX, Digest.of(body), len(body)), body)
    store.add_document(document)
    store.remember(NameRecord(f"localhost/own{number}:{item}", document.descriptor))
    store.remember(NameRecord("localhost/shared:1", document.descriptor))
    assert store.recall("localhost/shared:1") is not None
"""


def test_eight_processes_fill_one_new_store_without_losses(tmp_path: Path) -> None:
    root = tmp_path / "store"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, root, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        )
        for number in range(8)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
    # All are waiting; this is the start.
    results = [worker.communicate(b"\n", timeout=60) for worker in workers]

    assert [worker.returncode for worker in workers] == [0] * 8, results
    store = LocalStore(root)
    records = {record.reference: record for record in store.names()}
    assert len(records) == 8 * 40 + 1
    assert len(list((root / "blobs" / "sha256").iterdir())) == 60
    assert all(store.has(record.root) for record in records.values())
    assert unverified(root) == []
    assert litter(root) == []
    assert not stat.S_IMODE(root.stat().st_mode) & 0o077


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_store_error_has_a_hint(number: int) -> None:
    refused = OSError(number, os.strerror(number))

    assert fault("/store", refused).hints()
    assert export_fault("/out", refused).hints()
