"""Results of `resolve`, `ls` and `inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.manifest import ImageConfig, Index, Manifest
    from resolver.core.platforms.platform import Grade, Platform
    from resolver.core.results.events import Warned


@dataclass(frozen=True, slots=True)
class Considered:
    """One index entry, by its positions from the root down, and why it was rejected, if it was."""

    path: tuple[int, ...]
    descriptor: Descriptor
    chosen: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """The manifest of a reference for one platform, and how it was selected.

    Attributes:
        pinned: the manifest as `registry/repository@digest`; for local sources only the digest.
        pinned_index: the same for the root of the reference.
        wanted: requested platforms, best first; several only for a default
            (docs/platform-matching.md, "Default platform").
        explicit: whether `wanted` was requested; False for the machine's own platform.
        platform: as written in the index or the config; None for content that is not an image.
        normalized: the same in normal form.
        grade: how well it matches; None if nothing was matched.
        tag_verified: True after `--verify-tag`, None without it.
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
    """A reference that failed, among several that may have succeeded."""

    reference: str
    wanted: str | None
    error: Exception


@dataclass(frozen=True, slots=True)
class Batch:
    """Several resolutions, and failures in their places."""

    answers: tuple[Resolution | Failure, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """One entry of an image: a platform, an attestation, or an artifact.

    Attributes:
        size: bytes of all layers as transferred; None if the manifest was not read.
        layers: number of layers; None if the manifest was not read.
        refers_to: of an attestation, the digest of the entry it describes.
    """

    descriptor: Descriptor
    platform: Platform | None
    size: int | None
    layers: int | None
    refers_to: str | None
    artifact_type: str | None = None


@dataclass(frozen=True, slots=True)
class Offers:
    """The entries of an image, in index order; only `offers` are images."""

    reference: str
    root: Descriptor
    offers: tuple[Offer, ...]
    attestations: tuple[Offer, ...]
    warnings: tuple[Warned, ...]
    artifacts: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """The documents of a reference.

    Attributes:
        index: set if an index was inspected without a platform.
        manifest, config: set if one image was inspected; config is None for other content.
        config_body: exact bytes of the config, if read.
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

    @property
    def step_sizes(self) -> tuple[int | None, ...]:
        """The compressed bytes of the layer of each step; None for a step without one.

        All are None if the history states another number of layers than the manifest.
        """
        steps = self.config.history if self.config is not None else ()
        layers = self.manifest.layers if self.manifest is not None else ()
        if sum(not step.empty_layer for step in steps) != len(layers):
            return (None,) * len(steps)
        sizes = iter(layer.size for layer in layers)
        return tuple(None if step.empty_layer else next(sizes) for step in steps)
