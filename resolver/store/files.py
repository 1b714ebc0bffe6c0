"""File access for the store: open folders, files by name within them, and locks.

Every path below the root is opened one name at a time, relative to an open folder, and links are
never followed, so that a planted link cannot redirect a read or a write
(docs/store-and-reliability.md, "Opening files"). Every `OSError` becomes a `StoreFault` with the
path.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from resolver.errors import StoreFault
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.oci.digest import Digest


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Never blocks on a FIFO, never follows a link, never leaks into a credential helper.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK = _READ | os.O_CREAT

#: Harmless reasons why a folder is not removed.
_STAYS = frozenset({errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST})

_ELSEWHERE = "name another folder with `--store` or `RESOLVER_STORE`"
_ROOM = f"free some space, or {_ELSEWHERE}"
_RIGHTS = f"make it writable for this user, or {_ELSEWHERE}"
_HINTS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: f"raise the limit on file sizes (`ulimit -f`), or {_ELSEWHERE}",
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EMFILE: "raise the limit on open files (`ulimit -n`), or lower `--jobs`",
    errno.EXDEV: "a store must be on one file system: leave its folders where they were made, or "
    "name another folder with `--store`",
    errno.EIO: "the disk reports a fault: check the system log, and name a folder on another "
    "disk with `--store`",
    errno.ELOOP: f"a link is in its place: remove it, or {_ELSEWHERE}",
    errno.ENOTDIR: f"a file is in its place: remove it, or {_ELSEWHERE}",
}


def fault(path: str, error: OSError) -> StoreFault:
    """Convert an `OSError`, with a hint that helps against it."""
    reason = (error.strerror or str(error)).lower()
    return StoreFault(path, reason, _HINTS.get(error.errno or 0, _ELSEWHERE))


def close(descriptor: int) -> None:
    """Close a file that was only read or locked; a failure loses nothing and is ignored."""
    with suppress(OSError):
        os.close(descriptor)


@contextmanager
def faults(path: str) -> Iterator[None]:
    """Raise `OSError` as a `StoreFault` about `path`."""
    try:
        yield
    except OSError as error:
        raise fault(path, error) from error


def write_all(
    descriptor: int, data: bytes | memoryview, path: str, offset: int | None = None
) -> None:
    """Write all of the data, at the current position or at an offset."""
    rest = memoryview(data)
    with faults(path):
        while rest:
            if offset is None:
                count = os.write(descriptor, rest)
            else:
                count = os.pwrite(descriptor, rest, offset)
                offset += count
            rest = rest[count:]


#: Errors of a kernel or of file systems that cannot copy between two files.
_CANNOT_COPY = frozenset(
    {errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EBADF}
)
_COPY_STEP = 1 << 20


def copy_range(source: int, target: int, at: int, offset: int, length: int, path: str) -> int:
    """Copy bytes between files, sharing disk blocks where the file system can.

    `path` is the target's. Returns the number of bytes copied; fewer if the source ends or cannot
    be read. Source: copy_file_range(2).

    Raises:
        StoreFault: the target cannot be written.
    """
    done = 0
    try:
        while done < length and hasattr(os, "copy_file_range"):
            wanted = (source, target, length - done, at + done, offset + done)
            count = os.copy_file_range(*wanted)
            if not count:
                return done
            done += count
    except OSError as error:
        if error.errno == errno.EIO:
            return done
        if error.errno not in _CANNOT_COPY:
            raise fault(path, error) from error
    while done < length:
        try:
            piece = os.pread(source, min(_COPY_STEP, length - done), at + done)
        except OSError:
            break
        if not piece:
            break
        write_all(target, piece, path, offset + done)
        done += len(piece)
    return done


def start_sync(descriptor: int, begin: int = 0, length: int = 0) -> None:
    """Start writing dirty pages to disk, without waiting; `length` 0 is the rest of the file.

    POSIX_FADV_DONTNEED is the call for it that Python has; pages being written stay in memory, and
    the sync still reports their errors. Source: Linux mm/fadvise.c, POSIX_FADV_DONTNEED.
    """
    if sys.platform == "linux":
        # Only a hint.
        with suppress(OSError):
            os.posix_fadvise(descriptor, begin, length, os.POSIX_FADV_DONTNEED)


class _Opened:
    """Something open in the store, closed at the end of a `with` block."""

    __slots__ = ("descriptor", "path")

    def __init__(self, descriptor: int, path: str) -> None:
        self.descriptor = descriptor
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; errors do not matter any more."""
        close(self.descriptor)


class File(_Opened):
    """A regular file of the store, open for reading."""

    __slots__ = ("status",)

    def __init__(self, descriptor: int, path: str, status: os.stat_result) -> None:
        super().__init__(descriptor, path)
        self.status = status

    def freshen(self) -> None:
        """Update its time, so that the grace period of collection starts again."""
        with suppress(OSError):
            os.utime(self.descriptor)

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """Read from the start, `size` bytes at a time."""
        with faults(self.path):
            os.lseek(self.descriptor, 0, os.SEEK_SET)
            while chunk := os.read(self.descriptor, size):
                yield chunk

    def examine(self, digest: Digest, limit: int) -> tuple[bool, bytes | None]:
        """Hash it; return whether it matches, and its bytes if no more than `limit`."""
        hasher = hashlib.new(digest.algorithm)
        kept: list[bytes] = []
        count = 0
        for chunk in self.chunks():
            hasher.update(chunk)
            count += len(chunk)
            if count <= limit:
                kept.append(chunk)
        intact = hasher.hexdigest() == digest.hex
        return intact, b"".join(kept) if count <= limit and intact else None


class StoreFolder(_Opened):
    """An open folder of the store; every method raises `StoreFault` for an `OSError`."""

    __slots__ = ()

    @classmethod
    def at(cls, path: str) -> Self | None:
        """Open the folder named by the user, following links; None if absent."""
        with faults(path):
            try:
                return cls(os.open(path, _FOLDER), path)
            except FileNotFoundError:
                return None

    def enter(self, *names: str) -> StoreFolder | None:
        """Open a folder below this one; None if it, or one on the way to it, is absent."""
        here = self
        for name in names:
            path = here.where(name)
            try:
                with faults(path):
                    inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=here.descriptor)
            except StoreFault as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    return None
                raise
            finally:
                if here is not self:
                    close(here.descriptor)
            here = StoreFolder(inner, path)
        return here

    def need(self, *names: str) -> StoreFolder:
        """Open a folder below this one that must exist."""
        folder = self.enter(*names)
        if folder is None:
            raise StoreFault(self.where(*names), "it was removed while it was in use")
        return folder

    def where(self, *names: str) -> str:
        """Return the path of something in here, for messages."""
        return "/".join((self.path.rstrip("/"), *names))

    def look(self, name: str) -> os.stat_result | None:
        """Return the status of a name without following links; None if absent."""
        with faults(self.where(name)):
            try:
                return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def entries(self) -> list[str]:
        """List the names in here, sorted."""
        with faults(self.path):
            # pathlib cannot list an open descriptor.
            return sorted(os.listdir(self.descriptor))  # noqa: PTH208

    def statuses(self) -> dict[str, os.stat_result]:
        """Return the status of everything in here, without following links."""
        found: dict[str, os.stat_result] = {}
        with faults(self.path), os.scandir(self.descriptor) as entries:
            for entry in entries:
                try:
                    found[entry.name] = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
        return found

    def open(self, name: str, status: os.stat_result | None = None) -> File | None:
        """Open a regular file; None if it is absent or not one. `status` is what `look` said."""
        status = status or self.look(name)
        if status is None or not stat.S_ISREG(status.st_mode):
            return None
        path = self.where(name)
        with faults(path):
            try:
                descriptor = os.open(name, _READ, dir_fd=self.descriptor)
            except FileNotFoundError:
                return None
        # It may have been replaced between `look` and `open`.
        status = _regular(descriptor, path)
        return None if status is None else File(descriptor, path, status)

    def make(self, name: str) -> None:
        """Create a folder for this user only, if absent; the caller syncs."""
        with faults(self.where(name)):
            try:
                os.mkdir(name, 0o700, dir_fd=self.descriptor)
            except FileExistsError:
                return

    def lock_file(self, name: str) -> int:
        """Open a file to lock, creating it if needed; the caller closes the descriptor."""
        with faults(self.where(name)):
            descriptor = os.open(name, _LOCK, 0o600, dir_fd=self.descriptor)
        if _regular(descriptor, self.where(name)) is None:
            raise StoreFault(self.where(name), "it is not a regular file", "remove it")
        return descriptor

    def move(self, name: str, folder: StoreFolder, target: str) -> None:
        """Rename a file or link, never following either; a file at the target is replaced.

        By whole paths, so that a trace (strace, fault injection) shows the file. Other users cannot
        replace a folder in between (docs/store-and-reliability.md, "Store ownership").
        """
        with faults(folder.where(target)):
            os.rename(self.where(name), folder.where(target))  # noqa: PTH104 - all are text here

    def put_back(self, name: str, folder: StoreFolder, target: str) -> None:
        """Rename a file unless the target exists."""
        with faults(folder.where(target)), suppress(FileExistsError):
            os.link(name, target, src_dir_fd=self.descriptor, dst_dir_fd=folder.descriptor)
        self.remove(name)

    def remove(self, name: str) -> bool:
        """Remove a file or link without following it; False if there was none."""
        with faults(self.where(name)):
            try:
                os.unlink(name, dir_fd=self.descriptor)
            except FileNotFoundError:
                return False
        return True

    def remove_folder(self, name: str) -> bool:
        """Remove an empty folder; False if it is absent or not empty."""
        with faults(self.where(name)):
            try:
                os.rmdir(name, dir_fd=self.descriptor)
            except OSError as error:
                if error.errno in _STAYS:
                    return False
                raise
        return True

    def discard(self, name: str) -> bool:
        """Remove a file, a link or an empty folder; False if nothing was removed."""
        status = self.look(name)
        if status is not None and stat.S_ISDIR(status.st_mode):
            return self.remove_folder(name)
        return self.remove(name)

    def refuse_read_only(self) -> None:
        """Raise unless files can be written and removed here."""
        if os.access(".", os.W_OK, dir_fd=self.descriptor, effective_ids=True):
            return
        is_mounted_so = os.fstatvfs(self.descriptor).f_flag & os.ST_RDONLY
        number = errno.EROFS if is_mounted_so else errno.EACCES
        with faults(self.path):
            raise OSError(number, os.strerror(number))

    def sync(self) -> None:
        """Flush the folder to disk, so that its names survive a power cut."""
        with faults(self.path):
            os.fsync(self.descriptor)


def _regular(descriptor: int, path: str) -> os.stat_result | None:
    """Return the status of an open regular file; close anything else and return None."""
    try:
        with faults(path):
            status = os.fstat(descriptor)
    except BaseException:
        close(descriptor)
        raise
    if stat.S_ISREG(status.st_mode):
        return status
    close(descriptor)
    return None


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: Our own names in `tmp`; nothing else there is ever touched.
TEMPORARY = pattern(r"(?:new|bad)-[0-9a-f]{32}")


def aside() -> str:
    """Make a name in `tmp` for a damaged file; collection removes it."""
    return f"bad-{os.urandom(16).hex()}"


def is_aside(name: str) -> bool:
    """Whether this is the name of a file that was set aside."""
    return name.startswith("bad-") and TEMPORARY.fullmatch(name) is not None


def settle(
    source: StoreFolder, name: str, folder: StoreFolder, target: str, *, tmp: StoreFolder
) -> None:
    """Move a finished file to its final name, replacing what is there."""
    status = folder.look(target)
    if status is not None and stat.S_ISDIR(status.st_mode):
        # A rename cannot replace a folder.
        folder.move(target, tmp, aside())
    source.move(name, folder, target)


class Temporary:
    """A file being written under a temporary name until it is published."""

    def __init__(self, folder: StoreFolder, *, sync: bool) -> None:
        self.name = f"new-{os.urandom(16).hex()}"
        self._folder = folder
        self._sync = sync
        self._path = folder.where(self.name)
        self._published = False
        with faults(self._path):
            self._descriptor = os.open(self.name, _NEW, 0o600, dir_fd=folder.descriptor)
        self._open = True

    def write(self, chunk: bytes) -> None:
        """Append bytes, all of them."""
        write_all(self._descriptor, chunk, self._path)

    def start_sync(self) -> None:
        """Start writing to disk; files that were all started are synced by few commits."""
        if self._sync:
            start_sync(self._descriptor)

    def publish(
        self, folder: StoreFolder, name: str, *, mode: int, sync_folder: bool = True
    ) -> None:
        """Move the file to its final name durably: sync, chmod, close, rename, sync the folder.

        Without `sync_folder` the caller syncs the folder, or several renames at once.

        A failed sync is final: the kernel marks the lost pages clean, and a second sync would
        succeed without writing them. The file is dropped instead
        (docs/store-and-reliability.md, "Write order").
        """
        with faults(self._path):
            if self._sync:
                os.fsync(self._descriptor)
            os.fchmod(self._descriptor, mode)
            self._open = False
            os.close(self._descriptor)
        settle(self._folder, self.name, folder, name, tmp=self._folder)
        self._published = True
        if self._sync and sync_folder:
            folder.sync()

    def discard(self) -> None:
        """Remove an unpublished file; a failure here must not hide an earlier one."""
        if self._open:
            self._open = False
            close(self._descriptor)
        if not self._published:
            with suppress(StoreFault):
                self._folder.remove(self.name)


@contextmanager
def temporary(folder: StoreFolder, *, sync: bool) -> Iterator[Temporary]:
    """Write a file that is removed unless it is published."""
    file = Temporary(folder, sync=sync)
    try:
        yield file
    finally:
        file.discard()


#: Mounted file systems. Source: proc_pid_mountinfo(5).
MOUNTS = Path("/proc/self/mountinfo")


_BUSY = frozenset({errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN})


_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


#: Seconds between two attempts.
_STEP = 0.05


#: File systems whose locks other machines may not see (docs/store-and-reliability.md, "Network file
#: systems"); names as in /proc/self/mountinfo (proc_pid_mountinfo(5)).
REMOTE = frozenset([
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "9p", "glusterfs", "lustre", "gpfs",
    "beegfs", "fuse", "fuseblk",
])  # fmt: skip


#: A local FUSE file system: the root of a rootless container.
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs"})


_ADVICE = (
    "name a folder on a local disk with `--store`, or, if no other process uses this one, "
    "`--unsafe-no-lock`"
)


@dataclass(frozen=True, slots=True, eq=False)
class Patience:
    """How long to wait for a lock, in seconds of a monotonic clock."""

    seconds: float = 60.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@contextmanager
def locked(
    root: StoreFolder, *, exclusive: bool, patience: Patience, name: str = "lock"
) -> Iterator[None]:
    """Hold a lock on a store for the duration of the context; the kernel frees it on exit.

    `flock`, because an `fcntl` lock is lost as soon as any thread closes any descriptor of the
    file; and never in its blocking form, because that hangs beyond the reach of signals on NFS.

    Raises:
        StoreFault: it was not freed in time, or the file system has no reliable locks.
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
    """Hold a lock like `locked`, without starving the process that needs it exclusively.

    An exclusive holder locks the gate first: present holders finish, and no new ones enter. Shared
    holders hold the gate only while they enter.
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
            # A lock file removed meanwhile does not exclude later processes.
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
                f"find the process with `fuser {root.where(name)}`, then wait for it or end it",
            )
        patience.sleep(_STEP)


def try_lock(descriptor: int, kind: int, path: str) -> bool:
    """Lock an open file; False while another process holds it, `StoreFault` without locks."""
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
    """Whether a name still refers to the file that was opened."""
    current = root.look(name)
    with faults(root.where(name)):
        return current is not None and os.path.samestat(current, os.fstat(descriptor))


def refuse_remote(root: StoreFolder, mounts: Path = MOUNTS) -> None:
    """Refuse a folder on a network file system, whose locks may hold on this machine only.

    Where mounts cannot be listed (macOS), the folder counts as local.
    """
    with faults(root.path):
        device = os.fstat(root.descriptor).st_dev
    for kind in file_systems(device, mounts):
        if is_remote(kind):
            reason = f"it is on a network file system ({kind}), where locks are not reliable"
            raise StoreFault(root.path, reason, _ADVICE)


def file_systems(device: int, mounts: Path = MOUNTS) -> tuple[str, ...]:
    """Name the types of file system mounted from a device; empty if unknown."""
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
    """Whether locks on this type of file system may hold on this machine only."""
    return kind in REMOTE or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)
