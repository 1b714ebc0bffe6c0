"""Executable headers for any platform, and linked ELF files; the bodies do not run."""

from __future__ import annotations

import struct
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: ELF class (1 = 32, 2 = 64 bits), byte order and machine. Source: System V ABI, elf.h.
_ELF = {
    "amd64": (2, "<", 62),
    "386": (1, "<", 3),
    "arm64": (2, "<", 183),
    "arm": (1, "<", 40),
    "s390x": (2, ">", 22),
    "riscv64": (2, "<", 243),
    "ppc64le": (2, "<", 21),
}
#: Source: Microsoft, "PE Format", "Machine Types".
_PE = {"amd64": 0x8664, "386": 0x014C, "arm64": 0xAA64}


def elf(architecture: str, size: int = 400) -> bytes:
    """Make a Linux program for an architecture, followed by incompressible bytes."""
    bits, order, machine = _ELF[architecture]
    ident = b"\x7fELF" + bytes((bits, 1 if order == "<" else 2, 1)) + bytes(9)
    head = ident + struct.pack(f"{order}HHI", 2, machine, 1)
    return head + bytes(64 - len(head)) + Random(size).randbytes(size)


def pe(architecture: str, size: int = 400) -> bytes:
    """Make a Windows program for an architecture."""
    dos = b"MZ" + bytes(58) + struct.pack("<I", 128)
    head = b"PE\0\0" + struct.pack("<HHIIIHH", _PE[architecture], 1, 0, 0, 0, 240, 0x22)
    optional = struct.pack("<H", 0x20B) + bytes(238)
    return dos + bytes(128 - len(dos)) + head + optional + Random(size).randbytes(size)


#: Types and flags of sections. Source: System V ABI, "Sections".
PROGBITS, NOTE, ATTRIBUTES, CODE = 1, 7, 0x7000_0003, 6
#: A section: its type, its flags and its content.
Section = tuple[int, int, bytes]


def linked(  # noqa: C901 - the parts of a file, one after the other
    architecture: str,
    *,
    interpreter: str = "",
    needed: Sequence[str] = (),
    runpath: str = "",
    notes: bytes = b"",
    sections: Mapping[str, Section] | None = None,
    page: int = 65_536,
    symbols: Sequence[str] = (),
    has_sections: bool = True,
) -> bytes:
    """Make an ELF program: headers, notes, dynamic section, and further sections.

    Its second segment is loaded one `page` further up, so that it loads with pages up to that.
    """
    bits, order, machine = _ELF[architecture]
    wide = bits == 2
    header, phsize, shsize = (64, 56, 64) if wide else (52, 32, 40)
    word = "Q" if wide else "I"
    body = bytearray(header + phsize * 8)

    def put(content: bytes) -> int:
        body.extend(bytes(-len(body) % 16))
        at = len(body)
        body.extend(content)
        return at

    segments: list[tuple[int, int, int, int, int, int]] = []
    if interpreter:
        text = interpreter.encode() + b"\0"
        at = put(text)
        segments.append((3, 4, at, at, len(text), 1))
    if notes:
        at = put(notes)
        segments.append((4, 4, at, at, len(notes), 8 if wide else 4))
    if needed or runpath or symbols:
        texts, tags = bytearray(b"\0"), []
        for tag, entry in [*((1, name) for name in needed), (29, runpath)]:
            if entry:
                tags.append((tag, len(texts)))
                texts += entry.encode() + b"\0"
        for symbol in symbols:
            texts += symbol.encode() + b"\0"
        at = put(bytes(texts))
        tags += [(5, at), (10, len(texts)), (0, 0)]
        table = b"".join(struct.pack(f"{order}{word}{word}", *pair) for pair in tags)
        at = put(table)
        segments.append((2, 6, at, at, len(table), 8))
    placed = []
    for name, (kind, flags, content) in (sections or {}).items():
        placed.append((name, kind, flags, put(content), len(content)))
    end = len(body)
    segments = [(1, 5, 0, 0, end, page), (1, 6, end, end + page, 0, page), *segments]
    shoff = 0
    if has_sections:
        names = b"\0" + b"".join(f"{name}\0".encode() for name in (*(p[0] for p in placed), "s"))
        placed.append(("s", 3, 0, put(names), len(names)))
        shape = f"{order}IIQQQQIIQQ" if wide else f"{order}10I"
        rows = [struct.pack(shape, *([0] * 10))]
        rows += [
            struct.pack(
                shape, names.index(f"\0{name}\0".encode()) + 1, kind, flags, 0, at, size, 0, 0, 4, 0
            )
            for name, kind, flags, at, size in placed
        ]
        shoff = put(b"".join(rows))
    count = len(placed) + 1 if has_sections else 0
    ident = b"\x7fELF" + bytes((bits, 1 if order == "<" else 2, 1)) + bytes(9)
    head = ident + struct.pack(
        f"{order}HHI3{word}I6H", 3, machine, 1, 0, header, shoff, 0, header, phsize,
        len(segments), shsize, count, max(0, count - 1),
    )  # fmt: skip
    shape = f"{order}IIQQQQQQ" if wide else f"{order}8I"
    for kind, flags, at, address, size, align in segments:
        row = (
            (kind, flags, at, address, address, size, size, align)
            if wide
            else (kind, at, address, address, size, size, flags, align)
        )
        head += struct.pack(shape, *row)
    body[: len(head)] = head
    return bytes(body)


def gnu_note(kind: int, content: bytes, *, name: bytes = b"GNU\0") -> bytes:
    """Make a note, padded for 64-bit files."""
    note = struct.pack("<III", len(name), len(content), kind) + name + content
    return note + bytes(-len(note) % 8)


def isa_needed(bits: int, *, kind: int = 0xC000_8002) -> bytes:
    """Make the note of an x86-64 file that needs some levels: 1, 2, 4 and 8."""
    return gnu_note(5, struct.pack("<IIII", kind, 4, bits, 0))


def attributes(vendor: str, values: bytes, order: str = "<") -> bytes:
    """Make a section of file attributes."""
    scope = b"\1" + struct.pack(f"{order}I", 5 + len(values)) + values
    name = vendor.encode() + b"\0"
    return b"A" + struct.pack(f"{order}I", 4 + len(name) + len(scope)) + name + scope


def go_build_info(version: str, **settings: str) -> bytes:
    """Make a `.go.buildinfo` section as Go 1.18 and above write it."""
    lines = "".join(f"build\t{name}={value}\n" for name, value in settings.items())
    module = b"\x30" * 16 + f"path\tapp\n{lines}".encode() + b"\xf9" * 16
    texts = b"".join(_uleb(len(text)) + text for text in (version.encode(), module))
    return b"\xff Go buildinf:" + bytes((8, 2)) + bytes(16) + texts


def _uleb(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def elf_header(
    machine: int, bits: int = 64, order: str = "<", *, kind: int = 3, flags: int = 0
) -> bytes:
    """Write an ELF header for a machine number."""
    start = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    start += struct.pack(f"{order}HHI", kind, machine, 1)
    start += bytes(24 if bits == 64 else 12) + struct.pack(f"{order}I", flags)
    return start + bytes(40)


def pe_header(machine: int, *, at: int = 128, dotnet: bool = False) -> bytes:
    """Write a PE header at an offset for a machine number; `dotnet` adds a CLR header."""
    start = b"MZ" + bytes(58) + struct.pack("<I", at)
    optional = bytearray(96 + 16 * 8)
    optional[:2] = b"\x0b\x01"
    optional[92:96] = struct.pack("<I", 16)
    if dotnet:
        optional[96 + 14 * 8 : 96 + 15 * 8] = struct.pack("<II", 0x2008, 72)
    return start.ljust(at, b"\0") + b"PE\0\0" + struct.pack("<H", machine) + bytes(18) + optional
