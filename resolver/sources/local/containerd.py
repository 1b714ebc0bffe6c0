"""Trees of blobs without an index: containerd's content store, and a store of `resolver`.

Both keep content at `blobs/<algorithm>/<hex>`. Neither is asked for names here: they only give
what somebody else has found out to be needed, and whoever takes it hashes it.

Source: containerd plugins/content/local/store.go, `blobPath`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from resolver.core.oci.digest import verify
from resolver.core.oci.manifest import MAX_DOCUMENT
from resolver.errors import BlobNotFound, LimitExceeded, SizeMismatch
from resolver.sources.local.tree import FolderTree, read_small

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.oci.descriptor import Descriptor

#: Where the content of a containerd root is. Source: containerd docs/ops.md.
_PLUGIN = "io.containerd.content.v1.content"


def find_tree(path: Path) -> Path | None:
    """Find the tree in a folder: the folder itself, or a containerd root; None if it has none."""
    for folder in (path, path / _PLUGIN):
        if (folder / "blobs" / "sha256").is_dir():
            return folder
    return None


class BlobTree:
    """A tree as `core.content.Content`; read-only."""

    def __init__(self, path: Path) -> None:
        self._tree = FolderTree(str(path))

    def has(self, descriptor: Descriptor) -> bool:
        """Whether there is a regular file of the right size; nothing is read."""
        return self._tree.size(_name(descriptor)) == descriptor.size

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Stream content; the caller verifies.

        Raises:
            BlobNotFound: it is not here.
            SizeMismatch: what is here has another size.
            Unavailable: it cannot be read.

        """
        name = _name(descriptor)
        size = self._tree.size(name)
        if size is None:
            raise BlobNotFound(str(descriptor.digest), self._tree.path)
        if size != descriptor.size:
            raise SizeMismatch(f"`{name}` in `{self._tree.path}`", descriptor.size, size)
        with self._tree.open(name) as chunks:
            yield chunks

    def read(self, descriptor: Descriptor) -> bytes:
        """Read a document whole, verified.

        Raises:
            BlobNotFound: it is not here.
            Untrusted: it is not what the descriptor says, or too large to be a document.
            Unavailable: it cannot be read.

        """
        what = f"`{descriptor.digest}` in `{self._tree.path}`"
        if descriptor.size > MAX_DOCUMENT:
            raise LimitExceeded(what, MAX_DOCUMENT, descriptor.size)
        if not self.has(descriptor):
            raise BlobNotFound(str(descriptor.digest), self._tree.path)
        body = read_small(self._tree, _name(descriptor), descriptor.size)
        verify(body, descriptor.digest, descriptor.size, what)
        return body


def _name(descriptor: Descriptor) -> str:
    return f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}"
