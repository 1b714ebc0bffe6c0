"""Protocols of places that hold content: the store, registries, layouts, archives."""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.manifest import Index, Manifest


@dataclass(frozen=True, slots=True)
class Document:
    """A verified document; its descriptor has the decided type, digest and size of `body`."""

    descriptor: Descriptor
    body: bytes
    #: What `parse_document` made of the body, where it was parsed already.
    parsed: Index | Manifest | None = field(default=None, repr=False, compare=False)


class Content(Protocol):
    """Content, addressed by digest."""

    def has(self, descriptor: Descriptor) -> bool:
        """Return whether the content exists, without reading it."""
        ...

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Stream the content in chunks; the caller verifies them.

        Raises:
            NotFound: the content does not exist here.
            Unavailable: it may exist, but could not be read.
        """
        ...

    def read(self, descriptor: Descriptor) -> bytes:
        """Read a whole document of at most 4 MiB, verified against digest and size.

        Raises:
            NotFound, Unavailable: as `open`.
            Untrusted: the bytes do not match the descriptor.
        """
        ...


class Source(Content, Protocol):
    """Content that also has names: tags in a repository, entries in a layout's index."""

    def resolve(self, name: str) -> Descriptor:
        """Return the descriptor of a tag or a digest, as cheaply as possible.

        Raises:
            NotFound: there is no such name.
        """
        ...

    def document(self, name: str) -> Document:
        """Read the document of a tag or a digest, in one round trip.

        Raises:
            NotFound: there is no such name.
            Untrusted: the bytes do not match the requested digest.
        """
        ...

    def tags(self) -> Iterator[str]:
        """Yield the names in the source's order, fetching page by page."""
        ...

    def warnings(self) -> tuple[str, ...]:
        """Return the warnings sent so far (RFC 7234 `Warning`), without duplicates."""
        ...


@runtime_checkable
class Refers(Protocol):
    """A source that lists referrers: signatures, attestations and other artifacts."""

    def referrers(self, digest: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """List referrers, each once, by digest; their `subject` is not verified yet."""
        ...

    def referrers_by_api(self, digest: Digest) -> tuple[Descriptor, ...] | None:
        """List referrers without looking for a fallback tag; None if that is not possible."""
        ...


#: Source: RFC 9110, 14.4. A position has 19 digits at most: it is below 2^63.
_CONTENT_RANGE = pattern(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """The response to a range request.

    `whole`: the range was ignored; `chunks` start at the first byte of the blob. `end`: the offset
    just past the last byte; a faulty server may send more, so the reader must check. `coding`: the
    stated content coding; empty for none. A chunk may be a view of bytes (`memoryview`).
    """

    whole: bool
    end: int
    chunks: Iterator[bytes]
    coding: str = ""


class RangedSource(Protocol):
    """A source that serves byte ranges of blobs."""

    def open_range(
        self, descriptor: Descriptor, start: int, end: int
    ) -> AbstractContextManager[RangeAnswer]:
        """Stream a blob from byte `start` to just before byte `end`; the caller verifies.

        Raises:
            RangeRefused: another range came, or none.
            StorageRefused: a redirect URL from the registry has expired.
            NotFound, Denied, Unavailable, Untrusted: as `Content.open`.
        """
        ...


@runtime_checkable
class Distrusting(Protocol):
    """A source that reads from several hosts."""

    def distrust(self, digest: Digest) -> bool:
        """Drop the host that served wrong bytes for a digest; return whether others remain."""
        ...


def read_content_range(values: tuple[str, ...], start: int, end: int, size: int) -> int | None:
    """Return the offset just past the last byte of a response; None if it is not as requested.

    `values`: every `Content-Range` header of the response.

    A server may send less than was requested. Source: RFC 9110, 14.4 and 15.3.7;
    docs/wire-protocol.md, "Ranges and resume".
    """
    if len(values) != 1:
        return None
    found = _CONTENT_RANGE.fullmatch(values[0].strip(" \t"))
    if found is None:
        return None
    first, last = int(found[1]), int(found[2])
    if found[3] != "*" and int(found[3]) != size:
        return None
    return last + 1 if first == start and start <= last < end else None
