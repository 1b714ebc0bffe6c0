"""The shapes of places that hold content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from resolver.core.descriptor import Descriptor
    from resolver.core.digest import Digest


@dataclass(frozen=True, slots=True)
class Document:
    """A verified document and what it is.

    `descriptor.media_type` is the decided type (protocol.md 4.5); `descriptor.digest` and
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
