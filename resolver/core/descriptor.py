"""Descriptors: what a document says about another piece of content."""

from __future__ import annotations

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
    def is_attestation(self) -> bool:
        """Whether BuildKit marked this entry as a statement about another entry (D5)."""
        return self.annotation("vnd.docker.reference.type") is not None
