"""rpm's SQLite database, read in memory: one header blob per package.

Source: rpm 4.16 and later, lib/backend/sqlite.c (table `Packages`); rpm documentation, "Package
Format", "Header Structure"; tags of rpm/rpmtag.h.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from resolver.core.file_difference import Package

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_MAGIC = b"SQLite format 3\0"
#: Format versions of a database that has a write-ahead log, and of one that has none.
#: Source: SQLite, "Database File Format", 1.3.
_VERSIONS = slice(18, 20)
_NO_LOG = b"\x01\x01"

_NAME, _VERSION, _RELEASE, _EPOCH, _ARCHITECTURE = 1000, 1001, 1002, 1003, 1022
_TEXT_TYPES = frozenset({6, 9})
_NUMBER_TYPE = 4
_ENTRY = struct.Struct(">IIII")
#: Entries of one header, and bytes of one. Source: rpm, lib/header.cc, hdrchkTags and hdrchkData.
_MAX_ENTRIES = 0xFFFF
_MAX_HEADER = 16 << 20
#: Instructions of SQLite's machine; a database of 50,000 packages takes some million.
_MAX_STEPS = 20_000_000
#: Bytes of a name, version, release or architecture. Ours.
_MAX_TEXT = 256
_STEPS_AT_ONCE = 1_000_000
#: Keys that signatures are checked with are kept as if they were packages.
_KEY = "gpg-pubkey"


class DamagedError(Exception):
    """Why a database cannot be read; for people."""


def read_database(body: bytes, most: int) -> Iterator[Package]:
    """Read the packages of a database.

    Args:
        body: the file.
        most: packages to read; one more is read, so that too many can be seen.

    Raises:
        DamagedError: it is no such database, or damaged.
    """
    import sqlite3  # noqa: PLC0415 - for images with rpm alone

    if not body.startswith(_MAGIC):
        raise DamagedError("it is no SQLite database")
    connection = sqlite3.connect(":memory:")
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_HEADER)
        for blob in _blobs(connection, body, most):
            package = read_header(blob)
            if package.name != _KEY:
                yield package
    except sqlite3.Error as error:
        raise DamagedError(f"SQLite says: {error}") from error
    finally:
        connection.close()


def _blobs(connection: sqlite3.Connection, body: bytes, most: int) -> Iterator[bytes]:
    """Read the table; nothing in a hostile file is run for longer than it may."""
    size = len(body)
    patched = bytearray(body)
    del body
    patched[_VERSIONS] = _NO_LOG
    connection.deserialize(patched)
    del patched
    steps = read = 0

    def stop() -> bool:
        nonlocal steps
        steps += _STEPS_AT_ONCE
        return steps > _MAX_STEPS

    connection.set_progress_handler(stop, _STEPS_AT_ONCE)
    for setting in ("trusted_schema = off", "cell_size_check = on", "query_only = on"):
        connection.execute(f"PRAGMA {setting}")
    # A view of this name could be made to run for ever, or to call functions.
    kind = connection.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'").fetchone()
    if kind != ("table",):
        raise DamagedError("it has no table `Packages`")
    for (blob,) in connection.execute("SELECT blob FROM Packages LIMIT ?", (most + 1,)):
        if not isinstance(blob, bytes):
            raise DamagedError("a package in it is no blob")
        # Rows can be made to share their pages, so that a small file reads like a huge one.
        read += len(blob)
        if read > size:
            raise DamagedError("its packages are larger than the whole database")
        yield blob


def read_header(blob: bytes) -> Package:
    """Read what is compared out of a header.

    Raises:
        DamagedError: it is no header, or lies about its own lengths.
    """
    if len(blob) < 8:  # noqa: PLR2004 - the two lengths
        raise DamagedError("a package in it has no header")
    count, size = struct.unpack_from(">II", blob)
    start = 8 + 16 * count
    if count > _MAX_ENTRIES or size > _MAX_HEADER or start + size > len(blob):
        raise DamagedError("a package in it has a header that is cut short")
    data = blob[start : start + size]
    texts: dict[int, str] = {}
    epoch = 0
    for tag, kind, offset, _ in _ENTRY.iter_unpack(blob[8:start]):
        if tag in {_NAME, _VERSION, _RELEASE, _ARCHITECTURE} and kind in _TEXT_TYPES:
            if tag not in texts:
                texts[tag] = _text(data, offset)
        elif (tag, kind) == (_EPOCH, _NUMBER_TYPE):
            if offset + 4 > size:
                raise DamagedError("a package in it has a number outside of its header")
            (epoch,) = struct.unpack_from(">I", data, offset)
    if not {_NAME, _VERSION, _RELEASE} <= set(texts):
        raise DamagedError("a package in it has no name or version")
    version = f"{texts[_VERSION]}-{texts[_RELEASE]}"
    return Package(
        "rpm",
        texts[_NAME],
        f"{epoch}:{version}" if epoch else version,
        texts.get(_ARCHITECTURE, ""),
    )


def _text(data: bytes, offset: int) -> str:
    """Read a text up to its NUL.

    Raises:
        DamagedError: it ends outside of the header, or nowhere near.
    """
    end = data.find(b"\0", offset, offset + _MAX_TEXT + 1)
    if offset >= len(data) or (end < 0 and offset + _MAX_TEXT >= len(data)):
        raise DamagedError("a package in it has a text outside of its header")
    if end < 0:
        raise DamagedError(f"a package in it has a text of more than {_MAX_TEXT} bytes")
    return data[offset:end].decode("utf-8", "replace")
