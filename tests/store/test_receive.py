"""Receiving blobs in pieces: in any order, in several processes, and verified."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.core.oci.digest import Digest
from resolver.errors import DigestMismatch, SizeMismatch, StoreFault
from resolver.store import LocalStore, Patience
from resolver.store.partials import PartialLock, Partials, Ranges
from resolver.store.receive import HASH_STEP
from tests.kit.stored_images import blob_of, place
from tests.store.faults import is_clean

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BODY = bytes(range(256)) * 64
BLOB = blob_of(BODY)
HALF = len(BODY) // 2


def partial_of(store: LocalStore, digest: Digest = BLOB.digest) -> Path:
    return store.root / "partial" / f"{digest.algorithm}-{digest.hex}"


def begin(store: LocalStore, body: bytes = BODY, end: int = HALF) -> None:
    """Fetch the start of a blob."""
    with store.receive(blob_of(body)) as receiving:
        assert receiving is not None
        receiving.write(0, body[:end])


def complete(store: LocalStore, body: bytes = BODY) -> tuple[tuple[int, int], ...]:
    """Fetch the missing part of a blob; return what was held before."""
    with store.receive(blob_of(body)) as receiving:
        assert receiving is not None
        at = 0
        for start, end in (*receiving.have, (len(body), len(body))):
            receiving.write(at, body[at:start])
            at = end
        receiving.finish()
        return receiving.have


def test_complete_blob_becomes_visible_read_only_without_leftovers(
    store: LocalStore,
) -> None:
    with store.receive(BLOB) as receiving:
        assert receiving is not None
        assert receiving.size == len(BODY)
        assert receiving.have == ()
        receiving.write(HALF, BODY[HALF:])
        receiving.write(0, BODY[:HALF])
        assert not store.has(BLOB)
        receiving.finish()
        assert store.held(BLOB, full=True)

    assert stat.S_IMODE(place(store, BLOB.digest).stat().st_mode) == 0o444
    assert is_clean(store)


def test_held_blob_is_not_fetched_again(store: LocalStore) -> None:
    complete(store)

    with store.receive(BLOB) as receiving:
        assert receiving is None


@pytest.mark.parametrize("damage", [b"", BODY[:-1], b"x" + BODY[1:]])
def test_blob_that_only_appears_held_is_fetched_again(store: LocalStore, damage: bytes) -> None:
    complete(store)
    place(store, BLOB.digest).unlink()
    place(store, BLOB.digest).write_bytes(damage)

    assert not store.held(BLOB)
    complete(store)

    assert store.held(BLOB, full=True)


def test_empty_blob_is_received(store: LocalStore) -> None:
    complete(store, b"")

    assert store.held(blob_of(b""))
    assert is_clean(store)


def test_received_bytes_are_kept_for_the_next_transfer(store: LocalStore) -> None:
    assert store.partial(BLOB) == 0
    with store.receive(BLOB) as receiving:
        assert receiving is not None
        receiving.write(0, BODY[:100])
        receiving.write(HALF, BODY[HALF : HALF + 50])

    assert store.partial(BLOB) == 150
    assert complete(store) == ((0, 100), (HALF, HALF + 50))
    assert store.partial(BLOB) == 0
    assert is_clean(store)


def test_transfer_without_bytes_leaves_nothing(store: LocalStore) -> None:
    with store.receive(BLOB):
        pass

    assert is_clean(store)


def test_exception_in_a_transfer_keeps_received_bytes(store: LocalStore) -> None:
    def interrupted() -> None:
        with store.receive(BLOB) as receiving:
            assert receiving is not None
            receiving.write(0, BODY[:100])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert store.partial(BLOB) == 100


def test_wrong_bytes_are_never_visible_and_the_next_attempt_restarts(
    store: LocalStore,
) -> None:
    begin(store)
    with store.receive(BLOB) as receiving:
        assert receiving is not None
        receiving.write(HALF, b"\0" * HALF)
        with pytest.raises(DigestMismatch) as caught:
            receiving.finish()

    assert caught.value.expected == str(BLOB.digest)
    assert not store.has(BLOB)
    assert is_clean(store)
    assert complete(store) == ()


def test_partial_altered_on_disk_is_detected(store: LocalStore) -> None:
    begin(store)
    with (partial_of(store) / "data").open("r+b") as file:
        file.write(b"altered")

    with pytest.raises(DigestMismatch):
        complete(store)

    assert is_clean(store)


def test_truncated_partial_counts_its_remaining_bytes(store: LocalStore) -> None:
    begin(store)
    os.truncate(partial_of(store) / "data", 10)

    assert store.partial(BLOB) == 10
    assert complete(store) == ((0, 10),)


def test_finishing_too_early_keeps_received_bytes(store: LocalStore) -> None:
    with store.receive(BLOB) as receiving:
        assert receiving is not None
        receiving.write(0, BODY[:10])
        with pytest.raises(SizeMismatch):
            receiving.finish()

    assert store.partial(BLOB) == 10


def test_blob_with_one_byte_too_many_is_refused(store: LocalStore) -> None:
    with store.receive(BLOB) as receiving:
        assert receiving is not None
        with pytest.raises(SizeMismatch):
            receiving.write(len(BODY), b"x")


def test_range_is_recorded_only_when_written(store: LocalStore) -> None:
    with store.receive(BLOB) as receiving:
        assert receiving is not None
        receiving.write(0, BODY[:100])
        assert receiving.ranges == ((0, 100),)
        with pytest.raises(SizeMismatch):
            receiving.write(100, bytes(len(BODY)))
        assert receiving.ranges == ((0, 100),)


def test_finished_transfer_writes_nothing(store: LocalStore) -> None:
    with store.receive(BLOB) as receiving:
        assert receiving is not None
        receiving.write(0, BODY)
        receiving.finish()
        with pytest.raises(StoreFault):
            receiving.write(0, b"x")
    with pytest.raises(StoreFault):
        receiving.write(0, b"x")

    assert store.held(BLOB, full=True)


def large(size: int = 5 * HASH_STEP + 123) -> bytes:
    return random.Random(1).randbytes(size)


def test_stalled_transfer_is_abandoned_and_resumed_by_another(
    store: LocalStore,
) -> None:
    with store.receive(BLOB) as hanging:
        assert hanging is not None
        hanging.write(0, BODY[:HALF])
        assert hanging.abandon()
        with store.receive(BLOB) as receiving:
            assert receiving is not None
            assert receiving.have == ((0, HALF),)
            # Later work of its thread has no effect.
            with pytest.raises(StoreFault, match="has ended"):
                hanging.write(HALF, bytes(HALF))
            with pytest.raises(StoreFault, match="has ended"):
                hanging.finish()
            assert not hanging.abandon()
            receiving.write(HALF, BODY[HALF:])
            receiving.finish()
            assert not receiving.abandon()
    assert store.has(BLOB)
    assert is_clean(store)


def test_many_threads_write_one_blob_while_it_is_hashed(store: LocalStore) -> None:
    body = large()
    step = 100_000
    starts = list(range(0, len(body), step))
    random.Random(2).shuffle(starts)

    with store.receive(blob_of(body)) as receiving, ThreadPoolExecutor(4) as pool:
        assert receiving is not None

        def write(start: int) -> None:
            part = body[start : start + step]
            receiving.write(start, part)

        list(pool.map(write, starts))
        receiving.finish()

    assert store.held(blob_of(body), full=True)
    assert is_clean(store)


def test_overwritten_bytes_are_hashed_again(store: LocalStore) -> None:
    """Correct bytes that were hashed and then overwritten must not pass verification."""
    body = large()
    blob = blob_of(body)
    with store.receive(blob) as receiving:
        assert receiving is not None
        receiving.write(0, body)
        receiving.write(5, b"spoiled")
        with pytest.raises(DigestMismatch):
            receiving.finish()

    with store.receive(blob) as receiving:
        assert receiving is not None
        receiving.write(0, b"spoiled" + body[7:])
        receiving.write(0, body[:7])
        receiving.finish()
    assert store.held(blob, full=True)


def test_sha512_blob_is_received(store: LocalStore) -> None:
    blob = blob_of(BODY)
    blob = type(blob)(blob.media_type, Digest.of(BODY, "sha512"), blob.size)
    with store.receive(blob) as receiving:
        assert receiving is not None
        receiving.write(0, BODY)
        receiving.finish()

    assert store.held(blob, full=True)


# Files that others, a cache or an earlier process left in the folder of a transfer


def no_meta(folder: Path) -> None:
    (folder / "meta.json").unlink()


def meta_of(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "meta.json").write_text(text)

    return write


def ranges_of(*ranges: object, size: int = len(BODY)) -> Callable[[Path], None]:
    return meta_of(json.dumps({"schema": 1, "size": size, "ranges": ranges}))


def hard_link(folder: Path) -> None:
    """A cache restored with hard links, or a planted one."""
    os.link(folder / "data", folder.parent.parent / "canary")


def symbolic_link(folder: Path) -> None:
    (folder / "data").rename(folder.parent.parent / "canary")
    (folder / "data").symlink_to("../../canary")


def fifo(folder: Path) -> None:
    (folder / "data").unlink()
    os.mkfifo(folder / "data")


def no_data(folder: Path) -> None:
    (folder / "data").unlink()


def linked_meta(folder: Path) -> None:
    canary = folder.parent.parent / "canary"
    (folder / "meta.json").rename(canary)
    (folder / "meta.json").symlink_to(canary)


def hard_linked_meta(folder: Path) -> None:
    os.link(folder / "meta.json", folder.parent.parent / "canary")


def meta_fifo(folder: Path) -> None:
    (folder / "meta.json").unlink()
    os.mkfifo(folder / "meta.json")


@pytest.mark.parametrize(
    "plant", [linked_meta, hard_linked_meta, meta_fifo, meta_of(" " * 1_048_577)]
)
def test_progress_note_replaces_a_planted_file(
    store: LocalStore, plant: Callable[[Path], None]
) -> None:
    begin(store, end=HALF)
    folder = partial_of(store)
    plant(folder)
    canary = folder.parent.parent / "canary"
    before = canary.read_bytes() if canary.exists() else b""

    begin(store, end=HALF)

    assert store.partial(BLOB) == HALF
    assert (canary.read_bytes() if canary.exists() else b"") == before


def test_shorter_progress_note_leaves_no_old_text(store: LocalStore) -> None:
    with store.receive(BLOB) as receiving:
        assert receiving is not None
        receiving.write(0, BODY[:1])
        receiving.write(2, BODY[2:3])
        receiving.write(4, BODY[4:5])
    begin(store, end=HALF)

    assert store.partial(BLOB) == HALF


@pytest.mark.parametrize(
    "leave",
    [
        no_meta,
        meta_of(""),
        meta_of("{"),
        meta_of(" " * 1_048_577),
        ranges_of([0, 10], size=5),
        ranges_of([0, -1]),
        ranges_of([0, len(BODY) + 1]),
        ranges_of([0, "1"]),
        ranges_of([5]),
        ranges_of([9, 3]),
        hard_link,
        symbolic_link,
        fifo,
        no_data,
    ],
)
def test_untrusted_partial_is_ignored(store: LocalStore, leave: Callable[[Path], None]) -> None:
    begin(store)
    leave(partial_of(store))
    canary = store.root / "canary"
    before = canary.read_bytes() if canary.exists() else b""

    assert store.partial(BLOB) == 0
    assert complete(store) == ()

    assert store.held(BLOB, full=True)
    assert (canary.read_bytes() if canary.exists() else b"") == before
    assert is_clean(store)


def test_partial_that_was_being_published_is_resumed(store: LocalStore) -> None:
    begin(store, end=len(BODY))
    (partial_of(store) / "data").chmod(0o444)

    assert complete(store) == ((0, len(BODY)),)
    assert store.held(BLOB, full=True)


def test_planted_file_under_a_transfer_name_is_replaced(store: LocalStore, tmp_path: Path) -> None:
    begin(store, b"another")
    (tmp_path / "outside").mkdir()
    partial_of(store).symlink_to(tmp_path / "outside")

    complete(store)

    assert list((tmp_path / "outside").iterdir()) == []
    assert store.held(BLOB, full=True)


def test_foreign_files_in_a_transfer_folder_are_left_alone(store: LocalStore) -> None:
    begin(store)
    (partial_of(store) / "README").write_text("mine")

    complete(store)

    assert (partial_of(store) / "README").read_text() == "mine"


def test_folder_in_place_of_a_blob_is_quarantined(store: LocalStore) -> None:
    begin(store)
    place(store, BLOB.digest).mkdir()

    complete(store)

    assert store.held(BLOB, full=True)


# Room


def refusing(number: int) -> Callable[..., int]:
    def refuse(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_is_reported_before_fetching(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refusing(number))

    with pytest.raises(StoreFault) as caught, store.receive(BLOB):
        raise AssertionError

    assert "--store" in caught.value.hints()[0]
    assert is_clean(store)


def test_file_system_without_preallocation_is_supported(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refusing(errno.EOPNOTSUPP))
    complete(store)

    assert store.held(BLOB, full=True)


def test_disk_that_fills_up_keeps_nothing_of_the_transfer(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.receive(BLOB) as receiving:
        assert receiving is not None
        receiving.write(0, BODY[:10])
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", refusing(errno.ENOSPC))
            with pytest.raises(StoreFault):
                receiving.write(10, BODY[10:20])

    assert is_clean(store)


# Waiting


def test_transfer_without_progress_is_not_waited_for_forever(store: LocalStore) -> None:
    ticks = iter(range(1000))
    patience = Patience(60, clock=lambda: float(next(ticks)), sleep=lambda _seconds: None)
    other = LocalStore(store.root, fsync=False, patience=patience)
    with store.receive(BLOB) as receiving:
        assert receiving is not None
        receiving.write(0, BODY[:10])
        with (
            pytest.raises(StoreFault, match="without progress for 60 s") as caught,
            other.receive(BLOB),
        ):
            raise AssertionError
        assert caught.value.path == str(partial_of(store) / "lock")
        receiving.write(10, BODY[10:])
        receiving.finish()


def test_transfer_with_progress_is_waited_for(store: LocalStore) -> None:
    """Each check advances the clock by an hour, in which the other process writes a byte."""
    hours = iter(range(0, 3_600_000, 3600))
    with store.receive(BLOB) as receiving:
        assert receiving is not None
        written = iter(range(20))

        def work(_seconds: float) -> None:
            at = next(written, None)
            if at is None:
                receiving.write(20, BODY[20:])
                receiving.finish()
                return
            receiving.write(at, BODY[at : at + 1])
            os.utime(partial_of(store) / "data", (at, at))

        patience = Patience(60, clock=lambda: float(next(hours)), sleep=work)
        with LocalStore(store.root, fsync=False, patience=patience).receive(BLOB) as second:
            assert second is None


def test_waiting_for_a_transfer_can_be_cancelled(store: LocalStore) -> None:
    def give_up() -> None:
        raise KeyboardInterrupt

    with (
        store.receive(BLOB),
        pytest.raises(KeyboardInterrupt),
        store.receive(BLOB, waiting=give_up),
    ):
        raise AssertionError


def test_waiting_transfer_resumes_an_abandoned_one(store: LocalStore) -> None:
    first = store.receive(BLOB)
    receiving = first.__enter__()
    assert receiving is not None
    receiving.write(0, BODY[:HALF])

    def give_up(_seconds: float) -> None:
        first.__exit__(None, None, None)

    other = LocalStore(store.root, fsync=False, patience=Patience(60, sleep=give_up))
    with other.receive(BLOB) as second:
        assert second is not None
        assert second.have == ((0, HALF),)
        second.write(HALF, BODY[HALF:])
        second.finish()

    assert store.held(BLOB, full=True)
    assert is_clean(store)


def test_blob_published_while_waiting_for_its_lock_is_not_fetched_again(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Partials.claim
    others = iter([LocalStore(store.root, fsync=False)])

    def late(self: Partials, digest: Digest) -> PartialLock | None:
        for other in others:
            complete(other)
        return claim(self, digest)

    monkeypatch.setattr(Partials, "claim", late)
    with store.receive(BLOB) as receiving:
        assert receiving is None

    assert is_clean(store)


@pytest.mark.parametrize("what", ["lock", "everything", "elsewhere"])
def test_transfer_restarts_when_its_folder_was_removed(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A lock on a removed file excludes no other process."""
    begin(store)
    flock = fcntl.flock
    removed: list[str] = []

    def remove_first(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX and not removed:
            removed.append(what)
            if what == "lock":
                (partial_of(store) / "lock").unlink()
            elif what == "everything":
                shutil.rmtree(partial_of(store))
            else:
                partial_of(store).rename(store.root.parent / "elsewhere")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with store.receive(BLOB) as receiving:
        assert receiving is not None
        descriptor = os.open(partial_of(store) / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        receiving.write(0, BODY)
        receiving.finish()

    assert removed
    assert is_clean(store)


def test_transfer_without_locks_waits_for_nothing(store: LocalStore) -> None:
    with store.receive(BLOB):
        complete(LocalStore(store.root, fsync=False, lock=False))

    assert store.held(BLOB, full=True)


@settings(max_examples=60, deadline=None)
@given(
    writes=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=12),
)
def test_ranges_equal_a_set_of_positions(writes: list[tuple[int, int]]) -> None:
    ranges, model = Ranges(), set[int]()
    for start, length in writes:
        added = set(range(start, start + length))
        assert ranges.add(start, start + length) == bool(added & model)
        model |= added

    pieces = ranges.pieces()
    assert {p for start, end in pieces for p in range(start, end)} == model
    assert ranges.total == len(model)
    assert ranges.prefix == next(n for n in range(100) if n not in model)
    assert all(before[1] < after[0] for before, after in pairwise(pieces))
