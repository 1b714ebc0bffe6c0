"""The store's lock: shared by everyone who uses content, exclusive for who removes it (R35)."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.errors import StoreFault
from resolver.store.files import close, fault, faults
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.store.files import StoreFolder

#: What is mounted here. Source: proc_pid_mountinfo(5).
MOUNTS = Path("/proc/self/mountinfo")
_BUSY = frozenset({errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN})
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})
#: Seconds between two tries.
_STEP = 0.05

#: File systems whose locks other machines may not see. Source: reliability.md R35; the names are
#: those of /proc/self/mountinfo (proc_pid_mountinfo(5)).
REMOTE = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "afs",
        "ceph",
        "9p",
        "glusterfs",
        "lustre",
        "gpfs",
        "beegfs",
        "fuse",
        "fuseblk",
    ]
)
#: FUSE, and local: the root of a rootless container.
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs"})

_ADVICE = (
    "name a folder on a local disk with `--store`, or, if nobody else uses this one, "
    "`--unsafe-no-lock`"
)


@dataclass(frozen=True, slots=True, eq=False)
class Patience:
    """How long to wait for a lock.

    Attributes:
        seconds: of a monotonic clock. Source: reliability.md section 5, "lock wait".

    """

    seconds: float = 60.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@contextmanager
def locked(
    root: StoreFolder, *, exclusive: bool, patience: Patience, name: str = "lock"
) -> Iterator[None]:
    """Hold a lock on a store for the length of a block; the kernel frees it if we die.

    `flock`, because an `fcntl` lock is lost as soon as any thread closes any descriptor of the
    file; and never in its blocking form, because that hangs beyond the reach of signals on NFS.

    Raises:
        StoreFault: nobody freed it in time, or the file system has no locks to rely on.

    """
    descriptor = _acquire(root, name, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, patience)
    try:
        yield
    finally:
        close(descriptor)


@contextmanager
def through(
    root: StoreFolder, gate: str, name: str, *, exclusive: bool, patience: Patience
) -> Iterator[None]:
    """Hold a lock that so many share that they are never all away at once, as `locked`.

    Who wants it alone closes the gate first: those inside leave sooner or later, and nobody new
    comes in. The others hold the gate only while they pass.
    """
    if exclusive:
        with (
            locked(root, exclusive=True, patience=patience, name=gate),
            locked(root, exclusive=True, patience=patience, name=name),
        ):
            yield
        return
    with ExitStack() as passing:
        passing.enter_context(locked(root, exclusive=False, patience=patience, name=gate))
        descriptor = _acquire(root, name, fcntl.LOCK_SH, patience)
    try:
        yield
    finally:
        close(descriptor)


def _acquire(root: StoreFolder, name: str, kind: int, patience: Patience) -> int:
    deadline = patience.clock() + patience.seconds
    while True:
        descriptor = root.lock_file(name)
        kept = False
        try:
            # A lock file that was removed meanwhile excludes nobody who comes after us.
            kept = try_lock(descriptor, kind, root.where(name)) and same_file(
                root, name, descriptor
            )
        finally:
            if not kept:
                close(descriptor)
        if kept:
            return descriptor
        if patience.clock() >= deadline:
            raise StoreFault(
                root.where(name),
                f"another process has held the lock for {patience.seconds:.0f} s",
                f"see who it is with `fuser {root.where(name)}`, then wait for it or end it",
            )
        patience.sleep(_STEP)


def try_lock(descriptor: int, kind: int, path: str) -> bool:
    """Try once to lock an open file; False while somebody else holds it.

    Raises:
        StoreFault: the file system has no locks to rely on.

    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno in _NO_LOCKS:
            raise StoreFault(path, "this file system has no locks", _ADVICE) from error
        raise fault(path, error) from error
    return True


def same_file(root: StoreFolder, name: str, descriptor: int) -> bool:
    """Whether a name still leads to what was opened by it."""
    current = root.look(name)
    with faults(root.where(name)):
        return current is not None and os.path.samestat(current, os.fstat(descriptor))


def refuse_remote(root: StoreFolder, mounts: Path = MOUNTS) -> None:
    """Refuse a folder on a network file system, where a lock may hold on this machine only.

    Where the kernel does not say what is mounted (macOS), the folder is taken to be local.

    Raises:
        StoreFault: it is on one.

    """
    with faults(root.path):
        device = os.fstat(root.descriptor).st_dev
    for kind in file_systems(device, mounts):
        if is_remote(kind):
            reason = f"it is on a network file system ({kind}), where locks cannot be relied on"
            raise StoreFault(root.path, reason, _ADVICE)


def file_systems(device: int, mounts: Path = MOUNTS) -> tuple[str, ...]:
    """Name the kinds of file system that are mounted from a device; empty where nobody says."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) > 2 and fields[2] == wanted:  # noqa: PLR2004 - its column
            found.append(after.split(" ", 1)[0])
    return tuple(dict.fromkeys(found))


def is_remote(kind: str) -> bool:
    """Whether locks on this kind of file system may hold on this machine only."""
    return kind in REMOTE or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)
