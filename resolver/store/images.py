"""List the images of a store, their disk usage, and what they share."""

from __future__ import annotations

import stat
from collections import Counter
from dataclasses import field, replace
from itertools import islice
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import DOCUMENT_TYPES, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import (
    MAX_DEPTH,
    MAX_DOCUMENT,
    Attached,
    Index,
    Manifest,
    kind_of,
    parse_config,
    refers_to,
)
from resolver.core.results.pull import PulledImage, PulledName
from resolver.core.results.store import DiskUsage, ImageUsage, StoredImage
from resolver.errors import ResolverError, StoreFault
from resolver.store import reachable
from resolver.store.names import BadName, NameRecord, Records
from resolver.store.reachable import (
    LEAST,
    Entry,
    Files,
    Need,
    Note,
    Reach,
    Signature,
    read_index,
    read_notes,
    signature,
    write_index,
    write_notes,
)
from resolver.values import dataclass

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from resolver.store.files import StoreFolder
    from resolver.store.folder import Home


#: Most sharers named per image.
MAX_SHARERS = 20
#: Most users of a blob for which all of them are compared.
_FEW = 32
#: Most classes of images compared with one class, per blob.
_MOST_CLASSES = 512


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """A name, what it needs (nothing if damaged), what is missing, and who read it unpulled."""

    record: PulledName
    needs: Mapping[Digest, Need]
    missing: tuple[Digest, ...]
    read_as: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class StoreSnapshot:
    """One scan of an unlocked store; `users` and `ids` count images by blob and by config."""

    root: StoreFolder
    files: Mapping[Digest, os.stat_result]
    reach: Reach
    rows: list[_Row] = field(default_factory=list)
    users: Counter[Digest] = field(default_factory=Counter)
    ids: Counter[Digest] = field(default_factory=Counter)

    @classmethod
    def take(
        cls,
        root: StoreFolder,
        names: Iterable[PulledName],
        files: Mapping[Digest, os.stat_result] | None = None,
    ) -> StoreSnapshot:
        """Read every name."""
        # Before the files: the content of a name is older than the name.
        records = sorted(names, key=lambda record: record.reference)
        files = reachable.blob_files(root) if files is None else files
        listing = cls(root, files, Reach(root, files))
        for record in records:
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
        self._count(_Row(record, needs, missing), self.rows)

    def _count(self, row: _Row, rows: list[_Row]) -> None:
        rows.append(row)
        self.users.update(digest for digest in row.needs if digest in self.files)
        self.ids.update({d for d, need in row.needs.items() if need.kind == "config"})

    def image(self, row: _Row) -> StoredImage:
        """Return the listing of one row."""
        record = row.record
        configs = [c for image in record.images if (c := self._config(image)) is not None]
        held, offered, attached = self._entries(record)
        size = self._size(row.needs)
        shared = self._size(d for d in row.needs if self.users[d] > 1)
        is_alone = len(record.images) == 1 and bool(configs)
        if is_alone and not record.reference and self.ids[configs[0][0]] > 1:
            # Another image has the same config, so the ID would be ambiguous.
            is_alone = False
        return StoredImage(
            record.reference,
            configs[0][0] if is_alone else record.root.digest,
            record.root,
            held,
            offered,
            max((created for _, created in configs), default=""),
            size,
            shared,
            not record.reference,
            row.missing,
            attached,
            row.read_as,
        )

    def _entries(
        self, record: PulledName
    ) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Attached, ...]]:
        """Return platforms held, platforms offered, and attached artifacts of a name."""
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
                manifest = Descriptor(entry.media_type, entry.digest, entry.size)
                attached.setdefault(entry.digest, Attached(kind, manifest, about))
        for image in record.images:
            # Images that no index lists.
            if image.manifest.digest not in listed and image.platform is not None:
                offered.append(str(image.platform))
                if self._is_whole(image.manifest):
                    held.append(str(image.platform))
        return tuple(held), tuple(offered), tuple(attached.values())

    def _leaves(self, root: Descriptor, depth: int) -> Iterator[Descriptor]:
        """Iterate over the entries of an index and of its nested indexes that are present."""
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
        """Whether a manifest, its config and its layers are present, foreign layers aside."""
        if not self.reach.has(descriptor):
            return False
        if descriptor.media_type not in DOCUMENT_TYPES:
            return True
        document = self._manifest(descriptor)
        if document is None:
            return False
        parts = document.layers if document.config is None else (document.config, *document.layers)
        return all(bool(part.urls) or self.reach.has(part) for part in parts)

    def dangling(
        self, seen: Callable[[], Iterable[NameRecord]], rest: Iterable[Digest]
    ) -> list[_Row]:
        """Find complete images that no pulled name needs; `seen` is called if there is one."""
        whole: dict[Digest, PulledName] = {}
        for digest in rest:
            descriptor = self.reach.document_like(digest)
            if descriptor is None or descriptor.is_index:
                continue
            document = self.reach.document(descriptor)
            if not isinstance(document, Manifest) or not document.is_image:
                continue
            record = PulledName("", descriptor, (PulledImage(None, descriptor),))
            if not self.reach.lacking(record):
                whole[digest] = record
        read_as: dict[Digest, list[str]] = {}
        for note in seen() if whole else ():
            for digest in self._documents_of(note.root):
                if digest in whole:
                    read_as.setdefault(digest, []).append(note.reference)
        found: list[_Row] = []
        for digest, record in whole.items():
            reasons = tuple(sorted(read_as.get(digest, ())))
            self._count(_Row(record, self.reach.of_name(record), (), reasons), found)
        return found

    def unpulled(self, seen: Iterable[NameRecord]) -> set[Digest]:
        """Return content that was read for images that were never pulled."""
        return {
            digest
            for note in seen
            for digest in self._documents_of(note.root, whole=True)
            if digest in self.files and digest not in self.users
        }

    def _documents_of(self, root: Descriptor, *, whole: bool = False) -> list[Digest]:
        """Return a root and its documents; with `whole` also configs and layers."""
        if root.digest not in self.files:
            return []
        return [
            need.descriptor.digest
            for need in self.reach.as_far_as_known(root)
            if whole or need.kind in {"index", "manifest"}
        ]

    def usages(self) -> tuple[ImageUsage, ...]:
        """Return the own and shared size of each image."""
        sharing = _Sharing(self)
        return tuple(self._usage(number, row, sharing) for number, row in enumerate(self.rows))

    def _usage(self, number: int, row: _Row, sharing: _Sharing) -> ImageUsage:
        shared = [digest for digest in row.needs if self.users[digest] > 1]
        size = self._size(shared)
        return ImageUsage(
            row.record.reference,
            row.record.root.digest,
            self._size(row.needs) - size,
            size,
            *sharing.of(number, shared),
        )

    def _size(self, digests: Iterable[Digest]) -> int:
        return sum(self.files[digest].st_size for digest in digests if digest in self.files)

    def _is_damaged(self, digest: Digest) -> bool:
        try:
            return self.reach.body(digest) is None
        except StoreFault:
            return True

    def _config(self, image: PulledImage) -> tuple[Digest, str] | None:
        """Return an image's ID and creation time; None if unknown."""
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


class _Sharing:
    """Find which images share most; images with the same widely shared blobs form one class."""

    def __init__(self, listing: StoreSnapshot) -> None:
        self._rows = listing.rows
        self._sizes = {
            digest: listing.files[digest].st_size
            for digest, count in listing.users.items()
            if count > 1
        }
        self._users: dict[Digest, list[int]] = {}
        for number, row in enumerate(self._rows):
            for digest in row.needs:
                if digest in self._sizes:
                    self._users.setdefault(digest, []).append(number)
        self._many = {d for d, users in self._users.items() if len(users) > _FEW}
        #: Sets of images as bits of an integer, since their union is cheap.
        self._bits = {digest: _bits(self._users[digest]) for digest in self._many}
        self._members: dict[frozenset[Digest], list[int]] = {}
        self._needing: dict[Digest, set[frozenset[Digest]]] = {}
        for number, row in enumerate(self._rows):
            key = frozenset(self._many.intersection(row.needs))
            if key:
                self._members.setdefault(key, []).append(number)
                for digest in key:
                    self._needing.setdefault(digest, set()).add(key)
        self._near: dict[frozenset[Digest], list[int]] = {}

    def of(self, number: int, shared: list[Digest]) -> tuple[tuple[tuple[str, int], ...], int]:
        """Return the images that share most with an image, and how many share anything."""
        key = frozenset(self._many.intersection(shared))
        others = set(self._nearest(key)) if key else set()
        union = 0
        for digest in key:
            union |= self._bits[digest]
        for digest in shared:
            if digest not in key:
                others.update(self._users[digest])
        union |= _bits(others)
        others.discard(number)
        mine = set(shared)
        sharers = (
            (
                self._rows[other].record.reference,
                sum(self._sizes[digest] for digest in mine.intersection(self._rows[other].needs)),
            )
            for other in others
        )
        ranked = sorted((s for s in sharers if s[1]), key=lambda sharer: (-sharer[1], sharer[0]))
        return tuple(ranked[:MAX_SHARERS]), (union & ~(1 << number)).bit_count()

    def _nearest(self, key: frozenset[Digest]) -> list[int]:
        """Return representatives of the classes that share most with this one."""
        known = self._near.get(key)
        if known is not None:
            return known
        common: Counter[frozenset[Digest]] = Counter()
        for digest in key:
            # A blob that many classes need is not distinctive; closer classes share rarer ones too.
            for other in islice(self._needing[digest], _MOST_CLASSES):
                common[other] += self._sizes[digest]
        common[key] = sum(self._sizes[digest] for digest in key)
        found: list[int] = []
        for other, _ in common.most_common():
            found += self._members[other][: MAX_SHARERS + 1]
            if len(found) > MAX_SHARERS:
                break
        self._near[key] = found
        return found


def _bits(numbers: Collection[int]) -> int:
    found = bytearray((max(numbers, default=0) >> 3) + 1)
    for number in numbers:
        found[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(found, "little")


def images(
    home: Home, pulled: Records[PulledName], seen: Records[NameRecord]
) -> tuple[StoredImage, ...]:
    """List images; see `LocalStore.images`."""
    root = home.open_store()
    if root is None:
        return ()
    with root:
        files = Files(root)
        entries, _ = current(root, files, pulled)
        listing = StoreSnapshot(root, files, Reach(root, files))
        users = Counter(piece for entry in entries.values() for piece in entry.pieces)
        shared = {digest for digest, count in users.items() if count > 1}
        loose = _loose(listing, users, seen)
        # Content shared with an unnamed image counts as shared too.
        shared |= {str(digest) for row in loose for digest in row.needs if str(digest) in users}
        parts = {digest: need for row in loose for digest, need in row.needs.items()}
        listing.users.update({digest: users[str(digest)] for digest in parts})
        listing.ids.update(
            d for d, need in parts.items() if need.kind == "config" and str(d) in users
        )
        rows = sorted(entries.items(), key=lambda item: item[1].image.reference)
        return (
            *(
                _with_shared(entry, shared, files)
                for name, entry in rows
                if not (entry.image.missing and _has_changed(root, pulled, name, entry))
            ),
            *(listing.image(row) for row in loose),
        )


def current(
    root: StoreFolder, files: Files, pulled: Records[PulledName]
) -> tuple[dict[str, Entry], list[BadName]]:
    """Return what each name needs, by the name of its file: from the index, or read anew."""
    names = pulled.files_in(root)
    known = read_index(root, files) if len(names) >= LEAST else {}
    found: dict[str, Entry] = {}
    bad: list[BadName] = []
    fresh = 0
    for name, status in names.items():
        entry = known.get(name)
        if entry is None or entry.name != signature(status):
            record = pulled.read_in(root, name)
            if isinstance(record, BadName):
                bad.append(record)
            if record is None or isinstance(record, BadName):
                continue
            entry = _entry(root, files, record, signature(status))
            fresh += 1
        found[name] = entry
    write_index(root, files, found, fresh)
    return found, bad


def _entry(root: StoreFolder, files: Files, record: PulledName, name: Signature) -> Entry:
    """Read what a name needs, recording all lookups."""
    files.looked = set()
    alone = StoreSnapshot.take(root, [record], files)
    (row,) = alone.rows
    image = replace(alone.image(row), shared_size=0)
    is_lasting = bool(row.needs) and not alone.reach.has_failed
    return Entry(name, image, tuple(map(str, row.needs)), tuple(files.looked), is_lasting)


def _loose(
    listing: StoreSnapshot, users: Mapping[str, int], seen: Records[NameRecord]
) -> list[_Row]:
    """Find unnamed images; usually there is no unused content and nothing is read."""
    rest = [text for text in listing.files.by_text if text not in users]  # type: ignore[attr-defined]
    if not rest:
        return []
    return listing.dangling(lambda: notes(listing.root, seen), map(Digest.parse, sorted(rest)))


def _with_shared(entry: Entry, shared: set[str], files: Files) -> StoredImage:
    image = entry.image
    size = sum(
        files.by_text[piece].st_size
        for piece in entry.pieces
        if piece in shared and piece in files.by_text
    )
    return replace(image, shared_size=size)


def usage(home: Home, pulled: Records[PulledName], seen: Records[NameRecord]) -> DiskUsage:
    """Return what takes how much; see `LocalStore.usage`."""
    root = home.open_store()
    if root is None:
        return DiskUsage((), 0, 0, 0, 0)
    with root:
        names = [entry for entry in pulled.entries_in(root) if not isinstance(entry, BadName)]
        listing = StoreSnapshot.take(root, names)
        regular = {d: s for d, s in listing.files.items() if stat.S_ISREG(s.st_mode)}
        seen_names = notes(root, seen)
        noted = {note.root.digest for note in seen_names}
        unpulled = listing.unpulled(seen_names) - noted
        return DiskUsage(
            listing.usages(),
            sum(status.st_size for status in regular.values()),
            sum(s.st_size for d, s in regular.items() if d not in listing.users and d not in noted),
            sum(loose.size for loose in (*reachable.partials(root), *reachable.uploads(root))),
            sum(loose.size for loose in reachable.temporaries(root)),
            sum(regular[d].st_size for d in unpulled if d in regular),
        )


def notes(root: StoreFolder, seen: Records[NameRecord]) -> tuple[NameRecord, ...]:
    """Return the usable records of resolves, from the index or read again."""
    files = seen.files_in(root)
    known = read_notes(root) if len(files) >= LEAST else {}
    found: list[NameRecord] = []
    kept: dict[str, tuple[Signature, Note]] = {}
    fresh = 0
    for name, status in sorted(files.items()):
        own = signature(status)
        held = known.get(name)
        if held is not None and held[0] == own:
            reference, media_type, digest, size = held[1]
            record = NameRecord(reference, Descriptor(media_type, Digest.parse(digest), size))
        else:
            read = seen.read_in(root, name)
            if read is None or isinstance(read, BadName):
                continue
            record = read
            fresh += 1
        at = record.root
        kept[name] = (own, (record.reference, at.media_type, str(at.digest), at.size))
        found.append(record)
    write_notes(root, kept, fresh)
    return tuple(found)


def _has_changed(root: StoreFolder, pulled: Records[PulledName], name: str, entry: Entry) -> bool:
    """Whether an apparently incomplete name was removed or replaced meanwhile."""
    status = pulled.look_in(root, name)
    return status is None or signature(status) != entry.name
