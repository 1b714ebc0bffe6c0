"""The libraries that inflate, behind one face."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any, Protocol

from resolver.errors import UnsupportedDocument

if TYPE_CHECKING:
    from collections.abc import Callable

#: zlib's window bits for gzip members with their headers and checks. Source: zlib manual.
_GZIP = 16 + zlib.MAX_WBITS
#: The largest zstd window. Source: reliability.md 5; `zstd -d` has the same by default.
MAX_WINDOW = 128 << 20
_NUMBERED = re.compile(
    r"error -?[0-9]+ (?:while decompressing data: )?|unable to decompress [^:]*: "
)


class DamagedError(Exception):
    """What a library said, in lower case and without the number of its error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(_NUMBERED.sub("", str(error).lower()))


class Decompressor(Protocol):
    """One gzip member or zstd frame on its way."""

    @property
    def eof(self) -> bool:
        """Whether its end was read."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What came after its end."""
        ...


class Library(Protocol):
    """One way to inflate one format."""

    name: str

    def start(self) -> Decompressor:
        """Begin with a member or frame."""
        ...

    def step(self, stream: Decompressor, data: bytes, size: int) -> tuple[bytes, bytes]:
        """Inflate at most `size` bytes; gives them, and the data to be given next.

        Raises:
            DamagedError: the library cannot go on.
        """
        ...


class Gzip:
    """gzip, by one of two libraries that have the same face."""

    name = "gzip"

    def __init__(self, library: Any, error: type[Exception]) -> None:
        self._library = library
        self._error = error

    def start(self) -> Decompressor:
        """Begin with a member."""
        found: Decompressor = self._library.decompressobj(_GZIP)
        return found

    def step(self, stream: Any, data: bytes, size: int) -> tuple[bytes, bytes]:
        """Inflate a bit."""
        try:
            piece = stream.decompress(data, size)
        except self._error as error:
            raise DamagedError(error) from error
        return piece, stream.unconsumed_tail


class Zstd:
    """zstd, by the one library that goes under two names; it keeps what it has not used yet."""

    name = "zstd"

    def __init__(self, library: Any) -> None:
        self._library = library

    def start(self) -> Decompressor:
        """Begin with a frame."""
        limit = {self._library.DecompressionParameter.window_log_max: MAX_WINDOW.bit_length() - 1}
        found: Decompressor = self._library.ZstdDecompressor(options=limit)
        return found

    def step(self, stream: Any, data: bytes, size: int) -> tuple[bytes, bytes]:
        """Inflate a bit."""
        try:
            return stream.decompress(data, size), b""
        except self._library.ZstdError as error:
            raise DamagedError(error) from error


def gzip_library() -> Library:
    """Choose the faster of what is installed."""
    try:
        from isal import isal_zlib  # noqa: PLC0415 - of the extra `fast`, and only for layers
    except ImportError:
        return Gzip(zlib, zlib.error)
    # Its stubs call the class an instance.
    failed: Any = isal_zlib.error
    return Gzip(isal_zlib, failed)


def zstd_library(what: str) -> Library:
    """Find what reads zstd.

    Raises:
        UnsupportedDocument: nothing here does.
    """
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - Python 3.14
    except ImportError:
        try:
            from backports import zstd  # noqa: PLC0415 - of the extra `fast`
        except ImportError as error:
            raise UnsupportedDocument(
                what,
                "",
                "it is compressed with zstd, and nothing here reads that",
                "pip install 'multiarch-resolver[fast]'",
            ) from error
    return Zstd(zstd)


def library_for(compression: str, what: str) -> Library:
    """Find the library for a compression that `compression_of` has named.

    Raises:
        UnsupportedDocument: there is none here.
    """
    return _LIBRARIES[compression](what)


_LIBRARIES: dict[str, Callable[[str], Library]] = {
    "gzip": lambda _what: gzip_library(),
    "zstd": zstd_library,
}
