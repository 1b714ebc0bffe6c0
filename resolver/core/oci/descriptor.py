"""Descriptors: media type, digest and size of content."""

from __future__ import annotations

import base64
from enum import Enum
from typing import TYPE_CHECKING

from resolver.core.oci.digest import verify
from resolver.core.platforms.platform import Platform
from resolver.errors import BadDocument, LimitExceeded, UnsupportedDocument
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.oci.digest import Digest
    from resolver.core.parse.json import Fields


# Source: OCI image-spec v1.1.1, media-types.md; distribution docs, spec/manifest-v2-2.md.
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
#: Withdrawn before image-spec 1.1; read, never written.
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
#: Detected for a precise error message.
SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
SCHEMA1_TYPES = frozenset({SCHEMA1_SIGNED, SCHEMA1})
#: Every media type of a manifest endpoint's responses.
DOCUMENT_TYPES = INDEX_TYPES | MANIFEST_TYPES | {OCI_ARTIFACT} | SCHEMA1_TYPES
#: Configs that describe a runnable image.
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})

_ACCEPTED = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST]
#: Index types before image types; schema 1 last, so that a legacy registry sends a document that
#: the error can name. Source: docs/wire-protocol.md, "Accept header".
ACCEPT = ", ".join([*_ACCEPTED, OCI_ARTIFACT, SCHEMA1_SIGNED, SCHEMA1])


class EntryKind(Enum):
    """The kind of an index entry."""

    IMAGE = "image"
    #: A nested index.
    INDEX = "index"
    #: An attestation of another entry of the same index, as BuildKit writes them.
    ATTESTATION = "attestation"
    #: Anything else: an SBOM, a SOCI index, a disk image, an unknown media type.
    ARTIFACT = "artifact"


def is_artifact_type(artifact_type: str | None) -> bool:
    """Whether an `artifactType` marks content that is not an image.

    Some tools set it on every manifest to the media type of the config. Source: OCI
    distribution-spec v1.1, "Listing Referrers"; oras-go `Referrers`.
    """
    return bool(artifact_type) and artifact_type not in CONFIG_TYPES


_STARGZ_TOC = "containerd.io/snapshot/stargz/toc.digest"
_TOC_ANNOTATIONS = frozenset(
    {
        "io.github.containers.zstd-chunked.manifest-checksum",
        "io.containers.zstd-chunked.manifest-checksum",
        _STARGZ_TOC,
    }
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A descriptor, with the members that an index adds to its entries.

    `data`: embedded content, verified against `digest` and `size`. `annotations`: sorted pairs.
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
        """Return the value of an annotation; None if absent."""
        return next((value for name, value in self.annotations if name == key), None)

    @property
    def layer_format(self) -> str:
        """The format of a layer: `zstd:chunked`, `eStargz`, `gzip`, `zstd` or `tar`; else empty.

        The media type and the annotations state it; the layer itself is not read.
        """
        names = {name for name, _ in self.annotations} & _TOC_ANNOTATIONS
        if names:
            return "eStargz" if names == {_STARGZ_TOC} else "zstd:chunked"
        _, _, packing = self.media_type.rpartition("+")
        if packing in {"gzip", "zstd"}:
            return packing
        if self.media_type.endswith(".tar.gzip"):
            return "gzip"
        return "tar" if self.media_type.endswith(".tar") else ""

    @property
    def has_chunks(self) -> bool:
        """Whether this layer declares a table of contents of its chunks.

        Source: containers/storage, pkg/chunked/internal/minimal; stargz-snapshotter,
        estargz.md, "TOC digest". The name without `github` is of earlier writers.
        """
        return any(name in _TOC_ANNOTATIONS for name, _ in self.annotations)

    @property
    def attests(self) -> str | None:
        """The digest text of the entry that this attestation of BuildKit refers to."""
        return self.annotation("vnd.docker.reference.digest")

    @property
    def is_index(self) -> bool:
        """Whether this is the descriptor of an index."""
        return self.media_type in INDEX_TYPES

    @property
    def kind(self) -> EntryKind:
        """The kind by the index alone; `manifest.entry_kind` also considers the manifest.

        Source: OCI image-spec v1.1.1, descriptor.md, `artifactType`; docs/platform-matching.md,
        "Eligible entries".
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
        """Whether BuildKit marked this entry as an attestation of another entry."""
        return self.annotation("vnd.docker.reference.type") is not None


#: Members of a descriptor that are interpreted. Source: OCI image-spec v1.1.1 descriptor.md.
DESCRIPTOR_NAMES = frozenset(
    {"mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"}
)
#: Source: OCI image-spec v1.1.1 image-index.md; `features` is reserved there and ignored.
PLATFORM_NAMES = frozenset({"os", "architecture", "variant", "os.version", "os.features"})

#: Descriptors in one document. Source: docs/store-and-reliability.md, "Index traversal".
MAX_DESCRIPTORS = 20_000


def read_descriptor(fields: Fields, *, any_algorithm: bool = False) -> Descriptor:
    """Read one descriptor; `any_algorithm` accepts digests that only their use refuses."""
    digest = fields.any_digest("digest") if any_algorithm else fields.digest("digest")
    size = fields.integer("size")
    media_type = fields.required_text("mediaType")
    fields.media_type("mediaType")
    platform = fields.child("platform", PLATFORM_NAMES)
    return Descriptor(
        media_type=media_type,
        digest=digest,
        size=size,
        platform=None if platform is None else read_platform(platform),
        artifact_type=fields.media_type("artifactType"),
        annotations=fields.pairs("annotations"),
        urls=fields.texts("urls"),
        data=_read_data(fields, digest, size),
    )


def read_descriptors(
    fields: Fields, name: str, *, any_algorithm: bool = False
) -> tuple[Descriptor, ...]:
    """Read an array of descriptors; null is empty, as Go writes empty lists."""
    count = len(fields.array(name))
    if count > MAX_DESCRIPTORS:
        raise LimitExceeded(f"`{name}` in {fields.what}", MAX_DESCRIPTORS, count, "entries")
    return tuple(
        read_descriptor(child, any_algorithm=any_algorithm)
        for child in fields.children(name, DESCRIPTOR_NAMES)
    )


def read_platform(fields: Fields) -> Platform:
    """Read a platform as written, without normalising it; absent members are empty."""
    return Platform(
        os=fields.text("os") or "",
        architecture=fields.text("architecture") or "",
        variant=fields.text("variant") or "",
        os_version=fields.text("os.version") or "",
        os_features=fields.texts("os.features"),
    )


def refuse_two_sizes(what: str, places: Iterable[tuple[str, Descriptor | None]]) -> None:
    """Check that equal digests state equal sizes; `places` are paths and descriptors."""
    sizes: dict[Digest, int] = {}
    for path, descriptor in places:
        if descriptor is None:
            continue
        first = sizes.setdefault(descriptor.digest, descriptor.size)
        if first != descriptor.size:
            reason = f"the same digest has {first} bytes elsewhere, and {descriptor.size} here"
            raise BadDocument(what, f"{path}.size", reason)


def _read_data(fields: Fields, digest: Digest, size: int) -> bytes | None:
    """Decode embedded content. Source: OCI image-spec v1.1.1 descriptor.md, "Embedded Content"."""
    encoded = fields.text("data")
    if encoded is None:
        return None
    try:
        content = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise fields.bad("data", "not base64") from error
    if not digest.is_verifiable:
        # The data cannot be verified; use of this descriptor is refused later.
        return None
    verify(content, digest, size, f"`{fields.at('data')}` of {fields.what}")
    return content


#: Media types of tar layers, and the compression that each states.
LAYER_TYPES = {
    "application/vnd.oci.image.layer.v1.tar": "",
    "application/vnd.oci.image.layer.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd": "zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "zstd",
    "application/vnd.docker.image.rootfs.diff.tar": "",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar": "",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "gzip",
}
#: Bytes that are looked at before a layer is read.
START = 512


def decide(media_type: str, start: bytes, what: str) -> tuple[str, str]:
    """Return the compression of a layer, and a note if its media type states another.

    The bytes decide, as in containerd; other media types than those of tar layers are refused.

    Raises:
        UnsupportedDocument: the media type or the compression is unsupported.
        BadDocument: the type states a compression, and the bytes are neither that nor a tar.
    """
    stated = LAYER_TYPES.get(media_type)
    if stated is None:
        raise UnsupportedDocument(
            what, "mediaType", f"layers of type `{media_type}` are not supported"
        )
    from resolver.core.layers.decompress import compression_of  # noqa: PLC0415 - to read layers

    found = compression_of(start, what)
    if found == stated or not start:
        return found, ""
    if not found and not _is_tar(start):
        raise BadDocument(
            what, "mediaType", f"its media type is `{media_type}`, but its bytes are not {stated}"
        )
    return (
        found,
        f"its type is {stated or 'uncompressed'}, but its data is {found or 'uncompressed'}",
    )


def _is_tar(start: bytes) -> bool:
    from resolver.core.layers.tar_headers import BLOCK, ZEROS, read_header  # noqa: PLC0415 - as above

    if start[:BLOCK] == ZEROS[: len(start)]:
        return True
    try:
        read_header(start[:BLOCK].ljust(BLOCK, b"\0"), lambda reason: BadDocument("", "", reason))
    except BadDocument:
        return False
    return True
