"""A compressed archive, inflated into a file without a name, so that it can be read anywhere."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resolver.core import decompress
from resolver.core.decompress import DEFAULT_LIMITS, GZIP_MAGIC, InflateLimits
from resolver.errors import Unavailable
from resolver.sources.tree import CHUNK, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GZIP_MAGIC", "inflate"]


def inflate(archive: int, path: str, limits: InflateLimits = DEFAULT_LIMITS) -> int:
    """Inflate an open gzip file into an anonymous temporary file; gives its descriptor.

    Raises:
        BadDocument, ChecksumMismatch: the stream is damaged, cut short, or followed by something.
        LimitExceeded: it inflates to too much, or to an absurd multiple.
        Unavailable: it cannot be read, or there is no room for it.

    """
    pieces = decompress.inflate(_chunks(archive, path), "gzip", f"`{path}`", limits)
    with _room(path), tempfile.TemporaryFile(prefix="resolver-", buffering=0) as file:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(file.fileno(), rest) :]
        return os.dup(file.fileno())


def _chunks(archive: int, path: str) -> Iterator[bytes]:
    consumed = 0
    while True:
        with unreadable(path):
            chunk = os.pread(archive, CHUNK, consumed)
        if not chunk:
            return
        consumed += len(chunk)
        yield chunk


@contextmanager
def _room(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Unavailable(
            f"`{path}` is compressed and cannot be inflated in `{tempfile.gettempdir()}`: {reason}",
            "free some space, or name another folder with `TMPDIR`",
        ) from error
