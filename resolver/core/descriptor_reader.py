"""From the JSON of a descriptor, or of a platform, to the value."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from resolver.core.descriptor import Descriptor
from resolver.core.digest import verify
from resolver.core.platform import Platform
from resolver.errors import BadDocument, LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.digest import Digest
    from resolver.core.fields import Fields

#: Names that decide something in a descriptor. Source: OCI image-spec v1.1.1 descriptor.md.
DESCRIPTOR_NAMES = frozenset(
    {
        "mediaType",
        "digest",
        "size",
        "urls",
        "annotations",
        "data",
        "artifactType",
        "platform",
    }
)
#: Source: OCI image-spec v1.1.1 image-index.md; `features` is reserved there, and never read.
PLATFORM_NAMES = frozenset({"os", "architecture", "variant", "os.version", "os.features"})

#: Descriptors in one document. Source: reliability.md R11.
MAX_DESCRIPTORS = 20_000


def read_descriptor(fields: Fields, *, any_algorithm: bool = False) -> Descriptor:
    """Read one descriptor; `fields` were taken with `DESCRIPTOR_NAMES`.

    Args:
        fields: of the descriptor.
        any_algorithm: accept digests of unknown algorithms, for content that may never be needed,
            as the entries of an index; `Digest.require_verifiable` refuses it where it is.

    Raises:
        BadDocument: a member is missing or of the wrong type.
        UnsupportedDocument: the digest's algorithm cannot be verified here.
        DigestMismatch, SizeMismatch: the embedded `data` is not what the digest says.
    """
    digest = fields.any_digest("digest") if any_algorithm else fields.digest("digest")
    size = fields.integer("size")
    media_type = fields.required_text("mediaType")
    fields.media_type("mediaType")
    return Descriptor(
        media_type=media_type,
        digest=digest,
        size=size,
        platform=_read_platform_member(fields),
        artifact_type=fields.media_type("artifactType"),
        annotations=fields.pairs("annotations"),
        urls=fields.texts("urls"),
        data=_read_data(fields, digest, size),
    )


def read_descriptors(
    fields: Fields, name: str, *, any_algorithm: bool = False
) -> tuple[Descriptor, ...]:
    """Read an array of descriptors; null is empty, as Go writes an empty list.

    Raises:
        LimitExceeded: more than 20,000.
        BadDocument, UnsupportedDocument, DigestMismatch, SizeMismatch: as `read_descriptor`.
    """
    count = len(fields.array(name))
    if count > MAX_DESCRIPTORS:
        raise LimitExceeded(f"`{name}` in {fields.what}", MAX_DESCRIPTORS, count, "entries")
    return tuple(
        read_descriptor(child, any_algorithm=any_algorithm)
        for child in fields.children(name, DESCRIPTOR_NAMES)
    )


def read_platform(fields: Fields) -> Platform:
    """Read a platform as it is written, nothing normalised; absent members are empty."""
    return Platform(
        os=fields.text("os") or "",
        architecture=fields.text("architecture") or "",
        variant=fields.text("variant") or "",
        os_version=fields.text("os.version") or "",
        os_features=fields.texts("os.features"),
    )


def refuse_two_sizes(what: str, places: Iterable[tuple[str, Descriptor | None]]) -> None:
    """Check that one digest has one size, over descriptors and the paths where they stand.

    Raises:
        BadDocument: two descriptors state different sizes for one digest (R9).
    """
    sizes: dict[Digest, int] = {}
    for path, descriptor in places:
        if descriptor is None:
            continue
        first = sizes.setdefault(descriptor.digest, descriptor.size)
        if first != descriptor.size:
            reason = f"the same digest has {first} bytes elsewhere, and {descriptor.size} here"
            raise BadDocument(what, f"{path}.size", reason)


def _read_platform_member(fields: Fields) -> Platform | None:
    child = fields.child("platform", PLATFORM_NAMES)
    return None if child is None else read_platform(child)


def _read_data(fields: Fields, digest: Digest, size: int) -> bytes | None:
    """Decode embedded content. Source: OCI image-spec v1.1.1 descriptor.md, "Embedded Content"."""
    encoded = fields.text("data")
    if encoded is None:
        return None
    try:
        content = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise fields.bad("data", "not base64") from error
    if not digest.is_verifiable:
        # Nothing is known to be the content: reading it is refused where it is needed.
        return None
    verify(content, digest, size, f"`{fields.at('data')}` of {fields.what}")
    return content
