"""Partial blobs: one folder per digest, with a lock held by the process that writes.

partial/<alg>-<hex>/lock       held by the process that writes
                    data       the bytes, with gaps
                    meta.json  received ranges; written after the bytes, in place, since it is only
                               a hint: the bytes are hashed again

See docs/store-and-reliability.md, "Locks" and "Recovery".
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from resolver.core.parse.json import Fields, read_object
from resolver.errors import BadDocument, ResolverError, StoreFault
from resolver.store.files import aside, close, faults, same_file, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.store.files import StoreFolder
    from resolver.store.folder import Home


#: Start and exclusive end, in bytes.
Range = tuple[int, int]


class Ranges:
    """A set of byte positions, as few merged ranges."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ranges: list[Range] = []
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int) -> bool:
        """Add the bytes from `start` up to `end`; True if any was already included."""
        if start >= end:
            return False
        overlaps = False
        rest: list[Range] = []
        for low, high in self._ranges:
            if high < start or low > end:
                rest.append((low, high))
                continue
            overlaps = overlaps or (low < end and start < high)
            start, end = min(start, low), max(end, high)
        rest.append((start, end))
        self._ranges = sorted(rest)
        return overlaps

    @property
    def prefix(self) -> int:
        """Number of bytes from the start without a gap."""
        if not self._ranges or self._ranges[0][0] > 0:
            return 0
        return self._ranges[0][1]

    @property
    def total(self) -> int:
        """Number of bytes."""
        return sum(end - start for start, end in self._ranges)

    def pieces(self) -> tuple[Range, ...]:
        """Return the ranges in order."""
        return tuple(self._ranges)


DATA = "data"
META = "meta.json"
LOCK = "lock"
#: All files of a partial; the lock last. Earlier versions wrote `meta.new` first.
_FILES = (DATA, META, "meta.new", LOCK)
_SCHEMA = 1
_MEMBERS = frozenset({"schema", "size", "ranges"})
#: Largest `meta.json` that is read, in bytes.
_MAX_META = 1_048_576
_WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ_WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = _READ_WRITE | os.O_CREAT | os.O_EXCL
#: Seconds between two checks of another process's transfer.
STEP = 0.05


def folder_name(digest: Digest) -> str:
    """Return the folder name of a partial."""
    return f"{digest.algorithm}-{digest.hex}"


class PartialLock:
    """An exclusive lock on one partial, until `release` or the end of the process."""

    __slots__ = ("_is_released", "_lock", "_name", "_parent", "folder")

    def __init__(
        self, parent: StoreFolder, name: str, folder: StoreFolder, lock: int | None
    ) -> None:
        self._parent = parent
        self._name = name
        self.folder = folder
        self._lock = lock
        self._is_released = False

    def release(self) -> None:
        """Release the lock and keep the partial; further calls do nothing."""
        if self._is_released:
            return
        self._is_released = True
        if self._lock is not None:
            close(self._lock)
        close(self.folder.descriptor)
        close(self._parent.descriptor)

    def remove(self) -> None:
        """Remove the partial's files; the lock stays held."""
        _empty(self.folder)
        self._parent.remove_folder(self._name)

    def ranges(self, size: int) -> tuple[Range, ...]:
        """Return the recorded ranges; none if the record cannot be used."""
        return recorded_ranges(self.folder, size)

    def record(self, ranges: Ranges, size: int) -> None:
        """Record the received ranges in one padded write, so that a kill leaves old or new."""
        value = {"schema": _SCHEMA, "size": size, "ranges": [list(r) for r in ranges.pieces()]}
        body = json.dumps(value).encode()
        status = self.folder.look(META)
        if status is not None and not (_is_ours(status) and status.st_size <= _MAX_META):
            # Planted, or a hard link to another file: its bytes must not change.
            self.folder.remove(META)
            status = None
        flags = _WRITE if status is not None else _WRITE | os.O_CREAT | os.O_EXCL
        with faults(self.folder.where(META)):
            descriptor = os.open(META, flags, 0o600, dir_fd=self.folder.descriptor)
            try:
                os.write(descriptor, body.ljust(status.st_size if status is not None else 0))
            finally:
                os.close(descriptor)

    def open_data(self) -> tuple[int, int]:
        """Open the data for reading and writing; return the descriptor and its size."""
        status = self.folder.look(DATA)
        if status is not None and not _is_ours(status):
            # Planted, or a hard link to a blob: its bytes must not change.
            self.folder.remove(DATA)
            status = None
        with faults(self.folder.where(DATA)):
            if status is None:
                new = os.open(DATA, _NEW, 0o600, dir_fd=self.folder.descriptor)
                return new, 0
            if not status.st_mode & stat.S_IWUSR:
                self._make_writable()
            descriptor = os.open(DATA, _READ_WRITE, dir_fd=self.folder.descriptor)
            return descriptor, os.fstat(descriptor).st_size

    def _make_writable(self) -> None:
        """Undo the chmod before publishing, left by a process that died after it."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(DATA, flags, dir_fd=self.folder.descriptor)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            close(descriptor)


class Partials:
    """The `partial` folder of a store."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def had(self, descriptor: Descriptor) -> int:
        """Count the bytes that a transfer can resume from."""
        return sum(end - start for start, end in self.ranges(descriptor))

    def ranges(self, descriptor: Descriptor) -> tuple[Range, ...]:
        """Return the ranges that a transfer can resume from, in order."""
        with self._look(descriptor.digest) as folder:
            return recorded_ranges(folder, descriptor.size) if folder is not None else ()

    def trace(self, digest: Digest) -> tuple[int, ...]:
        """Return values that change while another process makes progress."""
        with self._look(digest) as folder:
            if folder is None:
                return ()
            marks = [folder.look(name) for name in (DATA, META)]
        return tuple(
            number
            for status in marks
            if status is not None
            for number in (status.st_mtime_ns, status.st_size, status.st_blocks)
        )

    def where(self, digest: Digest) -> str:
        """Return the path of a partial's lock, for messages."""
        return f"{self._home.root}/partial/{folder_name(digest)}/{LOCK}"

    def claim(self, digest: Digest) -> PartialLock | None:
        """Try once to lock a partial; None while another process holds it."""
        name = folder_name(digest)
        with self._home.writing() as root:
            parent = root.need("partial")
            claim = None
            try:
                claim = _claim(root, parent, name, lock=self._home.lock)
            finally:
                if claim is None:
                    close(parent.descriptor)
            return claim

    @contextmanager
    def _look(self, digest: Digest) -> Iterator[StoreFolder | None]:
        with ExitStack() as opened:
            root, folder = self._home.open(), None
            with suppress(StoreFault):
                if root is not None:
                    folder = opened.enter_context(root).enter("partial", folder_name(digest))
            yield opened.enter_context(folder) if folder else None


def discard(parent: StoreFolder, name: str) -> None:
    """Remove an unused partial while the store is locked exclusively."""
    folder = parent.enter(name)
    if folder is not None:
        with folder:
            _empty(folder)
        parent.remove_folder(name)


def _empty(folder: StoreFolder) -> None:
    for name in _FILES:
        status = folder.look(name)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            folder.remove(name)


def _claim(root: StoreFolder, parent: StoreFolder, name: str, *, lock: bool) -> PartialLock | None:
    status = parent.look(name)
    if status is not None and not stat.S_ISDIR(status.st_mode):
        with root.need("tmp") as tmp:
            parent.move(name, tmp, aside())
    parent.make(name)
    folder = parent.enter(name)
    if folder is None:
        return None
    descriptor: int | None = None
    kept = False
    try:
        if lock:
            descriptor = _lock(parent, name, folder)
        kept = descriptor is not None or not lock
    finally:
        if not kept:
            close(folder.descriptor)
    return PartialLock(parent, name, folder, descriptor) if kept else None


def _lock(parent: StoreFolder, name: str, folder: StoreFolder) -> int | None:
    """Lock a partial's folder; None if another process holds it or it was removed meanwhile."""
    try:
        descriptor = folder.lock_file(LOCK)
    except StoreFault as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    kept = False
    try:
        kept = (
            try_lock(descriptor, fcntl.LOCK_EX, folder.where(LOCK))
            and same_file(folder, LOCK, descriptor)
            and same_file(parent, name, folder.descriptor)
        )
    finally:
        if not kept:
            close(descriptor)
    return descriptor if kept else None


def _is_ours(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def recorded_ranges(folder: StoreFolder, size: int) -> tuple[Range, ...]:
    """Return the recorded ranges of a partial, cut to the size of its data."""
    data = folder.look(DATA)
    if data is None or not _is_ours(data):
        return ()
    file = folder.open(META)
    if file is None:
        return ()
    with file:
        if file.status.st_size > _MAX_META:
            return ()
        body = b"".join(file.chunks())
    try:
        ranges = _read(body, size, f"`{file.path}`")
    except ResolverError:
        # The record only saves work; the bytes are hashed again.
        return ()
    there = min(size, data.st_size)
    return Ranges((start, min(end, there)) for start, end in ranges).pieces()


def _read(body: bytes, size: int, what: str) -> list[Range]:
    fields = Fields.of(read_object(body, what), what, "", _MEMBERS)
    if fields.integer("schema") != _SCHEMA or fields.integer("size") != size:
        raise BadDocument(what, "size", "it does not match the blob")
    ranges: list[Range] = []
    for value in fields.array("ranges"):
        match value:
            case [int(start), int(end)] if 0 <= start <= end <= size:
                ranges.append((start, end))
            case _:
                raise BadDocument(what, "ranges", "it is not a pair of positions")
    return ranges
