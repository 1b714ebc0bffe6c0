"""Read ELF files of any content within limits: headers, notes, dynamic section.

Source: System V ABI, "Object Files" and "Program Loading"; ld.so(8).
"""

from __future__ import annotations

import re
import struct
from dataclasses import field
from typing import TYPE_CHECKING, TypeVar

from resolver.core.layers.executable import read_executable
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Bytes kept of a file: its start, its end (section headers, attributes), and the start of each
#: writable segment (Go's build info).
HEAD, TAIL, DATA = 32 << 20, 4 << 20, 1 << 20
#: Source: Linux, fs/binfmt_elf.c, load_elf_phdrs: 64 KiB of program headers.
_MAX_SEGMENTS = 65_536 // 56
#: The rest are ours, far above what linkers write.
_MAX_SECTIONS = 4_096
_MAX_NOTES = 1_000
_MAX_NOTE_BYTES = 1 << 20
_MAX_LIBRARIES = 256
_MAX_DYNAMIC = 4_096
_MAX_WRITABLE = 4
#: Characters of a path. Source: Linux, PATH_MAX.
_MAX_NAME = 4_096
#: Bytes of a file that are looked at; sparse files can be much longer. Ours.
_MAX_FILE = 1 << 30

Read = TypeVar("Read")

LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_PT_PROPERTY = 0x6474_E553
EXECUTABLE, _WRITABLE = 1, 2
_SHT_NOTE = 7
_SHN_XINDEX = 0xFFFF
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 15, 29


class ElfWindow:
    """The kept parts of a file, which is fed in pieces from start to end."""

    def __init__(self, content: bytes = b"") -> None:
        self.size = 0
        self._head = bytearray()
        self._tail = bytearray()
        self._data: list[tuple[int, int, bytearray]] | None = None
        if content:
            self.feed(content)

    def feed(self, piece: bytes | memoryview) -> None:
        """Add the next bytes."""
        at, self.size = self.size, self.size + len(piece)
        self._head += piece[: max(0, HEAD - at)]
        if self.size <= HEAD or self.size > _MAX_FILE:
            return
        if self._data is None:
            self._data = [(start, end, bytearray()) for start, end in _writable(self)]
        for start, end, kept in self._data:
            kept.extend(piece[max(0, start - at) : max(0, end - at)])
        self._tail += piece[max(0, HEAD - at) :]
        if len(self._tail) > 2 * TAIL:
            del self._tail[:-TAIL]

    def read(self, offset: int, size: int) -> bytes | None:
        """Return bytes of the file; None if they are outside of it or were not kept."""
        end = offset + size
        if not 0 <= offset <= end <= self.size:
            return None
        if end <= len(self._head):
            return bytes(self._head[offset:end])
        if self.size > _MAX_FILE:
            return None
        start = self.size - len(self._tail)
        if offset >= start:
            return bytes(self._tail[offset - start : end - start])
        for start, _end, kept in self._data or ():
            if start <= offset and end <= start + len(kept):
                return bytes(kept[offset - start : end - start])
        return None

    def contains(self, text: bytes) -> int:
        """Return the offset of a text in the start of the file; -1 if it is not there."""
        return self._head.find(text)


def _writable(window: ElfWindow) -> list[tuple[int, int]]:
    """Return what to keep beyond the head: the start of the writable segments."""
    elf = ElfReader.open(window)
    found = [] if elf is None else [one for one in elf.segments if is_data(one)]
    return [
        (max(HEAD, one.offset), one.offset + min(one.size, DATA))
        for one in found[:_MAX_WRITABLE]
        if one.offset + min(one.size, DATA) > HEAD
    ]


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    flags: int
    offset: int
    address: int
    size: int
    align: int


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    align: int


def is_data(segment: _Segment) -> bool:
    """Return whether a segment is writable and not executable."""
    return segment.kind == LOAD and segment.flags & 3 == _WRITABLE


class DamagedError(Exception):
    """A structure cannot be read; the text names it."""


@dataclass(slots=True)
class ElfReader:
    """The headers of a file, and its bytes."""

    window: ElfWindow
    bits: int
    order: str
    machine: str
    segments: tuple[_Segment, ...] = ()
    sections: tuple[_Section, ...] = ()
    damage: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, window: ElfWindow) -> ElfReader | None:
        """Read the headers; None if it is not an ELF program or library."""
        head = window.read(0, min(64, window.size)) or b""
        executable = read_executable(head)
        if executable is None or executable.format != "elf":
            return None
        bits, order = executable.bits, "<" if head[5] == 1 else ">"
        elf = cls(window, bits, order, executable.machine)
        if bits == 64 and len(head) < 64:  # noqa: PLR2004 - the header of the class
            elf.damage.append("the file header")
            return elf
        shape = f"{order}QQI6H" if bits == 64 else f"{order}III6H"  # noqa: PLR2004 - likewise
        phoff, shoff, _flags, _size, phsize, phnum, shsize, shnum, names = struct.unpack_from(
            shape, head, 32 if bits == 64 else 28  # noqa: PLR2004 - likewise
        )  # fmt: skip
        elf.segments = elf.reading("the program headers", elf._segments, phoff, phsize, phnum) or ()
        read = elf.reading("the section headers", elf._sections, shoff, shsize, shnum, names)
        elf.sections = read or ()
        return elf

    def reading(self, what: str, read: Callable[..., Read], *arguments: object) -> Read | None:
        """Call a reader; note what it reads as damaged if it cannot."""
        try:
            return read(*arguments)
        except DamagedError as error:
            self.damage.append(str(error) or what)
        except (struct.error, IndexError):
            self.damage.append(what)
        return None

    def take(self, offset: int, size: int, what: str) -> bytes:
        """Return bytes of the file.

        Raises:
            DamagedError: they are outside of it, or were not kept.
        """
        found = self.window.read(offset, size)
        if found is None:
            raise DamagedError(what)
        return found

    def offset_of(self, address: int, size: int = 1) -> int | None:
        """Return the offset of bytes in memory; None if the file does not hold them."""
        for one in self.segments:
            inside = address - one.address
            if one.kind == LOAD and inside >= 0 and inside + size <= one.size:
                return one.offset + inside
        return None

    def _segments(self, offset: int, size: int, count: int) -> tuple[_Segment, ...]:
        if not count:
            return ()
        if size != (56 if self.bits == 64 else 32) or count > _MAX_SEGMENTS:  # noqa: PLR2004 - ABI
            raise DamagedError
        table = self.take(offset, size * count, "the program headers")
        if self.bits == 64:  # noqa: PLR2004 - likewise
            rows = struct.iter_unpack(f"{self.order}IIQQQQQQ", table)
            return tuple(
                _Segment(kind, flags, at, address, held, align)
                for kind, flags, at, address, _, held, _memory, align in rows
            )
        return tuple(
            _Segment(kind, flags, at, address, held, align)
            for kind, at, address, _, held, _memory, flags, align in struct.iter_unpack(
                f"{self.order}8I", table
            )
        )

    def _sections(self, offset: int, size: int, count: int, names: int) -> tuple[_Section, ...]:
        if not offset:
            return ()
        shape = f"{self.order}IIQQQQIIQQ" if self.bits == 64 else f"{self.order}10I"  # noqa: PLR2004 - ABI
        if size != struct.calcsize(shape):
            raise DamagedError
        if not count or names == _SHN_XINDEX:
            first = struct.unpack(shape, self.take(offset, size, "the section headers"))
            count = count or first[5]
            names = first[6] if names == _SHN_XINDEX else names
        if not 0 <= names < count <= _MAX_SECTIONS:
            raise DamagedError
        table = self.take(offset, size * count, "the section headers")
        rows = list(struct.iter_unpack(shape, table))
        texts = self.take(rows[names][4], min(rows[names][5], 1 << 20), "the section names")
        return tuple(
            _Section(_text(texts, row[0], 64), row[1], row[2], row[4], row[5], row[8])
            for row in rows
        )

    def content(self, section: _Section, most: int) -> bytes:
        """Return the bytes of a section.

        Raises:
            DamagedError: it is too large, or outside of the file.
        """
        if section.size > most:
            raise DamagedError(f"the section `{section.name}`")
        return self.take(section.offset, section.size, f"the section `{section.name}`")


def _text(table: bytes, at: int, most: int) -> str:
    """Return a zero-terminated text of at most so many bytes; empty if there is none."""
    end = table.find(b"\0", at, at + most)
    return table[at:end].decode("utf-8", "replace") if 0 <= at < end else ""


def read_interpreter(elf: ElfReader) -> str:
    """Return the path of the loader; empty if there is none.

    Raises:
        DamagedError: the path is cut short.
    """
    for one in elf.segments:
        if one.kind == _PT_INTERP:
            text = elf.take(one.offset, min(one.size, _MAX_NAME), "the interpreter")
            name, end, _ = text.partition(b"\0")
            if not end:
                raise DamagedError
            return name.decode("utf-8", "replace")
    return ""


@dataclass(frozen=True, slots=True)
class DynamicSection:
    """The libraries, folders and symbols that a dynamic section names.

    Attributes:
        needed: names of libraries.
        search: folders of the RUNPATH, else of the RPATH.
        asks_for_cpu: whether `getauxval` is among its symbols.
    """

    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    asks_for_cpu: bool = False


def read_dynamic(elf: ElfReader) -> DynamicSection:
    """Read the dynamic section.

    Raises:
        DamagedError: its strings are not in the file.
    """
    one = next((each for each in elf.segments if each.kind == _PT_DYNAMIC), None)
    if one is None:
        return DynamicSection()
    width = 16 if elf.bits == 64 else 8  # noqa: PLR2004 - the two classes
    size = min(one.size, width * _MAX_DYNAMIC) // width * width
    table = elf.take(one.offset, size, "the dynamic section")
    tags: dict[int, list[int]] = {}
    for tag, value in struct.iter_unpack(f"{elf.order}{'QQ' if width == 16 else 'II'}", table):  # noqa: PLR2004 - likewise
        if not tag:
            break
        tags.setdefault(tag, []).append(value)
    if _DT_STRTAB not in tags:
        return DynamicSection()
    length = min(tags.get(_DT_STRSZ, [0])[0], 8 << 20)
    offset = elf.offset_of(tags[_DT_STRTAB][0], length)
    if offset is None:
        raise DamagedError
    texts = elf.take(offset, length, "the dynamic strings")
    folders = [
        _text(texts, at, _MAX_NAME)
        for at in (tags.get(_DT_RUNPATH) or tags.get(_DT_RPATH) or [])[:1]
    ]
    return DynamicSection(
        tuple(
            dict.fromkeys(
                name
                for at in tags.get(_DT_NEEDED, [])[:_MAX_LIBRARIES]
                if (name := _text(texts, at, _MAX_NAME))
            )
        ),
        tuple(folder for text in folders for folder in text.split(":")[:64] if folder),
        re.search(rb"\0(?:__)?getauxval\0", texts) is not None,
    )


@dataclass(frozen=True, slots=True)
class ElfNote:
    """A note, with its name as written."""

    name: bytes
    kind: int
    content: bytes


def read_notes(elf: ElfReader) -> Iterator[ElfNote]:
    """Yield the notes of all segments and sections, each place once.

    Raises:
        DamagedError: a note goes past its place, or there are too many.
    """
    places = {
        (one.offset, one.size): one.align
        for one in elf.segments
        if one.kind in {_PT_NOTE, _PT_PROPERTY}
    }
    for section in elf.sections:
        if section.kind == _SHT_NOTE:
            places.setdefault((section.offset, section.size), section.align)
    count = 0
    for (offset, size), align in places.items():
        if size > _MAX_NOTE_BYTES:
            raise DamagedError
        held = elf.take(offset, size, "the notes")
        step = 8 if align == 8 else 4  # noqa: PLR2004 - notes are aligned to 4 or 8 bytes
        at = 0
        while at + 12 <= size:
            names, length, kind = struct.unpack_from(f"{elf.order}III", held, at)
            start = at + 12 + -(-names // 4) * 4
            start = -(-start // step) * step
            count += 1
            if start + length > size or count > _MAX_NOTES:
                raise DamagedError
            yield ElfNote(held[at + 12 : at + 12 + names], kind, held[start : start + length])
            at = -(-(start + length) // step) * step
