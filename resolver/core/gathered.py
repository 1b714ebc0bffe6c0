"""Gathered: an image with all of its builds, their manifests and their configs.

Comparing, linting, checking and fanning out all begin here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.descriptor import EntryKind
from resolver.core.manifest import entry_kind
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.descriptor import Descriptor
    from resolver.core.events import Warned
    from resolver.core.image_config import ImageConfig
    from resolver.core.manifest import Index, Manifest
    from resolver.core.platform import Platform
    from resolver.errors import ResolverError


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One entry of an index, or the only image of a name, and what is behind it.

    Attributes:
        descriptor: of the manifest, as the index writes it.
        path: positions from the root index down, counted from 0; empty without an index.
        platform: as the index states it, else as the config does; None when neither does.
        manifest, config: None where they were not read, do not exist, or could not be read.
        failure: why the manifest or the config could not be read.
    """

    descriptor: Descriptor
    path: tuple[int, ...]
    platform: Platform | None
    manifest: Manifest | None
    config: ImageConfig | None
    failure: ResolverError | None = None

    @property
    def kind(self) -> EntryKind:
        """What this is, by its manifest where that was read."""
        return entry_kind(self.descriptor, self.manifest)

    @property
    def is_attestation(self) -> bool:
        """Whether this is a statement about another entry."""
        return self.descriptor.is_attestation


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """A name, and everything it means.

    Attributes:
        reference: canonical text of what was asked.
        prefix: `registry/repository@`, before a digest; empty for local places.
        root: what the name points at.
        index: None for a name that points at one image.
        parts: every entry that is no index, in index order; nested ones in their place.
    """

    reference: str
    prefix: str
    root: Descriptor
    index: Index | None
    parts: tuple[Part, ...]
    warnings: tuple[Warned, ...] = ()

    @property
    def images(self) -> tuple[Part, ...]:
        """The entries that can be images and can be verified; other content left out."""
        return tuple(
            part
            for part in self.parts
            if part.kind is EntryKind.IMAGE and part.descriptor.digest.is_verifiable
        )

    @property
    def attestations(self) -> tuple[Part, ...]:
        """The statements about other entries."""
        return tuple(part for part in self.parts if part.is_attestation)

    @property
    def artifacts(self) -> tuple[Part, ...]:
        """The entries that are neither image nor attestation nor index."""
        return tuple(part for part in self.parts if part.kind is EntryKind.ARTIFACT)

    def sound(self) -> Gathered:
        """Give it back if every image could be read.

        Raises:
            ResolverError: why the first one that could not be read could not.
        """
        for part in self.images:
            if part.failure is not None:
                raise part.failure
        return self
