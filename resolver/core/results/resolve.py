"""Answers: what each question of the Ask group comes back with.

They live in the core so that rendering can know them without knowing how they were found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.oci.config import ImageConfig
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.manifest import Index, Manifest
    from resolver.core.platforms.platform import Grade, Platform
    from resolver.core.results.events import Warned


@dataclass(frozen=True, slots=True)
class Considered:
    """One entry of an index, and what became of it.

    Attributes:
        path: positions from the root index down, counted from 0.
        reason: why it lost; empty for the chosen one.

    """

    path: tuple[int, ...]
    descriptor: Descriptor
    chosen: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """Which manifest a reference means on one platform, and why.

    Attributes:
        reference: canonical text of what was asked.
        pinned: the manifest as `registry/repository@digest`; for local places the digest alone.
        pinned_index: the same for what the name itself points at.
        wanted: requested platforms, best first; several only for a default
            (docs/platform-matching.md, "Default platform").
        explicit: whether somebody asked for `wanted`, or the machine's own was taken.
        index: what the name points at, if that is an index; else None.
        manifest: the image manifest; sizes in bytes.
        platform: as the index or the config writes it; None for content that is no image.
        normalized: the same in normal form.
        grade: how well it fits; None where nothing was to be matched.
        considered: every entry looked at, in index order.
        tag_verified: True after `--verify-tag`, None when that was not asked.
        warnings: what a person should know, and that changes no answer.

    """

    reference: str
    pinned: str
    pinned_index: str
    wanted: tuple[Platform, ...]
    explicit: bool
    index: Descriptor | None
    manifest: Descriptor
    platform: Platform | None
    normalized: Platform | None
    grade: Grade | None
    considered: tuple[Considered, ...]
    tag_verified: bool | None
    warnings: tuple[Warned, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A question of several that has no answer; the others keep theirs."""

    reference: str
    wanted: str | None
    error: Exception


@dataclass(frozen=True, slots=True)
class Offer:
    """One entry of an image: a platform it is offered for, an attestation, or an artifact.

    Attributes:
        size: bytes of all layers as transferred; None when the manifest was not read.
        layers: how many; None when the manifest was not read.
        refers_to: for an attestation, the digest of the entry it speaks about.
        artifact_type: of an artifact, as its descriptor or its manifest says; None for others.

    """

    descriptor: Descriptor
    platform: Platform | None
    size: int | None
    layers: int | None
    refers_to: str | None
    artifact_type: str | None = None


@dataclass(frozen=True, slots=True)
class Offers:
    """What an image offers, in index order.

    Attributes:
        offers: the images; `attestations` and `artifacts` are no platforms.
    """

    reference: str
    root: Descriptor
    offers: tuple[Offer, ...]
    attestations: tuple[Offer, ...]
    warnings: tuple[Warned, ...]
    artifacts: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """The documents behind a reference.

    Attributes:
        index: set when an index was inspected and no platform was asked for.
        manifest, config: set when one image was inspected; config is None for other content.
        body: exact bytes of the index or manifest that is shown.
        config_body: exact bytes of the config, where it was read.

    """

    reference: str
    descriptor: Descriptor
    root: Descriptor
    platform: Platform | None
    index: Index | None
    manifest: Manifest | None
    config: ImageConfig | None
    body: bytes
    config_body: bytes | None
    warnings: tuple[Warned, ...]
