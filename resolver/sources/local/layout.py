"""OCI layouts in a folder or an archive, and `docker save` trees translated to them.

Source: OCI image-spec v1.1.1, image-layout.md.
"""

from __future__ import annotations

import hashlib
import json
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from resolver.core.layers.decompress import GZIP_MAGIC
from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    DOCUMENT_TYPES,
    OCI_INDEX,
    Descriptor,
)
from resolver.core.oci.digest import HEX_DIGITS, Digest, verify
from resolver.core.oci.manifest import (
    MAX_DOCUMENT,
    Index,
    Manifest,
    decide_type,
    parse_document,
)
from resolver.core.oci.reference import Reference
from resolver.core.parse.json import Fields, digest, read_object
from resolver.errors import (
    BadDocument,
    BlobNotFound,
    LimitExceeded,
    Malformed,
    NotFound,
    SizeMismatch,
    UnsupportedDocument,
)
from resolver.sources.local.tree import (
    FolderTree,
    close,
    open_path,
    read_small,
    refuse_link,
)
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from resolver.core.oci.target import LayoutTarget
    from resolver.sources.local.tree import Tree

#: Annotations with image names. Source: image-spec annotations.md; containerd
#: images/annotations.go.
REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
#: Most bytes of `oci-layout`; the specification's own has 31.
_MAX_MARKER = 4096
_SHOWN = 20


class LayoutSource:
    """A layout as a `core.oci.content.Source`; read-only, and reopened for every read.

    A name is an annotation of an entry of `index.json`: a tag or a full reference, in any
    equivalent spelling. The empty name means the only entry.

    Raises:
        BadDocument: the tree is not a layout, or a malformed one.
        UnsupportedDocument: the layout has an unsupported version.
    """

    def __init__(self, tree: Tree, warnings: tuple[str, ...] = ()) -> None:
        self._tree = tree
        self._warnings = warnings
        self._check_version()
        body = read_small(tree, "index.json", MAX_DOCUMENT)
        what = f"`index.json` in `{tree.path}`"
        index = parse_document(body, OCI_INDEX, what)
        if not isinstance(index, Index):
            raise BadDocument(what, "mediaType", "it must be an index")
        self._entries = index.manifests

    @property
    def entries(self) -> tuple[Descriptor, ...]:
        """The entries of `index.json`, in order."""
        return self._entries

    def resolve(self, name: str) -> Descriptor:
        """Return the descriptor of a name or digest.

        A digest finds any manifest, listed in `index.json` or not, and any blob; blobs have the
        type `application/octet-stream`.
        """
        if name.partition(":")[0] in HEX_DIGITS:
            return self._by_digest(Digest.parse(name))
        found = {
            entry.digest: entry for entry in self._entries if not name or _has_name(entry, name)
        }
        if len(found) == 1:
            return next(iter(found.values()))
        hints = _by_digests(found.values()) if name and found else self._listing()
        raise NotFound(self._not_found(name, len(found)), *hints)

    def document(self, name: str) -> Document:
        """Return the document of a name or digest."""
        descriptor = self.resolve(name)
        body = self.read(descriptor)
        what = f"`{name or descriptor.digest}` in `{self._tree.path}`"
        kind = decide_type(None, read_object(body, what), what, descriptor.media_type)
        return Document(Descriptor(kind, descriptor.digest, descriptor.size), body)

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a regular file of the right size is present; nothing is read."""
        return self._tree.size(_blob(descriptor.digest)) == descriptor.size

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Stream content; the caller must verify it."""
        name = _blob(descriptor.digest)
        descriptor.digest.require_verifiable(f"`{name}` in `{self._tree.path}`")
        size = self._tree.size(name)
        if size is None:
            refuse_link(self._tree, name)
            raise BlobNotFound(str(descriptor.digest), self._tree.path)
        if size != descriptor.size:
            raise SizeMismatch(f"`{name}` in `{self._tree.path}`", descriptor.size, size)
        with self._tree.open(name) as chunks:
            yield chunks

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a verified document."""
        what = f"`{_blob(descriptor.digest)}` in `{self._tree.path}`"
        if descriptor.size > MAX_DOCUMENT:
            raise LimitExceeded(what, MAX_DOCUMENT, descriptor.size)
        if self._tree.size(_blob(descriptor.digest)) is None:
            refuse_link(self._tree, _blob(descriptor.digest))
            raise BlobNotFound(str(descriptor.digest), self._tree.path)
        body = read_small(self._tree, _blob(descriptor.digest), MAX_DOCUMENT)
        verify(body, descriptor.digest, descriptor.size, what)
        return body

    def refuse_links(self) -> None:
        """Refuse entries of `index.json` that are links, which are not followed.

        Raises:
            UnsupportedDocument: an entry is a link.
        """
        for entry in self._entries:
            if self._tree.size(_blob(entry.digest)) is None:
                refuse_link(self._tree, _blob(entry.digest))

    def referrers(self, digest: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """List the entries of `index.json` that refer to a manifest, by digest.

        Raises:
            Untrusted: an entry is malformed.

        """
        found: dict[str, Descriptor] = {}
        for entry in self._entries:
            if entry.media_type not in DOCUMENT_TYPES or not self.has(entry):
                continue
            what = f"`{entry.digest}` in `{self._tree.path}`"
            document = parse_document(self.read(entry), None, what, entry.media_type)
            if document.subject is None or document.subject.digest != digest:
                continue
            kind = entry.artifact_type or document.artifact_type
            if kind is None and isinstance(document, Manifest) and document.config is not None:
                kind = document.config.media_type
            if artifact_type in (None, kind):
                one = Descriptor(entry.media_type, entry.digest, entry.size, None, kind)
                found[str(entry.digest)] = one
        return tuple(found[key] for key in sorted(found))

    def referrers_by_api(self, digest: Digest) -> tuple[Descriptor, ...] | None:
        """List referrers; see `referrers`."""
        return self.referrers(digest)

    def tags(self) -> Iterator[str]:
        """List the names in the order of the index, each once."""
        return iter(dict.fromkeys(name for each in self._entries for name in _names_once(each)))

    def warnings(self) -> tuple[str, ...]:
        """Return warnings about the archive."""
        return self._warnings

    def _check_version(self) -> None:
        what = f"`oci-layout` in `{self._tree.path}`"
        if self._tree.size("oci-layout") is None:
            refuse_link(self._tree, "oci-layout")
            raise BadDocument(
                f"`{self._tree.path}`", "oci-layout", "it is missing, so this is not an OCI layout"
            )
        body = read_small(self._tree, "oci-layout", _MAX_MARKER)
        fields = Fields.of(read_object(body, what), what, "", frozenset({"imageLayoutVersion"}))
        version = fields.required_text("imageLayoutVersion")
        if not version.startswith("1."):
            raise UnsupportedDocument(
                what, "imageLayoutVersion", f"it is `{version[:40]}`, and only 1.x is supported"
            )

    def _by_digest(self, digest: Digest) -> Descriptor:
        listed = next((entry for entry in self._entries if entry.digest == digest), None)
        if listed is not None:
            return listed
        size = self._tree.size(_blob(digest))
        if size is None:
            refuse_link(self._tree, _blob(digest))
            raise BlobNotFound(str(digest), self._tree.path)
        unknown = Descriptor("application/octet-stream", digest, size)
        if size > MAX_DOCUMENT:
            return unknown
        body = self.read(unknown)
        what = f"`{digest}` in `{self._tree.path}`"
        try:
            kind = decide_type(None, read_object(body, what), what)
        except (BadDocument, LimitExceeded, UnsupportedDocument):
            # A config or a small layer.
            return unknown
        return Descriptor(kind, digest, size)

    def _not_found(self, name: str, found: int) -> str:
        if not self._entries:
            return f"`{self._tree.path}` holds no image"
        if not name:
            return f"`{self._tree.path}` holds {len(self._entries)} images, and no name was given"
        if found:
            return f"`{self._tree.path}` holds {found} different images named `{name}`"
        return f"`{self._tree.path}` holds no image named `{name}`"

    def _listing(self) -> tuple[str, ...]:
        """Return hints with the available names; unnamed entries by digest."""
        held = list(
            dict.fromkeys(next(names_of(entry), str(entry.digest)) for entry in self._entries)
        )
        if not held:
            return ()
        more = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
        return (f"it holds {', '.join(f'`{name}`' for name in held[:_SHOWN])}{more}",)


def _blob(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def names_of(entry: Descriptor, *keys: str) -> Iterator[str]:
    """Iterate over the names of an entry, from `keys` or both annotations.

    BuildKit joins several names with commas, which tags and references cannot contain.
    """
    for key in keys or (REF_NAME, IMAGE_NAME):
        for name in (entry.annotation(key) or "").split(","):
            if name:
                yield name


def _names_once(entry: Descriptor) -> tuple[str, ...]:
    """Return the names of one annotation; the other has the same names in another form."""
    return tuple(names_of(entry, REF_NAME)) or tuple(names_of(entry, IMAGE_NAME))


def _by_digests(entries: Iterable[Descriptor]) -> tuple[str, ...]:
    """Return a hint that lists entries with the same name by digest."""
    listing = ", ".join(
        f"`@{entry.digest}`" + (f" for `{entry.platform}`" if entry.platform else "")
        for entry in entries
    )
    return (f"name one by its digest: {listing}",)


def _has_name(entry: Descriptor, name: str) -> bool:
    """Whether an entry has a name, literally or as an equivalent reference."""
    names = tuple(names_of(entry))
    if name in names or name in {entry.annotation(REF_NAME), entry.annotation(IMAGE_NAME)}:
        return True
    # A bare word is a tag in a layout, but may be a repository in a request.
    references = [held for held in names if "/" in held or ":" in held]
    wanted = _canonical(name) if references else None
    return wanted is not None and any(_canonical(held) == wanted for held in references)


def _canonical(name: str) -> str | None:
    try:
        return str(Reference.parse(name))
    except Malformed:
        return None


def open_folder(target: LayoutTarget) -> LayoutSource:
    """Open `oci:PATH`."""
    descriptor, status = open_path(target.path)
    close(descriptor)
    if not stat.S_ISDIR(status.st_mode):
        raise UnsupportedDocument(
            f"`{target.path}`",
            "",
            "it is a file, but an OCI layout is a folder",
            f"write `oci-archive:{target.path}` or `docker-archive:{target.path}`",
        )
    tree = FolderTree(target.path)
    source = LayoutSource(tree)
    if source.entries or tree.size("manifest.json") is None:
        return source
    # An unpacked archive of Docker 25: its index may be empty, and `manifest.json` is used then.
    return LayoutSource(translate(tree, {}))


# Source: distribution docs, spec/manifest-v2-2.md, "Media Types".
PLAIN_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


GZIP_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


_LISTED = "manifest.json"


_ENTRY = frozenset({"Config", "RepoTags", "Layers"})


@dataclass(frozen=True, slots=True)
class TranslatedTree:
    """An OCI layout over another tree: some files generated, others renamed."""

    tree: Tree
    made: Mapping[str, bytes]
    moved: Mapping[str, str]

    @property
    def path(self) -> str:
        """Path of the archive."""
        return self.tree.path

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None if absent."""
        made = self.made.get(name)
        if made is not None:
            return len(made)
        moved = self.moved.get(name)
        return None if moved is None else self.tree.size(moved)

    def link(self, name: str) -> str | None:
        """Return the link that stands in place of a file."""
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
    """Translate a `docker save` archive to an OCI layout, with images under their `RepoTags`.

    Docker writes a shared layer once and links to it (`links`); targets are looked up in the
    archive, never on this machine.

    Raises:
        BadDocument: `manifest.json` or a config is malformed, or names a missing file.
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
    """Return name annotations, as written and in full: a bare word is a repository here."""
    with suppress(Malformed):
        return {REF_NAME: name, IMAGE_NAME: str(Reference.parse(name))}
    return {REF_NAME: name}


@dataclass(frozen=True, slots=True)
class _Image:
    """One entry of `manifest.json`, with access to its files."""

    tree: Tree
    links: Mapping[str, str]
    entry: Fields
    what: str

    def find(self, name: str, field: str) -> tuple[str, int]:
        """Return name and size of a file, through at most one link in the archive."""
        name = "/".join(part for part in name.split("/") if part not in {"", "."})
        name = self.links.get(name, name)
        size = self.tree.size(name)
        if size is None:
            raise BadDocument(self.what, field, "it names a file that is not in the archive")
        return name, size


def _entries(tree: Tree, what: str) -> tuple[Fields, ...]:
    body = read_small(tree, _LISTED, MAX_DOCUMENT)
    # The document is an array, and the strict reader takes objects. A body that closes the array
    # early shows as a second member or an error.
    document = Fields.of(read_object(b'{"":' + body + b"}", what), what, "", frozenset())
    if set(document.members) != {""}:
        raise BadDocument(what, "", "there is text after the end of the document")
    return document.children("", _ENTRY)


def _manifest(image: _Image, moved: dict[str, str]) -> Document:
    """Build the manifest of one image, adding its content to `moved`."""
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
    """Return the descriptor of a layer: its diff_id for a plain tar; gzip is hashed."""
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
