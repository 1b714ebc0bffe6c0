"""Leases: one file per running operation, valid while its process holds the file's lock.

leases/<random>   one JSON object per line: first the purpose and the process, then the needed
digests, with more lines as they become known

See docs/store-and-reliability.md, "Leases".
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from resolver.core.parse.json import Fields, read_object
from resolver.core.parse.json import digest as read_digest
from resolver.errors import LimitExceeded, StoreFault, Untrusted
from resolver.store.files import close, faults, try_lock, write_all
from resolver.values import pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.core.oci.digest import Digest
    from resolver.core.results.store import ActiveLease, Unread
    from resolver.store.files import StoreFolder
    from resolver.store.folder import Home

#: Our own names in `leases`; nothing else there is ever touched.
LEASE = pattern(r"[0-9a-f]{32}")
_SCHEMA = 1
_MEMBERS = frozenset({"schema", "purpose", "since", "process"})
_NEW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: Digests per line: 20,000 of them stay below the limit of the JSON reader.
_PER_LINE = 1_000
#: Seconds between two attempts.
_STEP = 0.01
#: Longest line of a lease, and the largest lease that is kept whole in memory, in bytes.
_MAX_LINE, _LARGE = 1 << 20, 64 << 20
#: Field of the file in a line of `/proc/locks`.
_INODE = 5


class Lease:
    """Protects the listed digests, and content added after it began, from collection."""

    def __init__(self, home: Home, descriptor: int | None, path: str) -> None:
        self._home = home
        self._descriptor = descriptor
        self._path = path

    def add(self, digests: Iterable[Digest]) -> None:
        """Protect more digests; call it before checking whether they are present."""
        if self._descriptor is None:
            return
        texts = sorted({str(digest) for digest in digests})
        lines = [
            _line({"digests": texts[at : at + _PER_LINE]}) for at in range(0, len(texts), _PER_LINE)
        ]
        # Under the lock, so that a collection sees all of the lines or none.
        with self._home.writing():
            write_all(self._descriptor, b"".join(lines), self._path)


class Leases:
    """The `leases` folder of a store."""

    def __init__(self, home: Home) -> None:
        self._home = home

    @contextmanager
    def hold(self, digests: Iterable[Digest], purpose: str, *, needed: bool) -> Iterator[Lease]:
        """Hold a lease for the duration of the context; the kernel ends it if the process dies."""
        name = os.urandom(16).hex()
        descriptor: int | None = None
        path = f"{self._home.root}/leases/{name}"
        try:
            try:
                descriptor = self._begin(name, purpose)
            except StoreFault:
                # A store that this user cannot write cannot be collected by this user either.
                if needed:
                    raise
            lease = Lease(self._home, descriptor, path)
            lease.add(digests)
            yield lease
        finally:
            if descriptor is not None:
                self._end(name, descriptor)

    def _begin(self, name: str, purpose: str) -> int:
        with self._home.writing() as root, root.need("leases") as leases:
            path = leases.where(name)
            with faults(path):
                descriptor = os.open(name, _NEW, 0o600, dir_fd=leases.descriptor)
            try:
                self._lock(descriptor, path)
                with faults(path):
                    since = os.fstat(descriptor).st_mtime_ns
                head = {
                    "schema": _SCHEMA,
                    "purpose": purpose,
                    "since": since,
                    "process": os.getpid(),
                }
                write_all(descriptor, _line(head), path)
            except BaseException:
                with suppress(StoreFault):
                    leases.remove(name)
                close(descriptor)
                raise
            return descriptor

    def _lock(self, descriptor: int, path: str) -> None:
        """Lock our own lease; a process that only inspects it releases it at once."""
        while self._home.lock and not try_lock(descriptor, fcntl.LOCK_EX, path):
            self._home.patience.sleep(_STEP)

    def _end(self, name: str, descriptor: int) -> None:
        """Remove the file while it is still locked, then release it."""
        try:
            # Without its lock it has expired, and the next collection removes it.
            with suppress(StoreFault):
                root = self._home.open()
                if root is not None:
                    with root, root.need("leases") as leases:
                        leases.remove(name)
        finally:
            close(descriptor)


def active_leases(root: StoreFolder) -> tuple[ActiveLease, ...]:
    """Return the active leases; `StoreFault` if one cannot be read, as its needs are unknown."""
    found, unread = read_leases(root)
    for each in unread:
        advice = (
            f"wait until process {each.pid} has ended, or end it"
            if each.pid is not None
            else f"find its process with `fuser {each.path}`, and end it"
        )
        raise StoreFault(each.path, str(each), advice)
    return found


def read_leases(root: StoreFolder) -> tuple[tuple[ActiveLease, ...], tuple[Unread, ...]]:
    """Return the active leases, and those that cannot be read."""
    from resolver.core.results.store import ActiveLease, Unread  # noqa: PLC0415 - a resolve needs none

    leases = root.enter("leases")
    if leases is None:
        return (), ()
    held = _Held(root)
    with leases:
        names = [name for name in leases.entries() if LEASE.fullmatch(name)]
        found = [_read_if_active(leases, name, held) for name in names]
    return (
        tuple(each for each in found if isinstance(each, ActiveLease)),
        tuple(each for each in found if isinstance(each, Unread)),
    )


class _Held:
    """Digests in the store, listed on first use."""

    def __init__(self, root: StoreFolder) -> None:
        self._root = root
        self._names: dict[str, frozenset[str]] = {}

    def __contains__(self, digest: Digest) -> bool:
        names = self._names.get(digest.algorithm)
        if names is None:
            names = self._names[digest.algorithm] = frozenset(self._list(digest.algorithm))
        return digest.hex in names

    def _list(self, algorithm: str) -> list[str]:
        folder = self._root.enter("blobs", algorithm)
        if folder is None:
            return []
        with folder:
            return folder.entries()


def is_active(leases: StoreFolder, name: str) -> bool:
    """Whether a process holds this lock; assumed for another user's file."""
    try:
        file = leases.open(name)
    except StoreFault as error:
        if isinstance(error.__cause__, PermissionError):
            return True
        raise
    if file is None:
        return False
    with file:
        # Shared, so that two readers do not take each other for the owner.
        return not try_lock(file.descriptor, fcntl.LOCK_SH, file.path)


def _read_if_active(leases: StoreFolder, name: str, held: _Held) -> ActiveLease | Unread | None:
    from resolver.core.results.store import ActiveLease, Unread  # noqa: PLC0415 - a resolve needs none

    try:
        file = leases.open(name)
    except StoreFault as error:
        if not isinstance(error.__cause__, PermissionError):
            raise
        status = leases.look(name)
        pid = _owner(status) if status is not None else None
        return Unread(leases.where(name), "it belongs to another user", "", pid)
    if file is None:
        return None
    with file:
        if try_lock(file.descriptor, fcntl.LOCK_SH, file.path):
            return None
        purpose, since, process = "", None, None
        try:
            lines = _lines(file.chunks(), f"`{file.path}`")
            purpose, since, process = _read_head(next(lines, b""), f"`{file.path}`")
            known = held if file.status.st_size > _LARGE else None
            digests = _read_digests(lines, f"`{file.path}`", known)
            return ActiveLease(purpose, digests, since, process)
        except Untrusted as error:
            # The lease has the PID in its own namespace, the kernel the PID in ours.
            pid = _owner(file.status) or process
            return Unread(file.path, str(error), purpose, pid, since)


def _owner(status: os.stat_result) -> int | None:
    """Return the PID of the lock's holder; None if unknown or outside our PID namespace.

    Source: proc_locks(5): `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF`, the device in hex.
    """
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - a pseudo file
            rows = [line.split() for line in file]
    except OSError:
        return None
    for row in rows:
        if row[1:2] == ["FLOCK"] and len(row) > _INODE and row[_INODE] == device:
            pid = row[_INODE - 1]
            return int(pid) if pid.isascii() and pid.isdecimal() and pid != "0" else None
    return None


def _lines(chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > _MAX_LINE:
            raise LimitExceeded(f"a line of {what}", _MAX_LINE, len(rest))
    if rest:
        yield rest


def _read_head(line: bytes, what: str) -> tuple[str, float, int | None]:
    """Return purpose, start time and process; older versions did not record the process."""
    first = Fields.of(read_object(line, what), what, "", _MEMBERS)
    process = first.integer("process") if first.has("process") else None
    return first.text("purpose") or "", first.integer("since") / 1e9, process


def _read_digests(lines: Iterable[bytes], what: str, held: _Held | None) -> frozenset[Digest]:
    """Return the protected digests; with `held` only those that are in the store."""
    digests: set[Digest] = set()
    for line in lines:
        fields = Fields.of(read_object(line, what), what, "", frozenset({"digests"}))
        found = (read_digest(value, what, "digests") for value in fields.array("digests"))
        digests.update(each for each in found if held is None or each in held)
    return frozenset(digests)


def _line(value: dict[str, object]) -> bytes:
    return json.dumps(value, sort_keys=True).encode() + b"\n"
