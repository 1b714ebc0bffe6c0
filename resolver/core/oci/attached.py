"""What an index lists besides images, and what refers to an image from outside its index."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from resolver.core.oci.descriptor import EntryKind
from resolver.core.oci.digest import Digest
from resolver.core.oci.image import SPEAKS_ABOUT
from resolver.core.oci.manifest import entry_kind
from resolver.errors import InvalidDigest
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.manifest import Manifest
    from resolver.core.platforms.platform import Platform

#: As `descriptor.EntryKind`, and what is not in the index; `index` is one that was not read.
AttachedKind = Literal["image", "attestation", "artifact", "index", "referrer"]

_KINDS: dict[EntryKind, AttachedKind] = {
    EntryKind.IMAGE: "image",
    EntryKind.INDEX: "index",
    EntryKind.ATTESTATION: "attestation",
    EntryKind.ARTIFACT: "artifact",
}
_PLURALS: dict[AttachedKind, str] = {
    "image": "images",
    "attestation": "attestations",
    "artifact": "artifacts",
    "index": "indexes",
    "referrer": "referrers",
}


@dataclass(frozen=True, slots=True)
class Attached:
    """Content that is kept with an image and is no image.

    Attributes:
        kind: `attestation` and `artifact` are entries of the index, `referrer` is not.
        manifest: type, digest and size only.
        about: digest of what it refers to; None where it does not say.
        tag: under which its repository keeps it, as cosign does; empty for others.

    """

    kind: AttachedKind
    manifest: Descriptor
    about: Digest | None = None
    tag: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An entry of an index that a pull or an export does not take.

    Attributes:
        reference: canonical text of what was asked.
        platform: as the index writes it.

    """

    reference: str
    kind: AttachedKind
    descriptor: Descriptor
    platform: Platform | None


def kind_of(entry: Descriptor, manifest: Manifest | None = None) -> AttachedKind:
    """Classify an entry of an index, by its manifest too where that was read."""
    return _KINDS[entry_kind(entry, manifest)]


def refers_to(entry: Descriptor) -> Digest | None:
    """Give the digest of the entry that this one is about; None where it says none."""
    text = entry.annotation(SPEAKS_ABOUT)
    if text is None:
        return None
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None


def counted(kinds: Iterable[AttachedKind]) -> str:
    """Count entries by kind, in words: `2 images, 1 attestation`."""
    counts = Counter(kinds)
    return ", ".join(
        f"{counts[kind]} {kind if counts[kind] == 1 else plural}"
        for kind, plural in _PLURALS.items()
        if counts[kind]
    )
