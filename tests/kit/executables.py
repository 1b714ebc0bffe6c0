"""Executable headers for any platform; the bodies do not run."""

from __future__ import annotations

import struct
from random import Random

#: ELF class (1 = 32, 2 = 64 bits), byte order and machine. Source: System V ABI, elf.h.
_ELF = {
    "amd64": (2, "<", 62),
    "386": (1, "<", 3),
    "arm64": (2, "<", 183),
    "arm": (1, "<", 40),
    "s390x": (2, ">", 22),
    "riscv64": (2, "<", 243),
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
