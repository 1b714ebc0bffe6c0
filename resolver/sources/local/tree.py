"""The common view of a folder and an archive as a tree of files, and the index of a tar archive.

A tar archive is indexed in one pass over its headers; nothing is extracted. The standard library's
`tarfile` ends its listing silently at a damaged header and loops on hostile sizes
(docs/store-and-reliability.md, "Tar archives"). Supported: ustar, GNU long names, and the PAX
records `path`, `linkpath` and `size`. Source: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar
manual, "Basic Tar Format".
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import field
from typing import TYPE_CHECKING, Protocol

from resolver.core.layers import decompress
from resolver.core.layers.decompress import DEFAULT_LIMITS, InflateLimits
from resolver.errors import BadDocument, LimitExceeded, NotFound, Unavailable, UnsupportedDocument
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


#: Bytes read at a time.
CHUNK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A link in place of a folder is ENOTDIR on Linux, ELOOP elsewhere.
_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
# Never blocks on a FIFO, never follows a link, never leaks into a credential helper.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Tree(Protocol):
    """Regular files by relative name; anything else counts as absent."""

    @property
    def path(self) -> str:
        """Path of the folder or archive, for messages."""
        ...

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None if absent.

        Raises:
            Unavailable: the tree cannot be read.
        """
        ...

    def link(self, name: str) -> str | None:
        """Return the link that stands in place of a file or of one of its parent folders.

        Raises:
            Unavailable: the tree cannot be read.
        """
        ...

    def open(self, name: str) -> AbstractContextManager[Iterator[bytes]]:
        """Stream a file for which `size` returned a size.

        Raises:
            NotFound: it was removed.
            Unavailable: it cannot be read.
        """
        ...


def read_small(tree: Tree, name: str, limit: int) -> bytes:
    """Read a file whole."""
    what = f"`{name}` in `{tree.path}`"
    size = tree.size(name)
    if size is None:
        refuse_link(tree, name)
        raise BadDocument(f"`{tree.path}`", name, "there is no such regular file in it")
    if size > limit:
        raise LimitExceeded(what, limit, size)
    kept = bytearray()
    with tree.open(name) as chunks:
        for chunk in chunks:
            kept += chunk
            # It may have grown.
            if len(kept) > limit:
                raise LimitExceeded(what, limit, len(kept))
    return bytes(kept)


def refuse_link(tree: Tree, name: str) -> None:
    """Raise if a missing file is a link, which could lead out of the tree."""
    link = tree.link(name)
    if link is not None:
        raise UnsupportedDocument(
            f"`{link}` in `{tree.path}`",
            "",
            "it is a link, and links in a layout are not followed",
            "copy the files they point to: `cp -rL` for a folder, `tar -h` for an archive",
        )


@contextmanager
def unreadable(path: str) -> Iterator[None]:
    """Convert an `OSError`; absence becomes `NotFound`."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"there is no `{path}`", "check the path, and the working folder") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "make it readable for this user" if isinstance(error, PermissionError) else ""
        raise Unavailable(
            f"`{path}` cannot be read: {reason}", *([hint] if hint else [])
        ) from error


def open_path(path: str) -> tuple[int, os.stat_result]:
    """Open a folder or regular file named by the user, following links."""
    with unreadable(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return descriptor, status
    close(descriptor)
    raise UnsupportedDocument(f"`{path}`", "", "it is neither a file nor a folder")


def close(descriptor: int) -> None:
    """Close a file that was only read; failures are ignored."""
    with suppress(OSError):
        os.close(descriptor)


class FolderTree:
    """A folder, opened name by name without following links.

    See docs/store-and-reliability.md, "Opening files".
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def size(self, name: str) -> int | None:
        """Return the size of a regular file in bytes; None if absent."""
        with self._parent(name) as (folder, base), unreadable(self.path):
            if folder is None:
                return None
            try:
                status = os.stat(base, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def link(self, name: str) -> str | None:
        """Return the first link on the path to a file."""
        parts = name.split("/")
        for count in range(1, len(parts) + 1):
            part = "/".join(parts[:count])
            with self._parent(part) as (folder, base), unreadable(self.path):
                if folder is None:
                    return None
                try:
                    status = os.stat(base, dir_fd=folder, follow_symlinks=False)
                except FileNotFoundError:
                    return None
            if stat.S_ISLNK(status.st_mode):
                return part
        return None

    @contextmanager
    def open(self, name: str) -> Iterator[Iterator[bytes]]:
        """Stream a file."""
        where = f"{self.path}/{name}"
        with self._parent(name) as (folder, base), unreadable(where):
            if folder is None:
                raise FileNotFoundError
            descriptor = os.open(base, _FILE, dir_fd=folder)
        try:
            with unreadable(where):
                # It may have been replaced between `size` and `open`.
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise FileNotFoundError
            yield _chunks(descriptor, where)
        finally:
            close(descriptor)

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int | None, str]]:
        """Open the parent folder of a name; None unless all its parents are real folders."""
        *folders, base = name.split("/")
        with unreadable(self.path):
            here: int | None = os.open(self.path, _FOLDER)
        try:
            for inner in folders:
                here = self._enter(here, inner)
            yield here, base
        finally:
            if here is not None:
                close(here)

    def _enter(self, outer: int | None, name: str) -> int | None:
        """Open a subfolder and close its parent."""
        if outer is None:
            return None
        try:
            with unreadable(f"{self.path}/{name}"):
                try:
                    return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=outer)
                except OSError as error:
                    if error.errno in _NO_FOLDER:
                        return None
                    raise
        finally:
            close(outer)


def _chunks(descriptor: int, where: str) -> Iterator[bytes]:
    with unreadable(where):
        while chunk := os.read(descriptor, CHUNK):
            yield chunk


#: Reads `count` bytes at `offset`, fewer only at the end.
ReadAt = Callable[[int, int], bytes]

BLOCK = 512
#: Most members; an image of a thousand layers with three files each has some 4,000.
MAX_MEMBERS = 200_000
# See docs/store-and-reliability.md, "Size limits".
MAX_EXTENDED = 1 << 20
MAX_STACKED = 16
MAX_PATH = 4096

_FILES = frozenset({b"0", b"\0", b"7"})
_LINKS = frozenset({b"1", b"2"})
#: Links, devices, folders and FIFOs have no data, whatever size their header states.
_EMPTY = _LINKS | frozenset({b"3", b"4", b"5", b"6"})
_OCTAL = re.compile(rb" *([0-7]{1,22})[ \0]*")
_DECIMAL = re.compile(rb"[0-9]{1,19}")
_ZERO = bytes(BLOCK)


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive; offset and size in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class TarIndex:
    """The files and links of an archive by name; the last one of a repeated name.

    Attributes:
        files: by normalised relative name.
        links: normalised targets by name.
        is_ended: whether the archive has its closing blocks.
    """

    files: dict[str, Member]
    links: dict[str, str]
    is_ended: bool


@dataclass(slots=True)
class _Pending:
    """Values of extended headers for the next member."""

    path: str | None = None
    link: str | None = None
    size: int | None = None
    stacked: int = 0


@dataclass(slots=True)
class _Walk:
    read: ReadAt
    length: int
    what: str
    files: dict[str, Member] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def bad(self, offset: int, reason: str) -> BadDocument:
        return BadDocument(self.what, f"byte {offset}", reason)


def index_tar(read: ReadAt, length: int, what: str) -> TarIndex:
    """Index a tar archive of `length` bytes.

    Missing closing blocks are no error, since all files before them are complete.
    """
    walk = _Walk(read, length, what)
    pending = _Pending()
    offset = count = 0
    while offset < length:
        header = read(offset, BLOCK)
        if header == _ZERO:
            return TarIndex(walk.files, walk.links, is_ended=True)
        count += 1
        if count > MAX_MEMBERS:
            raise LimitExceeded(f"the number of members of {what}", MAX_MEMBERS, count, "members")
        offset, pending = _member(walk, header, offset, pending)
    if pending.stacked:
        raise walk.bad(offset, "it ends after an extended header, without its member")
    return TarIndex(walk.files, walk.links, is_ended=False)


def _member(walk: _Walk, header: bytes, offset: int, pending: _Pending) -> tuple[int, _Pending]:
    """Read one member; return the offset of the next one and its pending values."""
    _check(walk, header, offset)
    kind = header[156:157]
    size = _number(header[124:136])
    if pending.size is not None and kind not in b"xgLK":
        size = pending.size
    if size is None:
        raise walk.bad(offset, "the size in a header is not a number")
    data = offset + BLOCK
    if kind in _EMPTY:
        size = 0
    if size > walk.length - data:
        raise walk.bad(offset, "it is cut short: a member extends past its end")
    after = data + -(-size // BLOCK) * BLOCK
    if kind in b"xgLK":
        return after, _extended(walk, kind, data, size, pending)
    if kind == b"S":
        raise UnsupportedDocument(walk.what, f"byte {offset}", "it holds a sparse file")
    name = _normal(pending.path if pending.path is not None else _name(header))
    if len(name) > MAX_PATH:
        raise LimitExceeded(f"a name in {walk.what}", MAX_PATH, len(name))
    walk.files.pop(name, None)
    walk.links.pop(name, None)
    if kind in _FILES and name:
        walk.files[name] = Member(data, size)
    if kind in _LINKS and name:
        target = pending.link if pending.link is not None else _text(header[157:257])
        # A hard link is relative to the archive, a symbolic one to where it stands.
        base = f"{name}/../" if kind == b"2" else ""
        walk.links[name] = _normal(base + target)
    return after, _Pending()


def _check(walk: _Walk, header: bytes, offset: int) -> None:
    """Verify the checksum of a header. Source: POSIX pax, "chksum"; old Suns sign."""
    if len(header) < BLOCK:
        raise walk.bad(offset, "it is cut short inside a header")
    stated = _number(header[148:156])
    counted = header[:148] + b" " * 8 + header[156:]
    if stated is None or (stated != sum(counted) and stated != _signed_sum(counted)):
        what = "a damaged header" if offset else "not a tar archive: its first header is not valid"
        raise walk.bad(offset, what)


def _signed_sum(header: bytes) -> int:
    return sum(byte - 256 if byte > 127 else byte for byte in header)  # noqa: PLR2004 - a sign bit


def _extended(walk: _Walk, kind: bytes, data: int, size: int, pending: _Pending) -> _Pending:
    """Read an extended header of the next member; ignore global PAX headers."""
    if size > MAX_EXTENDED:
        raise LimitExceeded(f"an extended header of {walk.what}", MAX_EXTENDED, size)
    pending.stacked += 1
    if pending.stacked > MAX_STACKED:
        raise LimitExceeded(
            f"the run of extended headers of {walk.what}", MAX_STACKED, pending.stacked, "headers"
        )
    body = walk.read(data, size)
    if kind == b"L":
        pending.path = _text(body)
    elif kind == b"K":
        pending.link = _text(body)
    elif kind == b"x":
        _pax(walk, body, data, pending)
    return pending


def _pax(walk: _Walk, body: bytes, offset: int, pending: _Pending) -> None:
    """Read records `length keyword=value`, whose length includes itself."""
    at = 0
    while at < len(body):
        digits = body[at : at + 20].partition(b" ")[0]
        length = int(digits) if _DECIMAL.fullmatch(digits) else 0
        record = body[at + len(digits) + 1 : at + length]
        keyword, equals, value = record[:-1].partition(b"=")
        if at + length > len(body) or not equals or not record.endswith(b"\n"):
            raise walk.bad(offset + at, "a malformed extended header")
        if keyword.startswith(b"GNU.sparse."):
            raise UnsupportedDocument(walk.what, f"byte {offset}", "it holds a sparse file")
        if keyword == b"path":
            pending.path = _text(value)
        elif keyword == b"linkpath":
            pending.link = _text(value)
        elif keyword == b"size":
            if not _DECIMAL.fullmatch(value):
                raise walk.bad(offset + at, "the size in an extended header is not a number")
            pending.size = int(value)
        at += length


def _number(text: bytes) -> int | None:
    """Parse a number of a header: octal digits or GNU's base 256; None if it is neither."""
    if text[0] == 0x80:  # noqa: PLR2004 - the mark of a positive base-256 number
        return int.from_bytes(text[1:], "big")
    if not text.strip(b" \0"):
        return 0
    match = _OCTAL.fullmatch(text)
    return int(match[1], 8) if match else None


def _name(header: bytes) -> str:
    name = _text(header[:100])
    # The prefix exists in ustar only; GNU stores times there.
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _normal(name: str) -> str:
    """Normalise a name: relative and without dots; `..` stops at the root."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def inflate(archive: int, path: str, limits: InflateLimits = DEFAULT_LIMITS) -> int:
    """Inflate an open gzip file to an anonymous temporary file; return its descriptor.

    Raises:
        BadDocument, ChecksumMismatch: the stream is damaged, truncated, or followed by other data.
        LimitExceeded: its inflated size or ratio is too large.
    """
    pieces = decompress.inflate(_archive_chunks(archive, path), "gzip", f"`{path}`", limits)
    with _room(path), tempfile.TemporaryFile(prefix="resolver-", buffering=0) as file:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(file.fileno(), rest) :]
        return os.dup(file.fileno())


def _archive_chunks(archive: int, path: str) -> Iterator[bytes]:
    consumed = 0
    while True:
        with unreadable(path):
            chunk = os.pread(archive, CHUNK, consumed)
        if not chunk:
            return
        consumed += len(chunk)
        yield chunk


@contextmanager
def _room(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Unavailable(
            f"`{path}` is compressed and cannot be inflated in `{tempfile.gettempdir()}`: {reason}",
            "free some space, or name another folder with `TMPDIR`",
        ) from error
