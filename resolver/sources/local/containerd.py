"""Blob trees without names: containerd's content store, and a store of `resolver`.

Both keep content at `blobs/<algorithm>/<hex>`. Only content of known digests is read here, and the
caller verifies it.

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

#: Content store in a containerd root. Source: containerd's operations guide, "Root".
_PLUGIN = "io.containerd.content.v1.content"


def find_tree(path: Path) -> Path | None:
    """Find the blob tree in a folder or containerd root; None if there is none."""
    for folder in (path, path / _PLUGIN):
        if (folder / "blobs" / "sha256").is_dir():
            return folder
    return None


class BlobTree:
    """A blob tree as `core.oci.content.Content`; read-only."""

    def __init__(self, path: Path) -> None:
        self._tree = FolderTree(str(path))

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a regular file of the right size is present; nothing is read."""
        return self._tree.size(_name(descriptor)) == descriptor.size

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Stream content; the caller must verify it."""
        name = _name(descriptor)
        size = self._tree.size(name)
        if size is None:
            raise BlobNotFound(str(descriptor.digest), self._tree.path)
        if size != descriptor.size:
            raise SizeMismatch(f"`{name}` in `{self._tree.path}`", descriptor.size, size)
        with self._tree.open(name) as chunks:
            yield chunks

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a verified document."""
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
