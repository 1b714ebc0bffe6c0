"""Attestations, artifacts and referrers: content that accompanies an image."""

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

#: As `descriptor.EntryKind`, and referrers; `index` is a nested index that was not read.
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
    """Content that is stored with an image and is not an image.

    Attributes:
        kind: `attestation` and `artifact` are index entries, `referrer` is not.
        about: digest of what it refers to; None if not stated.
        tag: of the repository, as cosign uses; empty for others.
    """

    kind: AttachedKind
    manifest: Descriptor
    about: Digest | None = None
    tag: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An index entry that a pull or an export skips."""

    reference: str
    kind: AttachedKind
    descriptor: Descriptor
    platform: Platform | None


def kind_of(entry: Descriptor, manifest: Manifest | None = None) -> AttachedKind:
    """Classify an index entry, given its manifest if that was read."""
    return _KINDS[entry_kind(entry, manifest)]


def refers_to(entry: Descriptor) -> Digest | None:
    """Return the digest of the entry that this one refers to; None if not stated."""
    text = entry.annotation(SPEAKS_ABOUT)
    if text is None:
        return None
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None


def counted(kinds: Iterable[AttachedKind]) -> str:
    """Format counts by kind: `2 images, 1 attestation`."""
    counts = Counter(kinds)
    return ", ".join(
        f"{counts[kind]} {kind if counts[kind] == 1 else plural}"
        for kind, plural in _PLURALS.items()
        if counts[kind]
    )
