"""One header block of a tar archive, checked and taken apart.

Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format"; where the
two are silent, what GNU tar 1.34 does.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.errors import BadDocument

#: Bytes of a block; headers are one, and data is padded to it.
BLOCK = 512
ZEROS = bytes(BLOCK)

_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
#: Octal digits after spaces; a NUL or a space ends them. GNU tar looks no further.
_OCTAL = re.compile(rb"[ \0]*(?:([0-7]{1,12})(?:[ \0].*)?)?", re.DOTALL)
_CHECKSUM = slice(148, 156)
_USTAR = b"ustar\x00"
_POSITIVE, _NEGATIVE = 0x80, 0xFF


@dataclass(slots=True)
class Header:
    """What one block says, before extended headers have their say.

    Attributes:
        flag: the type, one byte.
        size: of the data that follows, in bytes.
        name, link: as bytes; a POSIX prefix is part of the name.
        device: major and minor; None for what is no device.
        block: the whole, for what only some types have.
    """

    flag: bytes
    name: bytes
    link: bytes
    mode: int
    uid: int
    gid: int
    size: int
    device: tuple[int, int] | None
    block: bytes


def read_header(block: bytes, fail: Callable[[str], BadDocument]) -> Header:
    """Read a block of 512 bytes that is not all zeros.

    Args:
        block: the bytes.
        fail: makes the error out of a reason; it knows where in which archive this is.

    Raises:
        BadDocument: the checksum does not fit, or a number is none.
    """
    fields = _FIELDS.unpack(block)
    name, mode, uid, gid, size, _mtime, checksum, flag, link, magic = fields[:10]
    _check(block, checksum, fail)
    name = name.partition(b"\0")[0]
    # GNU's own magic keeps other things where POSIX has the prefix.
    if magic[:6] == _USTAR and fields[14][0]:
        name = fields[14].partition(b"\0")[0] + b"/" + name
    length = read_number(size, "size", fail)
    if length < 0:
        raise fail(f"the size is negative: {length}")
    device = None
    if flag in {b"3", b"4"}:
        device = (read_number(fields[12], "device", fail), read_number(fields[13], "device", fail))
    return Header(
        flag,
        name,
        link.partition(b"\0")[0],
        read_number(mode, "mode", fail) & 0o7777,
        read_number(uid, "uid", fail),
        read_number(gid, "gid", fail),
        length,
        device,
        block,
    )


def read_number(field: bytes, name: str, fail: Callable[[str], BadDocument]) -> int:
    """Read a number: octal digits, or base 256 where the first byte says so.

    Raises:
        BadDocument: it is neither.
    """
    matched = _OCTAL.fullmatch(field)
    if matched is not None:
        return int(matched[1] or b"0", 8)
    if field[0] == _POSITIVE:
        return int.from_bytes(field[1:], "big")
    if field[0] == _NEGATIVE:
        return int.from_bytes(field, "big", signed=True)
    raise fail(f"the {name} is no number: {field!r}")


def _check(block: bytes, field: bytes, fail: Callable[[str], BadDocument]) -> None:
    """Compare the checksum, counted with the field itself as spaces.

    Some old programs added signed bytes; GNU tar takes both.
    """
    total = sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")
    matched = _OCTAL.fullmatch(field)
    stated = int(matched[1] or b"0", 8) if matched else -1
    if stated == total:
        return
    high = sum(byte > 127 for byte in block[:148] + block[156:])  # noqa: PLR2004 - signed bytes
    if not matched or stated != total - 256 * high:
        raise fail("the checksum of this header does not fit: it is damaged, or no tar header")
