"""An image with all of its builds: manifests and configs.

The input of compare, lint, check and matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import EntryKind
from resolver.core.oci.manifest import entry_kind
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

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


#: Annotations that name the type of an in-toto predicate: BuildKit's on a layer, and Sigstore's
#: on the manifest of a bundle. Source: BuildKit, docs/attestations/attestation-storage.md;
#: sigstore/cosign, `BundlePredicateType`.
_PREDICATE_NAMES = ("in-toto.io/predicate-type", "dev.sigstore.bundle.predicateType")

#: Prefixes of predicate types, and the kind of attestation.
#: Source: in-toto attestation framework, spec/predicates; slsa.dev/provenance.
_PREDICATES = (
    ("https://spdx.dev/Document", "sbom"),
    ("https://cyclonedx.org/", "sbom"),
    ("https://slsa.dev/provenance/", "provenance"),
)
#: Media types of artifacts and layers that are such a document.
#: Source: IANA media types; `oras attach` and `syft attest` in their documentation.
_MEDIA_TYPES = {
    "application/spdx+json": "sbom",
    "text/spdx": "sbom",
    "text/spdx+json": "sbom",
    "application/vnd.cyclonedx": "sbom",
    "application/vnd.cyclonedx+json": "sbom",
    "application/vnd.cyclonedx+xml": "sbom",
    "application/vnd.syft+json": "sbom",
    "application/vnd.slsa.provenance+json": "provenance",
}


def kinds_of(manifest: Manifest) -> frozenset[str]:
    """Return the kinds of attestations in a manifest; empty if it has other content."""
    return frozenset(_kinds(manifest))


def may_be_statement(entry: Descriptor) -> bool:
    """Whether a referrer may be an attestation. Source: sigstore/cosign, type of a signature."""
    return entry.artifact_type != "application/vnd.dev.cosign.artifact.sig.v1+json"


def _kinds(manifest: Manifest) -> Iterator[str]:
    configs = (manifest.config.media_type,) if manifest.config is not None else ()
    for media_type in (manifest.artifact_type or "", *configs):
        yield from _of_type(media_type)
    yield from _of_annotations(manifest.annotations)
    for layer in manifest.layers:
        yield from _of_type(layer.media_type)
        yield from _of_annotations(layer.annotations)


def _of_type(media_type: str) -> Iterator[str]:
    kind = _MEDIA_TYPES.get(media_type.partition(";")[0].strip().lower())
    if kind is not None:
        yield kind


def _of_annotations(annotations: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for name, value in annotations:
        if name in _PREDICATE_NAMES:
            for start, kind in _PREDICATES:
                if value.startswith(start):
                    yield kind
