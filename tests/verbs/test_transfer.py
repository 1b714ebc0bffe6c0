"""A blob comes in ranges: how long they are, which wait, and who helps with the last one."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.content import RangeAnswer
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.results.events import ignore
from resolver.core.results.plan import LEAST_RANGE, RANGE_SIZE, range_count, range_length
from resolver.store import LocalStore
from resolver.verbs.threads import DaemonPool
from resolver.verbs.transfer import Transfer, TransferContext, TransferOptions, _Cursor
from tests.kit.clients import FakeClock
from tests.kit.pulls import noise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
BODY = noise(40 * MIB)
BLOB = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(BODY), len(BODY))


class Ranged:
    """Serves ranges of BODY: the first after a round trip, that at `slow` until `go_on` is set.

    `pace`: seconds for each half MiB.
    """

    def __init__(self, round_trip: float = 0.0, slow: int = -1, pace: float = 0.0) -> None:
        self.clock = FakeClock()
        self.pace = pace
        self.round_trip = round_trip
        self.slow = slow
        self.go_on = threading.Event()
        self.asked: list[tuple[int, int]] = []
        self.sent: dict[int, int] = {}
        self.active = self.most = 0
        self.threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    @contextmanager
    def open_range(self, _descriptor: Descriptor, start: int, end: int) -> Iterator[RangeAnswer]:
        with self._lock:
            self.active += 1
            self.threads.add(threading.current_thread())
            self.most = max(self.most, self.active)
            if any(low == self.slow and low < start < high for low, high in self.asked):
                # The rest of the slow range, on another connection.
                self.go_on.set()
            self.asked.append((start, end))
            self.clock.now += self.round_trip if start == 0 else 0.0
        try:
            yield RangeAnswer(whole=False, end=end, chunks=self._chunks(start, end))
        finally:
            with self._lock:
                self.active -= 1

    def _chunks(self, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, MIB // 2):
            if start == self.slow and at >= start + 2 * MIB:
                self.clock.now += 5.0
                assert self.go_on.wait(10), "no other connection helped"
            self.sent[start] = self.sent.get(start, 0) + MIB // 2
            self.clock.now += self.pace
            yield BODY[at : min(at + MIB // 2, end)]


def fetch(source: Ranged, folder: Path, connections: int = 4, others: int = 0) -> None:
    """Fetch a blob while ranges of `others` blobs are under way."""
    store = LocalStore(folder, fsync=False)
    options = TransferOptions(connections=connections)
    pool = DaemonPool(connections, "part")
    shared = TransferContext(store, options, ignore, source.clock, pool, threading.Event())
    with ExitStack() as beside:
        beside.callback(pool.close, 5)
        for _ in range(others):
            beside.enter_context(shared.ranges.fetching(_Cursor((0, 1)), lambda _: None))
        assert Transfer(shared, BLOB, source, lambda: True).run()
    assert store.held(BLOB, full=True)


def test_blob_of_a_far_registry_is_one_range_for_each_connection(tmp_path: Path) -> None:
    source = Ranged(round_trip=0.05)
    fetch(source, tmp_path)

    first, *others = sorted(source.asked)
    assert first == (0, 8 * MIB)
    assert others == [(at * MIB, (at + 8) * MIB) for at in (8, 16, 24, 32)]


def test_slowest_range_is_divided_when_a_connection_is_free(tmp_path: Path) -> None:
    source = Ranged(round_trip=0.05, slow=16 * MIB)
    fetch(source, tmp_path, connections=6)

    assert source.go_on.is_set()
    helped = [start for start, _ in source.asked if 18 * MIB <= start < 24 * MIB]
    assert helped
    # The slow connection ends where the other one began, give or take what was on its way.
    assert source.sent[16 * MIB] <= min(helped) - 16 * MIB + MIB


def test_blob_of_a_fast_registry_comes_in_order_on_one_connection(tmp_path: Path) -> None:
    source = Ranged()
    fetch(source, tmp_path)

    assert source.most == 1
    assert source.asked == sorted(source.asked)
    assert all(end - start <= LEAST_RANGE for start, end in source.asked)


@pytest.mark.parametrize(("others", "is_alone"), [(0, False), (2, True)])
def test_blobs_that_share_a_fast_link_need_one_connection_each(
    tmp_path: Path, others: int, *, is_alone: bool
) -> None:
    # 1 MiB takes 8 ms, and the next bytes show that at 12 ms: too slow for one connection, but not
    # for the third part of a link.
    source = Ranged(pace=0.004)
    fetch(source, tmp_path, others=others)

    assert (source.threads == {threading.current_thread()}) is is_alone


def test_range_length_follows_size_and_connections_within_limits() -> None:
    assert range_length(1) == range_length(8 * LEAST_RANGE) == LEAST_RANGE
    assert range_length(8 * 20 * MIB) == 20 * MIB
    assert range_length(1 << 40) == RANGE_SIZE
    assert range_length(8 * 20 * MIB, connections=16) == 10 * MIB
    assert range_length(1 << 40, most=1_000) == 1_000


def test_range_count_is_the_number_of_requests_of_a_far_blob(tmp_path: Path) -> None:
    assert range_count(1) == range_count(LEAST_RANGE) == 1
    assert range_count(LEAST_RANGE + 1) == 2
    source = Ranged(round_trip=0.05)
    fetch(source, tmp_path, connections=8)
    assert range_count(BLOB.size) == 5 == len(source.asked)
