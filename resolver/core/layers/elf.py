"""What an ELF file needs of the machine: processor level, page size, kernel, libc, libraries.

Headers and notes are read; code only for the atomics of arm64. All sizes and counts are limited,
and a structure that is damaged makes what it holds unknown.

Source: System V ABI, "Object Files" and "Program Loading"; x86-64 psABI, "Program Property"; Arm
IHI 0045, "Addenda to the ABI: build attributes"; RISC-V ELF psABI, "Attributes"; Arm ARM, "A64
instruction set encoding"; Go, debug/buildinfo; LSB Core, "Note Sections" (ABI tag).
"""

from __future__ import annotations

import re
import struct
from dataclasses import field
from enum import Enum
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
_MAX_ATTRIBUTES = 64 << 10
_MAX_BUILD_INFO = 1 << 20
_MAX_LIBRARIES = 256
_MAX_DYNAMIC = 4_096
_MAX_WRITABLE = 4
#: Characters of a path. Source: Linux, PATH_MAX.
_MAX_NAME = 4_096
PAGE_SIZES = (4_096, 8_192, 16_384, 32_768, 65_536)

Read = TypeVar("Read")

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_PT_PROPERTY, _PT_RISCV_ATTRIBUTES = 0x6474_E553, 0x7000_0003
_EXECUTABLE, _WRITABLE = 1, 2
_SHT_PROGBITS, _SHT_NOTE, _SHT_ATTRIBUTES = 1, 7, 0x7000_0003
_SHF_EXECINSTR = 4
_SHN_XINDEX = 0xFFFF
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 14, 15, 29


class Sureness(Enum):
    """How sure a need is, in descending order."""

    #: The file says so.
    STATED = "stated"
    #: Its code uses it without a check.
    SEEN = "seen"
    #: Its code contains it, and may check first.
    POSSIBLE = "possible"
    UNKNOWN = "unknown"

    @property
    def is_certain(self) -> bool:
        """Whether the need is certain."""
        return self in {Sureness.STATED, Sureness.SEEN}


@dataclass(frozen=True, slots=True)
class CpuMark:
    """Evidence of the processor level that a file needs.

    Attributes:
        level: a variant as in platforms: `v3`, `v8.1`, `rva22u64`; empty if unknown.
        evidence: where it comes from.
        extensions: those that a RISC-V file needs beyond rva20u64.
    """

    level: str
    evidence: str
    sure: Sureness
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ElfFile:
    """What one ELF file needs.

    Attributes:
        architecture: as in platforms.
        marks: evidence of its processor level; at least one.
        interpreter: path of its dynamic loader; empty for static programs and libraries.
        needed: file names of the libraries that it names.
        search: folders of its RUNPATH or RPATH, as written.
        page_size: the largest page size in bytes that it loads with; 0 if unknown.
        kernel: the oldest version it was built for; empty if it states none.
        go: the version of Go; empty for other programs.
        damage: the first structure that is damaged or was not read; empty if there is none.
    """

    architecture: str
    marks: tuple[CpuMark, ...]
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    page_size: int = 0
    kernel: str = ""
    go: str = ""
    damage: str = ""


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
        if self.size <= HEAD:
            return
        if self._data is None:
            self._data = [(start, end, bytearray()) for start, end in _writable(self)]
        for start, end, kept in self._data:
            kept += piece[max(0, start - at) : max(0, end - at)]
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
    elf = _Elf.open(window)
    found = [] if elf is None else [one for one in elf.segments if _is_data(one)]
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


def _is_data(segment: _Segment) -> bool:
    return segment.kind == _PT_LOAD and segment.flags & 3 == _WRITABLE


class _DamagedError(Exception):
    """A structure cannot be read; the text names it."""


@dataclass(slots=True)
class _Elf:
    """The headers of a file, and its bytes."""

    window: ElfWindow
    bits: int
    order: str
    machine: str
    segments: tuple[_Segment, ...] = ()
    sections: tuple[_Section, ...] = ()
    damage: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, window: ElfWindow) -> _Elf | None:
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
        except _DamagedError as error:
            self.damage.append(str(error) or what)
        except (struct.error, IndexError):
            self.damage.append(what)
        return None

    def bytes(self, offset: int, size: int, what: str) -> bytes:
        """Return bytes of the file.

        Raises:
            _DamagedError: they are outside of it, or were not kept.
        """
        found = self.window.read(offset, size)
        if found is None:
            raise _DamagedError(what)
        return found

    def offset_of(self, address: int, size: int = 1) -> int | None:
        """Return the offset of bytes in memory; None if the file does not hold them."""
        for one in self.segments:
            inside = address - one.address
            if one.kind == _PT_LOAD and 0 <= inside and inside + size <= one.size:
                return one.offset + inside
        return None

    def _segments(self, offset: int, size: int, count: int) -> tuple[_Segment, ...]:
        if not count:
            return ()
        if size != (56 if self.bits == 64 else 32) or count > _MAX_SEGMENTS:  # noqa: PLR2004 - ABI
            raise _DamagedError
        table = self.bytes(offset, size * count, "the program headers")
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
            raise _DamagedError
        if not count or names == _SHN_XINDEX:
            first = struct.unpack(shape, self.bytes(offset, size, "the section headers"))
            count = count or first[5]
            names = first[6] if names == _SHN_XINDEX else names
        if not 0 <= names < count <= _MAX_SECTIONS:
            raise _DamagedError
        table = self.bytes(offset, size * count, "the section headers")
        rows = list(struct.iter_unpack(shape, table))
        texts = self.bytes(rows[names][4], min(rows[names][5], 1 << 20), "the section names")
        return tuple(
            _Section(_text(texts, row[0], 64), row[1], row[2], row[4], row[5], row[8])
            for row in rows
        )

    def content(self, section: _Section, most: int) -> bytes:
        """Return the bytes of a section.

        Raises:
            _DamagedError: it is too large, or outside of the file.
        """
        if section.size > most:
            raise _DamagedError(f"the section `{section.name}`")
        return self.bytes(section.offset, section.size, f"the section `{section.name}`")


def _text(table: bytes, at: int, most: int) -> str:
    """Return a zero-terminated text of at most so many bytes; empty if there is none."""
    end = table.find(b"\0", at, at + most)
    return table[at:end].decode("utf-8", "replace") if 0 <= at < end else ""


def read_elf(window: ElfWindow, name: str = "") -> ElfFile | None:
    """Return what a file needs; None if it is not an ELF program or library.

    Args:
        window: the whole file, as far as it is kept.
        name: its path; glibc's own files carry further evidence.
    """
    elf = _Elf.open(window)
    if elf is None:
        return None
    interpreter = elf.reading("the interpreter", _interpreter, elf) or ""
    dynamic = elf.reading("the dynamic section", _dynamic, elf) or _Dynamic()
    notes = elf.reading("the notes", lambda: tuple(_notes(elf))) or ()
    go = elf.reading("the Go build info", _go_build, elf)
    known = [*_property_marks(elf, notes), *_glibc_marks(elf, name)]
    unknown = "nothing in it states a level"
    if go is not None:
        known += _go_marks(elf.machine, go)
    elif elf.machine in {"arm", "armbe"}:
        known += elf.reading("the attributes", _arm_marks, elf) or ()
    elif elf.machine == "riscv64":
        known += elf.reading("the attributes", _riscv_marks, elf) or ()
    elif elf.machine == "arm64":
        mark = elf.reading("the code", _atomics, elf)
        known += [mark] if mark is not None else []
    if not interpreter and "getauxval" in dynamic.imports and elf.machine not in {"amd64", "386"}:
        known = [_weakened(mark) for mark in known]
    certain = [mark for mark in known if mark.level]
    marks = certain or known or [CpuMark("", unknown, Sureness.UNKNOWN)]
    return ElfFile(
        elf.machine,
        tuple(marks),
        interpreter,
        dynamic.needed,
        dynamic.search,
        _page_size(elf),
        next((text for text in (_kernel(elf, note) for note in notes) if text), ""),
        go[0] if go is not None else "",
        next(iter(elf.damage), ""),
    )


def _weakened(mark: CpuMark) -> CpuMark:
    """Lower what a library states that asks for the machine's processor itself.

    Linkers merge the attributes of all objects, also of those that it chooses at run time.
    """
    if mark.sure is not Sureness.STATED:
        return mark
    evidence = f"{mark.evidence}; it calls getauxval, and may choose its code at run time"
    return CpuMark(mark.level, evidence, Sureness.POSSIBLE, mark.extensions)


def _page_size(elf: _Elf) -> int:
    """Return the largest page size with which every segment can be mapped.

    Source: glibc 2.35, elf/dl-load.c, _dl_map_object_from_fd; Linux, fs/binfmt_elf.c, elf_map.
    """
    loads = [one for one in elf.segments if one.kind == _PT_LOAD]
    largest = 0
    for size in PAGE_SIZES:
        if not loads or any((one.address - one.offset) % size for one in loads):
            break
        largest = size
    return largest


def _interpreter(elf: _Elf) -> str:
    for one in elf.segments:
        if one.kind == _PT_INTERP:
            text = elf.bytes(one.offset, min(one.size, _MAX_NAME), "the interpreter")
            name, end, _ = text.partition(b"\0")
            if not end:
                raise _DamagedError
            return name.decode("utf-8", "replace")
    return ""


@dataclass(frozen=True, slots=True)
class _Dynamic:
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    imports: str = ""


def _dynamic(elf: _Elf) -> _Dynamic:
    """Read the dynamic section: libraries and folders."""
    one = next((each for each in elf.segments if each.kind == _PT_DYNAMIC), None)
    if one is None:
        return _Dynamic()
    width = 16 if elf.bits == 64 else 8  # noqa: PLR2004 - the two classes
    size = min(one.size, width * _MAX_DYNAMIC) // width * width
    table = elf.bytes(one.offset, size, "the dynamic section")
    tags: dict[int, list[int]] = {}
    for tag, value in struct.iter_unpack(f"{elf.order}{'QQ' if width == 16 else 'II'}", table):  # noqa: PLR2004 - likewise
        if not tag:
            break
        tags.setdefault(tag, []).append(value)
    if _DT_STRTAB not in tags:
        return _Dynamic()
    length = min(tags.get(_DT_STRSZ, [0])[0], 8 << 20)
    offset = elf.offset_of(tags[_DT_STRTAB][0], length)
    if offset is None:
        raise _DamagedError
    texts = elf.bytes(offset, length, "the dynamic strings")
    folders = [
        _text(texts, at, _MAX_NAME)
        for at in (tags.get(_DT_RUNPATH) or tags.get(_DT_RPATH) or [])[:1]
    ]
    return _Dynamic(
        tuple(
            dict.fromkeys(
                name
                for at in tags.get(_DT_NEEDED, [])[:_MAX_LIBRARIES]
                if (name := _text(texts, at, _MAX_NAME))
            )
        ),
        tuple(folder for text in folders for folder in text.split(":")[:64] if folder),
        "getauxval" if re.search(rb"\0(?:__)?getauxval\0", texts) else "",
    )


@dataclass(frozen=True, slots=True)
class _Note:
    name: bytes
    kind: int
    content: bytes


def _notes(elf: _Elf) -> Iterator[_Note]:
    """Yield the notes of all segments and sections, each place once."""
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
            raise _DamagedError
        held = elf.bytes(offset, size, "the notes")
        step = 8 if align == 8 else 4  # noqa: PLR2004 - notes are aligned to 4 or 8 bytes
        at = 0
        while at + 12 <= size:
            names, length, kind = struct.unpack_from(f"{elf.order}III", held, at)
            start = at + 12 + -(-names // 4) * 4
            start = -(-start // step) * step
            count += 1
            if start + length > size or count > _MAX_NOTES:
                raise _DamagedError
            yield _Note(held[at + 12 : at + 12 + names], kind, held[start : start + length])
            at = -(-(start + length) // step) * step


def _kernel(elf: _Elf, note: _Note) -> str:
    """Return the kernel of an ABI tag for Linux; empty for other notes."""
    if note.name != b"GNU\0" or note.kind != 1 or len(note.content) < 16:  # noqa: PLR2004 - LSB
        return ""
    system, *numbers = struct.unpack_from(f"{elf.order}4I", note.content)
    return ".".join(map(str, numbers)) if system == 0 else ""


#: Source: x86-64 psABI, "Program Property": GNU_PROPERTY_X86_ISA_1_NEEDED, and its bits.
_ISA_NEEDED = 0xC000_8002
_ISA_LEVELS = ("v1", "v2", "v3", "v4")


def _property_marks(elf: _Elf, notes: tuple[_Note, ...]) -> list[CpuMark]:
    """Read the levels that the properties of an x86 file state."""
    if elf.machine not in {"amd64", "386", "amd64p32"}:
        return []
    step = 8 if elf.bits == 64 else 4  # noqa: PLR2004 - the two classes
    marks = []
    for note in notes:
        if note.name != b"GNU\0" or note.kind != 5:  # noqa: PLR2004 - NT_GNU_PROPERTY_TYPE_0
            continue
        at = 0
        while at + 8 <= len(note.content):
            kind, length = struct.unpack_from(f"{elf.order}II", note.content, at)
            value = note.content[at + 8 : at + 8 + length]
            if len(value) < length:
                elf.damage.append("the properties")
                break
            if kind == _ISA_NEEDED and length == 4:  # noqa: PLR2004 - a word
                marks.append(_isa_mark(int.from_bytes(value, "little")))
            at += 8 + -(-length // step) * step
    return marks


def _isa_mark(bits: int) -> CpuMark:
    level = _ISA_LEVELS[min(bits.bit_length(), 4) - 1] if bits else ""
    if bits >> 4:
        return CpuMark("v4", "its property needs a level above x86-64-v4", Sureness.STATED)
    if level in {"", "v1"}:
        # Code for a higher level need not be marked.
        marked = "x86-64-baseline" if level else "none"
        return CpuMark("", f"x86 ISA needed: {marked}; other code is not marked", Sureness.UNKNOWN)
    return CpuMark(level, f"x86 ISA needed: x86-64-{level}", Sureness.STATED)


#: Source: glibc, sysdeps/x86/dl-get-cpu-features.c, and Amazon Linux 2023.
_GLIBC_X86 = b"Fatal glibc error: CPU does not support x86-64-v"
_GLIBC_ARM64 = b"requires a newer ARM64 processor compliant with at least ARM architecture"
_ARM_VERSION = re.compile(rb"[\s:]*(?:armv)?([89])(?:\.([0-9]))?(?:-a)?", re.ASCII | re.IGNORECASE)
_GLIBC_FILES = re.compile(
    r"(?:ld-linux[A-Za-z0-9_-]*|ld64|ld|libc)[.-][0-9a-z.]*so[0-9.]*|(?:ld-linux[A-Za-z0-9_-]*|ld64|ld|libc)\.so[0-9.]*",
    re.ASCII,
)


def is_glibc(name: str) -> bool:
    """Return whether a path is named like glibc's loader or its `libc`."""
    return _GLIBC_FILES.fullmatch(name.rpartition("/")[2]) is not None


def _glibc_marks(elf: _Elf, name: str) -> list[CpuMark]:
    """Read the levels that the messages of glibc's own files state."""
    if not is_glibc(name):
        return []
    if elf.machine == "amd64" and elf.window.contains(_GLIBC_X86) >= 0:
        evidence = "glibc checks for x86-64-v2 or above when it starts"
        return [CpuMark("v2", evidence, Sureness.STATED)]
    at = elf.window.contains(_GLIBC_ARM64) if elf.machine == "arm64" else -1
    if at < 0:
        return []
    found = _ARM_VERSION.match(elf.window.read(at + len(_GLIBC_ARM64), 16) or b"")
    if found is None:
        return [CpuMark("v8.1", "glibc requires a newer ARM64 processor", Sureness.POSSIBLE)]
    level = f"v{found[1].decode()}" + (f".{found[2].decode()}" if found[2] else "")
    return [CpuMark(level, f"glibc requires ARM architecture {level[1:]}", Sureness.STATED)]


# --- attributes of arm and RISC-V --------------------------------------------------------------

#: Tag_CPU_arch, which is a list and not an order. Source: Arm IHI 0045, "Target-related attributes".
_ARM_LEVELS = {
    0: "v4", 1: "v4", 2: "v4", 3: "v5", 4: "v5", 5: "v5", 6: "v6", 7: "v6", 8: "v6", 9: "v6",
    10: "v7", 11: "v6", 12: "v6", 13: "v7",
}  # fmt: skip
_ARM_NAMES = {
    0: "before v4", 1: "v4", 2: "v4T", 3: "v5T", 4: "v5TE", 5: "v5TEJ", 6: "v6", 7: "v6KZ",
    8: "v6T2", 9: "v6K", 10: "v7", 11: "v6-M", 12: "v6S-M", 13: "v7E-M", 14: "v8",
}  # fmt: skip
_TAG_CPU_ARCH, _TAG_FP_ARCH, _TAG_SIMD_ARCH = 6, 10, 12
#: Tag_FP_arch and Tag_Advanced_SIMD_arch: the first value that needs v7, and that needs v8.
_ARM_UNITS = ((_TAG_FP_ARCH, "FP", 3, 7), (_TAG_SIMD_ARCH, "Advanced SIMD", 1, 3))
_TAG_RISCV_ARCH = 5
_TEXT_TAGS = {"aeabi": frozenset({4, 5, 65, 67}), "riscv": frozenset[int]()}
_TAG_COMPATIBILITY = 32


def _attributes(elf: _Elf, vendor: str) -> dict[int, int | str]:
    """Read the file attributes of a vendor; empty if there is no such section."""
    places = [(one.offset, one.size) for one in elf.sections if one.kind == _SHT_ATTRIBUTES]
    if vendor == "riscv":
        places += [(s.offset, s.size) for s in elf.segments if s.kind == _PT_RISCV_ATTRIBUTES]
    found: dict[int, int | str] = {}
    for offset, size in places[:1]:
        if size > _MAX_ATTRIBUTES:
            raise _DamagedError
        held = elf.bytes(offset, size, "the attributes")
        if held[:1] != b"A":
            raise _DamagedError
        at = 1
        while at < size:
            (length,) = struct.unpack_from(f"{elf.order}I", held, at)
            if length < 5 or at + length > size:  # noqa: PLR2004 - its own word, and a name
                raise _DamagedError
            name, _, rest = held[at + 4 : at + length].partition(b"\0")
            if name.decode("latin-1") == vendor:
                _file_attributes(elf.order, rest, vendor, found)
            at += length
    return found


def _file_attributes(order: str, held: bytes, vendor: str, found: dict[int, int | str]) -> None:
    at = 0
    while at < len(held):
        scope = held[at]
        (length,) = struct.unpack_from(f"{order}I", held, at + 1)
        if length < 5 or at + length > len(held):  # noqa: PLR2004 - its tag and its own word
            raise _DamagedError
        if scope == 1:
            place, end = at + 5, at + length
            while place < end:
                tag, place = _uleb(held, place, end)
                number = 0
                is_text = tag in _TEXT_TAGS[vendor] or (
                    bool(tag % 2) if vendor == "riscv" or tag > _TAG_COMPATIBILITY else False
                )
                if not is_text:
                    number, place = _uleb(held, place, end)
                if is_text or (vendor == "aeabi" and tag == _TAG_COMPATIBILITY):
                    stop = held.find(b"\0", place, end)
                    if stop < 0:
                        raise _DamagedError
                    text, place = held[place:stop].decode("latin-1"), stop + 1
                    found[tag] = text
                else:
                    found[tag] = number
        at += length


def _uleb(held: bytes, at: int, end: int) -> tuple[int, int]:
    """Read an unsigned LEB128 number of at most five bytes; return it and where it ends."""
    value = 0
    for shift in range(0, 35, 7):
        if at >= end:
            break
        byte = held[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - no further byte
            return value, at
    raise _DamagedError


def _arm_marks(elf: _Elf) -> list[CpuMark]:
    found = _attributes(elf, "aeabi")
    number = found.get(_TAG_CPU_ARCH)
    if not isinstance(number, int):
        return []
    levels = [_ARM_LEVELS.get(number, "v8")]
    evidence = [f"Tag_CPU_arch: {_ARM_NAMES.get(number, number)}"]
    for tag, name, seventh, eighth in _ARM_UNITS:
        unit = found.get(tag)
        if isinstance(unit, int) and unit >= seventh:
            levels.append("v8" if unit >= eighth else "v7")
            evidence.append(f"{name} of {levels[-1]}")
    return [CpuMark(max(levels), ", ".join(evidence), Sureness.STATED)]


#: What rv64gc and RVA20U64 imply besides the letters. Source: RISC-V ELF psABI; RISC-V profiles.
_RVA20 = frozenset("imafdcge") | {
    "zmmul", "zicsr", "zifencei", "zaamo", "zalrsc", "zca", "zcd", "zicntr", "ziccif", "ziccrse",
    "ziccamoa", "za128rs", "zicclsm", "za64rs",
}  # fmt: skip
_RVA22 = _RVA20 | {
    "zihpm", "zba", "zbb", "zbs", "b", "zihintpause", "zic64b", "zicbom", "zicbop", "zicboz",
    "zfhmin", "zkt",
}  # fmt: skip
_RVA23 = _RVA22 | {
    "v", "zve32f", "zve32x", "zve64d", "zve64f", "zve64x", "zvl32b", "zvl64b", "zvl128b",
    "zvfhmin", "zvbb", "zvkb", "zvkt", "zihintntl", "zicond", "zimop", "zcmop", "zcb", "zfa",
    "zawrs", "supm",
}  # fmt: skip
#: Source: RISC-V profiles: the mandatory extensions of RVA20U64, RVA22U64 and RVA23U64.
RISCV_PROFILES = (("rva20u64", _RVA20), ("rva22u64", _RVA22), ("rva23u64", _RVA23))
_RISCV_BASE = re.compile(r"rv(?:32|64)([a-z0-9]+)(?:_|\Z)", re.ASCII)
_RISCV_LETTER = re.compile(r"([a-z])(?:[0-9]+p[0-9]+|[0-9]+)?", re.ASCII)
_RISCV_NAME = re.compile(
    r"([a-z][a-z0-9]*?[a-z]|[zsx][a-z0-9]*?[a-z0-9])(?:[0-9]+p[0-9]+)?", re.ASCII
)
_MAX_EXTENSIONS = 128


def _riscv_marks(elf: _Elf) -> list[CpuMark]:
    text = _attributes(elf, "riscv").get(_TAG_RISCV_ARCH)
    if not isinstance(text, str):
        return []
    extensions = riscv_extensions(text)
    if extensions is None:
        raise _DamagedError("the RISC-V architecture")
    extra = tuple(name for name in extensions if name not in _RVA20)
    shown = f"beyond rva20: {', '.join(extra)}" if extra else "rva20"
    level = riscv_level(extra)
    return [CpuMark(level or "above rva23u64", f"Tag_RISCV_arch {shown}", Sureness.STATED, extra)]


def riscv_level(extensions: tuple[str, ...]) -> str:
    """Return the lowest profile that includes these extensions; empty if none does."""
    return next((name for name, own in RISCV_PROFILES if own.issuperset(extensions)), "")


def riscv_extensions(text: str) -> tuple[str, ...] | None:
    """Return the extensions of an architecture string; None if it is malformed.

    Source: RISC-V ISA manual, "ISA Extension Naming Conventions".
    """
    parts = text.lower().split("_")
    base = _RISCV_BASE.match(text.lower())
    if base is None or len(parts) > _MAX_EXTENSIONS:
        return None
    found: list[str] = []
    for part in (base[1], *parts[1:]):
        if part[:1] in {"z", "s", "x"}:
            name = _RISCV_NAME.fullmatch(part)
            if name is None:
                return None
            found.append(name[1])
            continue
        at = 0
        while at < len(part):
            letter = _RISCV_LETTER.match(part, at)
            if letter is None:
                return None
            found.append(letter[1])
            at = letter.end()
    return tuple(dict.fromkeys(found))


# --- Go ------------------------------------------------------------------------------------------

_GO_MAGIC = b"\xff Go buildinf:"
_GO_ALIGN, _GO_HEADER = 16, 32
#: Source: Go, cmd/go/internal/load/pkg.go: the settings of `go version -m`.
_GO_VARIABLES = {
    "amd64": "GOAMD64", "arm": "GOARM", "arm64": "GOARM64", "ppc64": "GOPPC64",
    "ppc64le": "GOPPC64", "riscv64": "GORISCV64", "386": "GO386", "mips": "GOMIPS",
    "mipsle": "GOMIPS", "mips64": "GOMIPS64", "mips64le": "GOMIPS64",
}  # fmt: skip
#: The level of programs of Go before a minor version, which had no such variable.
_GO_BEFORE = {"amd64": (18, "v1"), "arm64": (23, "v8"), "riscv64": (23, "rva20u64")}
_GO_VERSION = re.compile(r"(?:devel )?go1\.([0-9]{1,3})", re.ASCII)
_GO_VALUE = {
    "amd64": re.compile(r"(v[1-9])", re.ASCII),
    "arm": re.compile(r"([5-9])(?:,[a-z]+)?", re.ASCII),
    "arm64": re.compile(r"(v[89]\.[0-9])((?:,[a-z0-9]+)*)", re.ASCII),
    "ppc64": re.compile(r"(power[0-9]{1,2})", re.ASCII),
    "ppc64le": re.compile(r"(power[0-9]{1,2})", re.ASCII),
    "riscv64": re.compile(r"(rva[0-9]{2}u64)", re.ASCII),
}


def _go_build(elf: _Elf) -> tuple[str, str] | None:
    """Return the version of Go and the module text; None for other programs.

    Source: Go, debug/buildinfo, readRawBuildInfo.
    """
    section = next((one for one in elf.sections if one.name == ".go.buildinfo"), None)
    if section is not None:
        places = [(section.offset, section.size)]
    elif elf.sections:
        return None
    else:
        loads = [one for one in elf.segments if _is_data(one)][:_MAX_WRITABLE]
        places = [(one.offset, one.size) for one in loads]
    for offset, size in places:
        held = elf.window.read(offset, min(size, DATA)) or b""
        at = held.find(_GO_MAGIC)
        while at >= 0 and at % _GO_ALIGN:
            at = held.find(_GO_MAGIC, at + 1)
        if at >= 0:
            return _go_texts(elf, offset + at)
    if section is not None:
        raise _DamagedError
    return None


def _go_texts(elf: _Elf, at: int) -> tuple[str, str]:
    header = elf.bytes(at, _GO_HEADER, "the Go build info")
    width, flags = header[14], header[15]
    if flags & 2:
        at += _GO_HEADER
        texts = []
        for _ in range(2):
            raw = elf.window.read(at, min(10, max(0, elf.window.size - at))) or b""
            size, used = _uleb(raw, 0, len(raw))
            if size > _MAX_BUILD_INFO:
                raise _DamagedError
            texts.append(elf.bytes(at + used, size, "the Go build info"))
            at += used + size
    else:
        if width not in {4, 8}:
            raise _DamagedError
        order = ">" if flags & 1 else "<"
        shape = f"{order}{'I' if width == 4 else 'Q'}"  # noqa: PLR2004 - bytes of a pointer
        texts = [_go_string(elf, shape, header, 16 + width * place) for place in range(2)]
    version, module = texts
    # The text stands between two markers of 16 bytes.
    module = module[16:-16] if len(module) > 32 and module[-17:-16] == b"\n" else b""  # noqa: PLR2004 - as above
    return version.decode("utf-8", "replace")[:64], module.decode("utf-8", "replace")


def _go_string(elf: _Elf, shape: str, header: bytes, at: int) -> bytes:
    """Follow a pointer to a string of Go: its address and length."""
    width = struct.calcsize(shape)
    (address,) = struct.unpack_from(shape, header, at)
    if not address:
        return b""
    place = elf.offset_of(address, 2 * width)
    if place is None:
        raise _DamagedError
    held = elf.bytes(place, 2 * width, "the Go build info")
    (start,), (size,) = struct.unpack_from(shape, held), struct.unpack_from(shape, held, width)
    offset = elf.offset_of(start, size) if size <= _MAX_BUILD_INFO else None
    if offset is None:
        raise _DamagedError
    return elf.bytes(offset, size, "the Go build info")


def _go_marks(machine: str, build: tuple[str, str]) -> list[CpuMark]:
    """Return the level that a Go program states; unknown if it states none."""
    version, module = build
    variable = _GO_VARIABLES.get(machine, "")
    start = f"build\t{variable}="
    value = next((line[len(start) :] for line in module.splitlines() if line.startswith(start)), "")
    if not variable or not value:
        minor = _GO_VERSION.match(version)
        before, level = _GO_BEFORE.get(machine, (0, ""))
        if minor is not None and int(minor[1]) < before:
            evidence = f"{version}, before {variable} was introduced"
            return [CpuMark(level, evidence, Sureness.STATED)]
        return [CpuMark("", f"{version or 'Go'} without {variable or 'a level'}", Sureness.UNKNOWN)]
    evidence = f"{variable}={value[:40]}"
    pattern = _GO_VALUE.get(machine)
    if pattern is None:
        return [CpuMark("", evidence, Sureness.UNKNOWN)]
    found = pattern.fullmatch(value[:40])
    if found is None:
        return [CpuMark("", f"{evidence}, which is not understood", Sureness.UNKNOWN)]
    level = f"v{found[1]}" if machine == "arm" else found[1]
    if machine == "arm64":
        level = level.removesuffix(".0")
        marks = [CpuMark(level, evidence, Sureness.STATED)]
        options = found[2].split(",")
        if level == "v8" and "lse" in options:
            marks = [CpuMark("v8.1", evidence, Sureness.STATED)]
        return marks
    return [CpuMark(level, evidence, Sureness.STATED)]


# --- atomics of arm64 --------------------------------------------------------------------------

_LSE_LEVEL = "v8.1"
_NEIGHBOURS = 8
_ATOMIC, _CAS, _EXCLUSIVE = 1, 2, 4


def _table(rule: Callable[[int], int]) -> bytes:
    return bytes(map(rule, range(256)))


#: Candidates by the bytes of an instruction; `_classify` decides.
_BYTE_3 = _table(lambda b: {0x38: _ATOMIC, 0x08: _CAS | _EXCLUSIVE}.get(b & 0x3F, 0))
_BYTE_2 = _table(
    lambda b: (_ATOMIC | _CAS if b & 0x20 else 0) | (_EXCLUSIVE if not b & 0x80 else 0)
)
_BYTE_1 = _table(
    lambda b: (_ATOMIC if not b & 0x0C else 0) | (_CAS if b & 0x7C == 0x7C else 0) | _EXCLUSIVE  # noqa: PLR2004 - bits
)
_CANDIDATE = re.compile(rb"[^\0]")
#: Bits 28:25 of what is not an instruction.
_NOT_CODE = frozenset({0, 1, 3})


def _atomics(elf: _Elf) -> CpuMark:
    """Search the code of an arm64 file for atomics that a processor before v8.1 lacks.

    Source: Arm ARM, "Loads and Stores" (atomic memory operations, compare and swap, exclusives);
    gcc and LLVM, outline atomics: a helper checks `__aarch64_have_lse_atomics` first.
    """
    code = [
        (one.offset, one.size)
        for one in elf.sections
        if one.kind == _SHT_PROGBITS and one.flags & _SHF_EXECINSTR
    ]
    has_sections = bool(elf.sections)
    if not has_sections:
        code = [
            (one.offset, one.size)
            for one in elf.segments
            if one.kind == _PT_LOAD and one.flags & _EXECUTABLE
        ]
    bare = guarded = exclusives = left = 0
    missing = not code
    left = HEAD
    for offset, size in dict.fromkeys(code):
        # Sections that overlap would be read many times.
        held = elf.window.read(offset, size) if size <= left else None
        if held is None:
            missing = True
            continue
        left -= size
        one = _scan(held)
        bare, guarded, exclusives = bare + one[0], guarded + one[1], exclusives + one[2]
    if bare and has_sections and exclusives <= 2 * guarded:
        return CpuMark(_LSE_LEVEL, f"{bare} LSE atomics without a check", Sureness.SEEN)
    if bare:
        evidence = f"{bare} LSE atomics, beside code that does without"
        return CpuMark(
            _LSE_LEVEL,
            evidence if has_sections else f"{bare} LSE atomics in a file without section headers",
            Sureness.POSSIBLE,
        )
    if missing:
        return CpuMark("", "its code was not read", Sureness.UNKNOWN)
    shown = "LSE atomics only behind a run-time check" if guarded else "no LSE atomics"
    return CpuMark("", f"{shown}; other extensions are not searched for", Sureness.UNKNOWN)


def _scan(held: bytes) -> tuple[int, int, int]:
    """Count atomics without a check, with one, and load and store exclusives."""
    count = len(held) // 4
    held = held[: 4 * count]
    masks = (
        held[3::4].translate(_BYTE_3),
        held[2::4].translate(_BYTE_2),
        held[1::4].translate(_BYTE_1),
    )
    third, second, first = (int.from_bytes(mask, "little") for mask in masks)
    candidates = (third & second & first).to_bytes(count, "little")
    bare = guarded = exclusives = 0
    for match in _CANDIDATE.finditer(candidates):
        place = match.start()
        kind = _classify(int.from_bytes(held[4 * place : 4 * place + 4], "little"))
        if kind == _EXCLUSIVE:
            exclusives += 1
        elif kind and _is_code(held, place):
            if _is_guarded(held, place):
                guarded += 1
            else:
                bare += 1
    return bare, guarded, exclusives


def _classify(word: int) -> int:
    """Return what an instruction is; 0 for any other."""
    if word & 0x3F20_0C00 == 0x3820_0000:  # noqa: PLR2004 - bits of the encoding
        # Otherwise it is LDAPR or another load.
        return _ATOMIC if not word & 0x8000 or not word & 0x7000 else 0
    if word & 0x3FA0_7C00 == 0x08A0_7C00 or word & 0xBFA0_7C00 == 0x0820_7C00:  # noqa: PLR2004 - CAS, CASP
        return _CAS
    is_exclusive = word & 0x3FA0_0000 == 0x0800_0000 or word & 0xBFA0_0000 == 0x8820_0000  # noqa: PLR2004 - pairs
    return _EXCLUSIVE if is_exclusive else 0


def _is_code(held: bytes, place: int) -> bool:
    """Whether the words around one decode as instructions."""
    tops = held[4 * max(0, place - _NEIGHBOURS) + 3 : 4 * (place + _NEIGHBOURS + 1) : 4]
    return not any(top >> 1 & 0xF in _NOT_CODE for top in tops)


def _is_guarded(held: bytes, place: int) -> bool:
    """Whether `ldrb w16, [x16, #...]` and `cbz w16` stand just before."""
    if place < 2:  # noqa: PLR2004 - two instructions
        return False
    load, branch = struct.unpack_from("<II", held, 4 * place - 8)
    return load & 0xFFC0_03FF == 0x3940_0210 and branch & 0xFF00_001F == 0x3400_0010  # noqa: PLR2004 - bits
