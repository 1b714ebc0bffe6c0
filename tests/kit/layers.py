"""Layers in memory, and the file trees of images of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.errors import BlobNotFound
from resolver.verbs.layers import LayeredImage, read_trees
from tests.kit.tar_blocks import END, member

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolver.core.compare.files import LabelledTree

TAR = "application/vnd.oci.image.layer.v1.tar"
GZIP = f"{TAR}+gzip"


@dataclass
class Contents:
    """Content in memory that counts its reads."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    drained: list[str] = field(default_factory=list)

    def has(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self.blobs

    def read(self, descriptor: Descriptor) -> bytes:
        return self.blobs[descriptor.digest]

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        if descriptor.digest not in self.blobs:
            raise BlobNotFound(str(descriptor.digest), "memory")
        self.opened.append(descriptor.digest.hex)
        yield self._chunks(descriptor.digest)

    def _chunks(self, digest: Digest) -> Iterator[bytes]:
        body = self.blobs[digest]
        for at in range(0, len(body), 1000):
            yield body[at : at + 1000]
        self.drained.append(digest.hex)

    def add(self, body: bytes, media_type: str = GZIP) -> Descriptor:
        digest = Digest.of(body)
        self.blobs[digest] = body
        return Descriptor(media_type, digest, len(body))


def image(
    contents: Contents, *layers: tuple[Descriptor, bytes], label: str = "linux/amd64"
) -> LayeredImage:
    """Make an image of layers and the tar archives that are in them."""
    return LayeredImage(
        label,
        None,
        f"`app:1` for {label}",
        tuple(descriptor for descriptor, _ in layers),
        tuple(Digest.of(archive) for _, archive in layers),
        contents,
    )


def trees_of(images: Sequence[LayeredImage], **how: Any) -> tuple[LabelledTree, ...]:
    """Read all trees, one after the other."""
    return tuple(read_trees(images, **how))


def paths(tree: LabelledTree) -> list[str]:
    """Return every path of a tree."""
    return [path for path, _ in tree.tree.walk()]


def archive(*names: str) -> bytes:
    """Make a tar with a file of each name."""
    return b"".join(member(name.encode(), name.encode() * 300) for name in names) + END
