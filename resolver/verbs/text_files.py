"""Read and rewrite a user's own text files: atomically, and with their mode."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from resolver.errors import ExportFault, OutputFault, UnreadableFile, Usage
from resolver.files.read import NotRegular, read_regular
from resolver.verbs.export.output import export_fault

#: Bytes of one file; a thousand Kubernetes manifests in one have some 2 MB.
MAX_FILE = 4 * 1024 * 1024

_TEMPORARY = ".resolver-"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def read_text(path: str) -> str:
    """Read a file as UTF-8, with its byte order mark and line ends.

    Raises:
        Usage: the path cannot be read, or is a folder.
        UnreadableFile: the file is not UTF-8 text, not a regular file, or too large.
    """
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
        raise Usage(f"cannot read `{path}`: {reason}", "name a file that can be read") from error
    if len(body) > MAX_FILE:
        raise UnreadableFile(path, f"it has more than {MAX_FILE} bytes")
    return body


def rewrite(path: str, before: str, after: str) -> None:
    """Replace what is in a file; through a link, what it leads to. Mode and owner are kept.

    Raises:
        OutputFault: it is read-only, it has changed since it was read, or the system refuses.
    """
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
    descriptor = os.open(temporary, _NEW, 0o600)
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
