"""Descriptors: what a document says about another piece of content."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.digest import Digest
    from resolver.core.platform import Platform

# Source: OCI image-spec v1.1.1, media-types.md; distribution docs, spec/manifest-v2-2.md.
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
#: Withdrawn before image-spec 1.1; read, never written.
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
#: Detected, so that the refusal can say what it is.
SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
SCHEMA1_TYPES = frozenset({SCHEMA1_SIGNED, SCHEMA1})
#: Every type a manifest endpoint may answer with.
DOCUMENT_TYPES = INDEX_TYPES | MANIFEST_TYPES | {OCI_ARTIFACT} | SCHEMA1_TYPES
#: Configs that describe a runnable image.
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})

_ACCEPTED = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST]
#: Both index types before both image types, schema 1 last so that a legacy registry gives
#: something that can be named. Source: protocol.md 4.2.
ACCEPT = ", ".join([*_ACCEPTED, OCI_ARTIFACT, SCHEMA1_SIGNED, SCHEMA1])


class EntryKind(Enum):
    """What an entry of an index is."""

    IMAGE = "image"
    #: An index inside the index; what is in it has kinds of its own.
    INDEX = "index"
    #: A statement about another entry of the same index, as BuildKit writes them.
    ATTESTATION = "attestation"
    #: Anything else: an SBOM, a SOCI index, a disk image, an unknown media type.
    ARTIFACT = "artifact"


def is_artifact_type(artifact_type: str | None) -> bool:
    """Whether an `artifactType` says that the content is no image.

    Tools that fill it in for every manifest repeat the type of the config, which for an image is
    an image config. Source: OCI distribution-spec v1.1, "Listing Referrers"; oras-go `Referrers`.
    """
    return bool(artifact_type) and artifact_type not in CONFIG_TYPES


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Type, digest and size of content, and what an index says about it.

    Attributes:
        size: in bytes; authoritative, never measured.
        platform: as written by the index; None where it says nothing.
        data: embedded content, already checked against `digest` and `size`.
        annotations: sorted pairs.

    """

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    artifact_type: str | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    urls: tuple[str, ...] = ()
    data: bytes | None = None

    def annotation(self, key: str) -> str | None:
        """Look one annotation up."""
        return next((value for name, value in self.annotations if name == key), None)

    @property
    def is_index(self) -> bool:
        """Whether this names a list of manifests."""
        return self.media_type in INDEX_TYPES

    @property
    def kind(self) -> EntryKind:
        """What the index says this entry is; `manifest.entry_kind` knows more.

        Source: OCI image-spec v1.1.1, descriptor.md, `artifactType`; platforms.md 7.2.
        """
        if self.is_attestation:
            return EntryKind.ATTESTATION
        if is_artifact_type(self.artifact_type):
            return EntryKind.ARTIFACT
        if self.is_index:
            return EntryKind.INDEX
        return EntryKind.IMAGE if self.media_type in MANIFEST_TYPES else EntryKind.ARTIFACT

    @property
    def is_attestation(self) -> bool:
        """Whether BuildKit marked this entry as a statement about another entry (D5)."""
        return self.annotation("vnd.docker.reference.type") is not None
