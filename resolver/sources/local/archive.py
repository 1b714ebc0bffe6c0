"""Images in tar archives: OCI layouts, and `docker save` archives.

Plain archives are read in place; gzip is inflated once to an anonymous temporary file.
"""

from __future__ import annotations

import os
import stat
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resolver.core.layers.decompress import GZIP_MAGIC
from resolver.errors import NotFound, UnsupportedDocument
from resolver.sources.local.layout import LayoutSource, translate
from resolver.sources.local.tree import (
    CHUNK,
    close,
    index_tar,
    inflate,
    open_path,
    unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.oci.target import LayoutTarget


_OTHER_MAGIC = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2"}


class TarTree:
    """The files of a tar archive as a `Tree`; safe for concurrent reads.

    `descriptor` is the open archive, which is closed with the tree; by default, `path` is opened.
    """

    def __init__(self, path: str, descriptor: int | None = None) -> None:
        self.path = path
        self._descriptor = _open_archive(path) if descriptor is None else descriptor
        # The archive stays open until this object is collected.
        self._closing = weakref.finalize(self, close, self._descriptor)
        with unreadable(path):
            length = os.fstat(self._descriptor).st_size
        index = index_tar(self._read_at, length, f"`{path}`")
        self._files = index.files
        self.links = index.links
        self.warnings: tuple[str, ...] = ()
        if not index.is_ended:
            self.warnings = (f"`{path}` has no end mark, it may be cut short",)

    def close(self) -> None:
        """Close the archive now; it cannot be read afterwards."""
        self._closing()

    def size(self, name: str) -> int | None:
        """Return the size of a regular file in bytes; None if absent."""
        member = self._files.get(name)
        return None if member is None else member.size

    def link(self, name: str) -> str | None:
        """Return the first link on the path to a file."""
        parts = name.split("/")
        above = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        return next((part for part in above if part in self.links), None)

    @contextmanager
    def open(self, name: str) -> Iterator[Iterator[bytes]]:
        """Stream a file."""
        member = self._files.get(name)
        if member is None:
            raise NotFound(f"there is no `{name}` in `{self.path}`")
        yield self._chunks(member.offset, member.size)

    def _chunks(self, offset: int, size: int) -> Iterator[bytes]:
        end = offset + size
        while offset < end:
            chunk = self._read_at(offset, min(CHUNK, end - offset))
            # The file was truncated while in use.
            if not chunk:
                return
            offset += len(chunk)
            yield chunk

    def _read_at(self, offset: int, count: int) -> bytes:
        with unreadable(self.path):
            return os.pread(self._descriptor, count, offset)


def open_oci_archive(target: LayoutTarget) -> LayoutSource:
    """Open `oci-archive:PATH`."""
    tree = TarTree(target.path)
    if tree.size("oci-layout") is None and tree.size("manifest.json") is not None:
        raise UnsupportedDocument(
            f"`{target.path}`",
            "",
            "it is not an OCI layout, but a `docker save` archive",
            f"write `docker-archive:{target.path}`",
        )
    return _layout(tree)


def open_docker_archive(target: LayoutTarget) -> LayoutSource:
    """Open `docker-archive:PATH`; since Docker 25 the archive contains an OCI layout."""
    return read_saved(TarTree(target.path))


def read_saved(tree: TarTree) -> LayoutSource:
    """Read what `docker save` or `podman save` wrote: an OCI layout, or the older form."""
    if tree.size("oci-layout") is not None and tree.size("index.json") is not None:
        return _layout(tree)
    return LayoutSource(translate(tree, tree.links), tree.warnings)


def _layout(tree: TarTree) -> LayoutSource:
    """Read an OCI layout; if Docker 25 left its index empty, use `manifest.json`."""
    source = LayoutSource(tree, tree.warnings)
    if source.entries or tree.size("manifest.json") is None:
        return source
    return LayoutSource(translate(tree, tree.links), tree.warnings)


def _open_archive(path: str) -> int:
    descriptor, status = open_path(path)
    kept = False
    try:
        if stat.S_ISDIR(status.st_mode):
            raise UnsupportedDocument(
                f"`{path}`", "", "it is a folder, but an archive is a file", f"write `oci:{path}`"
            )
        with unreadable(path):
            start = os.pread(descriptor, 6, 0)
        for magic, name in _OTHER_MAGIC.items():
            if start.startswith(magic):
                raise UnsupportedDocument(
                    f"`{path}`", "", f"it is compressed with {name}", "decompress it first"
                )
        if start.startswith(GZIP_MAGIC):
            return inflate(descriptor, path)
        kept = True
        return descriptor
    finally:
        if not kept:
            close(descriptor)
