"""Lock files on the disk: read with a limit, replaced whole or not at all."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.lock import MAX_LOCK, Lock, read_lock, write_lock
from resolver.core.lock_sound import contradiction
from resolver.errors import BadDocument, BadLock, LockUnwritten, NoLock, Usage
from resolver.files import read_regular
from resolver.flow.rewrite import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def load(path: str) -> Lock:
    """Read a lock file that must be there.

    Raises:
        NoLock: there is none.
        BadLock, LockLimit: it cannot be used.

    """
    lock = load_if_any(path)
    if lock is None:
        raise NoLock(path)
    return lock


def load_if_any(path: str) -> Lock | None:
    """Read a lock file; None where there is none yet.

    Raises:
        BadLock, LockLimit: it cannot be used.
        Usage: it is `-`: a lock is read and then replaced, which no stream can be.

    """
    if path == "-":
        raise Usage(
            "`-` names no lock file: a lock is read and then replaced",
            "name a file, `./-` for one of that name; `resolver lock export` writes to stdout",
        )
    try:
        body, _ = read_regular(path, MAX_LOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadLock(path, "", f"it cannot be read: {_reason(error)}") from error
    if is_yaml(path):
        from resolver.flow.lock_yaml import read_yaml  # noqa: PLC0415 - for such files alone

        return read_yaml(body, path)
    return read_lock(body, path)


def is_yaml(path: str) -> bool:
    """Say whether a file's name says that it is YAML, which we read and do not write."""
    return path.lower().endswith((".yaml", ".yml"))


def refuse_yaml(path: str) -> None:
    """Refuse to write a file that is YAML by its name.

    Raises:
        Usage: it is.

    """
    if is_yaml(path):
        raise Usage(
            f"`{path}` says it is YAML, and locks are written as JSON",
            "name another file with `--lock-file`",
        )


def change(path: str, how: Callable[[Lock], Lock]) -> Lock:
    """Read a lock file, change what it says, and write it, with nobody else doing so meanwhile.

    Args:
        path: the lock file; it need not exist yet.
        how: gives what the file is to say, from what it says.

    Raises:
        BadLock, LockLimit, LockUnwritten: as `load_if_any` and `save`.
        BadDocument: what a registry says contradicts itself, or what is in the file already.

    """
    with _alone(path):
        lock = how(load_if_any(path) or Lock())
        found = contradiction(lock)
        if found is not None:
            raise BadDocument(f"what is to be written to `{path}`", found.field, found.reason)
        save(path, lock)
    return lock


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Hold the folder of the lock file: the file itself is replaced, so it cannot be held.

    Where folders cannot be held (some network file systems), the last one to write wins.
    """
    descriptor = -1
    with suppress(OSError):
        descriptor = os.open(Path(os.path.realpath(path)).parent, _FOLDER)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def save(path: str, lock: Lock) -> None:
    """Write a lock file: under another name first, so that nobody ever sees half of one.

    The mode of a file that was there stays, and a link to one stays a link.

    Raises:
        LockUnwritten: it cannot be written; what was there is there still.

    """
    target = os.path.realpath(path)
    body = write_lock(lock)
    temporary = f"{target}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
    try:
        _put(temporary, target, body)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108 - beside `os.open`
        raise LockUnwritten(path, _reason(error)) from error


def _put(temporary: str, target: str, body: bytes) -> None:
    descriptor = os.open(temporary, _NEW, 0o666)
    with os.fdopen(descriptor, "wb") as stream:
        with suppress(FileNotFoundError):
            os.fchmod(descriptor, stat.S_IMODE(os.stat(target).st_mode))  # noqa: PTH116 - as above
        stream.write(body)
        stream.flush()
        os.fsync(descriptor)
    Path(temporary).replace(target)
    sync_folder(Path(target).parent)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
