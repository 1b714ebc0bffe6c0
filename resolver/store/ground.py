"""What is needed and what is not, while nobody else changes it."""

from __future__ import annotations

import stat
from dataclasses import field
from typing import TYPE_CHECKING

from resolver.core.descriptor import Descriptor
from resolver.core.manifest import MAX_DOCUMENT, parse_document
from resolver.core.stored import Item
from resolver.errors import ResolverError, StoreFault
from resolver.store.census import blob_files
from resolver.store.index import LEAST, Files
from resolver.store.leases import living, living_and_unread
from resolver.store.reach import Need, Reach
from resolver.store.records import BadName, Records, file_name
from resolver.values import dataclass

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from resolver.core.digest import Digest
    from resolver.core.pulled_name import PulledName
    from resolver.core.stored import Living, Unread
    from resolver.store.files import Folder
    from resolver.store.names import NameRecord

#: What points at others goes before what it points at.
_ORDER = ("index", "manifest", "config", "layer", "blob")


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """A store that is held exclusively, and all that speaks for keeping something.

    Attributes:
        files: what lies in `blobs`.
        names: what was pulled.
        seen: roots that a resolve noted.
        leases: of living processes.
        others: what names need that are not in `names`: digests as text.
        fault: why that is not known; None where it is.
        unread: leases of living processes that cannot be read.

    """

    root: Folder
    files: Mapping[Digest, os.stat_result]
    names: tuple[PulledName, ...]
    seen: tuple[NameRecord, ...]
    leases: tuple[Living, ...]
    reach: Reach
    others: frozenset[str] = frozenset()
    fault: StoreFault | None = None
    unread: tuple[Unread, ...] = ()
    _closures: dict[str, dict[Digest, Need]] = field(default_factory=dict)

    @classmethod
    def take(
        cls,
        root: Folder,
        pulled: Records[PulledName],
        seen: Records[NameRecord],
        *,
        lenient: bool = False,
    ) -> Ground:
        """Look at everything once.

        Args:
            root: of the store.
            pulled: what was pulled.
            seen: what a resolve noted.
            lenient: list leases that cannot be read in `unread`, instead of raising.

        Raises:
            StoreFault: something cannot be read, so what it keeps is not known (R37).

        """
        files = blob_files(root)
        names: list[PulledName] = []
        for entry in pulled.entries_in(root):
            if isinstance(entry, BadName):
                raise _unknown(entry)
            names.append(entry)
        noted = tuple(e for e in seen.entries_in(root) if not isinstance(e, BadName))
        leases, unread = living_and_unread(root) if lenient else (living(root), ())
        return cls(root, files, tuple(names), noted, leases, Reach(root, files), unread=unread)

    @classmethod
    def around(
        cls, root: Folder, pulled: Records[PulledName], seen: Records[NameRecord], reference: str
    ) -> Ground | None:
        """Look at one name, and of the others only at whether they need the same.

        In a large store this spares reading what the index of names knows.

        Returns:
            None where the store is small, or where nothing has this name.

        Raises:
            StoreFault: as `take`.

        """
        own = file_name(reference)
        status = pulled.look_in(root, own)
        record = pulled.read_in(root, own)
        if status is None or record is None or isinstance(record, BadName):
            return None
        if len(pulled.files_in(root)) < LEAST:
            return None
        from resolver.store.listing import current, notes  # noqa: PLC0415 - that module needs this one

        files = Files(root)
        reach = Reach(root, files)
        entries, bad = current(root, files, pulled)
        if bad:
            raise _unknown(bad[0])
        entries.pop(own, None)
        fault = None
        needed = {piece for entry in entries.values() for piece in entry.pieces}
        for name in [name for name, entry in entries.items() if not entry.pieces]:
            # Damaged, or it could not be read just now: then it is asked once more.
            other = pulled.read_in(root, name)
            if isinstance(other, BadName):
                raise _unknown(other)
            try:
                needed.update(map(str, () if other is None else reach.of_name(other)))
            except StoreFault as error:
                fault = error
        noted = notes(root, seen)
        others = frozenset(needed)
        return cls(root, files, (record,), noted, living(root), reach, others, fault)

    def closure(self, record: PulledName) -> dict[Digest, Need]:
        """Give what a name needs.

        Raises:
            StoreFault: a document of it is damaged.

        """
        known = self._closures.get(record.reference)
        if known is None:
            known = self._closures[record.reference] = self.reach.of_name(record)
        return known

    def needed_by(self, names: Iterable[PulledName]) -> dict[Digest, Need]:
        """Give what some names need together.

        Raises:
            StoreFault: a document of one of them, or of a name beside them, is damaged.

        """
        if self.fault is not None:
            raise self.fault
        needs: dict[Digest, Need] = {}
        for record in names:
            needs.update(self.closure(record))
        return needs

    def users(self) -> dict[Digest, Living]:
        """Say which living process needs a piece; of several, one."""
        found: dict[Digest, Living] = {}
        for lease in self.leases:
            for digest in lease.digests:
                found.setdefault(digest, lease)
                descriptor = self.document_like(digest)
                if descriptor is not None:
                    for need in self.reach.as_far_as_known(descriptor):
                        found.setdefault(need.descriptor.digest, lease)
        return found

    def size_of(self, digests: Iterable[Digest]) -> int:
        """Add up what is on the disk, in bytes."""
        return sum(self.files[digest].st_size for digest in digests if digest in self.files)

    def items(self, digests: Iterable[Digest], known: Mapping[Digest, Need]) -> tuple[Item, ...]:
        """Name pieces by what they are, parents first; what nothing speaks of is read."""
        kinds = {digest: need.kind for digest, need in known.items()}
        wanted = sorted(digests)
        for digest in wanted:
            descriptor = None if digest in kinds else self.document_like(digest)
            if descriptor is not None:
                for need in self.reach.as_far_as_known(descriptor):
                    kinds.setdefault(need.descriptor.digest, need.kind)
        rows = [Item(str(d), self.files[d].st_size, kinds.get(d, "blob")) for d in wanted]
        return tuple(sorted(rows, key=lambda item: _ORDER.index(item.kind)))

    def document_like(self, digest: Digest) -> Descriptor | None:
        """Describe a file if it is an index or a manifest; None for anything else, or damaged."""
        status = self.files.get(digest)
        if status is None or not stat.S_ISREG(status.st_mode) or status.st_size > MAX_DOCUMENT:
            return None
        if not self.starts_like_a_document(digest):
            return None
        try:
            body = self.reach.body(digest)
            if body is None:
                return None
            media_type = parse_document(body, None, f"`{digest}`").media_type
        except ResolverError:
            return None
        return Descriptor(media_type, digest, status.st_size)

    def delete(self, items: Iterable[Item], *, sync: bool) -> None:
        """Remove blobs, in the given order.

        Raises:
            StoreFault: one cannot be removed.

        """
        for item in items:
            algorithm, _, name = item.name.partition(":")
            with self.root.need("blobs", algorithm) as folder:
                folder.remove(name)
        if sync:
            with self.root.need("blobs", "sha256") as folder:
                folder.sync()

    def starts_like_a_document(self, digest: Digest) -> bool:
        """Whether a file begins like a JSON object; false for one that is not here."""
        with self.root.need("blobs", digest.algorithm) as folder:
            file = folder.open(digest.hex)
            if file is None:
                return False
            with file:
                return next(file.chunks(64), b"").lstrip()[:1] == b"{"


def _unknown(bad: BadName) -> StoreFault:
    return StoreFault(
        bad.path,
        f"what this name keeps is not known: {bad.reason}",
        "set it aside with `resolver verify --repair`; nothing was removed",
    )
