"""The store's only way to the operating system: folders held open, files reached by name in them.

Every path below the root is walked one name at a time, relative to a folder that is already open,
and no link is ever followed, so that a planted link cannot lead a read or a write astray (R31).
What the operating system refuses leaves here as a `StoreFault` that names the path.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from resolver.errors import StoreFault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Never blocks on a FIFO, never follows a link, never leaks into a credential helper.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK = _READ | os.O_CREAT

#: Why a folder is not removed, and no harm done.
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
    errno.EXDEV: "a store must lie on one file system: leave its folders where they were made, or "
    "name another folder with `--store`",
    errno.EIO: "the disk reports a fault: look at the system's log, and name a folder on another "
    "disk with `--store`",
    errno.ELOOP: f"something put a link there: remove it, or {_ELSEWHERE}",
    errno.ENOTDIR: f"something put a file there: remove it, or {_ELSEWHERE}",
}


def fault(path: str, error: OSError) -> StoreFault:
    """Put a failure of the operating system into words, with what helps against it."""
    reason = (error.strerror or str(error)).lower()
    return StoreFault(path, reason, _HINTS.get(error.errno or 0, _ELSEWHERE))


def close(descriptor: int) -> None:
    """Close what was only read or locked: nothing can be lost by it, so no failure matters."""
    with suppress(OSError):
        os.close(descriptor)


@contextmanager
def faults(path: str) -> Iterator[None]:
    """Turn whatever the operating system refuses into a `StoreFault` about `path`."""
    try:
        yield
    except OSError as error:
        raise fault(path, error) from error


class File:
    """An open regular file of the store, for reading."""

    __slots__ = ("descriptor", "path", "status")

    def __init__(self, descriptor: int, path: str, status: os.stat_result) -> None:
        self.descriptor = descriptor
        self.path = path
        self.status = status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        close(self.descriptor)

    def freshen(self) -> None:
        """Make it young: somebody needs it from now on, so that collection gives it time."""
        with suppress(OSError):
            os.utime(self.descriptor)

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """Read from the start, `size` bytes at a time."""
        with faults(self.path):
            os.lseek(self.descriptor, 0, os.SEEK_SET)
            while chunk := os.read(self.descriptor, size):
                yield chunk


class StoreFolder:
    """An open folder of the store.

    Raises:
        StoreFault: from every method, when the operating system refuses.

    """

    __slots__ = ("descriptor", "path")

    def __init__(self, descriptor: int, path: str) -> None:
        self.descriptor = descriptor
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        close(self.descriptor)

    @classmethod
    def at(cls, path: str) -> Self | None:
        """Open the folder a person named, through links if they chose so; None if absent."""
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
        """Open a folder below this one that must be there."""
        folder = self.enter(*names)
        if folder is None:
            raise StoreFault(self.where(*names), "it was removed while it was in use")
        return folder

    def where(self, *names: str) -> str:
        """Give the path of something in here, for messages."""
        return "/".join((self.path.rstrip("/"), *names))

    def look(self, name: str) -> os.stat_result | None:
        """Say what is there, following nothing; None if there is nothing."""
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

    def open(self, name: str) -> File | None:
        """Open a regular file; None if there is none, or something that is not one."""
        status = self.look(name)
        if status is None or not stat.S_ISREG(status.st_mode):
            return None
        path = self.where(name)
        with faults(path):
            try:
                descriptor = os.open(name, _READ, dir_fd=self.descriptor)
            except FileNotFoundError:
                return None
        # What was looked at may have been replaced before it was opened.
        status = _regular(descriptor, path)
        return None if status is None else File(descriptor, path, status)

    def make(self, name: str) -> None:
        """Make a folder for this user only, unless there is one; the caller syncs."""
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

        By whole paths, so that whoever traces the store (strace, fault injection) sees which file
        it is. Nobody else can swap a folder in between: they are this user's alone (R30).
        """
        with faults(folder.where(target)):
            os.rename(self.where(name), folder.where(target))  # noqa: PTH104 - all are text here

    def put_back(self, name: str, folder: StoreFolder, target: str) -> None:
        """Rename a file unless there is something at the target by now."""
        with faults(folder.where(target)), suppress(FileExistsError):
            os.link(name, target, src_dir_fd=self.descriptor, dst_dir_fd=folder.descriptor)
        self.remove(name)

    def remove(self, name: str) -> bool:
        """Remove a file or a link, not what it leads to; False if there was none."""
        with faults(self.where(name)):
            try:
                os.unlink(name, dir_fd=self.descriptor)
            except FileNotFoundError:
                return False
        return True

    def remove_folder(self, name: str) -> bool:
        """Remove a folder with nothing in it; False if there was none, or something is in it."""
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
        """Refuse to go on where nothing could be written or removed."""
        if os.access(".", os.W_OK, dir_fd=self.descriptor, effective_ids=True):
            return
        is_mounted_so = os.fstatvfs(self.descriptor).f_flag & os.ST_RDONLY
        number = errno.EROFS if is_mounted_so else errno.EACCES
        with faults(self.path):
            raise OSError(number, os.strerror(number))

    def sync(self) -> None:
        """Make the names in here outlive a power cut."""
        with faults(self.path):
            os.fsync(self.descriptor)


def _regular(descriptor: int, path: str) -> os.stat_result | None:
    """Give the status of an open regular file; anything else is closed, and is None."""
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

#: What may be lying in `tmp`; nothing else there is ever touched.
TEMPORARY = re.compile(r"(?:new|bad)-[0-9a-f]{32}")


def aside() -> str:
    """Make a name in `tmp` for what is not what it should be; collection removes it."""
    return f"bad-{os.urandom(16).hex()}"


def is_aside(name: str) -> bool:
    """Whether this is the name of something that was set aside."""
    return name.startswith("bad-") and TEMPORARY.fullmatch(name) is not None


def settle(
    source: StoreFolder, name: str, folder: StoreFolder, target: str, *, tmp: StoreFolder
) -> None:
    """Give a finished file its real name, whatever is there by now."""
    status = folder.look(target)
    if status is not None and stat.S_ISDIR(status.st_mode):
        # The one thing a rename cannot replace; somebody else made it.
        folder.move(target, tmp, aside())
    source.move(name, folder, target)


class Temporary:
    """A file being written; it exists under a temporary name until it is published."""

    def __init__(self, folder: StoreFolder, *, sync: bool) -> None:
        self.name = f"new-{os.urandom(16).hex()}"
        self._folder = folder
        self._sync = sync
        self._path = folder.where(self.name)
        self._published = False
        self._open = False
        with faults(self._path):
            self._descriptor = os.open(self.name, _NEW, 0o600, dir_fd=folder.descriptor)
        self._open = True

    def write(self, chunk: bytes) -> None:
        """Append bytes, all of them."""
        rest = memoryview(chunk)
        with faults(self._path):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def publish(self, folder: StoreFolder, name: str, *, mode: int) -> None:
        """Give the file its real name, durably: sync, mode, close, rename, sync the folder (R33).

        A failed sync is final: the pages it lost are marked clean, and a second sync would
        succeed without having written them. So the file is dropped, never synced again.
        """
        with faults(self._path):
            if self._sync:
                os.fsync(self._descriptor)
            os.fchmod(self._descriptor, mode)
            self._open = False
            os.close(self._descriptor)
        settle(self._folder, self.name, folder, name, tmp=self._folder)
        self._published = True
        if self._sync:
            folder.sync()

    def discard(self) -> None:
        """Remove what was not published; a failure here must not hide the one before it."""
        if self._open:
            self._open = False
            close(self._descriptor)
        if not self._published:
            with suppress(StoreFault):
                self._folder.remove(self.name)


@contextmanager
def temporary(folder: StoreFolder, *, sync: bool) -> Iterator[Temporary]:
    """Write a file that disappears again unless it is published, whatever happens."""
    file = Temporary(folder, sync=sync)
    try:
        yield file
    finally:
        file.discard()
