"""Images in tar archives: an OCI layout in a tar, and what `docker save` writes.

Plain archives are read where they lie; gzip is inflated once into an anonymous temporary file.
"""

from __future__ import annotations

import os
import stat
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resolver.errors import NotFound, UnsupportedDocument
from resolver.sources.docker_archive import translate
from resolver.sources.inflate import GZIP_MAGIC, inflate
from resolver.sources.layout import LayoutSource
from resolver.sources.tar_index import index_tar
from resolver.sources.tree import CHUNK, close, open_given, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.target import LayoutTarget

_OTHER_MAGIC = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
}


class TarTree:
    """The files of a tar archive as a `sources.tree.Tree`; two threads may read at once.

    Raises:
        NotFound, Unavailable: as `tree.open_given`.
        Untrusted: it is no tar archive, or a damaged or hostile one.

    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = _open_archive(path)
        # An archive stays open as long as it is used; nothing tells us when that ends.
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
        """Say how many bytes a file has; None if there is no regular file of this name."""
        member = self._files.get(name)
        return None if member is None else member.size

    def link(self, name: str) -> str | None:
        """Give the first link on the way to a file."""
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
            # Less than the index saw: the file was cut while it was in use.
            if not chunk:
                return
            offset += len(chunk)
            yield chunk

    def _read_at(self, offset: int, count: int) -> bytes:
        with unreadable(self.path):
            return os.pread(self._descriptor, count, offset)


def open_oci_archive(target: LayoutTarget) -> LayoutSource:
    """Open `oci-archive:PATH`.

    Raises:
        NotFound: there is nothing at the path.
        Unavailable: it cannot be read, or there is no room to inflate it.
        Untrusted: it is no tar archive, or holds no OCI layout.

    """
    tree = TarTree(target.path)
    if tree.size("oci-layout") is None and tree.size("manifest.json") is not None:
        raise UnsupportedDocument(
            f"`{target.path}`",
            "",
            "it holds no OCI layout, but what `docker save` writes",
            f"write `docker-archive:{target.path}`",
        )
    return _layout(tree)


def open_docker_archive(target: LayoutTarget) -> LayoutSource:
    """Open `docker-archive:PATH`, of any age: since Docker 25 there is an OCI layout inside.

    Raises:
        NotFound: there is nothing at the path.
        Unavailable: it cannot be read, or there is no room to inflate it.
        Untrusted: it is no tar archive, or not one that `docker save` writes.

    """
    tree = TarTree(target.path)
    if tree.size("oci-layout") is not None and tree.size("index.json") is not None:
        return _layout(tree)
    return LayoutSource(translate(tree, tree.links), tree.warnings)


def _layout(tree: TarTree) -> LayoutSource:
    """Read an OCI layout; Docker 25 may leave its index empty, and then `manifest.json` counts."""
    source = LayoutSource(tree, tree.warnings)
    if source.entries or tree.size("manifest.json") is None:
        return source
    return LayoutSource(translate(tree, tree.links), tree.warnings)


def _open_archive(path: str) -> int:
    """Open an archive for reading at any offset.

    Raises:
        UnsupportedDocument: it is a folder, or compressed with something other than gzip.

    """
    descriptor, status = open_given(path)
    kept = False
    try:
        if stat.S_ISDIR(status.st_mode):
            raise UnsupportedDocument(
                f"`{path}`", "", "it is a folder, and an archive is a file", f"write `oci:{path}`"
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
