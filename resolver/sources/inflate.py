"""A compressed archive, inflated into a file without a name, so that it can be read anywhere."""

from __future__ import annotations

import os
import tempfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resolver.errors import BadDocument, LimitExceeded, Unavailable
from resolver.sources.tree import CHUNK, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

GZIP_MAGIC = b"\x1f\x8b"
#: Bytes that an archive may inflate to. Ours: four times the largest image in common use.
MAX_INFLATED = 64 << 30
# Source of both: reliability.md section 5, "decompression".
MAX_RATIO = 200
FREE_OF_RATIO = 64 << 20
#: Each costs a copy of what follows it; `cat` of some files makes some, `pigz` makes one.
MAX_STREAMS = 10_000
#: zlib's window bits for gzip members with their headers and checks. Source: zlib manual.
_GZIP = 16 + zlib.MAX_WBITS


def inflate(archive: int, path: str, limit: int = MAX_INFLATED) -> int:
    """Inflate an open gzip file into an anonymous temporary file; gives its descriptor.

    Raises:
        BadDocument: the stream is damaged, cut short, or followed by something else.
        LimitExceeded: it inflates to more than `limit` bytes, or to an absurd multiple.
        Unavailable: it cannot be read, or there is no room for it.

    """
    with _room(path), tempfile.TemporaryFile(prefix="resolver-", buffering=0) as file:
        total = 0
        for piece, consumed in _pieces(archive, path):
            total += len(piece)
            allowed = min(limit, max(FREE_OF_RATIO, consumed * MAX_RATIO))
            if total > allowed:
                raise LimitExceeded(f"what `{path}` inflates to", allowed, f"more than {allowed}")
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(file.fileno(), rest) :]
        return os.dup(file.fileno())


def _pieces(archive: int, path: str) -> Iterator[tuple[bytes, int]]:
    """Inflate bit by bit: each piece, and how many bytes of the archive were read for it."""
    what = f"`{path}`"
    stream = zlib.decompressobj(_GZIP)
    consumed = 0
    streams = 1
    waiting = b""
    while True:
        if not waiting:
            with unreadable(path):
                waiting = os.pread(archive, CHUNK, consumed)
            consumed += len(waiting)
        if not waiting:
            break
        if stream.eof:
            # Several gzip streams in a row are one file; what pads the last is not.
            if not waiting.strip(b"\0"):
                waiting = b""
                continue
            stream = zlib.decompressobj(_GZIP)
            streams += 1
            if streams > MAX_STREAMS:
                raise LimitExceeded(f"the gzip streams of {what}", MAX_STREAMS, streams, "streams")
        try:
            piece = stream.decompress(waiting, CHUNK)
        except zlib.error as error:
            raise BadDocument(what, f"byte {consumed}", f"damaged gzip data: {error}") from error
        waiting = stream.unused_data if stream.eof else stream.unconsumed_tail
        yield piece, consumed
    if not stream.eof:
        raise BadDocument(what, f"byte {consumed}", "the gzip data is cut short")


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
