"""What images there are, what they take, and what they share."""

from __future__ import annotations

import stat
from collections import Counter
from dataclasses import field
from typing import TYPE_CHECKING

from resolver.core.attached import Attached, kind_of, refers_to
from resolver.core.descriptor import DOCUMENT_TYPES
from resolver.core.image_config import parse_config
from resolver.core.manifest import MAX_DEPTH, MAX_DOCUMENT, Index, Manifest
from resolver.core.pulled_name import PulledImage, PulledName
from resolver.core.stored import ImageUsage, StoredImage, Usage
from resolver.errors import ResolverError, StoreFault
from resolver.store import census
from resolver.store.ground import Ground
from resolver.store.reach import Need, Reach
from resolver.store.records import BadName, Records
from resolver.values import dataclass

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from resolver.core.descriptor import Descriptor
    from resolver.core.digest import Digest
    from resolver.store.files import Folder
    from resolver.store.home import Home
    from resolver.store.names import NameRecord


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """A name and what it needs, as far as that is known.

    Attributes:
        needs: empty where its documents are damaged.
        missing: what is not here, or not as it should be.

    """

    record: PulledName
    needs: Mapping[Digest, Need]
    missing: tuple[Digest, ...]


@dataclass(slots=True, eq=False)
class Listing:
    """One look at a store that may change meanwhile; nothing is locked.

    Attributes:
        users: how many images need a blob.

    """

    root: Folder
    files: Mapping[Digest, os.stat_result]
    reach: Reach
    rows: list[_Row] = field(default_factory=list)
    users: Counter[Digest] = field(default_factory=Counter)

    @classmethod
    def take(cls, root: Folder, names: Iterable[PulledName]) -> Listing:
        """Look at every name."""
        files = census.blob_files(root)
        listing = cls(root, files, Reach(root, files))
        for record in sorted(names, key=lambda record: record.reference):
            listing._add(record)
        return listing

    def _add(self, record: PulledName) -> None:
        try:
            needs = self.reach.of_name(record)
            missing = self.reach.lacking(record)
        except StoreFault:
            needs = {}
            roots = (record.root, *(image.manifest for image in record.images))
            damaged = (root.digest for root in roots if self._is_damaged(root.digest))
            missing = tuple(dict.fromkeys(damaged))
        self.rows.append(_Row(record, needs, missing))
        self.users.update(digest for digest in needs if digest in self.files)

    def image(self, row: _Row, *, dangling: bool = False) -> StoredImage:
        """Describe one row."""
        record = row.record
        configs = [c for image in record.images if (c := self._config(image)) is not None]
        held, offered, attached = self._entries(record)
        size = self._size(row.needs)
        shared = self._size(d for d in row.needs if self.users[d] > 1)
        return StoredImage(
            "" if dangling else record.reference,
            configs[0][0] if len(record.images) == 1 and configs else record.root.digest,
            record.root,
            held,
            offered,
            max((created for _, created in configs), default=""),
            size,
            shared,
            dangling,
            row.missing,
            attached,
        )

    def _entries(
        self, record: PulledName
    ) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Attached, ...]]:
        """Give the platforms held whole, those offered, and what else is held; in index order.

        Only images that were pulled under the name are held by it, whatever else is in the store.
        """
        pulled = {image.manifest.digest: image for image in record.images}
        held: list[str] = []
        offered: list[str] = []
        attached = {
            each.manifest.digest: each for each in record.attached if self._is_whole(each.manifest)
        }
        listed: set[Digest] = set()
        for entry in self._leaves(record.root, 0):
            image = pulled.get(entry.digest)
            platform = entry.platform or (image.platform if image is not None else None)
            kind = kind_of(entry, self._manifest(entry))
            about = refers_to(entry)
            if image is not None or (kind == "image" and about is None):
                listed.add(entry.digest)
                if platform is None:
                    continue
                offered.append(str(platform))
                if image is not None and self._is_whole(image.manifest):
                    held.append(str(platform))
            elif (about is None or about in pulled) and self._is_whole(entry):
                attached.setdefault(entry.digest, Attached(kind, entry, about))
        for image in record.images:
            # What the index does not list, or no index lists.
            if image.manifest.digest not in listed and image.platform is not None:
                offered.append(str(image.platform))
                if self._is_whole(image.manifest):
                    held.append(str(image.platform))
        return tuple(held), tuple(offered), tuple(attached.values())

    def _leaves(self, root: Descriptor, depth: int) -> Iterator[Descriptor]:
        """Give the entries of an index and of the indexes inside it that are here."""
        try:
            document = self.reach.document(root)
        except StoreFault:
            return
        for entry in document.manifests if isinstance(document, Index) else ():
            if entry.is_index and depth < MAX_DEPTH and entry.digest in self.files:
                yield from self._leaves(entry, depth + 1)
            elif not entry.is_index or entry.platform is not None:
                yield entry

    def _manifest(self, entry: Descriptor) -> Manifest | None:
        if entry.media_type not in DOCUMENT_TYPES:
            return None
        try:
            document = self.reach.document(entry)
        except StoreFault:
            return None
        return document if isinstance(document, Manifest) else None

    def _is_whole(self, descriptor: Descriptor) -> bool:
        """Whether a manifest and all its parts are here; foreign layers are not missed."""
        if not self.reach.has(descriptor):
            return False
        if descriptor.media_type not in DOCUMENT_TYPES:
            return True
        document = self._manifest(descriptor)
        if document is None:
            return False
        parts = document.layers if document.config is None else (document.config, *document.layers)
        return all(bool(part.urls) or self.reach.has(part) for part in parts)

    def dangling(self) -> list[_Row]:
        """Find images that are here whole and that no name leads to."""
        found: list[_Row] = []
        ground = Ground(self.root, self.files, (), (), (), self.reach)
        for digest in sorted(set(self.files) - set(self.users)):
            descriptor = ground.document_like(digest)
            if descriptor is None or descriptor.is_index:
                continue
            document = self.reach.document(descriptor)
            if not isinstance(document, Manifest) or not document.is_image:
                continue
            record = PulledName("", descriptor, (PulledImage(None, descriptor),))
            needs = self.reach.of_name(record)
            if not self.reach.lacking(record):
                found.append(_Row(record, needs, ()))
        for row in found:
            self.users.update(digest for digest in row.needs if digest in self.files)
        return found

    def usage(self, row: _Row) -> ImageUsage:
        """Count what one image has for itself, and what it shares with whom."""
        mine = {d for d in row.needs if d in self.files}
        shared = {digest for digest in mine if self.users[digest] > 1}
        sharers = [
            (other.record.reference, self._size(shared & set(other.needs)))
            for other in self.rows
            if other is not row
        ]
        ranked = sorted((s for s in sharers if s[1]), key=lambda sharer: (-sharer[1], sharer[0]))
        return ImageUsage(
            row.record.reference,
            row.record.root.digest,
            self._size(mine - shared),
            self._size(shared),
            tuple(ranked),
        )

    def _size(self, digests: Iterable[Digest]) -> int:
        return sum(self.files[digest].st_size for digest in digests if digest in self.files)

    def _is_damaged(self, digest: Digest) -> bool:
        try:
            return self.reach.body(digest) is None
        except StoreFault:
            return True

    def _config(self, image: PulledImage) -> tuple[Digest, str] | None:
        """Give an image's id and when it was built; None where that is not known."""
        try:
            document = self.reach.document(image.manifest)
            if not isinstance(document, Manifest) or document.config is None:
                return None
            digest = document.config.digest
            body = self.reach.body(digest) if document.is_image else None
            if body is None or len(body) > MAX_DOCUMENT:
                return digest, ""
            return digest, parse_config(body, f"`{digest}`", None).created
        except ResolverError:
            return None


def images(home: Home, pulled: Records[PulledName]) -> tuple[StoredImage, ...]:
    """List images; see `LocalStore.images`."""
    root = home.open()
    if root is None:
        return ()
    with root:
        listing = Listing.take(root, _usable(root, pulled))
        loose = listing.dangling()
        rows = [row for row in listing.rows if not (row.missing and _has_changed(pulled, row))]
        return (
            *(listing.image(row) for row in rows),
            *(listing.image(row, dangling=True) for row in loose),
        )


def usage(home: Home, pulled: Records[PulledName], seen: Records[NameRecord]) -> Usage:
    """Say what takes how much; see `LocalStore.usage`."""
    root = home.open()
    if root is None:
        return Usage((), 0, 0, 0, 0)
    with root:
        listing = Listing.take(root, _usable(root, pulled))
        regular = {d: s for d, s in listing.files.items() if stat.S_ISREG(s.st_mode)}
        noted = {r.root.digest for r in seen.entries_in(root) if not isinstance(r, BadName)}
        return Usage(
            tuple(listing.usage(row) for row in listing.rows),
            sum(status.st_size for status in regular.values()),
            sum(s.st_size for d, s in regular.items() if d not in listing.users and d not in noted),
            sum(loose.size for loose in census.partials(root)),
            sum(loose.size for loose in census.temporaries(root)),
        )


def _usable(root: Folder, pulled: Records[PulledName]) -> list[PulledName]:
    return [entry for entry in pulled.entries_in(root) if not isinstance(entry, BadName)]


def _has_changed(pulled: Records[PulledName], row: _Row) -> bool:
    """Whether a name that looks incomplete was removed or replaced while we looked."""
    return pulled.get(row.record.reference) != row.record
