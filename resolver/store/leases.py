"""Who is using what: a file per process at work, that speaks while its lock is held (R36).

leases/<random>   one JSON object per line: first what is being done, then the digests that are
                  needed for it, more lines as they become known
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resolver.core.fields import Fields
from resolver.core.fields import digest as read_digest
from resolver.core.stored import Living
from resolver.core.strict_json import read_object
from resolver.errors import LimitExceeded, StoreFault, Untrusted
from resolver.store.files import close, faults
from resolver.store.lock import try_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.core.digest import Digest
    from resolver.store.files import Folder
    from resolver.store.home import Home

#: What may be lying in `leases`; nothing else there is ever touched.
LEASE = re.compile(r"[0-9a-f]{32}")
_SCHEMA = 1
_MEMBERS = frozenset({"schema", "purpose", "since"})
_NEW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: Digests per line: 20,000 of them stay below the limit of the JSON reader.
_PER_LINE = 1_000
#: Seconds between two tries.
_STEP = 0.01
#: Longest line of a lease, in bytes, and the largest one of which everything is remembered.
_MAX_LINE, _LARGE = 1 << 20, 64 << 20


class Lease:
    """Keeps what it lists from being collected, and all that comes after it began."""

    def __init__(self, home: Home, descriptor: int | None, path: str) -> None:
        self._home = home
        self._descriptor = descriptor
        self._path = path

    def add(self, digests: Iterable[Digest]) -> None:
        """List more of what is needed; to be called before looking whether it is there.

        Raises:
            StoreFault: it cannot be written.

        """
        if self._descriptor is None:
            return
        texts = sorted({str(digest) for digest in digests})
        lines = [
            _line({"digests": texts[at : at + _PER_LINE]}) for at in range(0, len(texts), _PER_LINE)
        ]
        # Under the lock, so that a collection sees all of it or comes before all of it.
        with self._home.writing():
            _append(self._descriptor, b"".join(lines), self._path)


class Leases:
    """The `leases` folder of a store."""

    def __init__(self, home: Home) -> None:
        self._home = home

    @contextmanager
    def hold(self, digests: Iterable[Digest], purpose: str, *, needed: bool) -> Iterator[Lease]:
        """Hold a lease for the length of a block; the kernel ends it if we die."""
        name = os.urandom(16).hex()
        descriptor: int | None = None
        path = f"{self._home.root}/leases/{name}"
        try:
            try:
                descriptor = self._begin(name, purpose)
            except StoreFault:
                # A store that cannot be written cannot be collected either, not by this user.
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
                head = {"schema": _SCHEMA, "purpose": purpose, "since": since}
                _append(descriptor, _line(head), path)
            except BaseException:
                self._remove(leases, name)
                close(descriptor)
                raise
            return descriptor

    def _lock(self, descriptor: int, path: str) -> None:
        """Lock a lease of our own; whoever is just looking at it lets go again at once."""
        while self._home.lock and not try_lock(descriptor, fcntl.LOCK_EX, path):
            self._home.patience.sleep(_STEP)

    def _end(self, name: str, descriptor: int) -> None:
        """Remove the file while it still counts, then let go of it."""
        try:
            root = self._home.open()
            if root is not None:
                with root:
                    leases = root.enter("leases")
                    if leases is not None:
                        with leases:
                            self._remove(leases, name)
        except StoreFault:
            # Without its lock it is dead, and the next collection removes it.
            pass
        finally:
            close(descriptor)

    def _remove(self, leases: Folder, name: str) -> None:
        try:
            leases.remove(name)
        except StoreFault:
            return


def living(root: Folder) -> tuple[Living, ...]:
    """Read the leases whose owners live.

    Raises:
        StoreFault: one cannot be read, so what it keeps is not known.

    """
    leases = root.enter("leases")
    if leases is None:
        return ()
    held = _Held(root)
    with leases:
        names = [name for name in leases.entries() if LEASE.fullmatch(name)]
        found = [_read_if_living(leases, name, held) for name in names]
    return tuple(lease for lease in found if lease is not None)


class _Held:
    """What is in the store; looked up when a lease is read."""

    def __init__(self, root: Folder) -> None:
        self._root = root
        self._names: dict[str, frozenset[str]] = {}

    def __contains__(self, digest: Digest) -> bool:
        names = self._names.get(digest.algorithm)
        if names is None:
            names = self._names[digest.algorithm] = frozenset(self._list(digest.algorithm))
        return digest.hex in names

    def _list(self, algorithm: str) -> list[str]:
        blobs = self._root.enter("blobs")
        if blobs is None:
            return []
        with blobs:
            folder = blobs.enter(algorithm)
            if folder is None:
                return []
            with folder:
                return list(folder.entries())


def is_living(leases: Folder, name: str) -> bool:
    """Whether somebody holds the lock of this lease."""
    file = leases.open(name)
    if file is None:
        return False
    with file:
        # Shared, so that two who look do not take each other for the owner.
        return not try_lock(file.descriptor, fcntl.LOCK_SH, file.path)


def _read_if_living(leases: Folder, name: str, held: _Held) -> Living | None:
    file = leases.open(name)
    if file is None:
        return None
    with file:
        if try_lock(file.descriptor, fcntl.LOCK_SH, file.path):
            return None
        purpose = ""
        try:
            lines = _lines(file.chunks(), f"`{file.path}`")
            purpose, since = _read_head(next(lines, b""), f"`{file.path}`")
            known = held if file.status.st_size > _LARGE else None
            return Living(purpose, _read_digests(lines, f"`{file.path}`", known), since)
        except Untrusted as error:
            who = f"`{purpose}`" if purpose else "a process"
            raise StoreFault(
                file.path,
                f"{who} uses it, and it cannot be read: {error}",
                f"see which process that is with `fuser {file.path}`, and end it",
            ) from error


def _lines(chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
    """Split a lease of any length.

    Raises:
        LimitExceeded: a line has no end in sight.

    """
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > _MAX_LINE:
            raise LimitExceeded(f"a line of {what}", _MAX_LINE, len(rest))
    if rest:
        yield rest


def _read_head(line: bytes, what: str) -> tuple[str, float]:
    """Read the purpose, and since when.

    Raises:
        Untrusted: it is not what it must be.

    """
    first = Fields.of(read_object(line, what), what, "", _MEMBERS)
    return first.text("purpose") or "", first.integer("since") / 1e9


def _read_digests(lines: Iterable[bytes], what: str, held: _Held | None) -> frozenset[Digest]:
    """Read what is needed; with `held` without what is not here, which cannot be removed.

    Raises:
        Untrusted: it is not what it must be.

    """
    digests: set[Digest] = set()
    for line in lines:
        fields = Fields.of(read_object(line, what), what, "", frozenset({"digests"}))
        found = (read_digest(value, what, "digests") for value in fields.array("digests"))
        digests.update(each for each in found if held is None or each in held)
    return frozenset(digests)


def _line(value: dict[str, object]) -> bytes:
    return json.dumps(value, sort_keys=True).encode() + b"\n"


def _append(descriptor: int, data: bytes, path: str) -> None:
    rest = memoryview(data)
    with faults(path):
        while rest:
            rest = rest[os.write(descriptor, rest) :]
