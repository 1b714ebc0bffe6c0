"""What `docker save` wrote before it wrote OCI layouts, told as one.

Such an archive has no manifest with a digest: `manifest.json` lists configs and layers by file
name. The manifest here is built from it, the same for the same archive on every machine, so its
digest is *computed here*: no registry knows it, unless it was pushed from this very form.

Source: moby image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from resolver.core.content import Document
from resolver.core.descriptor import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_INDEX, Descriptor
from resolver.core.digest import Digest
from resolver.core.fields import Fields, digest
from resolver.core.manifest import MAX_DOCUMENT
from resolver.core.reference import Reference
from resolver.core.strict_json import read_object
from resolver.errors import BadDocument, Malformed, NotFound
from resolver.sources.inflate import GZIP_MAGIC
from resolver.sources.layout import IMAGE_NAME, REF_NAME
from resolver.sources.tree import read_small
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resolver.sources.tree import Tree

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
