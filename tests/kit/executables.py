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
