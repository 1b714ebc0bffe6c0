"""Build any image in memory: configs, manifests, indexes and attestations.

The same input gives the same digests on every machine. The tests build their images here too.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from resolver.core.oci.digest import Digest
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


GZIP_MAGIC = b"\x1f\x8b"
#: Deflate, no flags, time 0, system unknown. Source: RFC 1952, 2.3.1.
_GZIP_HEAD = GZIP_MAGIC + b"\x08\x00\x00\x00\x00\x00\x00\xff"
#: Bytes in one stored block. Source: RFC 1951, 3.2.4.
_STORED = 0xFFFF


def build_layer(files: Mapping[str, bytes]) -> bytes:
    """Pack files into a gzip tar layer; paths as they are, mode 0755, owner and time 0."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755
            archive.addfile(member, io.BytesIO(content))
    return compress(plain.getvalue())


def compress(content: bytes) -> bytes:
    """Write gzip without compressing: zlib and its successors deflate differently.

    Source: RFC 1951, 3.2.4 (stored blocks); RFC 1952, 2.3 (header and trailer).
    """
    blocks = [content[at : at + _STORED] for at in range(0, len(content), _STORED)] or [b""]
    written = [_GZIP_HEAD]
    for number, block in enumerate(blocks, start=1):
        size = len(block)
        written.append(struct.pack("<BHH", number == len(blocks), size, size ^ 0xFFFF) + block)
    written.append(struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF))
    return b"".join(written)


# Source: OCI image-spec v1.1.1, layer.md; distribution docs, spec/manifest-v2-2.md.
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
# Source: BuildKit, docs/attestations/attestation-storage.md.
IN_TOTO = "application/vnd.in-toto+json"
PROVENANCE = "https://slsa.dev/provenance/v0.2"

#: When every sample was made; a clock would change the digests.
CREATED = "2024-05-01T12:00:00Z"


@dataclass(frozen=True, slots=True)
class Built:
    """An image or an index, and everything it consists of.

    Attributes:
        root: of the outermost document; without a platform.
        platform: `os/arch[/variant][:os.version]`, as an index states it; empty when it does not.
        documents: manifests and indexes: media type and body.
        blobs: configs and layers.

    """

    root: Descriptor
    platform: str
    documents: Mapping[Digest, tuple[str, bytes]]
    blobs: Mapping[Digest, bytes]


def write_json(document: Mapping[str, object]) -> bytes:
    """Write a document the way BuildKit does: indented, keys in the order given."""
    return json.dumps(document, indent=2, ensure_ascii=False).encode()


def platform_fields(text: str) -> dict[str, str]:
    """Split `os/arch[/variant][:os.version]` into the fields of a document."""
    names, _, version = text.partition(":")
    words = names.split("/")
    fields = dict(zip(("os", "architecture", "variant"), words, strict=False))
    return {**fields, "os.version": version} if version else fields


def describe(media_type: str, body: bytes) -> Descriptor:
    """Name content by its digest and size."""
    return Descriptor(media_type, Digest.of(body), len(body))


def descriptor_fields(descriptor: Descriptor) -> dict[str, object]:
    """Write type, digest and size as documents do."""
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def build_image(
    platform: str,
    layers: Sequence[bytes],
    *,
    config: Mapping[str, object] | None = None,
    docker: bool = False,
) -> Built:
    """Make a single-platform image.

    Args:
        platform: `os/arch[/variant][:os.version]`; the config states it.
        layers: tars, gzip or plain, lowest first.
        config: top-level fields of the config that replace the usual ones.
        docker: use Docker's media types.

    """
    settings: dict[str, object] = {
        **platform_fields(platform),
        "created": CREATED,
        "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [_diff_id(layer) for layer in layers]},
        "history": [
            {"created": CREATED, "created_by": f"COPY layer{number} / # buildkit"}
            for number in range(1, len(layers) + 1)
        ],
        **(config or {}),
    }
    body = write_json(settings)
    layer_type = DOCKER_LAYER if docker else OCI_LAYER
    return build_manifest(
        describe(DOCKER_CONFIG if docker else OCI_CONFIG, body),
        [describe(layer_type, layer) for layer in layers],
        blobs=[body, *layers],
        platform=platform,
    )


def build_manifest(
    config: Descriptor,
    layers: Iterable[Descriptor],
    *,
    blobs: Iterable[bytes] = (),
    platform: str = "",
    layer_annotations: Mapping[str, str] | None = None,
) -> Built:
    """Build a manifest of descriptors; Docker's when the config is Docker's."""
    media_type = DOCKER_MANIFEST if config.media_type == DOCKER_CONFIG else OCI_MANIFEST
    said = {"annotations": dict(layer_annotations)} if layer_annotations else {}
    body = write_json(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": descriptor_fields(config),
            "layers": [{**descriptor_fields(layer), **said} for layer in layers],
        }
    )
    root = describe(media_type, body)
    return Built(
        root,
        platform,
        MappingProxyType({root.digest: (media_type, body)}),
        MappingProxyType({Digest.of(blob): blob for blob in blobs}),
    )


def index_entry(
    built: Built, *, platform: str | None = None, annotations: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Write the entry of an index; `platform` replaces the image's own, empty leaves it out."""
    entry = descriptor_fields(built.root)
    text = built.platform if platform is None else platform
    if annotations:
        entry["annotations"] = dict(annotations)
    if text:
        entry["platform"] = platform_fields(text)
    return entry


def build_index(
    entries: Sequence[Mapping[str, object]],
    *,
    parts: Iterable[Built] = (),
    annotations: Mapping[str, str] | None = None,
    docker: bool = False,
) -> Built:
    """Build an index of entries; `parts` are the images and documents it lists."""
    media_type = DOCKER_LIST if docker else OCI_INDEX
    document: dict[str, object] = {"schemaVersion": 2, "mediaType": media_type}
    document["manifests"] = list(entries)
    if annotations:
        document["annotations"] = dict(annotations)
    body = write_json(document)
    root = describe(media_type, body)
    documents = {root.digest: (media_type, body)}
    blobs: dict[Digest, bytes] = {}
    for part in parts:
        documents.update(part.documents)
        blobs.update(part.blobs)
    return Built(root, "", MappingProxyType(documents), MappingProxyType(blobs))


def build_attestation(subject: Built) -> Built:
    """Build the attestation manifest that BuildKit adds beside an image."""
    statement = write_json(
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": PROVENANCE,
            "subject": [{"name": "demo", "digest": {"sha256": subject.root.digest.hex}}],
            "predicate": {
                "builder": {"id": ""},
                "buildType": "https://mobyproject.org/buildkit@v1",
            },
        }
    )
    config = write_json(
        {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(statement))]},
        }
    )
    return build_manifest(
        describe(OCI_CONFIG, config),
        [describe(IN_TOTO, statement)],
        blobs=[config, statement],
        platform="unknown/unknown",
        layer_annotations={"in-toto.io/predicate-type": PROVENANCE},
    )


def attestation_entry(attestation: Built, subject: Built) -> dict[str, object]:
    """Build the index entry of an attestation, which points at its image."""
    return index_entry(
        attestation,
        annotations={
            "vnd.docker.reference.digest": str(subject.root.digest),
            "vnd.docker.reference.type": "attestation-manifest",
        },
    )


def _diff_id(layer: bytes) -> str:
    return str(Digest.of(gzip.decompress(layer) if layer.startswith(GZIP_MAGIC) else layer))
