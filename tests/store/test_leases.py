"""Leases keep content as long as their process lives."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from resolver.core.oci.digest import Digest
from resolver.errors import StoreFault
from resolver.store import LocalStore, leases
from tests.kit.processes import ROOT as PACKAGE
from tests.kit.stored_images import put
from tests.store import faults as store_faults
from tests.store.faults import Stopped, watch

A, B = Digest.of(b"a"), Digest.of(b"b")


def files(store: LocalStore) -> list[str]:
    return [path.name for path in (store.root / "leases").iterdir()]


def test_lease_lists_its_content_and_purpose_until_it_ends(store: LocalStore) -> None:
    assert store.leases() == ()
    with store.lease([A], "pull app:1") as lease:
        lease.add([B])
        lease.add([])
        (living,) = store.leases()
        assert living.purpose == "pull app:1"
        assert living.digests == {A, B}
        assert store.in_use() == {A, B}
        assert len(files(store)) == 1

    assert store.in_use() == frozenset()
    assert files(store) == []


def test_leases_of_several_processes_are_combined(store: LocalStore) -> None:
    with store.lease([A], "pull"), LocalStore(store.root).lease([B], "export"):
        assert store.in_use() == {A, B}
        assert sorted(lease.purpose for lease in store.leases()) == ["export", "pull"]


def test_lease_may_list_more_digests_than_an_image(store: LocalStore) -> None:
    digests = [Digest.of(b"%d" % number) for number in range(25_000)]

    with store.lease() as lease:
        lease.add(digests)
        assert store.in_use() == set(digests)


def test_lease_of_any_length_is_read(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_LARGE", 100_000)
    here = put(store, b"x")
    made_up = [Digest.of(b"%d" % number) for number in range(5_000)]

    with store.lease([here], "serve --mirror") as lease:
        lease.add(made_up)
        assert store.in_use() == {here}


def test_unreadable_active_lease_names_its_process(store: LocalStore) -> None:
    with store.lease([A], "serve --mirror"):
        (name,) = files(store)
        with (store.root / "leases" / name).open("ab") as file:
            file.write(b"nonsense\n")
        with pytest.raises(StoreFault, match="`serve --mirror` uses it"):
            store.in_use()


def test_lease_line_length_is_limited(store: LocalStore) -> None:
    with store.lease([A], "pull"):
        (name,) = files(store)
        with (store.root / "leases" / name).open("ab") as file:
            file.write(bytes(3 << 20))
        with pytest.raises(StoreFault, match="limit"):
            store.in_use()


def test_lease_ends_when_its_block_raises(store: LocalStore) -> None:
    def fail() -> None:
        with store.lease([A]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()

    assert files(store) == []


def test_dead_and_foreign_leases_keep_nothing(store: LocalStore) -> None:
    put(store, b"x")
    leases = store.root / "leases"
    (leases / ("0" * 32)).write_text('{"purpose":"dead"}\n')
    (leases / ("1" * 32)).write_bytes(b"\xff")
    os.mkfifo(leases / ("2" * 32))
    (leases / ("3" * 32)).symlink_to("/etc/passwd")
    (leases / ("4" * 32)).mkdir()
    (leases / "README").touch()

    assert store.leases() == ()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\n",
        b'{"purpose":"x"}\n',
        b'{"since":1,"purpose":"x"}\n{"digests":["sha256:../../x"]}\n',
        b'{"since":1,"purpose":"x"}\n{"digests":["sha2',
    ],
)
def test_unreadable_active_lease_is_an_error(store: LocalStore, text: bytes) -> None:
    put(store, b"x")
    path = store.root / "leases" / ("0" * 32)
    path.write_bytes(text)
    descriptor = os.open(path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)

    with pytest.raises(StoreFault) as caught:
        store.leases()

    os.close(descriptor)
    assert caught.value.path == str(path)


def test_read_only_store_is_used_without_a_lease_where_allowed(
    tmp_path: Path,
) -> None:
    (tmp_path / "README").touch()
    store = LocalStore(tmp_path)

    with store.lease([A], needed=False) as lease:
        lease.add([B])
    with pytest.raises(StoreFault), store.lease([A]):
        raise AssertionError


def test_reading_leases_does_not_block_a_new_lease(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading takes the lock for a moment; the owner retries."""
    flock = fcntl.flock
    refused: list[int] = []

    def look_first(descriptor: int, operation: int) -> None:
        if "leases" in str(Path(f"/proc/self/fd/{descriptor}").readlink()) and not refused:
            refused.append(descriptor)
            raise BlockingIOError(11, "busy")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", look_first)
    with store.lease([A]):
        monkeypatch.undo()
        assert store.in_use() == {A}


def test_process_killed_at_any_call_leaves_no_active_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(LocalStore(tmp_path / "store"), b"x")
    at = 0
    while True:
        store = LocalStore(tmp_path / "store")
        with monkeypatch.context() as patch:
            watched = watch(patch, at)
            died = False
            try:
                with store.lease([A], "x") as lease:
                    lease.add([B])
            except Stopped:
                died = True
            watched.end()
        assert store.leases() == (), at
        if not died:
            break
        at += 1
    assert at > 50


def test_failing_call_in_a_lease_is_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(LocalStore(tmp_path / "store"), b"x")
    at = 0
    while True:
        store = LocalStore(tmp_path / "store")
        with monkeypatch.context() as patch:
            watched = watch(patch, at, store_faults.no_room)
            try:
                with store.lease([A], "x") as lease:
                    lease.add([B])
            except StoreFault as error:
                assert error.hints(), at  # noqa: PT017 - one of many, and most calls pass
            watched.end()
        if not watched.is_reached:
            break
        assert store.leases() == (), at
        at += 1


HOLDER = """
import sys
from pathlib import Path
from resolver.core.oci.digest import Digest
from resolver.store import LocalStore

with LocalStore(Path(sys.argv[1])).lease([Digest.of(b"a")], "pull app:1"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_lease_of_a_killed_process_ends_with_it(store: LocalStore) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, store.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert store.in_use() == {A}

    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)

    assert store.leases() == ()
    assert len(files(store)) == 1
