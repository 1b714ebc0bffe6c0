"""Images in tar archives: an OCI layout in a tar, and what `docker save` writes.

Plain archives are read where they lie; gzip is inflated once into an anonymous temporary file.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_INDEX, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import MAX_DOCUMENT
from resolver.core.oci.reference import Reference
from resolver.core.parse.json import Fields, digest, read_object
from resolver.errors import BadDocument, Malformed, NotFound, UnsupportedDocument
from resolver.sources.local.layout import IMAGE_NAME, REF_NAME, LayoutSource
from resolver.sources.local.tar_index import GZIP_MAGIC, index_tar, inflate
from resolver.sources.local.tree import CHUNK, close, open_given, read_small, unreadable
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resolver.core.oci.target import LayoutTarget
    from resolver.sources.local.tree import Tree


# Source: distribution docs, spec/manifest-v2-2.md, "Media Types".
PLAIN_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
GZIP_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

_LISTED = "manifest.json"
_ENTRY = frozenset({"Config", "RepoTags", "Layers"})


@dataclass(frozen=True, slots=True)
class TranslatedTree:
    """An OCI layout over another tree: some files made up, the others under other names."""

    tree: Tree
    made: Mapping[str, bytes]
    moved: Mapping[str, str]

    @property
    def path(self) -> str:
        """The archive's."""
        return self.tree.path

    def size(self, name: str) -> int | None:
        """Say how many bytes a file has; None if there is none."""
        made = self.made.get(name)
        if made is not None:
            return len(made)
        moved = self.moved.get(name)
        return None if moved is None else self.tree.size(moved)

    def link(self, name: str) -> str | None:
        """Give the link because of which there is no such file."""
        return None if name in self.made else self.tree.link(self.moved.get(name, name))

    @contextmanager
    def open(self, name: str) -> Iterator[Iterator[bytes]]:
        """Stream a file."""
        made = self.made.get(name)
        moved = self.moved.get(name)
        if made is not None:
            yield iter((made,))
        elif moved is not None:
            with self.tree.open(moved) as chunks:
                yield chunks
        else:
            raise NotFound(f"there is no `{name}` in `{self.path}`")


def translate(tree: Tree, links: Mapping[str, str]) -> TranslatedTree:
    """Tell an archive of `docker save` as an OCI layout, images under their `RepoTags`.

    Args:
        tree: the archive.
        links: its links. Docker writes a layer that two images, or two places of one, share once
            and links to it; the target is looked up in the archive, never on this machine.

    Raises:
        BadDocument: `manifest.json` or a config is malformed, or names what is not there.
        LimitExceeded: one of them is too large.

    """
    what = f"`{_LISTED}` in `{tree.path}`"
    made: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    moved: dict[str, str] = {}
    entries: list[dict[str, object]] = []
    for entry in _entries(tree, what):
        built = _manifest(_Image(tree, links, entry, what), moved)
        made[_blob(built.descriptor.digest)] = built.body
        listed = _described(built.descriptor)
        names = entry.texts("RepoTags")
        entries += [{**listed, "annotations": _named(name)} for name in names] or [listed]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    made["index.json"] = _written(index)
    return TranslatedTree(tree, made, moved)


def _named(name: str) -> dict[str, str]:
    """Name an entry as it is written, and in full: a bare word is a repository here, no tag."""
    with suppress(Malformed):
        return {REF_NAME: name, IMAGE_NAME: str(Reference.parse(name))}
    return {REF_NAME: name}


@dataclass(frozen=True, slots=True)
class _Image:
    """One entry of `manifest.json` and where to find what it names."""

    tree: Tree
    links: Mapping[str, str]
    entry: Fields
    what: str

    def find(self, name: str, field: str) -> tuple[str, int]:
        """Find a file, through one link inside the archive; its name there and its size."""
        name = "/".join(part for part in name.split("/") if part not in {"", "."})
        name = self.links.get(name, name)
        size = self.tree.size(name)
        if size is None:
            raise BadDocument(self.what, field, "it names a file that is not in the archive")
        return name, size


def _entries(tree: Tree, what: str) -> tuple[Fields, ...]:
    body = read_small(tree, _LISTED, MAX_DOCUMENT)
    # The document is an array and the one strict reader takes objects; a body that closes the
    # array and goes on would show as a second member, or as an error.
    document = Fields.of(read_object(b'{"":' + body + b"}", what), what, "", frozenset())
    if set(document.members) != {""}:
        raise BadDocument(what, "", "there is more after the end of the document")
    return document.children("", _ENTRY)


def _manifest(image: _Image, moved: dict[str, str]) -> Document:
    """Build the manifest of one image, noting in `moved` where its content lies."""
    entry = image.entry
    config_name, _ = image.find(entry.required_text("Config"), entry.at("Config"))
    body = read_small(image.tree, config_name, MAX_DOCUMENT)
    config = Descriptor(DOCKER_CONFIG, Digest.of(body), len(body))
    moved[_blob(config.digest)] = config_name
    names = entry.texts("Layers")
    diff_ids = _diff_ids(body, f"`{config_name}` in `{image.tree.path}`")
    if len(names) != len(diff_ids):
        reason = f"it has {len(names)} layers, and its config {len(diff_ids)} diff_ids"
        raise BadDocument(image.what, entry.at("Layers"), reason)
    layers = []
    for position, (name, diff_id) in enumerate(zip(names, diff_ids, strict=True)):
        found, size = image.find(name, f"{entry.at('Layers')}[{position}]")
        layer = _layer(image.tree, found, size, diff_id)
        moved[_blob(layer.digest)] = found
        layers.append(layer)
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": _described(config),
        "layers": [_described(layer) for layer in layers],
    }
    written = _written(manifest)
    return Document(Descriptor(DOCKER_MANIFEST, Digest.of(written), len(written)), written)


def _diff_ids(body: bytes, what: str) -> tuple[Digest, ...]:
    config = Fields.of(read_object(body, what), what, "", frozenset({"rootfs"}))
    rootfs = config.child("rootfs", frozenset({"diff_ids"}))
    if rootfs is None:
        if "rootfs" in config.members:
            return ()
        raise config.bad("rootfs", "required, but missing")
    path = rootfs.at("diff_ids")
    return tuple(
        digest(value, what, f"{path}[{position}]")
        for position, value in enumerate(rootfs.array("diff_ids"))
    )


def _layer(tree: Tree, name: str, size: int, diff_id: Digest) -> Descriptor:
    """Describe a layer: a plain tar *is* its diff_id; other tools save gzip, which is hashed."""
    with tree.open(name) as chunks:
        start = next(chunks, b"")
        if not start.startswith(GZIP_MAGIC):
            return Descriptor(PLAIN_LAYER, diff_id, size)
        hasher = hashlib.sha256(start)
        for chunk in chunks:
            hasher.update(chunk)
    return Descriptor(GZIP_LAYER, Digest("sha256", hasher.hexdigest()), size)


def _described(descriptor: Descriptor) -> dict[str, object]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def _written(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _blob(content: Digest) -> str:
    return f"blobs/{content.algorithm}/{content.hex}"


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
