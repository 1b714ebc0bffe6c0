"""Attestations: what kinds of statements a manifest holds.

Nothing here says whether a statement is true, or who signed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.descriptor import Descriptor
    from resolver.core.manifest import Manifest

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
