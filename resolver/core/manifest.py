"""Indexes and manifests: from verified bytes to values.

The bytes are hashed before they come here, and their digest stays theirs: nothing is ever
serialised again. Unknown media types, members and platforms are no errors (R13).
"""

from __future__ import annotations

from resolver.core.descriptor import (
    CONFIG_TYPES,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    OCI_ARTIFACT,
    Descriptor,
    EntryKind,
    is_artifact_type,
)
from resolver.core.descriptor_reader import (
    DESCRIPTOR_NAMES,
    MAX_DESCRIPTORS,
    read_descriptor,
    read_descriptors,
    refuse_two_sizes,
)
from resolver.core.document_size import MAX_DOCUMENT, refuse_oversize
from resolver.core.document_type import KNOWN, decide_type
from resolver.core.fields import Fields
from resolver.core.strict_json import read_object
from resolver.errors import LimitExceeded
from resolver.values import dataclass

__all__ = [
    "MAX_DEPTH",
    "MAX_DESCRIPTORS",
    "MAX_DOCUMENT",
    "MAX_LAYERS",
    "Index",
    "Manifest",
    "decide_type",
    "entry_kind",
    "parse_document",
]

#: Indexes inside indexes. Source: reliability.md R11.
MAX_DEPTH = 8
#: Source: reliability.md 5; Docker itself refuses more than 125.
MAX_LAYERS = 10_000

_SCHEMA_VERSION = 2

#: What early pushers called a Docker image's config; Docker takes them for images to this day.
#: Source: moby daemon/internal/distribution/registry.go, defaultImageTypes; distribution#1621.
_LOOSE_DOCKER_CONFIGS = frozenset({"application/octet-stream", "application/json", "text/html"})


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, normally one per platform.

    Attributes:
        media_type: OCI index or Docker list.
        manifests: in the order of the document, which decides between equals.
        annotations: sorted pairs.
    """

    media_type: str
    manifests: tuple[Descriptor, ...]
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image, or something else that is kept like one.

    Attributes:
        media_type: OCI manifest, Docker manifest, or the withdrawn OCI artifact manifest.
        config: None only in an artifact manifest.
        layers: bottom first; the blobs, in an artifact manifest.
        annotations: sorted pairs.
        lacks_layers: the document has no member `layers`, which the specification requires; read
            as no layers.
    """

    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    lacks_layers: bool = False

    @property
    def is_image(self) -> bool:
        """Whether the config describes a runnable image, and so says its platform.

        An `artifactType` goes before the config. Source: OCI image-spec v1.1.1, manifest.md,
        "Guidelines for Artifact Usage".
        """
        if self.config is None or is_artifact_type(self.artifact_type):
            return False
        kind = self.config.media_type
        loose = self.media_type == DOCKER_MANIFEST and kind in _LOOSE_DOCKER_CONFIGS
        return loose or kind in CONFIG_TYPES


def entry_kind(entry: Descriptor, manifest: Manifest | None) -> EntryKind:
    """Say what an entry of an index is, with its manifest where that was read (else None).

    What the index says stands; the manifest can only show that a supposed image is none.
    """
    if entry.kind is EntryKind.IMAGE and manifest is not None and not manifest.is_image:
        return EntryKind.ARTIFACT
    return entry.kind


def parse_document(
    body: bytes, content_type: str | None, what: str, expected: str | None = None
) -> Index | Manifest:
    """Read what a manifest endpoint, a layout or the store gave.

    Args:
        body: the bytes, already checked against the digest.
        content_type: the header as it came; None where there is no HTTP.
        what: the document, for messages: "the manifest of `ubuntu:24.04`".
        expected: the media type of the descriptor that led here; None when nobody said.

    Raises:
        BadDocument: it is not what it must be; `field` is the path to the fault.
        UnsupportedDocument: schema 1, an unknown kind, or a digest that cannot be verified.
        LimitExceeded: over 4 MiB, too deep, or too many entries.
        DigestMismatch, SizeMismatch: embedded `data` is not what its digest says.
    """
    refuse_oversize(body, what)
    document = read_object(body, what)
    kind = decide_type(content_type, document, what, expected)
    fields = Fields.of(document, what, "", KNOWN)
    if kind == OCI_ARTIFACT:
        return _artifact(fields)
    if fields.integer("schemaVersion") != _SCHEMA_VERSION:
        raise fields.bad("schemaVersion", "must be 2")
    return _index(fields, kind) if kind in INDEX_TYPES else _manifest(fields, kind)


def _index(fields: Fields, kind: str) -> Index:
    if "manifests" not in fields.members:
        raise fields.bad("manifests", "required, but missing")
    index = Index(
        media_type=kind,
        manifests=read_descriptors(fields, "manifests", any_algorithm=True),
        artifact_type=fields.text("artifactType"),
        subject=_subject(fields),
        annotations=fields.pairs("annotations"),
    )
    places = [(f"manifests[{at}]", entry) for at, entry in enumerate(index.manifests)]
    refuse_two_sizes(fields.what, [("subject", index.subject), *places])
    return index


def _manifest(fields: Fields, kind: str) -> Manifest:
    fields.required("config")
    config = fields.child("config", DESCRIPTOR_NAMES)
    manifest = Manifest(
        media_type=kind,
        config=None if config is None else read_descriptor(config),
        layers=_layers(fields, "layers"),
        artifact_type=fields.text("artifactType"),
        subject=_subject(fields),
        annotations=fields.pairs("annotations"),
        lacks_layers="layers" not in fields.members,
    )
    _refuse_two_sizes(fields, manifest, "layers")
    return manifest


def _artifact(fields: Fields) -> Manifest:
    """Read the withdrawn kind. Source: OCI image-spec v1.1.0-rc2, artifact.md."""
    manifest = Manifest(
        media_type=OCI_ARTIFACT,
        config=None,
        layers=_layers(fields, "blobs"),
        artifact_type=fields.text("artifactType"),
        subject=_subject(fields),
        annotations=fields.pairs("annotations"),
    )
    _refuse_two_sizes(fields, manifest, "blobs")
    return manifest


def _layers(fields: Fields, name: str) -> tuple[Descriptor, ...]:
    count = len(fields.array(name))
    if count > MAX_LAYERS:
        raise LimitExceeded(f"`{name}` in {fields.what}", MAX_LAYERS, count, "layers")
    return read_descriptors(fields, name)


def _subject(fields: Fields) -> Descriptor | None:
    child = fields.child("subject", DESCRIPTOR_NAMES)
    return None if child is None else read_descriptor(child, any_algorithm=True)


def _refuse_two_sizes(fields: Fields, manifest: Manifest, name: str) -> None:
    places = [(f"{name}[{at}]", layer) for at, layer in enumerate(manifest.layers)]
    head = [("config", manifest.config), ("subject", manifest.subject)]
    refuse_two_sizes(fields.what, [*head, *places])
