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
from resolver.store.leases import living, living_and_unread
from resolver.store.reach import Need, Reach
from resolver.store.records import BadName, Records
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
        unread: leases of living processes that cannot be read.

    """

    root: Folder
    files: Mapping[Digest, os.stat_result]
    names: tuple[PulledName, ...]
    seen: tuple[NameRecord, ...]
    leases: tuple[Living, ...]
    reach: Reach
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
                raise StoreFault(
                    entry.path,
                    f"what this name keeps is not known: {entry.reason}",
                    "set it aside with `resolver verify --repair`; nothing was removed",
                )
            names.append(entry)
        noted = tuple(e for e in seen.entries_in(root) if not isinstance(e, BadName))
        leases, unread = living_and_unread(root) if lenient else (living(root), ())
        return cls(root, files, tuple(names), noted, leases, Reach(root, files), unread)

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
        """Give what some names need together."""
        needs: dict[Digest, Need] = {}
        for record in names:
            needs.update(self.closure(record))
        return needs

    def leased(self) -> set[Digest]:
        """Give what living processes need, and what these documents point at."""
        digests = {digest for lease in self.leases for digest in lease.digests}
        for digest in tuple(digests):
            descriptor = self.document_like(digest)
            if descriptor is not None:
                digests.update(n.descriptor.digest for n in self.reach.as_far_as_known(descriptor))
        return digests

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
        if not self._starts_like_a_document(digest):
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

    def _starts_like_a_document(self, digest: Digest) -> bool:
        with self.root.need("blobs", digest.algorithm) as folder:
            file = folder.open(digest.hex)
            if file is None:
                return False
            with file:
                return next(file.chunks(64), b"").lstrip()[:1] == b"{"
