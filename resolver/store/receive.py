"""Taking in one blob piece by piece, in any order, from any number of threads."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from resolver.errors import DigestMismatch, SizeMismatch, StoreFault
from resolver.store.files import close, faults, settle
from resolver.store.hashing import BackgroundHasher
from resolver.store.partials import DATA, STEP, PartialLock, Partials, Range, Ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.oci.descriptor import Descriptor
    from resolver.store.folder import Home


#: What may be lost to a SIGKILL: so many bytes, or so many seconds of a slow connection.
_RECORD_BYTES = 1 << 20
_RECORD_SECONDS = 0.5
#: A file system that cannot reserve room; then it is only sized.
_CANNOT_RESERVE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class BlobWriter:
    """A blob on its way in; made by `LocalStore.receive`.

    `write` may be called from several threads; the other methods, and leaving the block, only
    while no thread writes any more, or is about to.

    Attributes:
        size: that the blob must have, in bytes.
        have: what need not be fetched, as (start, end) in order, `end` being the first byte
            that is missing again; what an earlier transfer left, when this one began.

    """

    def __init__(self, home: Home, descriptor: Descriptor, claim: PartialLock) -> None:
        self.size = descriptor.size
        self.have: tuple[Range, ...] = ()
        self._home = home
        self._digest = descriptor.digest
        self._claim = claim
        self._path = claim.folder.where(DATA)
        self._ranges = Ranges()
        self._state = threading.Condition()
        self._recording = threading.Lock()
        self._writing = 0
        self._unrecorded = 0
        self._recorded_at = home.patience.clock()
        self._is_open = False
        self._is_gone = False
        self._is_finishing = False
        self._is_left = False
        self._data = -1
        self._follower: BackgroundHasher | None = None

    @property
    def ranges(self) -> tuple[Range, ...]:
        """What is there by now, as `have`."""
        with self._state:
            return self._ranges.pieces()

    def available(self, start: int, patience: float) -> int:
        """Wait until the byte at `start` is here, or this ends, for so many seconds at most.

        Gives the first byte behind it that is not here; `start` when it is not here itself.
        """

        def reach() -> int:
            found = (end for low, end in self._ranges.pieces() if low <= start < end)
            return next(found, start)

        with self._state:
            self._state.wait_for(lambda: reach() > start or not self._is_open, patience)
            return reach()

    def duplicate(self) -> int | None:
        """Give a descriptor of the file of one's own, to read what is there; None once it ended.

        It stays good when the blob is finished: the file is only renamed then.
        """
        with self._state:
            return os.dup(self._data) if self._is_open else None

    def open(self) -> None:
        """Open the partial and reserve its room on the disk."""
        self.have = self._claim.ranges(self.size)
        self._data, length = self._claim.open_data()
        self._is_open = True
        with self._dropped_on_fault():
            if length != self.size:
                self._reserve()
        self._ranges = Ranges(self.have)
        self._follower = BackgroundHasher(
            self._data, self._digest.algorithm, self._path, sync=self._home.sync
        )
        self._follower.advance(self._ranges.prefix)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put bytes where they belong.

        Raises:
            SizeMismatch: they go past the end.
            StoreFault: they cannot be written; nothing of this transfer is kept.

        """
        end = offset + len(data)
        if end > self.size:
            raise SizeMismatch(f"`{self._digest}`", self.size, end)
        self._begin_to_write()
        try:
            with self._dropped_on_fault():
                _write_all(self._data, data, offset, self._path)
            self._note(offset, end)
        finally:
            with self._state:
                self._writing -= 1
                self._state.notify_all()
        self._record_if_due()

    def completed(self, start: int, end: int) -> None:
        """Say that a stretch is whole, which is a good moment to note what is there.

        Raises:
            SizeMismatch: it is not.

        """
        with self._state:
            probe = Ranges(self._ranges.pieces())
            before = probe.total
            probe.add(start, end)
            lacking = probe.total - before
        if lacking:
            raise SizeMismatch(f"`{self._digest}`", end - start, end - start - lacking)
        self._record_if_due(every=1 << 20)

    def record(self) -> None:
        """Note what is there, though threads may be writing: the process is about to end.

        Raises:
            StoreFault: it cannot be written; nothing of this transfer is kept.

        """
        self._record_if_due(every=1)

    def finish(self) -> None:
        """Check size and digest, and make the blob visible; it survives a power cut (R33).

        Raises:
            SizeMismatch: bytes are missing; what is there is kept.
            DigestMismatch: they are others; nothing is kept, so that a new try starts from zero.
            StoreFault: they cannot be written; nothing is kept.

        """
        with self._state:
            if self._is_left:
                raise StoreFault(self._path, "this transfer has ended")
            self._is_finishing = True
        self._end_writing()
        if self._ranges.total != self.size:
            raise SizeMismatch(f"`{self._digest}`", self.size, self._ranges.total)
        with self._dropped_on_fault():
            self._verify()
            self._make_lasting()
            self._publish()
        self._is_gone = True
        with suppress(StoreFault):
            self._claim.remove()

    def leave(self) -> None:
        """Keep what is there for the next transfer, unless there is nothing or it is no good."""
        with self._state:
            is_abandoned, self._is_left = self._is_left, True
        if is_abandoned:
            # What is there is recorded before the caller gives up its claim.
            with self._recording:
                return
        self._leave()

    def abandon(self) -> bool:
        """Let another transfer have this blob, while a thread of this one still waits for bytes.

        What is there is kept for it. What this thread writes later is refused with `StoreFault`.
        Gives False when it is too late: all bytes are here, or this has ended.
        """
        with self._recording:
            with self._state:
                if self._is_left or self._is_finishing:
                    return False
                self._is_left = True
            self._leave()
            self._claim.release()
        return True

    def _leave(self) -> None:
        self._end_writing()
        if self._follower is not None:
            self._follower.stop()
        try:
            if not self._is_gone and self._ranges.total:
                with suppress(StoreFault):
                    self._claim.record(self._ranges, self.size)
            elif not self._is_gone:
                self._drop()
        finally:
            with self._state:
                if self._is_open:
                    self._is_open = False
                    close(self._data)
                self._state.notify_all()

    # Parts of the above

    def _reserve(self) -> None:
        """Find out now that there is no room, not after an hour of fetching."""
        with faults(self._path):
            os.ftruncate(self._data, self.size)
            if not self.size:
                return
            try:
                os.posix_fallocate(self._data, 0, self.size)
            except OSError as error:
                if error.errno not in _CANNOT_RESERVE:
                    raise

    def _begin_to_write(self) -> None:
        with self._state:
            if not self._is_open or self._is_gone or self._is_left:
                raise StoreFault(self._path, "this transfer has ended")
            self._writing += 1

    def _end_writing(self) -> None:
        with self._state:
            self._state.wait_for(lambda: self._writing == 0)

    def _note(self, start: int, end: int) -> None:
        """Count bytes in that are on the disk now."""
        with self._state:
            overlaps = self._ranges.add(start, end)
            self._unrecorded += end - start
            prefix = self._ranges.prefix
        if self._follower is not None:
            if overlaps:
                self._follower.restart()
            self._follower.advance(prefix)

    def _record_if_due(self, every: int = _RECORD_BYTES) -> None:
        clock = self._home.patience.clock
        with self._state:
            waited = clock() - self._recorded_at
            is_due = self._unrecorded >= every or (self._unrecorded and waited >= _RECORD_SECONDS)
        if not is_due or not self._recording.acquire(blocking=False):
            return
        try:
            if self._is_left:
                return
            with self._state:
                ranges = Ranges(self._ranges.pieces())
                self._unrecorded = 0
                self._recorded_at = clock()
            with self._dropped_on_fault():
                self._claim.record(ranges, self.size)
        finally:
            self._recording.release()

    def _verify(self) -> None:
        if self._follower is None:
            raise StoreFault(self._path, "this transfer has ended")
        actual = f"{self._digest.algorithm}:{self._follower.finish(self.size)}"
        with faults(self._path):
            length = os.fstat(self._data).st_size
        if length == self.size and actual == str(self._digest):
            return
        self._drop()
        if length != self.size:
            raise SizeMismatch(f"`{self._digest}`", self.size, length)
        raise DigestMismatch(f"`{self._digest}`", str(self._digest), actual)

    def _make_lasting(self) -> None:
        with faults(self._path):
            if self._home.sync:
                os.fsync(self._data)
            os.fchmod(self._data, 0o444)
            with self._state:
                self._is_open = False
                os.close(self._data)
                self._state.notify_all()

    def _publish(self) -> None:
        with (
            self._home.writing() as root,
            root.need("tmp") as tmp,
            root.need("blobs", self._digest.algorithm) as blobs,
        ):
            settle(self._claim.folder, DATA, blobs, self._digest.hex, tmp=tmp)
            if self._home.sync:
                blobs.sync()

    @contextmanager
    def _dropped_on_fault(self) -> Iterator[None]:
        """Keep nothing that a disk has refused: what it holds now nobody knows (R33, R39)."""
        try:
            yield
        except StoreFault:
            self._drop()
            raise

    def _drop(self) -> None:
        self._is_gone = True
        with suppress(StoreFault):
            self._claim.remove()


def _write_all(descriptor: int, data: bytes | memoryview, offset: int, path: str) -> None:
    rest = memoryview(data)
    with faults(path):
        while rest:
            count = os.pwrite(descriptor, rest, offset)
            offset += count
            rest = rest[count:]


class Transfers:
    """Gives out the right to fetch a blob.

    Args:
        home: of the store.
        is_held: whether a blob is there, and may be used as it is.

    """

    def __init__(self, home: Home, is_held: Callable[[Descriptor], bool]) -> None:
        self._home = home
        self._is_held = is_held
        self._partials = Partials(home)
        self._lock = threading.Lock()
        self._under_way: set[BlobWriter] = set()

    def had(self, descriptor: Descriptor) -> int:
        """Count the bytes that a transfer could go on from."""
        return self._partials.had(descriptor)

    def record(self) -> None:
        """Note how far each transfer of this process has got: it is about to end."""
        with self._lock:
            for receiving in self._under_way:
                with suppress(StoreFault):
                    receiving.record()

    @contextmanager
    def receive(
        self, descriptor: Descriptor, waiting: Callable[[], None] | None
    ) -> Iterator[BlobWriter | None]:
        """Fetch a blob, or find that it is there; see `LocalStore.receive`."""
        descriptor.digest.require_verifiable(f"`{descriptor.digest}`")
        claim = self._claim(descriptor, waiting)
        if claim is None:
            yield None
            return
        try:
            # Another process may have published it just before we got the right to.
            if self._is_held(descriptor):
                with suppress(StoreFault):
                    claim.remove()
                yield None
                return
            receiving = BlobWriter(self._home, descriptor, claim)
            try:
                receiving.open()
                with self._lock:
                    self._under_way.add(receiving)
                yield receiving
            finally:
                with self._lock:
                    self._under_way.discard(receiving)
                receiving.leave()
        finally:
            claim.release()

    def _claim(
        self, descriptor: Descriptor, waiting: Callable[[], None] | None
    ) -> PartialLock | None:
        """Get the right to fetch; None as soon as there is nothing to fetch.

        Raises:
            StoreFault: whoever has the right makes no progress.

        """
        patience = self._home.patience
        deadline, trace = 0.0, None
        while not self._is_held(descriptor):
            claim = self._partials.claim(descriptor.digest)
            if claim is not None:
                return claim
            current = self._partials.trace(descriptor.digest)
            if trace != current:
                deadline, trace = patience.clock() + patience.seconds, current
            elif patience.clock() >= deadline:
                where = self._partials.where(descriptor.digest)
                raise StoreFault(
                    where,
                    f"another process fetches it, without progress for {patience.seconds:.0f} s",
                    f"see who it is with `fuser {where}`, then wait for it or end it",
                )
            if waiting is not None:
                waiting()
            patience.sleep(STEP)
        return None
