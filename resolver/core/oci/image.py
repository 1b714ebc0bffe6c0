"""Gathered: an image with all of its builds, their manifests and their configs.

Comparing, linting, checking and fanning out all begin here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import EntryKind
from resolver.core.oci.manifest import entry_kind
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.oci.config import ImageConfig
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.manifest import Index, Manifest
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Warned
    from resolver.errors import ResolverError


@dataclass(frozen=True, slots=True, eq=False)
class ImageEntry:
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
class ImageDocuments:
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
    parts: tuple[ImageEntry, ...]
    warnings: tuple[Warned, ...] = ()

    @property
    def images(self) -> tuple[ImageEntry, ...]:
        """The entries that can be images and can be verified; other content left out."""
        return tuple(
            part
            for part in self.parts
            if part.kind is EntryKind.IMAGE and part.descriptor.digest.is_verifiable
        )

    @property
    def attestations(self) -> tuple[ImageEntry, ...]:
        """The statements about other entries."""
        return tuple(part for part in self.parts if part.is_attestation)

    @property
    def artifacts(self) -> tuple[ImageEntry, ...]:
        """The entries that are neither image nor attestation nor index."""
        return tuple(part for part in self.parts if part.kind is EntryKind.ARTIFACT)

    def sound(self) -> ImageDocuments:
        """Give it back if every image could be read.

        Raises:
            ResolverError: why the first one that could not be read could not.
        """
        for part in self.images:
            if part.failure is not None:
                raise part.failure
        return self


#: How BuildKit marks an entry that speaks about another one.
#: Source: BuildKit, docs/attestations/attestation-storage.md.
SPEAKS_ABOUT = "vnd.docker.reference.digest"

#: Annotations that name the type of an in-toto predicate: BuildKit's of a layer, and that of a
#: Sigstore bundle's manifest. Source: BuildKit as above; sigstore/cosign, `BundlePredicateType`.
_PREDICATE_NAMES = ("in-toto.io/predicate-type", "dev.sigstore.bundle.predicateType")

#: What predicate types begin with, and the kind that they are.
#: Source: in-toto attestation framework, spec/predicates; slsa.dev/provenance.
_PREDICATES = (
    ("https://spdx.dev/Document", "sbom"),
    ("https://cyclonedx.org/", "sbom"),
    ("https://slsa.dev/provenance/", "provenance"),
)
#: Media types of artifacts and layers that are such a document themselves.
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
    """Say which kinds of statements a manifest holds; empty for one that holds others."""
    return frozenset(_kinds(manifest))


def may_be_statement(entry: Descriptor) -> bool:
    """Say whether a referrer is worth reading; signatures alone never are.

    Source: sigstore/cosign, the artifact type of a signature.
    """
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
