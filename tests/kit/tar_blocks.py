"""Tar archives written block by block, including invalid ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ZERO = bytes(512)
END = 2 * ZERO


def octal(number: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, number)


def base256(number: int, width: int) -> bytes:
    if number < 0:
        return number.to_bytes(width, "big", signed=True)
    return b"\x80" + number.to_bytes(width - 1, "big")


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def sealed(block: bytearray) -> bytes:
    """Put the checksum into a header."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def header(
    name: bytes = b"a",
    size: int = 0,
    flag: bytes = b"0",
    *,
    link: bytes = b"",
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    fields: Mapping[int, bytes] | None = None,
) -> bytes:
    """Write one header; `fields` are bytes by their place, written last."""
    block = bytearray(512)
    parts = {
        0: name[:100],
        100: octal(0o644, 8),
        108: octal(0, 8),
        116: octal(0, 8),
        124: octal(size, 12),
        136: octal(0, 12),
        156: flag,
        157: link[:100],
        257: magic,
        345: prefix,
        **(fields or {}),
    }
    for at, part in parts.items():
        block[at : at + len(part)] = part
    return sealed(block)


def member(name: bytes, data: bytes = b"", flag: bytes = b"0", **how: object) -> bytes:
    """Write a header and its data."""
    return header(name, len(data), flag, **how) + padded(data)  # type: ignore[arg-type]


def record(key: bytes, value: bytes) -> bytes:
    """Write a record of a PAX header, which counts its own length too."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def pax(*records: bytes, flag: bytes = b"x") -> bytes:
    """Write a PAX header."""
    return member(b"pax", b"".join(records), flag)
