"""The bytes of a layer from its first, as few of them as are taken.

A registry is asked for stretches that grow: what is early costs one small one, and closing a
stream of everything would leave megabytes in sockets that somebody sent for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import ConnectionFailed, RangeRefused, StorageRefused

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from resolver.core.content import Content
    from resolver.core.descriptor import Descriptor
    from resolver.core.ranged import RangedSource

#: Bytes of the first stretch, and of the longest; each is twice the one before.
FIRST = 64 << 10
_LONGEST = 4 << 20
#: How often it is asked again when a connection breaks, or a link to storage has expired.
_TRIES = 3


def stretches(size: int) -> Iterator[tuple[int, int]]:
    """Cut so many bytes into stretches that grow."""
    at, length = 0, FIRST
    while at < size:
        yield at, min(at + length, size)
        at, length = at + length, min(2 * length, _LONGEST)


def local_bytes(place: Content, descriptor: Descriptor) -> Generator[bytes, None, None]:
    """Read content of this machine, cut as a registry's would be, so that answers are the same.

    Raises:
        NotFound, Unavailable, Untrusted, StoreFault: as `Content.open`.
    """
    with place.open(descriptor) as chunks:
        yield from _cut(chunks, descriptor.size)


def registry_bytes(place: RangedSource, descriptor: Descriptor) -> Generator[bytes, None, None]:
    """Ask a registry for as many stretches of a blob as are taken from here, one at a time.

    Where it knows no ranges, all is asked for, and left as soon as enough has come.

    Raises:
        NotFound, Denied, Unavailable, Untrusted: as `RangedSource.open_range`.
    """
    for start, end in stretches(descriptor.size):
        part = _part(place, descriptor, start, end)
        if part is None:
            with place.open_range(descriptor, 0, descriptor.size) as answer:
                yield from _after(start, _cut(answer.chunks, descriptor.size))
            return
        yield part


def _part(place: RangedSource, descriptor: Descriptor, start: int, end: int) -> bytes | None:
    """Fetch one stretch, taken up again where it broke; None where no ranges are given out.

    Raises:
        ConnectionFailed: it breaks off again and again.
    """
    got = bytearray()
    for tried in range(1, _TRIES + 1):
        try:
            with place.open_range(descriptor, start + len(got), end) as answer:
                if answer.whole and descriptor.size > FIRST:
                    return None
                if answer.whole:
                    got.clear()
                for chunk in answer.chunks:
                    got += chunk[: end - start - len(got)]
        except (RangeRefused, StorageRefused):
            return None
        except ConnectionFailed:
            if tried == _TRIES:
                raise
        if len(got) == end - start:
            return bytes(got)
    raise ConnectionFailed(f"`{descriptor.digest}` was cut short {_TRIES} times")


def _after(start: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Leave out the stretches that are here already."""
    at = 0
    for piece in pieces:
        if at >= start:
            yield piece
        at += len(piece)


def _cut(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Cut a stream into stretches; what goes past its size comes last, to be refused."""
    ends = stretches(size)
    _, end = next(ends, (0, 0))
    at, got = 0, bytearray()
    for chunk in chunks:
        got += chunk
        while end > at and len(got) >= end - at:
            yield bytes(got[: end - at])
            del got[: end - at]
            at = end
            _, end = next(ends, (0, 0))
    if got:
        yield bytes(got)
