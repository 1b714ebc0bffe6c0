"""Strict, bounded decompression of streams.

The first bytes determine the format, not the media type. gzip is decompressed by `isal` if
installed, otherwise by `zlib`; zstd needs Python 3.14 or `backports.zstd`.

Source: RFC 1952 (gzip), RFC 8878 (zstd), docs/store-and-reliability.md, "Decompression limits".
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any, Protocol

from resolver.errors import BadDocument, ChecksumMismatch, LimitExceeded, UnsupportedDocument
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


#: zlib's window bits for gzip members with their headers and checks. Source: zlib manual.
_GZIP = 16 + zlib.MAX_WBITS
#: The largest zstd window; `zstd -d` has the same by default.
MAX_WINDOW = 128 << 20
_NUMBERED = re.compile(
    r"error -?[0-9]+ (?:while decompressing data: )?|unable to decompress [^:]*: "
)


class DamagedStream(Exception):
    """A library's error message, in lower case and without the error number."""

    def __init__(self, error: Exception) -> None:
        super().__init__(_NUMBERED.sub("", str(error).lower()))


class Decompressor(Protocol):
    """The decompression of one gzip member or zstd frame."""

    @property
    def eof(self) -> bool:
        """Whether its end was reached."""
        ...

    @property
    def unused_data(self) -> bytes:
        """The bytes after its end."""
        ...


class Library(Protocol):
    """A library that decompresses one format."""

    name: str

    def start(self) -> Decompressor:
        """Start a member or frame."""
        ...

    def step(self, stream: Decompressor, data: bytes, size: int) -> tuple[bytes, bytes]:
        """Decompress at most `size` bytes; return them, and the data for the next call."""
        ...


class Gzip:
    """gzip, by `isal` or `zlib`, which have the same interface."""

    name = "gzip"

    def __init__(self, library: Any, error: type[Exception]) -> None:
        self._library = library
        self._error = error

    def start(self) -> Decompressor:
        """Start a member."""
        found: Decompressor = self._library.decompressobj(_GZIP)
        return found

    def step(self, stream: Any, data: bytes, size: int) -> tuple[bytes, bytes]:
        """Decompress at most `size` bytes."""
        try:
            piece = stream.decompress(data, size)
        except self._error as error:
            raise DamagedStream(error) from error
        return piece, stream.unconsumed_tail


class Zstd:
    """zstd; the library buffers its unused input."""

    name = "zstd"

    def __init__(self, library: Any) -> None:
        self._library = library

    def start(self) -> Decompressor:
        """Start a frame."""
        limit = {self._library.DecompressionParameter.window_log_max: MAX_WINDOW.bit_length() - 1}
        found: Decompressor = self._library.ZstdDecompressor(options=limit)
        return found

    def step(self, stream: Any, data: bytes, size: int) -> tuple[bytes, bytes]:
        """Decompress at most `size` bytes."""
        try:
            return stream.decompress(data, size), b""
        except self._library.ZstdError as error:
            raise DamagedStream(error) from error


def gzip_library() -> Library:
    """Return the fastest installed library for gzip."""
    try:
        from isal import isal_zlib  # noqa: PLC0415 - of the extra `fast`, and only for layers
    except ImportError:
        return Gzip(zlib, zlib.error)
    # Its stubs call the class an instance.
    failed: Any = isal_zlib.error
    return Gzip(isal_zlib, failed)


def zstd_library(what: str) -> Library:
    """Return the installed library for zstd."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - Python 3.14
    except ImportError:
        try:
            from backports import zstd  # noqa: PLC0415 - of the extra `fast`
        except ImportError as error:
            raise UnsupportedDocument(
                what,
                "",
                "it is compressed with zstd, and no zstd decoder is installed",
                "pip install 'multiarch-resolver[fast]'",
            ) from error
    return Zstd(zstd)


_LIBRARIES: dict[str, Callable[[str], Library]] = {
    "gzip": lambda _what: gzip_library(),
    "zstd": zstd_library,
}


GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: Bytes yielded at once.
STEP = 1 << 20
#: Bytes per call of the library. The rest is copied after the end of a stream, so fewer for those.
_FEED, _FEED_OF_MANY = 256 << 10, 16 << 10
_RESERVED_FLAGS = 0xE0
_GZIP_START = 4

#: Words in the libraries' messages for a wrong checksum or length, and a window over the limit.
_CHECKSUM_WORDS = ("data check", "length check", "checksum", "header crc")
_WINDOW_WORDS = "requires too much memory"

#: Unsupported formats.
_OTHERS = (
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x9d", "compress"),
    (b"hsqs", "squashfs"),
)


@dataclass(frozen=True, slots=True)
class InflateLimits:
    """Limits on decompressed content (docs/store-and-reliability.md, "Decompression limits").

    `ratio` and `free_of_ratio`: bytes per compressed byte, after the first `free_of_ratio` bytes.
    `streams`: gzip members or zstd frames. Ours: eStargz has one per file.
    """

    total: int = 64 << 30
    ratio: int = 200
    free_of_ratio: int = 64 << 20
    streams: int = 2_000_000


DEFAULT_LIMITS = InflateLimits()


def compression_of(start: bytes, what: str) -> str:
    """Return the compression of content: `gzip`, `zstd`, or "" for none."""
    if start.startswith(GZIP_MAGIC):
        return "gzip"
    # Skippable frames have sixteen magic numbers. Source: RFC 8878, 3.1.2.
    if start.startswith(ZSTD_MAGIC) or (start[1:4] == b"\x2a\x4d\x18" and start[0] >> 4 == 0x5):  # noqa: PLR2004
        return "zstd"
    for magic, name in _OTHERS:
        if start.startswith(magic):
            raise UnsupportedDocument(what, "", f"it is compressed with {name}")
    return ""


def inflate(
    chunks: Iterable[bytes], compression: str, what: str, limits: InflateLimits = DEFAULT_LIMITS
) -> Iterator[bytes]:
    """Decompress content, at most 1 MiB at a time; yield uncompressed content unchanged.

    Raises:
        BadDocument: it is damaged, truncated, or followed by other data.
        ChecksumMismatch: the checksum does not match.
        LimitExceeded: the output is too large.
        UnsupportedDocument: no library for zstd is installed.
    """
    total = 0
    for piece, consumed in _pieces(chunks, compression, what, limits):
        total += len(piece)
        allowed = min(limits.total, max(limits.free_of_ratio, consumed * limits.ratio))
        if total > allowed:
            raise LimitExceeded(f"what {what} inflates to", allowed, f"more than {allowed}")
        yield piece


def _pieces(
    chunks: Iterable[bytes], compression: str, what: str, limits: InflateLimits
) -> Iterator[tuple[bytes, int]]:
    """Yield pieces, each with the number of compressed bytes read so far."""
    if compression:
        library = _LIBRARIES[compression](what)
        yield from _Streams(library, _Feeds(iter(chunks)), what, limits).pieces()
        return
    consumed = 0
    for chunk in chunks:
        consumed += len(chunk)
        for at in range(0, len(chunk), STEP):
            yield (chunk if len(chunk) <= STEP else chunk[at : at + STEP]), consumed


class _Feeds:
    """The compressed bytes, in pieces for the library."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0
        self.consumed = 0
        self.size = _FEED

    def more(self) -> bytes:
        while self._at >= len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._chunk, self._at = chunk, 0
        piece = self._chunk[self._at : self._at + self.size]
        self._at += len(piece)
        self.consumed += len(piece)
        return piece


class _Streams:
    """A sequence of gzip members or zstd frames."""

    def __init__(self, library: Library, feeds: _Feeds, what: str, limits: InflateLimits) -> None:
        self._library = library
        self._feeds = feeds
        self._what = what
        self._limits = limits
        self._count = 0

    def pieces(self) -> Iterator[tuple[bytes, int]]:
        data = self._feeds.more()
        while data:
            data = self._begun(data)
            if not data:
                return
            stream = self._library.start()
            while True:
                piece, data = self._step(stream, data)
                if piece:
                    yield piece, self._feeds.consumed
                if stream.eof:
                    break
                # After a full piece the library may have more output ready.
                if not data and len(piece) < STEP:
                    data = self._feeds.more()
                    if not data:
                        raise self._bad(f"the {self._library.name} data is cut short")
            data = stream.unused_data or self._feeds.more()

    def _begun(self, data: bytes) -> bytes:
        """Check the start of a stream; return its data, or nothing if only padding is left."""
        name = self._library.name
        if self._count:
            self._feeds.size = _FEED_OF_MANY
        if name == "gzip":
            while len(data) < _GZIP_START and (more := self._feeds.more()):
                data += more
            if self._count > 0 and not data.startswith(GZIP_MAGIC):
                self._check_padding(data)
                return b""
            if len(data) >= _GZIP_START and data[3] & _RESERVED_FLAGS:
                # One of the two libraries would ignore them. Source: RFC 1952, 2.3.1.2.
                raise self._bad("damaged gzip data: reserved flags")
        self._count += 1
        if self._count > self._limits.streams:
            what = f"the number of {name} streams of {self._what}"
            raise LimitExceeded(what, self._limits.streams, self._count, "streams")
        return data

    def _check_padding(self, data: bytes) -> None:
        """Skip zeros after the last member, as `gzip` does; refuse other data."""
        while data:
            if data.strip(b"\0"):
                raise self._bad("data that is not gzip follows the gzip data")
            data = self._feeds.more()

    def _bad(self, reason: str) -> BadDocument:
        return BadDocument(self._what, f"byte {self._feeds.consumed}", reason)

    def _step(self, stream: Decompressor, data: bytes) -> tuple[bytes, bytes]:
        name = self._library.name
        try:
            return self._library.step(stream, data, STEP)
        except DamagedStream as error:
            reason = str(error)
            if any(words in reason for words in _CHECKSUM_WORDS):
                raise ChecksumMismatch(self._what, reason) from error
            if _WINDOW_WORDS in reason:
                what = f"the {name} window of {self._what}"
                raise LimitExceeded(what, MAX_WINDOW, f"more than {MAX_WINDOW}") from error
            raise self._bad(f"damaged {name} data: {reason}") from error
