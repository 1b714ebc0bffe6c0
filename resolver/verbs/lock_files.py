"""Lock files on the disk: read with a limit, replaced whole or not at all."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from resolver.core.lockfile.lock import (
    MAX_LOCK,
    Lock,
    LockedImage,
    LockedPlatform,
    contradiction,
    read_lock,
    refuse_at_once,
    refuse_too_many,
    write_lock,
)
from resolver.core.oci.digest import Digest
from resolver.core.oci.reference import Reference
from resolver.core.platforms.platform import Platform
from resolver.errors import (
    BadDocument,
    BadFile,
    BadLock,
    FileLimit,
    LockLimit,
    Malformed,
    OutputFault,
    Usage,
)
from resolver.files.read import read_regular
from resolver.files.yaml import parse
from resolver.verbs.output_files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.parse.document import FieldReader


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def load(path: str) -> Lock:
    """Read a lock file that must be there."""
    lock = load_if_any(path)
    if lock is None:
        raise Malformed(
            f"there is no lock file `{path}`",
            "write it with `resolver lock REF...`, or name another with `--lock-file`",
            code="no-lock",
            place=path,
        )
    return lock


def load_if_any(path: str) -> Lock | None:
    """Read a lock file; None where there is none yet."""
    if path == "-":
        raise Usage(
            "`-` cannot be a lock file, which is read and then replaced",
            "name a file, `./-` for one of that name; `resolver lock export` writes to stdout",
        )
    try:
        body, _ = read_regular(path, MAX_LOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadLock(path, "", f"it cannot be read: {_reason(error)}") from error
    if is_yaml(path):
        return read_yaml(body, path)
    return read_lock(body, path)


def is_yaml(path: str) -> bool:
    """Reject a YAML file name: locks in YAML can be read, not written."""
    return path.lower().endswith((".yaml", ".yml"))


def refuse_yaml(path: str) -> None:
    """Refuse to write a file that is YAML by its name."""
    if is_yaml(path):
        raise Usage(
            f"`{path}` is named as YAML, but lock files are written as JSON",
            "name another file with `--lock-file`",
        )


def change(path: str, how: Callable[[Lock], Lock]) -> Lock:
    """Read a lock file, change its content, and write it, under a lock of its own."""
    with _alone(path):
        lock = how(load_if_any(path) or Lock())
        found = contradiction(lock)
        if found is not None:
            raise BadDocument(f"what is to be written to `{path}`", *found)
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
    """Write a lock file atomically, under another name first.

    The mode of an existing file stays, and a link to one stays a link.
    """
    target = os.path.realpath(path)
    body = write_lock(lock)
    temporary = f"{target}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
    try:
        _put(temporary, target, body)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108 - beside `os.open`
        reason = _reason(error)
        raise OutputFault(
            f"cannot write the lock file `{path}`: {reason}",
            "free some space, or name another place with `--lock-file`",
            code="lock-unwritten",
            place=path,
            reason=reason,
        ) from error


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


#: The one version there is.
_VERSION = 1


def read_yaml(body: bytes, place: str) -> Lock:
    """Read `version: 1` and `images`, a list of `ref`, `digest` and `platforms`.

    `repo` and `tag` may replace `ref`. Platforms map to digests without sizes and types, so that
    such a lock can be checked, but not resolved from. Other keys are ignored.
    """
    refuse_at_once(body, place)
    try:
        return _lock(parse(body, place))
    except FileLimit as error:
        raise LockLimit(place, error.field, f"{error.reason}{_at(error)}") from error
    except BadFile as error:
        raise BadLock(place, error.field, f"{error.reason}{_at(error)}", *error.hints()) from error


def _at(error: BadFile) -> str:
    return f" (line {error.line}, column {error.column})" if error.line else ""


def _lock(top: FieldReader) -> Lock:
    fields = top.members()
    version = _need(top, fields, "version")
    if version.whole() != _VERSION:
        version.fail(f"an unknown version; this `resolver` reads {_VERSION}")
    spots = list(_need(top, fields, "images").items())
    refuse_too_many(len(spots), top.place)
    images: dict[str, LockedImage] = {}
    for spot in spots:
        image = _image(spot)
        if image.reference in images:
            spot.fail(f"`{image.reference}` is listed twice")
        images[image.reference] = image
    return Lock(tuple(images[reference] for reference in sorted(images)))


def _image(spot: FieldReader) -> LockedImage:
    fields = spot.members()
    if "ref" in fields:
        where, text = fields["ref"], fields["ref"].text()
    else:
        where = _need(spot, fields, "repo")
        tag = f":{fields['tag'].text()}" if "tag" in fields else ""
        text = where.text() + tag
    try:
        reference = Reference.parse(text)
    except Malformed as error:
        _refuse(where, error)
    platforms = fields.get("platforms")
    found = tuple(_platforms(platforms)) if platforms is not None else ()
    digest = _digest(_need(spot, fields, "digest"))
    if reference.digest not in {None, digest}:
        where.fail("its digest is not the locked one")
    return LockedImage(str(reference), text, digest, "", None, tuple(sorted(found, key=_key)))


def _key(one: LockedPlatform) -> str:
    return one.key


def _platforms(spot: FieldReader) -> Iterator[LockedPlatform]:
    seen: set[str] = set()
    for entry, (text, digest) in enumerate(spot.members().items()):
        try:
            platform = Platform.parse(text)
        except Malformed as error:
            _refuse(digest, error)
        one = LockedPlatform(platform, _digest(digest), "", None, entry)
        if one.key in seen:
            digest.fail(f"`{one.key}` is listed twice, in two spellings")
        seen.add(one.key)
        yield one


def _digest(spot: FieldReader) -> Digest:
    try:
        return Digest.parse(spot.text())
    except BadFile:
        raise
    except Malformed as error:
        _refuse(spot, error)


def _need(spot: FieldReader, fields: dict[str, FieldReader], name: str) -> FieldReader:
    if name not in fields:
        spot.fail(f"`{name}` is missing here")
    return fields[name]


def _refuse(spot: FieldReader, error: Malformed) -> NoReturn:
    spot.fail(str(error))
