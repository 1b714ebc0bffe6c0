"""In a batch each folder is synced once for many files, and before a name needs it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_INDEX, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.results.pull import PulledName
from resolver.errors import StoreFault
from resolver.store import LocalStore, NameRecord
from resolver.store.files import Patience, StoreFolder, temporary
from resolver.store.folder import Home
from resolver.store.names import GROUP
from tests.store.faults import watch


def document(number: int) -> Document:
    body = b'{"number":%d}' % number
    return Document(Descriptor(OCI_INDEX, Digest.of(body), len(body)), body)


_BODY = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % OCI_INDEX.encode()
EMPTY = Document(Descriptor(OCI_INDEX, Digest.of(_BODY), len(_BODY)), _BODY)


def record(number: int) -> NameRecord:
    return NameRecord(f"docker.io/library/app:{number}", document(number).descriptor)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the folders that are synced, by their last two names, and the files renamed."""
    calls: list[str] = []
    sync, move = StoreFolder.sync, StoreFolder.move

    def noted_sync(self: StoreFolder) -> None:
        calls.append(f"sync {self.path.rsplit('/', 1)[1]}")
        sync(self)

    def noted_move(self: StoreFolder, name: str, folder: StoreFolder, target: str) -> None:
        calls.append(f"into {folder.path.rsplit('/', 1)[1]}")
        move(self, name, folder, target)

    monkeypatch.setattr(StoreFolder, "sync", noted_sync)
    monkeypatch.setattr(StoreFolder, "move", noted_move)
    return calls


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    store.add_document(document(0))
    return store


def test_batch_syncs_the_folder_of_content_once_before_the_name(
    store: LocalStore, syncs: list[str]
) -> None:
    syncs.clear()
    with store.batch():
        for number in range(1, 4):
            store.add_document(document(number))
        store.remember(record(3))
        store.remember(record(2))

    content = ["into sha256"] * 3 + ["sync sha256"]
    assert syncs == [*content, "into seen", "into seen", "sync seen"]


def test_batch_opens_each_of_its_folders_once(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    system_open = os.open

    def noted(path: str, flags: int, *args: int, **at: int) -> int:
        if flags & os.O_DIRECTORY:
            opened.append(path.rsplit("/", 1)[-1])
        return system_open(path, flags, *args, **at)

    before = len([*Path("/dev/fd").iterdir()])
    monkeypatch.setattr("resolver.store.files.os.open", noted)
    with store.batch():
        for number in range(1, 9):
            assert store.recall(record(number).reference) is None
            store.add_document(document(number))
            assert store.load(document(number).descriptor.digest) == document(number).body
            assert store.held(document(number).descriptor)
        store.remember(record(1))
        # `blobs` once more: the first write completes the store.
        assert sorted(opened) == ["blobs", "blobs", "names", "seen", "sha256", "store", "tmp"]
    monkeypatch.undo()

    assert len([*Path("/dev/fd").iterdir()]) == before
    assert store.recall(record(1).reference) == record(1)


def test_folders_of_a_batch_stay_open_for_a_thread_that_outlives_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "store", sync=False, lock=True, patience=Patience())
    with home.batch():
        with home.writing():
            pass
        root = home.open()
        assert root is not None
        assert home.open() is root
        tmp = root.need("tmp")
    descriptor = tmp.descriptor

    # As after an interrupt: the batch has ended, and a thread of it writes on.
    with root, tmp, temporary(tmp, sync=False) as file:
        file.publish(root, "loopback.json", mode=0o600)
    again = home.open()
    assert again is not None
    assert again is not root
    with again:
        assert again.look("loopback.json") is not None
    del root, tmp, file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_batch_writes_many_seen_names_with_few_syncs_and_before_its_end(
    store: LocalStore, syncs: list[str]
) -> None:
    syncs.clear()
    with store.batch():
        for number in range(1, GROUP + 2):
            store.add_document(document(number))
            assert store.try_remember(record(number))
        assert syncs.count("into seen") == GROUP
        # Not written yet, and known all the same.
        assert store.recall(record(GROUP + 1).reference) == record(GROUP + 1)

    assert syncs.count("into seen") == GROUP + 1
    assert syncs.count("sync sha256") == 2
    assert syncs.count("sync seen") == 1
    for at, call in enumerate(syncs):
        if call == "into seen":
            content = max(i for i, one in enumerate(syncs[:at]) if one == "into sha256")
            assert "sync sha256" in syncs[content:at]
    assert LocalStore(store.root).recall(record(1).reference) == record(1)


def test_batch_that_fails_keeps_its_seen_names_and_an_interrupted_one_does_not(
    store: LocalStore,
) -> None:
    for number, error in enumerate((ZeroDivisionError, KeyboardInterrupt), 1):
        store.add_document(document(number))

        def fail(number: int = number, error: type[BaseException] = error) -> None:
            with store.batch():
                store.try_remember(record(number))
                raise error

        with pytest.raises(error):
            fail()

    assert store.recall(record(1).reference) == record(1)
    assert store.recall(record(2).reference) is None


def test_pulled_names_are_durable_when_they_are_reported_also_in_a_batch(
    store: LocalStore, syncs: list[str]
) -> None:
    store.add_document(EMPTY)
    names = [PulledName(f"docker.io/library/app:{n}", EMPTY.descriptor, ()) for n in range(3)]
    syncs.clear()
    with store.batch():
        store.name_all(names)
        assert syncs == ["into names"] * 3 + ["sync names"]


def test_name_that_must_not_be_written_does_not_undo_those_before_it(store: LocalStore) -> None:
    store.add_document(EMPTY)
    good = PulledName("docker.io/library/app:1", EMPTY.descriptor, ())
    bad = PulledName("docker.io/library/app:2", document(9).descriptor, ())
    with pytest.raises(StoreFault):
        store.name_all([good, bad])

    assert [one.reference for one in store.pulled_names()] == [good.reference]


def test_batch_without_a_name_syncs_at_its_end(store: LocalStore, syncs: list[str]) -> None:
    syncs.clear()
    with store.batch():
        store.add_document(document(1))
        assert syncs == ["into sha256"]
    assert syncs == ["into sha256", "sync sha256"]


def test_batch_that_fails_syncs_what_it_has_added(store: LocalStore, syncs: list[str]) -> None:
    def fail() -> None:
        with store.batch():
            store.add_document(document(1))
            raise ZeroDivisionError

    syncs.clear()
    with pytest.raises(ZeroDivisionError):
        fail()

    assert syncs == ["into sha256", "sync sha256"]


def test_received_blob_waits_for_the_sync_of_its_batch(store: LocalStore, syncs: list[str]) -> None:
    one = document(1)
    syncs.clear()
    with store.batch():
        with store.receive(one.descriptor) as writer:
            assert writer is not None
            writer.write(0, one.body)
            writer.finish()
        assert "sync sha256" not in syncs
    assert syncs[-1] == "sync sha256"


def test_failed_sync_of_a_batch_writes_no_name(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: StoreFolder) -> None:
        raise StoreFault(self.path, "input/output error")

    with store.batch():
        store.add_document(document(1))
        for _ in range(2):
            # The second time too: what is not synced yet stays known.
            with monkeypatch.context() as patch:
                patch.setattr(StoreFolder, "sync", fail)
                with pytest.raises(StoreFault, match="input/output error"):
                    store.remember(record(1))
            assert store.recall(record(1).reference) is None
        store.remember(record(1))


def test_name_waits_for_the_sync_that_another_thread_has_begun(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    finished: list[str] = []
    sync = StoreFolder.sync

    def slow(self: StoreFolder) -> None:
        begun.set()
        assert go_on.wait(10)
        sync(self)
        finished.append(self.path.rsplit("/", 1)[1])

    with ThreadPoolExecutor(2) as pool, store.batch():
        store.add_document(document(1))
        monkeypatch.setattr(StoreFolder, "sync", slow)
        one = pool.submit(store.remember, record(1))
        assert begun.wait(10)
        # Renamed after that sync began, so another one is due before its name.
        store.add_document(document(2))
        two = pool.submit(store.remember, record(2))
        assert not two.done()
        go_on.set()
        one.result(10)
        two.result(10)
        assert finished == ["sha256", "sha256"]


def test_batch_checks_the_folder_of_the_store_once(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        watched = watch(patch)
        with store.batch():
            for number in range(1, 6):
                store.add_document(document(number))

    marks = [call for call in watched.calls if call[0] == "open" and call[1][0] == "CACHEDIR.TAG"]
    assert len(marks) == 1
