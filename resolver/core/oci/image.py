"""An image with all of its builds: manifests and configs.

The input of compare, lint, check and matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import EntryKind
from resolver.core.oci.manifest import entry_kind
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.manifest import ImageConfig, Index, Manifest
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Warned
    from resolver.errors import ResolverError


@dataclass(frozen=True, slots=True, eq=False)
class ImageEntry:
    """One entry of an index, or a single image, with its manifest and config.

    Attributes:
        path: positions from the root index down, counted from 0; empty without an index.
        platform: from the index, else from the config; None if neither states one.
        manifest, config: None if not read, nonexistent or unreadable.
        failure: why the manifest or config could not be read.
    """

    descriptor: Descriptor
    path: tuple[int, ...]
    platform: Platform | None
    manifest: Manifest | None
    config: ImageConfig | None
    failure: ResolverError | None = None

    @property
    def kind(self) -> EntryKind:
        """The kind of the entry, by its manifest if that was read."""
        return entry_kind(self.descriptor, self.manifest)

    @property
    def is_attestation(self) -> bool:
        """Whether this is an attestation of another entry."""
        return self.descriptor.is_attestation


@dataclass(frozen=True, slots=True, eq=False)
class ImageDocuments:
    """All documents of a reference.

    `prefix`: `registry/repository@`, before a digest; empty for local sources. `parts`: every entry
    except indexes, in index order; nested entries in place of theirs.
    """

    reference: str
    prefix: str
    root: Descriptor
    index: Index | None
    parts: tuple[ImageEntry, ...]
    warnings: tuple[Warned, ...] = ()

    @property
    def images(self) -> tuple[ImageEntry, ...]:
        """The entries that are images with a supported digest algorithm."""
        return tuple(
            part
            for part in self.parts
            if part.kind is EntryKind.IMAGE and part.descriptor.digest.is_verifiable
        )

    @property
    def attestations(self) -> tuple[ImageEntry, ...]:
        """The entries that are attestations of other entries."""
        return tuple(part for part in self.parts if part.is_attestation)

    @property
    def artifacts(self) -> tuple[ImageEntry, ...]:
        """The entries that are neither images nor attestations nor indexes."""
        return tuple(part for part in self.parts if part.kind is EntryKind.ARTIFACT)

    def sound(self) -> ImageDocuments:
        """Return self if every image could be read."""
        for part in self.images:
            if part.failure is not None:
                raise part.failure
        return self
