"""Sparse files in tar archives: which bytes of a file are there, and which are holes.

Source: GNU tar manual, "Storing Sparse Files"; tar/src/sparse.c of GNU tar 1.34. What is checked of
a map is what Go's archive/tar checks: in order, no overlap, inside the file, as long as the data.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.tar_header import BLOCK, read_number
from resolver.errors import LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from resolver.errors import BadDocument

#: Stretches of a file that are there: offset and length in bytes, ascending.
Map = tuple[tuple[int, int], ...]

_PAIR = 24
_OLD_MAP = (386, 4, 482)
_EXTENSION_MAP = (0, 21, 504)
_REAL_SIZE = slice(483, 495)
_NUMBERS = re.compile(rb"[0-9]{1,19}(?:,[0-9]{1,19})*")
_NUMBER = re.compile(rb"[0-9]{1,19}")


def read_old(
    block: bytes,
    more: Callable[[], bytes],
    limit: int,
    fail: Callable[[str], BadDocument],
) -> tuple[int, list[tuple[int, int]]]:
    """Read the map of a header of type `S`; gives the size of the file and the map.

    Args:
        block: the header.
        more: reads the next extension block.
        limit: bytes of extension blocks.
        fail: makes the error.

    Raises:
        BadDocument: a number is none.
        LimitExceeded: more extension blocks than that.
    """
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
    """Read the map of format 0.1: numbers between commas.

    Raises:
        BadDocument: it is none.
    """
    if not text:
        return []
    if not _NUMBERS.fullmatch(text):
        raise fail("the map of a sparse file is no list of numbers")
    return _paired([int(number) for number in text.split(b",")], fail)


def read_leading_map(
    more: Callable[[], bytes], limit: int, fail: Callable[[str], BadDocument]
) -> tuple[int, list[tuple[int, int]]]:
    """Read the map of format 1.0 from before the data; gives its bytes, padded, and the map.

    Args:
        more: reads the next block of the data.
        limit: bytes of the map.
        fail: makes the error.

    Raises:
        BadDocument: it is none.
        LimitExceeded: more bytes than that.
    """
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
            if not _NUMBER.fullmatch(line):
                raise fail("the map of a sparse file has no number where one must be")
            numbers.append(int(line))
            wanted = 1 + 2 * numbers[0]
    return read, _paired(numbers[1:], fail)


def _paired(numbers: list[int], fail: Callable[[str], BadDocument]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise fail("the map of a sparse file has an offset without a length")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def checked(
    found: Iterable[tuple[int, int]],
    size: int,
    stored: int,
    fail: Callable[[str], BadDocument],
) -> Map:
    """Check a map against the size of the file and the bytes that are stored of it.

    Raises:
        BadDocument: stretches overlap, lie outside, are not what is stored, or have no size.
    """
    if size < 0:
        raise fail(f"the size of a sparse file is negative: {size}")
    end = total = 0
    kept = []
    for offset, length in found:
        if offset < end or length < 0 or offset + length > size:
            raise fail("the map of a sparse file has stretches that overlap or lie outside of it")
        end = offset + length
        total += length
        if length:
            kept.append((offset, length))
    if total != stored:
        raise fail(f"the map of a sparse file has {total} bytes, and {stored} are stored")
    return tuple(kept)
