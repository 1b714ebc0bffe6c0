"""The media types of layers, and what each says about compression.

Source: OCI image-spec v1.1.1, layer.md and media-types.md; distribution docs,
spec/manifest-v2-2.md; containerd v2.1, core/images/mediatypes.go (Docker's zstd).
"""

from __future__ import annotations

from resolver.core.decompress import compression_of
from resolver.core.tar_header import BLOCK, ZEROS, read_header
from resolver.errors import BadDocument, UnsupportedDocument

#: Media type of a layer that is a tar archive, and how it says it is compressed.
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
START = BLOCK


def decide(media_type: str, start: bytes, what: str) -> tuple[str, str]:
    """Say how a layer is compressed, and how its type disagrees, if it does.

    The bytes decide, as they do for containerd; a type that is no tar archive's is not guessed at.

    Args:
        media_type: of the layer's descriptor.
        start: its first 512 bytes, or all of it.
        what: the layer, for messages.

    Raises:
        UnsupportedDocument: layers of this type, or of this compression, are not read here.
        BadDocument: the type says compressed, and the bytes are neither that nor a tar archive.
    """
    stated = LAYER_TYPES.get(media_type)
    if stated is None:
        raise UnsupportedDocument(what, "mediaType", f"layers of type `{media_type}` are not read")
    found = compression_of(start, what)
    if found == stated or not start:
        return found, ""
    if not found and not _is_tar(start):
        raise BadDocument(
            what, "mediaType", f"it says `{media_type}`, and its bytes are no {stated}"
        )
    return found, f"its type says {stated or 'uncompressed'}, and it is {found or 'uncompressed'}"


def _is_tar(start: bytes) -> bool:
    if start[:BLOCK] == ZEROS[: len(start)]:
        return True
    try:
        read_header(start[:BLOCK].ljust(BLOCK, b"\0"), lambda reason: BadDocument("", "", reason))
    except BadDocument:
        return False
    return True
