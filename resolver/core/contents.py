"""Contents: what an image offers, and the documents behind a name.

Answers like those of `core.answer`, in a module of their own because resolving needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.descriptor import Descriptor
    from resolver.core.events import Warned
    from resolver.core.image_config import ImageConfig
    from resolver.core.manifest import Index, Manifest
    from resolver.core.platform import Platform


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
