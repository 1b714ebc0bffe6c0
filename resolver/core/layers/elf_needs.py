"""What an ELF file needs of the machine: processor level, page size, kernel, libc, libraries.

Headers and notes are read; code only for the atomics of arm64. What is damaged is unknown.

Source: x86-64 psABI, "Program Property"; Arm IHI 0045, "Addenda to the ABI: build attributes";
RISC-V ELF psABI, "Attributes"; Arm ARM, "A64 instruction set encoding"; Go, debug/buildinfo; LSB
Core, "Note Sections" (ABI tag).
"""

from __future__ import annotations

import re
import struct
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING

from resolver.core.layers.elf import (
    DATA,
    EXECUTABLE,
    HEAD,
    LOAD,
    DamagedError,
    DynamicSection,
    ElfNote,
    ElfReader,
    ElfWindow,
    is_data,
    read_dynamic,
    read_interpreter,
    read_notes,
)
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE_SIZES = (4_096, 8_192, 16_384, 32_768, 65_536)
#: Limits of ours, far above what linkers and Go write.
_MAX_ATTRIBUTES = 64 << 10
_MAX_BUILD_INFO = 1 << 20
_MAX_WRITABLE = 4
_RISCV_SEGMENT = 0x7000_0003
_PROGBITS, _ATTRIBUTES = 1, 0x7000_0003
_EXECINSTR = 4


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


class CodeBudget:
    """Instructions that may still be examined one by one, in all files of a layer."""

    __slots__ = ("left",)

    def __init__(self, left: int = 1_000_000) -> None:
        self.left = left


def read_elf(window: ElfWindow, name: str = "", budget: CodeBudget | None = None) -> ElfFile | None:
    """Return what a file needs; None if it is not an ELF program or library.

    Args:
        window: the whole file, as far as it is kept.
        name: its path; glibc's own files carry further evidence.
        budget: shared with other files; of its own if None.
    """
    elf = ElfReader.open(window)
    if elf is None:
        return None
    interpreter = elf.reading("the interpreter", read_interpreter, elf) or ""
    dynamic = elf.reading("the dynamic section", read_dynamic, elf) or DynamicSection()
    notes = elf.reading("the notes", lambda: tuple(read_notes(elf))) or ()
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
        mark = elf.reading("the code", _atomics, elf, budget or CodeBudget())
        known += [mark] if mark is not None else []
    if not interpreter and dynamic.asks_for_cpu and elf.machine not in {"amd64", "386"}:
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


def _page_size(elf: ElfReader) -> int:
    """Return the largest page size with which every segment can be mapped.

    Source: glibc 2.35, elf/dl-load.c, _dl_map_object_from_fd; Linux, fs/binfmt_elf.c, elf_map.
    """
    loads = [one for one in elf.segments if one.kind == LOAD]
    largest = 0
    for size in PAGE_SIZES:
        if not loads or any((one.address - one.offset) % size for one in loads):
            break
        largest = size
    return largest


def _kernel(elf: ElfReader, note: ElfNote) -> str:
    """Return the kernel of an ABI tag for Linux; empty for other notes."""
    if note.name != b"GNU\0" or note.kind != 1 or len(note.content) < 16:  # noqa: PLR2004 - LSB
        return ""
    system, *numbers = struct.unpack_from(f"{elf.order}4I", note.content)
    return ".".join(map(str, numbers)) if system == 0 else ""


#: Source: x86-64 psABI, "Program Property": GNU_PROPERTY_X86_ISA_1_NEEDED, and its bits.
_ISA_NEEDED = 0xC000_8002
_ISA_LEVELS = ("v1", "v2", "v3", "v4")


def _property_marks(elf: ElfReader, notes: tuple[ElfNote, ...]) -> list[CpuMark]:
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
    r"(?:ld-linux[A-Za-z0-9_-]*|ld64|ld|libc)(?:-[0-9.]+)?\.so[0-9.]*", re.ASCII
)


def is_glibc(name: str) -> bool:
    """Return whether a path is named like glibc's loader or its `libc`."""
    return _GLIBC_FILES.fullmatch(name.rpartition("/")[2]) is not None


def _glibc_marks(elf: ElfReader, name: str) -> list[CpuMark]:
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

#: Tag_CPU_arch, a list and not an order. Source: Arm IHI 0045, "Target-related attributes".
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


def _attributes(elf: ElfReader, vendor: str) -> dict[int, int | str]:
    """Read the file attributes of a vendor; empty if there is no such section."""
    places = [(one.offset, one.size) for one in elf.sections if one.kind == _ATTRIBUTES]
    if vendor == "riscv":
        places += [(s.offset, s.size) for s in elf.segments if s.kind == _RISCV_SEGMENT]
    found: dict[int, int | str] = {}
    for offset, size in places[:1]:
        if size > _MAX_ATTRIBUTES:
            raise DamagedError
        held = elf.take(offset, size, "the attributes")
        if held[:1] != b"A":
            raise DamagedError
        at = 1
        while at < size:
            (length,) = struct.unpack_from(f"{elf.order}I", held, at)
            if length < 5 or at + length > size:  # noqa: PLR2004 - its own word, and a name
                raise DamagedError
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
            raise DamagedError
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
                        raise DamagedError
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
    raise DamagedError


def _arm_marks(elf: ElfReader) -> list[CpuMark]:
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


def _riscv_marks(elf: ElfReader) -> list[CpuMark]:
    text = _attributes(elf, "riscv").get(_TAG_RISCV_ARCH)
    if not isinstance(text, str):
        return []
    extensions = riscv_extensions(text)
    if extensions is None:
        raise DamagedError("the RISC-V architecture")
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
    if base is None or "" in parts or len(parts) > _MAX_EXTENSIONS:
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


def _go_build(elf: ElfReader) -> tuple[str, str] | None:
    """Return the version of Go and the module text; None for other programs.

    Source: Go, debug/buildinfo, readRawBuildInfo.
    """
    section = next((one for one in elf.sections if one.name == ".go.buildinfo"), None)
    if section is not None:
        places = [(section.offset, section.size)]
    elif elf.sections:
        return None
    else:
        loads = [one for one in elf.segments if is_data(one)][:_MAX_WRITABLE]
        places = [(one.offset, one.size) for one in loads]
    for offset, size in places:
        held = elf.window.read(offset, min(size, DATA)) or b""
        at = held.find(_GO_MAGIC)
        while at >= 0 and at % _GO_ALIGN:
            at = held.find(_GO_MAGIC, at + 1)
        if at >= 0:
            return _go_texts(elf, offset + at)
    if section is not None:
        raise DamagedError
    return None


def _go_texts(elf: ElfReader, at: int) -> tuple[str, str]:
    header = elf.take(at, _GO_HEADER, "the Go build info")
    width, flags = header[14], header[15]
    if flags & 2:
        at += _GO_HEADER
        texts = []
        for _ in range(2):
            raw = elf.window.read(at, min(10, max(0, elf.window.size - at))) or b""
            size, used = _uleb(raw, 0, len(raw))
            if size > _MAX_BUILD_INFO:
                raise DamagedError
            texts.append(elf.take(at + used, size, "the Go build info"))
            at += used + size
    else:
        if width not in {4, 8}:
            raise DamagedError
        order = ">" if flags & 1 else "<"
        shape = f"{order}{'I' if width == 4 else 'Q'}"  # noqa: PLR2004 - bytes of a pointer
        texts = [_go_string(elf, shape, header, 16 + width * place) for place in range(2)]
    version, module = texts
    # The text stands between two markers of 16 bytes.
    module = module[16:-16] if len(module) > 32 and module[-17:-16] == b"\n" else b""  # noqa: PLR2004 - as above
    return version.decode("utf-8", "replace")[:64], module.decode("utf-8", "replace")


def _go_string(elf: ElfReader, shape: str, header: bytes, at: int) -> bytes:
    """Follow a pointer to a string of Go: its address and length."""
    width = struct.calcsize(shape)
    (address,) = struct.unpack_from(shape, header, at)
    if not address:
        return b""
    place = elf.offset_of(address, 2 * width)
    if place is None:
        raise DamagedError
    held = elf.take(place, 2 * width, "the Go build info")
    (start,), (size,) = struct.unpack_from(shape, held), struct.unpack_from(shape, held, width)
    offset = elf.offset_of(start, size) if size <= _MAX_BUILD_INFO else None
    if offset is None:
        raise DamagedError
    return elf.take(offset, size, "the Go build info")


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
#: Instructions of one file that are examined one by one; libc has some 1,000. Ours.
_MAX_CANDIDATES = 20_000
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


def _atomics(elf: ElfReader, budget: CodeBudget) -> CpuMark:
    """Search the code of an arm64 file for atomics that a processor before v8.1 lacks.

    Source: Arm ARM, "Loads and Stores" (atomic memory operations, compare and swap, exclusives);
    gcc and LLVM, outline atomics: a helper checks `__aarch64_have_lse_atomics` first.
    """
    code = [
        (one.offset, one.size)
        for one in elf.sections
        if one.kind == _PROGBITS and one.flags & _EXECINSTR
    ]
    has_sections = bool(elf.sections)
    if not has_sections:
        code = [
            (one.offset, one.size)
            for one in elf.segments
            if one.kind == LOAD and one.flags & EXECUTABLE
        ]
    bare = guarded = exclusives = 0
    missing = not code
    left, most = HEAD, min(budget.left, _MAX_CANDIDATES)
    for offset, size in dict.fromkeys(code):
        # Sections that overlap would be read many times.
        held = elf.window.read(offset, size) if size <= left and most > 0 else None
        if held is None:
            missing = True
            continue
        one = _scan(held, most)
        left, most, budget.left = left - size, most - one[3], budget.left - one[3]
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


def _scan(held: bytes, most: int) -> tuple[int, int, int, int]:
    """Count atomics without a check, with one, exclusives, and all that was examined.

    Of very many, as in a file made of them, the first ones decide.
    """
    count = len(held) // 4
    held = held[: 4 * count]
    masks = (
        held[3::4].translate(_BYTE_3),
        held[2::4].translate(_BYTE_2),
        held[1::4].translate(_BYTE_1),
    )
    third, second, first = (int.from_bytes(mask, "little") for mask in masks)
    candidates = (third & second & first).to_bytes(count, "little")
    bare = guarded = exclusives = examined = 0
    for match in islice(_CANDIDATE.finditer(candidates), most):
        place = match.start()
        examined += 1
        kind = _classify(int.from_bytes(held[4 * place : 4 * place + 4], "little"))
        if kind == _EXCLUSIVE:
            exclusives += 1
        elif kind and _is_code(held, place):
            if _is_guarded(held, place):
                guarded += 1
            else:
                bare += 1
    return bare, guarded, exclusives, examined


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
    is_load, is_branch = load & 0xFFC0_03FF == 0x3940_0210, branch & 0xFF00_001F == 0x3400_0010  # noqa: PLR2004 - bits
    return bool(is_load and is_branch)
