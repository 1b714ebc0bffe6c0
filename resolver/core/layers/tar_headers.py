"""Header blocks of tar archives: checking and parsing.

Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format"; where
they are silent, the behaviour of GNU tar 1.34.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from resolver.core.layers.xattrs import is_xattr
from resolver.errors import LimitExceeded
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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
    """The contents of one block, before extended headers are applied.

    Attributes:
        flag: the type, one byte.
        size: of the data that follows, in bytes.
        name, link: as bytes; a POSIX prefix is part of the name.
        device: major and minor; None for other types.
        block: the whole block, for fields of some types.
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
    """Read a block of 512 bytes that is not all zeros."""
    fields = _FIELDS.unpack(block)
    name, mode, uid, gid, size, _mtime, checksum, flag, link, magic = fields[:10]
    _check(block, checksum, fail)
    name = name.partition(b"\0")[0]
    # With GNU's magic, the field of the POSIX prefix has other contents.
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
    """Parse a number: octal digits, or base 256 if the first byte marks it."""
    matched = _OCTAL.fullmatch(field)
    if matched is not None:
        return int(matched[1] or b"0", 8)
    if field[0] == _POSITIVE:
        return int.from_bytes(field[1:], "big")
    if field[0] == _NEGATIVE:
        return int.from_bytes(field, "big", signed=True)
    raise fail(f"the {name} is not a number: {field!r}")


def _check(block: bytes, field: bytes, fail: Callable[[str], BadDocument]) -> None:
    """Verify the checksum, with the field itself as spaces, of unsigned or of signed bytes."""
    total = sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")
    matched = _OCTAL.fullmatch(field)
    stated = int(matched[1] or b"0", 8) if matched else -1
    if stated == total:
        return
    high = sum(byte > 127 for byte in block[:148] + block[156:])  # noqa: PLR2004 - signed bytes
    if not matched or stated != total - 256 * high:
        raise fail("the checksum of this header does not match: it is damaged, or not a tar header")


_LENGTH = re.compile(rb"0*([1-9][0-9]{0,7}) ")
_NUMBER = re.compile(rb"-?[0-9]{1,19}")
#: Text without a NUL, which would end the name for some readers only.
_TEXTS = frozenset({b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name"})
_NUMBERS = frozenset({
    b"size", b"uid", b"gid", b"GNU.sparse.size", b"GNU.sparse.realsize", b"GNU.sparse.numblocks",
    b"GNU.sparse.major", b"GNU.sparse.minor", b"SCHILY.devmajor", b"SCHILY.devminor",
})  # fmt: skip
_MAP = b"GNU.sparse.map"
_OFFSET, _NUMBYTES = b"GNU.sparse.offset", b"GNU.sparse.numbytes"
_UNUSED = frozenset({b"uname", b"gname"})

#: The interpreted records of a header; an empty value removes an earlier one.
Records = dict[bytes, bytes]


def read_records(data: bytes, fail: Callable[[str], BadDocument]) -> Records:
    """Parse an extended header; return pairs of sparse format 0.0 as the map of 0.1."""
    found: Records = {}
    pairs: list[bytes] = []
    for key, value in _records(data, fail):
        if key in _TEXTS:
            if b"\0" in value:
                raise fail(f"the extended header has a NUL in `{key.decode()}`")
        elif key in _NUMBERS:
            _check_number(key, value, fail)
        elif key in {_OFFSET, _NUMBYTES}:
            _check_number(key, value, fail)
            if (key == _NUMBYTES) != len(pairs) % 2:
                raise fail("the extended header has a sparse map out of order")
            pairs.append(value)
            continue
        elif key != _MAP and not is_xattr(key):
            continue
        if key not in _UNUSED:
            found[key] = value
    if pairs:
        found[_MAP] = b",".join(pairs)
    return found


def _records(data: bytes, fail: Callable[[str], BadDocument]) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        matched = _LENGTH.match(data, at)
        end = at + int(matched[1]) if matched else 0
        if matched is None or end > len(data) or end <= matched.end():
            raise fail(f"the extended header has a bad record length at its byte {at}")
        if data[end - 1 : end] != b"\n":
            raise fail(f"the extended header has a record without its end at its byte {at}")
        key, equals, value = data[matched.end() : end - 1].partition(b"=")
        if not equals or not key or b"\0" in key:
            raise fail(f"the extended header has a record without a key at its byte {at}")
        yield key, value
        at = end


def _check_number(key: bytes, value: bytes, fail: Callable[[str], BadDocument]) -> None:
    if value and not _NUMBER.fullmatch(value):
        raise fail(f"the extended header has no number in `{key.decode()}`")
    if value.startswith(b"-") and key not in {b"uid", b"gid"}:
        raise fail(f"the extended header has a negative `{key.decode()}`")


#: The data regions of a file: offset and length in bytes, ascending.
Map = tuple[tuple[int, int], ...]

_PAIR = 24
_OLD_MAP = (386, 4, 482)
_EXTENSION_MAP = (0, 21, 504)
_REAL_SIZE = slice(483, 495)
_SPARSE_NUMBERS = re.compile(rb"[0-9]{1,19}(?:,[0-9]{1,19})*")
_SPARSE_NUMBER = re.compile(rb"[0-9]{1,19}")


def read_old(
    block: bytes, more: Callable[[], bytes], limit: int, fail: Callable[[str], BadDocument]
) -> tuple[int, list[tuple[int, int]]]:
    """Read the map of a header of type `S`; return the size of the file and the map."""
    size = read_number(block[_REAL_SIZE], "size", fail)
    found, goes_on = _pairs(block, _OLD_MAP, fail)
    read = 0
    while goes_on:
        read += BLOCK
        if read > limit:
            raise LimitExceeded("the map of a sparse file", limit, read)
        pairs, goes_on = _pairs(more(), _EXTENSION_MAP, fail)
        found += pairs
    return size, found


def _pairs(
    block: bytes, shape: tuple[int, int, int], fail: Callable[[str], BadDocument]
) -> tuple[list[tuple[int, int]], bool]:
    start, count, extended = shape
    found = []
    for at in range(start, start + count * _PAIR, _PAIR):
        if not block[at + 12]:
            break
        offset = read_number(block[at : at + 12], "offset", fail)
        found.append((offset, read_number(block[at + 12 : at + 24], "length", fail)))
    return found, bool(block[extended])


def read_map(text: bytes, fail: Callable[[str], BadDocument]) -> list[tuple[int, int]]:
    """Parse the map of format 0.1: numbers separated by commas."""
    if not text:
        return []
    if not _SPARSE_NUMBERS.fullmatch(text):
        raise fail("the map of a sparse file is not a list of numbers")
    return _paired([int(number) for number in text.split(b",")], fail)


def read_leading_map(
    more: Callable[[], bytes], limit: int, fail: Callable[[str], BadDocument]
) -> tuple[int, list[tuple[int, int]]]:
    """Read the map of format 1.0, which precedes the data; return its padded size and the map."""
    read = 0
    rest = b""
    numbers: list[int] = []
    wanted = 1
    while len(numbers) < wanted:
        read += BLOCK
        if read > limit:
            raise LimitExceeded("the map of a sparse file", limit, read)
        *lines, rest = (rest + more()).split(b"\n")
        for line in lines:
            if len(numbers) == wanted:
                break
            if not _SPARSE_NUMBER.fullmatch(line):
                raise fail("the map of a sparse file lacks a number")
            numbers.append(int(line))
            wanted = 1 + 2 * numbers[0]
    return read, _paired(numbers[1:], fail)


def _paired(numbers: list[int], fail: Callable[[str], BadDocument]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise fail("the map of a sparse file has an offset without a length")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def checked(
    found: Iterable[tuple[int, int]], size: int, stored: int, fail: Callable[[str], BadDocument]
) -> Map:
    """Check a map against the size of the file and the stored bytes."""
    if size < 0:
        raise fail(f"the size of a sparse file is negative: {size}")
    end = total = 0
    kept = []
    for offset, length in found:
        if offset < end or length < 0 or offset + length > size:
            raise fail("the map of a sparse file has segments that overlap or lie outside of it")
        end = offset + length
        total += length
        if length:
            kept.append((offset, length))
    if total != stored:
        raise fail(f"the map of a sparse file has {total} bytes, and {stored} are stored")
    return tuple(kept)
