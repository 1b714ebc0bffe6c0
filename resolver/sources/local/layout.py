"""OCI layouts: images in a folder or an archive, named by the annotations of their index.

Source: OCI image-spec v1.1.1, image-layout.md.
"""

from __future__ import annotations

import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_INDEX, Descriptor
from resolver.core.oci.digest import HEX_DIGITS, Digest, verify
from resolver.core.oci.manifest import MAX_DOCUMENT, Index, decide_type, parse_document
from resolver.core.oci.reference import Reference
from resolver.core.parse.json import Fields, read_object
from resolver.errors import (
    BadDocument,
    BlobNotFound,
    LimitExceeded,
    Malformed,
    NotFound,
    SizeMismatch,
    UnsupportedDocument,
)
from resolver.sources.local.tree import FolderTree, close, open_given, read_small, refuse_link

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.core.oci.target import LayoutTarget
    from resolver.sources.local.tree import Tree

#: What a name is written to. Source: image-spec annotations.md; containerd images/annotations.go.
REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"
#: Bytes of `oci-layout`; the specification's own has 31.
_MAX_MARKER = 4096
_SHOWN = 20


class LayoutSource:
    """A layout as a `core.content.Source`; read-only, and opened anew for every read.

    A name is what an entry of `index.json` is annotated with: a tag, or a full reference, in any
    spelling that means the same. The empty name means the only entry there is.

    Raises:
        BadDocument: the tree is not a layout, or a malformed one.
        UnsupportedDocument: it is one of a version that is not known here.
        Unavailable: it cannot be read.

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
        """What `index.json` lists, in its order."""
        return self._entries

    def resolve(self, name: str) -> Descriptor:
        """Turn a name, or a digest in text form, into a descriptor.

        A digest finds any manifest of the layout, listed in its `index.json` or not, and any
        blob; the type of a blob is not known here and given as `application/octet-stream`.

        Raises:
            NotFound: there is no such entry, or more than one; the hints list them.
            InvalidDigest: it looks like a digest, and is none.

        """
        if name.partition(":")[0] in HEX_DIGITS:
            return self._by_digest(Digest.parse(name))
        found = {entry.digest: entry for entry in self._entries if not name or _is(entry, name)}
        if len(found) == 1:
            return next(iter(found.values()))
        hints = _by_digests(found.values()) if name and found else self._listing()
        raise NotFound(self._complaint(name, len(found)), *hints)

    def document(self, name: str) -> Document:
        """Read what a name, or a digest in text form, points at.

        Raises:
            NotFound: there is no such entry, or its content is not here.
            Untrusted: its content is not what it claims, or no document.

        """
        descriptor = self.resolve(name)
        body = self.read(descriptor)
        what = f"`{name or descriptor.digest}` in `{self._tree.path}`"
        kind = decide_type(None, read_object(body, what), what, descriptor.media_type)
        return Document(Descriptor(kind, descriptor.digest, descriptor.size), body)

    def has(self, descriptor: Descriptor) -> bool:
        """Whether there is a regular file of the right size; nothing is read."""
        return self._tree.size(_blob(descriptor.digest)) == descriptor.size

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Stream content; the caller verifies.

        Raises:
            NotFound: it is not here.
            SizeMismatch: what is here has another size.

        """
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
        """Read a document whole, verified.

        Raises:
            NotFound: it is not here.
            Untrusted: it is not what the descriptor says, or too large to be a document.

        """
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
        """Check that what `index.json` lists is not there as links, which are not followed.

        Raises:
            UnsupportedDocument: an entry is.

        """
        for entry in self._entries:
            if self._tree.size(_blob(entry.digest)) is None:
                refuse_link(self._tree, _blob(entry.digest))

    def tags(self) -> Iterator[str]:
        """List the names there are, in the order of the index, each once."""
        return iter(dict.fromkeys(name for each in self._entries for name in _own_names(each)))

    def warnings(self) -> tuple[str, ...]:
        """Give what was odd about the archive, if it was one."""
        return self._warnings

    def _check_version(self) -> None:
        what = f"`oci-layout` in `{self._tree.path}`"
        if self._tree.size("oci-layout") is None:
            refuse_link(self._tree, "oci-layout")
            raise BadDocument(
                f"`{self._tree.path}`", "oci-layout", "there is none, so this is no OCI layout"
            )
        body = read_small(self._tree, "oci-layout", _MAX_MARKER)
        fields = Fields.of(read_object(body, what), what, "", frozenset({"imageLayoutVersion"}))
        version = fields.required_text("imageLayoutVersion")
        if not version.startswith("1."):
            raise UnsupportedDocument(
                what, "imageLayoutVersion", f"it is `{version[:40]}`, and only 1.x is known here"
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
            # A config or a small layer: content, and no document.
            return unknown
        return Descriptor(kind, digest, size)

    def _complaint(self, name: str, found: int) -> str:
        if not self._entries:
            return f"`{self._tree.path}` holds no image"
        if not name:
            return f"`{self._tree.path}` holds {len(self._entries)} images, and none was named"
        if found:
            return f"`{self._tree.path}` holds {found} different images named `{name}`"
        return f"`{self._tree.path}` holds no image named `{name}`"

    def _listing(self) -> tuple[str, ...]:
        """Say what could have been asked for; entries without a name by digest."""
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
    """List the names of an entry, those of `keys` or of both annotations.

    BuildKit writes several as one text with commas, which no tag and no reference contains.
    """
    for key in keys or (REF_NAME, IMAGE_NAME):
        for name in (entry.annotation(key) or "").split(","):
            if name:
                yield name


def _own_names(entry: Descriptor) -> tuple[str, ...]:
    """List the names of one annotation: the other says the same in other words."""
    return tuple(names_of(entry, REF_NAME)) or tuple(names_of(entry, IMAGE_NAME))


def _by_digests(entries: Iterable[Descriptor]) -> tuple[str, ...]:
    """Say how one of several entries with a name can be named."""
    listing = ", ".join(
        f"`@{entry.digest}`" + (f" for `{entry.platform}`" if entry.platform else "")
        for entry in entries
    )
    return (f"name one by its digest: {listing}",)


def _is(entry: Descriptor, name: str) -> bool:
    """Whether an entry goes by a name, as it is written or as a reference in other words."""
    names = tuple(names_of(entry))
    if name in names or name in {entry.annotation(REF_NAME), entry.annotation(IMAGE_NAME)}:
        return True
    # A bare word is a tag where it is held, and may be a repository where it is asked for.
    references = [held for held in names if "/" in held or ":" in held]
    wanted = _canonical(name) if references else None
    return wanted is not None and any(_canonical(held) == wanted for held in references)


def _canonical(name: str) -> str | None:
    """Write a reference in its one spelling; None for what is none."""
    try:
        return str(Reference.parse(name))
    except Malformed:
        return None


def open_folder(target: LayoutTarget) -> LayoutSource:
    """Open `oci:PATH`.

    Raises:
        NotFound: there is nothing at the path.
        UnsupportedDocument: it is no folder.
        Unavailable: it cannot be read.
        Untrusted: it is no OCI layout.

    """
    descriptor, status = open_given(target.path)
    close(descriptor)
    if not stat.S_ISDIR(status.st_mode):
        raise UnsupportedDocument(
            f"`{target.path}`",
            "",
            "it is a file, and an OCI layout is a folder",
            f"write `oci-archive:{target.path}` or `docker-archive:{target.path}`",
        )
    tree = FolderTree(target.path)
    source = LayoutSource(tree)
    if source.entries or tree.size("manifest.json") is None:
        return source
    # What Docker 25 saves, unpacked; its index may be empty, and then `manifest.json` counts.
    from resolver.sources.local.archive import translate  # noqa: PLC0415 - it reads layouts

    return LayoutSource(translate(tree, {}))
