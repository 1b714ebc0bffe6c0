"""Transfers that fail or are killed at every system call."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.core.results.store import Retention
from resolver.errors import StoreFault
from resolver.store import LocalStore, Patience
from tests.kit.processes import ROOT as PACKAGE
from tests.kit.processes import python
from tests.kit.stored_images import blob_of, place
from tests.store import faults as store_faults
from tests.store.faults import Stopped, litter, unverified, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BODY = bytes(range(256)) * 64
BLOB = blob_of(BODY)
HALF = len(BODY) // 2


def fetch(store: LocalStore, body: bytes = BODY) -> int:
    """Transfer one blob as a pull does; return the number of bytes fetched."""
    fetched = 0
    with store.receive(blob_of(body)) as receiving:
        if receiving is None:
            return 0
        at = 0
        for start, end in (*receiving.have, (len(body), len(body))):
            receiving.write(at, body[at:start])
            fetched += start - at
            at = end
        receiving.finish()
    return fetched


def fresh(root: Path) -> None:
    """Prepare a store that holds something else."""
    store = LocalStore(root, fsync=False)
    store.add(blob_of(b"other"), [b"other"])


def begun(root: Path) -> None:
    """Prepare a store with half a blob in it."""
    fresh(root)
    with LocalStore(root, fsync=False).receive(BLOB) as receiving:
        assert receiving is not None
        receiving.write(0, BODY[:HALF])


def damaged(root: Path) -> None:
    """Prepare a store that holds the blob, with nothing in it."""
    fresh(root)
    place(LocalStore(root), BLOB.digest).touch()


each_start = pytest.mark.parametrize("prepare", [fresh, begun, damaged])


def is_whole_at_once(root: Path) -> bool:
    """Whether the next transfer needs no repair, and a collection leaves nothing of the old one."""
    store = LocalStore(root, fsync=False, patience=Patience(0))
    fetch(store)
    good = store.held(BLOB, full=True) and unverified(root) == []
    store.collect(Retention(grace=0))
    left = [path for name in ("partial", "leases", "tmp") for path in (root / name).iterdir()]
    return good and left == []


@each_start
def test_transfer_killed_at_any_call_leaves_a_correct_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Path], None]
) -> None:
    at = 0
    while True:
        root = tmp_path / str(at)
        prepare(root)
        with monkeypatch.context() as patch:
            watched = watch(patch, at)
            died = False
            try:
                fetch(LocalStore(root))
            except Stopped:
                died = True
            watched.end()
        if not died:
            break
        if prepare is not damaged:
            assert unverified(root) == [], at
        assert is_whole_at_once(root), at
        shutil.rmtree(root)
        at += 1
    assert at > 100


@each_start
@pytest.mark.parametrize("failure", [store_faults.no_room, store_faults.broken_disk])
def test_failing_call_in_a_transfer_is_a_store_error_with_a_hint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[Path], None],
    failure: Callable[[str], BaseException],
) -> None:
    at = 0
    while True:
        root = tmp_path / str(at)
        prepare(root)
        fault: StoreFault | None = None
        with monkeypatch.context() as patch:
            watched = watch(patch, at, failure)
            try:
                fetch(LocalStore(root))
            except StoreFault as error:
                fault = error
            watched.end()
        if not watched.is_reached:
            break
        if fault is not None:
            assert fault.path.startswith(str(root)), at
            assert fault.hints(), at
        if prepare is not damaged:
            assert unverified(root) == [], at
        assert litter(root) == [], at
        assert is_whole_at_once(root), at
        shutil.rmtree(root)
        at += 1
    assert at > 100


def test_blob_is_synced_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh(tmp_path / "store")
    with monkeypatch.context() as patch:
        watched = watch(patch)
        fetch(LocalStore(tmp_path / "store"))

    calls = [
        name
        for name, arguments in watched.calls
        if name in {"pwrite", "fsync", "fchmod"} or (name == "rename" and "blobs" in arguments[1])
    ]
    assert calls == ["pwrite", "fsync", "fchmod", "rename", "fsync"]


def test_failed_sync_is_final_for_its_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path / "store")
    store = LocalStore(tmp_path / "store")
    calls: list[int] = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreFault, match="input/output error"):
            fetch(store)

    assert len(calls) == 1
    assert not store.has(BLOB)
    assert list((store.root / "partial").iterdir()) == []
    assert fetch(store) == len(BODY)


# SIGKILL, at every call, of a process of its own


KILLED = """
import json, os, shutil, sys
from pathlib import Path
from tests.store import faults as store_faults, test_deaths as here
from resolver.store import LocalStore

top, prepare = Path(sys.argv[1]), getattr(here, sys.argv[2])
wrong, fetched, at = [], [], 0
while True:
    root = top / str(at)
    prepare(root)
    child = os.fork()
    if child == 0:
        store_faults.kill_at(at)
        here.fetch(LocalStore(root))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        break
    if prepare is not here.damaged and store_faults.unverified(root):
        wrong.append(at)
    fetched.append(here.fetch(LocalStore(root, fsync=False)))
    if not here.is_whole_at_once(root):
        wrong.append(at)
    shutil.rmtree(root)
    at += 1
json.dump({"status": status, "calls": at, "wrong": wrong, "fetched": fetched}, sys.stdout)
"""


@each_start
def test_transfer_killed_at_any_call_is_resumed_by_the_next(
    tmp_path: Path, prepare: Callable[[Path], None]
) -> None:
    result = python("-c", KILLED, str(tmp_path), prepare.__name__, measured=False)

    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["status"] == 0
    assert printed["calls"] > 100
    assert printed["wrong"] == []
    if prepare is begun:
        # What was there before is never fetched again, whenever it ends.
        assert max(printed["fetched"]) <= len(BODY) - HALF
    # Killed after it was visible: nothing is left to fetch.
    assert printed["fetched"][-1] == 0


HOLDER = """
import os, signal, sys
from pathlib import Path
from resolver.store import LocalStore
from tests.store.test_deaths import BLOB, BODY, HALF

with LocalStore(Path(sys.argv[1])).receive(BLOB) as receiving:
    receiving.write(0, BODY[:HALF])
    receiving._lock.record(receiving._ranges, receiving.size)
    print("half", flush=True)
    if sys.stdin.readline() == "die\\n":
        os.kill(os.getpid(), signal.SIGKILL)
    receiving.write(HALF, BODY[HALF:])
    receiving.finish()
"""


def holder(root: Path) -> subprocess.Popen[str]:
    """Start a process that has fetched half of the blob and waits for a command."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


@pytest.mark.parametrize(("order", "fetched"), [("finish\n", 0), ("die\n", len(BODY) - HALF)])
def test_second_process_waits_for_a_blob_and_takes_over_after_a_death(
    tmp_path: Path, order: str, fetched: int
) -> None:
    root = tmp_path / "store"
    process = holder(root)
    ordered: list[str] = []

    def wait(_seconds: float) -> None:
        # This process waits now, so let the other one continue.
        if not ordered:
            ordered.append(order)
            process.communicate(order, timeout=60)

    store = LocalStore(root, fsync=False, patience=Patience(60, sleep=wait))

    assert fetch(store) == fetched
    assert ordered
    assert store.held(BLOB, full=True)
    assert list((root / "partial").iterdir()) == []
