"""The shapes of places that hold content."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Document:
    """A verified document and what it is.

    `descriptor.media_type` is the decided type (docs/wire-protocol.md, "Document type");
    `descriptor.digest` and
    `descriptor.size` are those of `body`.
    """

    descriptor: Descriptor
    body: bytes


class Content(Protocol):
    """Holds content and finds it by digest."""

    def has(self, descriptor: Descriptor) -> bool:
        """Say whether the content is here, without reading it."""
        ...

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Stream the content in chunks; the caller verifies, whatever the implementation does.

        Raises:
            NotFound: the content is not here.
            Unavailable: it may be here, but could not be read now.

        """
        ...

    def read(self, descriptor: Descriptor) -> bytes:
        """Read a document whole: verified against digest and size, at most 4 MiB.

        Raises:
            NotFound, Unavailable: as `open`.
            Untrusted: other bytes came, or too many.

        """
        ...


class Source(Content, Protocol):
    """Content that also goes by names: tags in a repository, entries in a layout's index."""

    def resolve(self, name: str) -> Descriptor:
        """Turn a tag, or a digest in text form, into a descriptor, as cheaply as the place can.

        Raises:
            NotFound: there is no such name.

        """
        ...

    def document(self, name: str) -> Document:
        """Read what a name points at, in one round trip.

        Raises:
            NotFound: there is no such name.
            Untrusted: a digest was asked for and other bytes came.

        """
        ...

    def tags(self) -> Iterator[str]:
        """List the names there are, in the order of the place; lazily, page by page."""
        ...

    def warnings(self) -> tuple[str, ...]:
        """Give what the place wants people to know (RFC 7234 `Warning`), each text once."""
        ...


@runtime_checkable
class Refers(Protocol):
    """A place that knows what refers to a manifest: signatures, attestations and the like."""

    def referrers(self, digest: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """List them, each once, by digest; none of them is proven to refer before it is read."""
        ...


#: Source: RFC 9110, 14.4. A position has 19 digits at most: it is below 2^63.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """A stretch of a blob on its way.

    Attributes:
        whole: the place ignored the range: this is the blob from its first byte.
        end: the first byte that does not come any more; `chunks` may bring more than that when
            the place is at fault, and whoever reads must look.
        coding: the content coding that the place claims; empty for none.

    """

    whole: bool
    end: int
    chunks: Iterator[bytes]
    coding: str = ""


class RangedSource(Protocol):
    """A place that gives out parts of blobs."""

    def open_range(
        self, descriptor: Descriptor, start: int, end: int
    ) -> AbstractContextManager[RangeAnswer]:
        """Stream a blob from byte `start` to just before byte `end`; the caller verifies.

        Raises:
            RangeRefused: another part came, or none.
            StorageRefused: a link that the registry gave out has expired.
            NotFound, Denied, Unavailable, Untrusted: as `Content.open`.

        """
        ...


@runtime_checkable
class Distrusting(Protocol):
    """A place that has its content from several others."""

    def distrust(self, digest: Digest) -> bool:
        """Hear that what was given for a digest is not it; say whether others can be asked."""
        ...


def read_content_range(values: tuple[str, ...], start: int, end: int, size: int) -> int | None:
    """Give the byte behind the last one that an answer brings; None if it is not what was asked.

    Args:
        values: every `Content-Range` header of the answer.
        start: the first byte that was asked for.
        end: the one behind the last that was.
        size: of the whole blob, in bytes.

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
