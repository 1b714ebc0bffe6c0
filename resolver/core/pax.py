"""PAX extended headers: records of `LENGTH KEY=VALUE`.

Source: POSIX.1-2017, pax, "pax Header Block" and "pax Extended Header"; GNU tar manual, "Storing
Sparse Files".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.xattrs import is_xattr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.errors import BadDocument

_LENGTH = re.compile(rb"0*([1-9][0-9]{0,7}) ")
_NUMBER = re.compile(rb"-?[0-9]{1,19}")
#: Text without a NUL: the archive's own fields end there, so two readers would see two names.
_TEXTS = frozenset({b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name"})
_NUMBERS = frozenset(
    {
        b"size",
        b"uid",
        b"gid",
        b"GNU.sparse.size",
        b"GNU.sparse.realsize",
        b"GNU.sparse.numblocks",
        b"GNU.sparse.major",
        b"GNU.sparse.minor",
        b"SCHILY.devmajor",
        b"SCHILY.devminor",
    }
)
_MAP = b"GNU.sparse.map"
_OFFSET, _NUMBYTES = b"GNU.sparse.offset", b"GNU.sparse.numbytes"
_UNUSED = frozenset({b"uname", b"gname"})

#: What a header says that is used here; an empty value takes back what was said before.
Records = dict[bytes, bytes]


def read_records(data: bytes, fail: Callable[[str], BadDocument]) -> Records:
    """Read an extended header; keys that say nothing about a file here are left out.

    The pairs of sparse format 0.0, which repeat their keys, come out as the map of 0.1.

    Raises:
        BadDocument: a length does not fit, there is no `=`, or a value cannot be.
    """
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
