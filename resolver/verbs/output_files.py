"""Write files that appear complete or not at all: outputs, and edits of a user's text files."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.errors import ExportFault, OutputFault, UnreadableFile, Usage
from resolver.files.read import NotRegular, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.store.files import StoreFolder

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PREFIX = ".resolver-"
#: Seconds after which an unlocked temporary file counts as abandoned.
#: Source: docs/store-and-reliability.md, "Collection".
_GRACE = 3600.0

_ROOM = "free some space there, or name another place"
_HINTS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit on file sizes (`ulimit -f`), or name another place",
    errno.EROFS: "name a writable place",
    errno.EACCES: "make it writable for this user, or name another place",
    errno.EPERM: "make it writable for this user, or name another place",
    errno.ELOOP: "a link is in its place: remove it, or name another place",
    errno.ENOTDIR: "a file is in its place: remove it, or name another place",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`), or name fewer images at once",
    errno.ENOENT: "make the folder above it first",
}


def export_fault(path: str, error: OSError) -> ExportFault:
    """Put a failure of the operating system into words, with what helps against it."""
    hint = _HINTS.get(error.errno or 0, "name another place")
    return ExportFault(path, (error.strerror or str(error)).lower(), hint)


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn whatever the operating system refuses into an `ExportFault` about `path`."""
    try:
        yield
    except OSError as error:
        raise export_fault(path, error) from error


class Fresh:
    """A locked file under a temporary name; `settle` gives it its final name."""

    def __init__(self, folder: StoreFolder) -> None:
        self.name = _PREFIX + os.urandom(16).hex()
        self._folder = folder
        self._path = folder.where(self.name)
        with writing(self._path):
            # Mode by the umask: an export is for others to read, unlike the store.
            self.descriptor = os.open(self.name, _NEW, 0o644, dir_fd=folder.descriptor)
        with suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, data: bytes) -> None:
        """Append bytes, all of them."""
        rest = memoryview(data)
        with writing(self._path):
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]

    def settle(
        self, folder: StoreFolder, name: str, *, sync: bool, mode: int | None = None
    ) -> None:
        """Rename the file durably, replacing any file, but no folder, of that name.

        `mode`, reduced by the umask, sets the permissions.
        """
        with writing(folder.where(name)):
            if mode is not None:
                os.fchmod(self.descriptor, os.fstat(self.descriptor).st_mode & mode)
            if sync:
                os.fsync(self.descriptor)
            rename(self._folder, self.name, folder, name)
            if sync:
                os.fsync(folder.descriptor)

    def discard(self) -> None:
        """Remove it, if it has no real name yet; no failure here may hide the one before it."""
        with suppress(OSError):
            os.close(self.descriptor)
        with suppress(OSError):
            os.unlink(self.name, dir_fd=self._folder.descriptor)


def rename(source: StoreFolder, name: str, folder: StoreFolder, target: str) -> None:
    """Rename a file, both ends by open folders."""
    os.rename(name, target, src_dir_fd=source.descriptor, dst_dir_fd=folder.descriptor)


@contextmanager
def fresh(folder: StoreFolder) -> Iterator[Fresh]:
    """Write a file that disappears again unless it is settled, whatever happens."""
    file = Fresh(folder)
    try:
        yield file
    finally:
        file.discard()


def sweep(folder: StoreFolder) -> None:
    """Remove temporary files of exports that were killed; no failure of that matters."""
    with suppress(OSError):
        # pathlib cannot list an open descriptor.
        for name in os.listdir(folder.descriptor):  # noqa: PTH208
            if name.startswith(_PREFIX) and len(name) == len(_PREFIX) + 32:
                _remove_if_dead(folder, name)


def _remove_if_dead(folder: StoreFolder, name: str) -> None:
    with suppress(OSError):
        descriptor = os.open(name, _LOOK, dir_fd=folder.descriptor)
        try:
            status = os.fstat(descriptor)
            # Not when it was written: a link to a blob of the store is as old as the blob.
            if not stat.S_ISREG(status.st_mode) or time.time() - status.st_ctime < _GRACE:
                return
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=folder.descriptor)
        finally:
            os.close(descriptor)


#: Bytes of one file; a thousand Kubernetes manifests in one have some 2 MB.
MAX_FILE = 4 * 1024 * 1024


_TEMPORARY = ".resolver-"


_NEW_TEXT = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def read_text(path: str) -> str:
    """Read a file as UTF-8, with its byte order mark and line ends."""
    body = _read(path)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 text (byte {error.start})"
        raise UnreadableFile(path, reason, "save it as UTF-8") from error


def _read(path: str) -> bytes:
    try:
        body, _ = read_regular(path, MAX_FILE)
    except NotRegular as error:
        raise UnreadableFile(path, "it is not a regular file") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Usage(f"cannot read `{path}`: {reason}", "name a readable file") from error
    if len(body) > MAX_FILE:
        raise UnreadableFile(path, f"it has more than {MAX_FILE} bytes")
    return body


def rewrite(path: str, before: str, after: str) -> None:
    """Replace the content of a file, following a link; mode and owner are kept."""
    # What a link leads to is replaced, not the link.
    target = Path(os.path.realpath(path))
    if _read(path) != before.encode():
        raise OutputFault(f"`{path}` has changed since it was read", "run the same command again")
    try:
        _replace(target, after.encode())
    except OSError as error:
        raise _fault(path, error) from error


def _replace(target: Path, body: bytes) -> None:
    status = target.stat()
    # A rename needs no permission on the file itself: check it, since read-only is deliberate.
    if not status.st_mode & _WRITABLE or not os.access(target, os.W_OK):
        raise PermissionError(13, "it is read-only")
    temporary = target.with_name(_TEMPORARY + os.urandom(16).hex())
    descriptor = os.open(temporary, _NEW_TEXT, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(body)
            with suppress(OSError):  # Only root may give files away.
                os.fchown(stream.fileno(), status.st_uid, status.st_gid)
            os.fchmod(stream.fileno(), stat.S_IMODE(status.st_mode))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Sync the rename; a file system that cannot is no error."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _fault(path: str, error: OSError) -> OutputFault:
    fault: ExportFault = export_fault(path, error)
    return OutputFault(f"cannot write `{path}`: {fault.reason}", *fault.hints())
