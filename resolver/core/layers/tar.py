"""A strict streaming reader of untrusted tar archives.

It reads what GNU tar reads (v7, ustar, old GNU, GNU, PAX, all kinds of sparse files) and refuses
what readers would interpret differently. Names are data: nothing is written to disk.

Source: docs/store-and-reliability.md, "Tar archives"; POSIX.1-2017, pax; GNU tar 1.34 where POSIX
is silent; Go's archive/tar, which container runtimes use, where GNU tar would guess.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from resolver.core.layers import tar_headers
from resolver.core.layers.tar_headers import (
    BLOCK,
    ZEROS,
    Header,
    Records,
    read_header,
    read_records,
)
from resolver.core.layers.xattrs import Xattrs, cost, is_xattr, read_xattrs
from resolver.errors import BadDocument, LimitExceeded
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.core.layers.tar_headers import Map


class ByteStream:
    """A forward-only reader that buffers one chunk; `offset` is the bytes read so far."""

    __slots__ = ("_at", "_chunk", "_chunks", "_length", "offset")

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0
        self._length = 0
        self.offset = 0

    def _more(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._chunk = chunk
                self._at = 0
                self._length = len(chunk)
                return True
        return False

    def take(self, size: int) -> bytes:
        """Read `size` bytes; fewer only at the end of the stream."""
        at = self._at
        end = at + size
        if end <= self._length:
            self._at = end
            self.offset += size
            return self._chunk[at:end]
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield `size` bytes as views of the chunks; fewer only at the end of the stream."""
        while size > 0:
            if self._at >= self._length and not self._more():
                return
            at = self._at
            end = min(at + size, self._length)
            self._at = end
            self.offset += end - at
            size -= end - at
            yield memoryview(self._chunk)[at:end]

    def skip(self, size: int) -> int:
        """Skip `size` bytes; return how many were skipped."""
        end = self._at + size
        if end <= self._length:
            self._at = end
            self.offset += size
            return size
        return sum(map(len, self.pieces(size)))


@dataclass(frozen=True, slots=True)
class TarLimits:
    """Limits on one archive (docs/store-and-reliability.md, "Size limits").

    Attributes:
        entries: headers in total, including extended ones.
        path, link: bytes of a name, and of the target of a link.
        names: bytes of all names and targets; non-ASCII text counts four times, for its memory.
            Ours.
        components: names between the slashes of a path.
        extended: bytes of one extended header, long name, or map of a sparse file.
        stacked: extended headers before one entry.
        holes: bytes of holes of all sparse files, which are read as zeros.
        xattrs: bytes of memory for extended attributes, equal ones counted once. Ours.
        bodies: compressed bytes of kept small files. Ours: the package databases of
            twenty full desktops.
    """

    entries: int = 2_000_000
    path: int = 4_096
    link: int = 4_096
    names: int = 256 << 20
    components: int = 256
    extended: int = 1 << 20
    stacked: int = 16
    holes: int = 16 << 30
    xattrs: int = 32 << 20
    bodies: int = 32 << 20


DEFAULT_LIMITS = TarLimits()


class TarEntryKind(Enum):
    """The kind of an entry; the values are the letters of `ls -l` and `tar -tv`."""

    FILE = "-"
    HARD_LINK = "h"
    SYMLINK = "l"
    CHARACTER = "c"
    BLOCK = "b"
    FOLDER = "d"
    FIFO = "p"


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One entry, with all extended headers applied.

    Attributes:
        name: as written, UTF-8 with surrogate escapes; may be absolute, empty, or outside of the
            tree.
        size: of the file in bytes, including holes; 0 without content.
        link: target of a hard or symbolic link, as written; empty otherwise.
        stretches: the data regions of a sparse file; None for other files.
    """

    name: str
    kind: TarEntryKind
    mode: int
    uid: int
    gid: int
    size: int
    link: str = ""
    device: tuple[int, int] | None = None
    stretches: Map | None = None
    xattrs: Xattrs = ()


_KINDS = {
    b"0": TarEntryKind.FILE,
    b"\0": TarEntryKind.FILE,
    b"7": TarEntryKind.FILE,
    b"S": TarEntryKind.FILE,
    b"1": TarEntryKind.HARD_LINK,
    b"2": TarEntryKind.SYMLINK,
    b"3": TarEntryKind.CHARACTER,
    b"4": TarEntryKind.BLOCK,
    b"5": TarEntryKind.FOLDER,
    # A folder of GNU tar's incremental backups, with a list of names as data.
    b"D": TarEntryKind.FOLDER,
    b"6": TarEntryKind.FIFO,
}
#: No data follows these, whatever their size says. GNU tar and Go agree.
_HEADER_ONLY = frozenset(b"123456"[at : at + 1] for at in range(6))
_EXTENDED, _GLOBAL, _LONG_NAME, _LONG_LINK = frozenset({b"x", b"X"}), b"g", b"L", b"K"
_OVERRIDES = _EXTENDED | {_GLOBAL, _LONG_NAME, _LONG_LINK}
#: A volume label, and the rest of a file from another volume: not entries of this archive.
_NO_ENTRIES = {b"V": "a volume label", b"M": "the rest of a file from another volume"}
_MAGIC, _GNU_MAGIC = slice(257, 265), b"ustar  \0"
_PIECE = 1 << 20
_HOLE = memoryview(bytes(_PIECE))


class TarReader:
    """An iterator over the entries of an archive.

    Read the content of an entry before the next entry. Iterating to the end reads the whole stream,
    so that a hash of it covers every byte.

    Attributes:
        warnings: harmless irregularities; complete at the end.
        named: bytes of names so far, as counted by `TarLimits.names`.
        attributed: bytes of extended attributes so far, as counted by `TarLimits.xattrs`.
    """

    def __init__(
        self, chunks: Iterable[bytes], what: str, limits: TarLimits = DEFAULT_LIMITS
    ) -> None:
        self.warnings: list[str] = []
        self._what = what
        self._limits = limits
        self._stream = ByteStream(iter(chunks))
        self._entry: TarEntry | None = None
        self._stored = 0
        self._padding = 0
        self._at = 0
        self._count = 0
        self._holes = 0
        self.named = 0
        self.attributed = 0
        self._xattrs: dict[Xattrs, Xattrs] = {}
        self._globals: Records = {}

    @property
    def offset(self) -> int:
        """Bytes of the archive read so far."""
        return self._stream.offset

    def __iter__(self) -> Iterator[TarEntry]:
        while True:
            self._pass()
            entry = self._next()
            if entry is None:
                return
            self._entry = entry
            yield entry

    def content(self) -> Iterator[memoryview]:
        """Yield the current entry's content once, holes as zeros, each piece until the next."""
        entry, self._entry = self._entry, None
        if entry is None:
            return
        if entry.stretches is None:
            yield from self._data(self._stored)
            return
        at = 0
        for offset, length in (*entry.stretches, (entry.size, 0)):
            yield from _holes(offset - at)
            yield from self._data(length)
            at = offset + length

    def _data(self, size: int) -> Iterator[memoryview]:
        for piece in self._stream.pieces(size):
            size -= len(piece)
            # First, because the caller may stop after this piece.
            self._stored -= len(piece)
            yield piece
        if size:
            raise self._cut()

    def _pass(self) -> None:
        """Skip the rest of the current entry's content."""
        size, padding = self._stored + self._padding, self._padding
        self._stored = self._padding = 0
        missing = size - self._stream.skip(size) if size else 0
        if missing > padding:
            raise self._cut()
        if missing:
            # `umoci insert` ends like this. Go and the runtimes accept it; GNU tar does not.
            self._warn("the last file of the archive is not padded")

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)

    def _fail(self, reason: str) -> BadDocument:
        return BadDocument(self._what, f"byte {self._at}", reason)

    def _cut(self) -> BadDocument:
        return BadDocument(self._what, f"byte {self._stream.offset}", "the archive is cut short")

    def _next(self) -> TarEntry | None:
        """Read headers up to the next entry; None at the end."""
        own: Records = {}
        long_name: bytes | None = None
        long_link: bytes | None = None
        stacked = 0
        while True:
            header = self._header()
            if header is None:
                if stacked:
                    self._warn("the archive ends after an extended header")
                return None
            if header.flag in _NO_ENTRIES:
                self._warn(f"the archive has {_NO_ENTRIES[header.flag]}")
                self._stored, self._padding = header.size, -header.size % BLOCK
                self._entry = None
                self._pass()
                continue
            if header.flag not in _OVERRIDES:
                return self._made(header, {**self._globals, **own}, long_name, long_link)
            stacked += 1
            if stacked > self._limits.stacked:
                raise LimitExceeded(
                    f"the run of extended headers of {self._what}",
                    self._limits.stacked,
                    stacked,
                    "headers",
                )
            data = self._extended(header)
            if header.flag in _EXTENDED:
                own = read_records(data, self._fail)
            elif header.flag == _GLOBAL:
                self._global(data)
            elif header.flag == _LONG_NAME:
                long_name = data.partition(b"\0")[0]
            else:
                long_link = data.partition(b"\0")[0]

    def _global(self, data: bytes) -> None:
        """Apply a global header, which replaces the previous one; runtimes ignore both."""
        if data:
            records = read_records(data, self._fail)
            # Not even GNU tar sets an attribute on every file.
            self._globals = {key: value for key, value in records.items() if not is_xattr(key)}
        if self._globals:
            self._warn("the archive has settings for all its entries, which runtimes ignore")

    def _header(self) -> Header | None:
        self._at = self._stream.offset
        block = self._stream.take(BLOCK)
        if len(block) < BLOCK:
            if block:
                raise self._cut()
            self._warn("the archive has no end mark")
            return None
        if block == ZEROS:
            self._end()
            return None
        self._count += 1
        if self._count > self._limits.entries:
            raise LimitExceeded(
                f"the number of entries of {self._what}",
                self._limits.entries,
                self._count,
                "entries",
            )
        return read_header(block, self._fail)

    def _end(self) -> None:
        """Check the stream from the first block of zeros to its end."""
        block = self._stream.take(BLOCK)
        if len(block) < BLOCK:
            if block.strip(b"\0"):
                raise self._cut()
            self._warn("the archive has half an end mark")
            return
        if block != ZEROS:
            # GNU tar stops here, others continue: the archive is ambiguous.
            raise self._fail("a block of zeros stands alone in the middle of the archive")
        is_padding = True
        for piece in self._stream.pieces(1 << 62):
            # The end mark is padded to the size of a record; readers ignore further data.
            is_padding = is_padding and not bytes(piece).strip(b"\0")
        if not is_padding:
            self._warn("something follows the end mark of the archive")

    def _extended(self, header: Header) -> bytes:
        if header.size > self._limits.extended:
            raise LimitExceeded(
                f"an extended header of {self._what}", self._limits.extended, header.size
            )
        data = self._stream.take(header.size)
        if len(data) < header.size or self._stream.skip(-header.size % BLOCK) < (
            -header.size % BLOCK
        ):
            raise self._cut()
        return data

    def _made(
        self, header: Header, records: Records, long_name: bytes | None, long_link: bytes | None
    ) -> TarEntry:
        """Create the entry from its header and extended headers, and prepare its content."""
        kind = _KINDS.get(header.flag, TarEntryKind.FILE)
        if header.flag not in _KINDS:
            self._warn("the archive has an entry of unknown type, read as a file")
        name = records.get(b"path") or (header.name if long_name is None else long_name)
        size = int(records.get(b"size") or header.size)
        stored = 0 if header.flag in _HEADER_ONLY else size
        stretches = None
        if header.flag in _HEADER_ONLY and _is_sparse(records):
            # GNU tar and Go both refuse it.
            raise self._fail("an entry without data has the map of a sparse file")
        if header.flag == b"S":
            if header.block[_MAGIC] != _GNU_MAGIC:
                # GNU tar reads it as a plain file, and Go refuses it.
                raise self._fail("a sparse file of GNU's old format lacks its mark")
            size, found = tar_headers.read_old(
                header.block, self._block, self._limits.extended, self._fail
            )
            stretches = tar_headers.checked(found, size, stored, self._fail)
        elif kind is TarEntryKind.FILE and _is_sparse(records):
            name = records.get(b"GNU.sparse.name") or name
            size, stored, stretches = self._sparse(records, stored)
        # The padding follows the stored bytes as a whole: a map before them fills whole blocks.
        self._stored, self._padding = stored, -stored % BLOCK
        if kind is TarEntryKind.FILE and name.endswith(b"/"):
            # Archives had no type for folders at first.
            kind = TarEntryKind.FOLDER
        link = b""
        if kind in {TarEntryKind.HARD_LINK, TarEntryKind.SYMLINK}:
            link = records.get(b"linkpath") or (header.link if long_link is None else long_link)
        self._check_names(name, link)
        if stretches is not None:
            self._check_holes(size - stored)
        return TarEntry(
            name.decode("utf-8", "surrogateescape"),
            kind,
            header.mode,
            int(records.get(b"uid") or header.uid),
            int(records.get(b"gid") or header.gid),
            size if kind is TarEntryKind.FILE else 0,
            link.decode("utf-8", "surrogateescape"),
            _device(header, records),
            stretches if kind is TarEntryKind.FILE else None,
            self._attributes(records),
        )

    def _attributes(self, records: Records) -> Xattrs:
        """Read the extended attributes of an entry; equal ones of several files are shared."""
        if not any(map(is_xattr, records)):
            return ()
        found = read_xattrs(records)
        if found not in self._xattrs:
            self._xattrs[found] = found
            self.attributed += cost(found)
            if self.attributed > self._limits.xattrs:
                what = f"the size of all extended attributes of {self._what}"
                raise LimitExceeded(what, self._limits.xattrs, self.attributed)
        return self._xattrs[found]

    def _sparse(self, records: Records, stored: int) -> tuple[int, int, Map]:
        """Read a sparse file in a PAX format; return its size, the stored bytes, and the map."""
        stated = records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size")
        size = int(stated or stored)
        if records.get(b"GNU.sparse.major", b"0") == b"0":
            found = tar_headers.read_map(records.get(b"GNU.sparse.map", b""), self._fail)
        elif (records[b"GNU.sparse.major"], records.get(b"GNU.sparse.minor")) == (b"1", b"0"):
            read, found = tar_headers.read_leading_map(
                self._block, self._limits.extended, self._fail
            )
            stored -= read
            if stored < 0:
                raise self._fail("the map of a sparse file is longer than what is stored of it")
        else:
            raise self._fail("the version of a sparse file's format is not known")
        return size, stored, tar_headers.checked(found, size, stored, self._fail)

    def _block(self) -> bytes:
        block = self._stream.take(BLOCK)
        if len(block) < BLOCK:
            raise self._cut()
        return block

    def _check_holes(self, size: int) -> None:
        self._holes += size
        if self._holes > self._limits.holes:
            raise LimitExceeded(
                f"the size of all holes of {self._what}", self._limits.holes, self._holes
            )

    def _check_names(self, name: bytes, link: bytes) -> None:
        limits = self._limits
        if len(name) > limits.path:
            raise LimitExceeded(f"a path of {self._what}", limits.path, len(name))
        if name.count(b"/") >= limits.components:
            count = sum(part not in {b"", b"."} for part in name.split(b"/"))
            if count > limits.components:
                raise LimitExceeded(
                    f"a path of {self._what}", limits.components, count, "components"
                )
        if len(link) > limits.link:
            raise LimitExceeded(f"the target of a link of {self._what}", limits.link, len(link))
        self.named += sum(len(text) * (1 if text.isascii() else 4) for text in (name, link))
        if self.named > limits.names:
            raise LimitExceeded(f"the size of all names of {self._what}", limits.names, self.named)


def _device(header: Header, records: Records) -> tuple[int, int] | None:
    """Return the numbers of a device; PAX allows larger ones than the header."""
    if header.device is None:
        return None
    major, minor = header.device
    return (
        int(records.get(b"SCHILY.devmajor") or major),
        int(records.get(b"SCHILY.devminor") or minor),
    )


def _is_sparse(records: Records) -> bool:
    return any(key in records for key in (b"GNU.sparse.map", b"GNU.sparse.major")) or bool(
        records.get(b"GNU.sparse.size")
    )


def _holes(size: int) -> Iterator[memoryview]:
    while size > 0:
        yield _HOLE[: min(size, _PIECE)]
        size -= _PIECE
