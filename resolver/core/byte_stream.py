"""Bytes that come in chunks, read in the pieces somebody wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class ByteStream:
    """Reads forward only; keeps one chunk.

    Args:
        chunks: of any length.

    Attributes:
        offset: bytes read so far.
    """

    __slots__ = ("_at", "_chunk", "_chunks", "_length", "offset")

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0
        self._length = 0
        self.offset = 0

    def _more(self) -> bool:
        """Get the next chunk that has bytes; False at the end."""
        for chunk in self._chunks:
            if chunk:
                self._chunk = chunk
                self._at = 0
                self._length = len(chunk)
                return True
        return False

    def take(self, size: int) -> bytes:
        """Read so many bytes; fewer only where the stream ends."""
        at = self._at
        end = at + size
        if end <= self._length:
            self._at = end
            self.offset += size
            return self._chunk[at:end]
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Read so many bytes as views of the chunks; fewer only where the stream ends."""
        while size > 0:
            if self._at >= self._length and not self._more():
                return
            at = self._at
            end = min(at + size, self._length)
            self._at = end
            self.offset += end - at
            size -= end - at
            yield memoryview(self._chunk)[at:end]

    def skip(self, size: int) -> int:
        """Pass over so many bytes; gives how many there were."""
        end = self._at + size
        if end <= self._length:
            self._at = end
            self.offset += size
            return size
        return sum(map(len, self.pieces(size)))
