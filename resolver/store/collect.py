"""Collection: remove content that no name and no active lease needs.

Everything is decided before anything is removed; a dry run stops at that point
(docs/store-and-reliability.md, "Collection").
"""

from __future__ import annotations

import stat
import time
from collections import Counter
from dataclasses import field, replace
from typing import TYPE_CHECKING

from resolver.core.results.store import Collected, Item, Retention, Stay
from resolver.errors import StoreFault
from resolver.store import reachable
from resolver.store.files import is_aside
from resolver.store.images import current, notes
from resolver.store.leases import active_leases, read_leases
from resolver.store.names import BadName, Records, file_name
from resolver.store.partials import discard
from resolver.store.reachable import LEAST, Files, Need, Reach, blob_files
from resolver.store.uploads import END, FOLDER
from resolver.values import dataclass

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from resolver.core.oci.digest import Digest
    from resolver.core.results.pull import PulledName
    from resolver.core.results.store import ActiveLease, Unread
    from resolver.store.files import StoreFolder
    from resolver.store.folder import Home
    from resolver.store.names import NameRecord
    from resolver.store.reachable import Loose


#: Parents are removed before the content they reference.
_ORDER = ("index", "manifest", "config", "layer", "blob")


@dataclass(frozen=True, slots=True, eq=False)
class GcSnapshot:
    """An exclusively locked store, and everything that protects content.

    `others`: digests, as text, needed by names that are not in `names`. `fault`: why `others` is
    incomplete; None if it is complete. `unread`: active leases that cannot be read.
    """

    root: StoreFolder
    files: Mapping[Digest, os.stat_result]
    names: tuple[PulledName, ...]
    seen: tuple[NameRecord, ...]
    leases: tuple[ActiveLease, ...]
    reach: Reach
    others: frozenset[str] = frozenset()
    fault: StoreFault | None = None
    unread: tuple[Unread, ...] = ()
    _closures: dict[str, dict[Digest, Need]] = field(default_factory=dict)

    @classmethod
    def take(
        cls,
        root: StoreFolder,
        pulled: Records[PulledName],
        seen: Records[NameRecord],
        *,
        lenient: bool = False,
    ) -> GcSnapshot:
        """Read the whole store once; `lenient` lists unreadable leases instead of raising."""
        files = blob_files(root)
        names: list[PulledName] = []
        for entry in pulled.entries_in(root):
            if isinstance(entry, BadName):
                raise _unknown(entry)
            names.append(entry)
        noted = tuple(e for e in seen.entries_in(root) if not isinstance(e, BadName))
        leases, unread = read_leases(root) if lenient else (active_leases(root), ())
        return cls(root, files, tuple(names), noted, leases, Reach(root, files), unread=unread)

    @classmethod
    def around(
        cls,
        root: StoreFolder,
        pulled: Records[PulledName],
        seen: Records[NameRecord],
        reference: str,
    ) -> GcSnapshot | None:
        """Read one name, and of the others only what they need, by the cached index."""
        own = file_name(reference)
        status = pulled.look_in(root, own)
        record = pulled.read_in(root, own)
        if status is None or record is None or isinstance(record, BadName):
            return None
        if len(pulled.files_in(root)) < LEAST:
            return None
        files = Files(root)
        reach = Reach(root, files)
        entries, bad = current(root, files, pulled)
        if bad:
            raise _unknown(bad[0])
        entries.pop(own, None)
        fault = None
        needed = {piece for entry in entries.values() for piece in entry.pieces}
        for name in [name for name, entry in entries.items() if not entry.pieces]:
            # Damaged, or unreadable a moment ago: read it again.
            other = pulled.read_in(root, name)
            if isinstance(other, BadName):
                raise _unknown(other)
            try:
                needed.update(map(str, () if other is None else reach.of_name(other)))
            except StoreFault as error:
                fault = error
        noted = notes(root, seen)
        others = frozenset(needed)
        return cls(root, files, (record,), noted, active_leases(root), reach, others, fault)

    def closure(self, record: PulledName) -> dict[Digest, Need]:
        """Return the content that a name needs."""
        known = self._closures.get(record.reference)
        if known is None:
            known = self._closures[record.reference] = self.reach.of_name(record)
        return known

    def needed_by(self, names: Iterable[PulledName]) -> dict[Digest, Need]:
        """Return the content that several names need."""
        if self.fault is not None:
            raise self.fault
        needs: dict[Digest, Need] = {}
        for record in names:
            needs.update(self.closure(record))
        return needs

    def users(self) -> dict[Digest, ActiveLease]:
        """Return a lease for each digest that active leases protect."""
        found: dict[Digest, ActiveLease] = {}
        for lease in self.leases:
            for digest in lease.digests:
                found.setdefault(digest, lease)
                descriptor = self.reach.document_like(digest)
                if descriptor is not None:
                    for need in self.reach.as_far_as_known(descriptor):
                        found.setdefault(need.descriptor.digest, lease)
        return found

    def size_of(self, digests: Iterable[Digest]) -> int:
        """Return the total size on disk, in bytes."""
        return sum(self.files[digest].st_size for digest in digests if digest in self.files)

    def items(self, digests: Iterable[Digest], known: Mapping[Digest, Need]) -> tuple[Item, ...]:
        """Return items with their kinds, parents first; content of unknown kind is read."""
        kinds = {digest: need.kind for digest, need in known.items()}
        wanted = sorted(digests)
        for digest in wanted:
            descriptor = None if digest in kinds else self.reach.document_like(digest)
            if descriptor is not None:
                for need in self.reach.as_far_as_known(descriptor):
                    kinds.setdefault(need.descriptor.digest, need.kind)
        rows = [Item(str(d), self.files[d].st_size, kinds.get(d, "blob")) for d in wanted]
        return tuple(sorted(rows, key=lambda item: _ORDER.index(item.kind)))

    def delete(self, items: Iterable[Item], *, sync: bool) -> None:
        """Remove blobs in the given order."""
        for item in items:
            algorithm, _, name = item.name.partition(":")
            with self.root.need("blobs", algorithm) as folder:
                folder.remove(name)
        if sync:
            with self.root.need("blobs", "sha256") as folder:
                folder.sync()


def _unknown(bad: BadName) -> StoreFault:
    return StoreFault(
        bad.path,
        f"the content that this name needs is unknown: {bad.reason}",
        "set it aside with `resolver verify --repair`; nothing was removed",
    )


_KINDS = {"partial": "partial", "tmp": "temporary", "leases": "lease", "uploads": "upload"}


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """The decision of what to remove.

    Attributes:
        pulled, seen: references to remove.
        missing: content that kept names need and the store lacks.
        stays: reasons why unneeded content stays.
        loose_size: bytes of partials and set-aside files that stay.
    """

    pulled: tuple[str, ...]
    seen: tuple[str, ...]
    blobs: tuple[Item, ...]
    loose: tuple[Loose, ...]
    missing: tuple[Digest, ...]
    stays: tuple[Stay, ...]
    loose_size: int


def collect(
    home: Home,
    pulled: Records[PulledName],
    seen: Records[NameRecord],
    rules: Retention,
    *,
    dry_run: bool,
) -> Collected:
    """Remove unneeded content; see `LocalStore.collect`."""
    if not home.exists():
        return Collected((), 0, 0, 0, dry_run=dry_run, limit=rules.max_size)
    with home.writing(exclusive=True) as root:
        if not dry_run:
            # Also if nothing is to be removed: a scheduled job must fail rather than do nothing.
            root.refuse_read_only()
        snapshot = GcSnapshot.take(root, pulled, seen, lenient=True)
        # File times are wall-clock times.
        choose = _choose_without_leases if snapshot.unread else _choose
        choice = choose(snapshot, rules, time.time())
        if not dry_run:
            pulled.drop_in(root, choice.pulled)
            seen.drop_in(root, choice.seen)
            snapshot.delete(choice.blobs, sync=home.sync and bool(choice.blobs))
            for loose in choice.loose:
                _discard(root, loose)
        return _report(snapshot, choice, rules, dry_run=dry_run)


def _choose(snapshot: GcSnapshot, rules: Retention, now: float) -> _Choice:
    stay = _unexpired(snapshot, _names_to_keep(snapshot, rules), now)
    leased = set(snapshot.users())
    recent = _recent(snapshot)
    before = now - max(rules.grace, rules.keep_newer or 0)
    # Content from the future is young too: a wrong clock proves no age.
    young = recent | {d for d, status in snapshot.files.items() if status.st_mtime > before}
    keep = rules.keep
    notes = [record for record in snapshot.seen if keep is None or record.reference in keep]
    left: list[Loose] = []
    loose_left: list[Loose] = []
    since = min((lease.since for lease in snapshot.leases), default=now)
    for loose in _loose(snapshot.root):
        is_left = _is_left_behind(loose, now - rules.grace)
        # A client may be between two requests.
        is_left = is_left and (loose.folder != FOLDER or loose.changed < since)
        (left if is_left else loose_left).append(loose)
    kept: list[Stay] = []
    if rules.max_size is not None:
        limiter = _SizeLimiter(snapshot, stay, notes, (leased | recent, young), loose_left)
        limiter.run(rules, now)
        stay, notes, loose_left, kept = limiter.stay, limiter.notes, limiter.loose, limiter.kept
        left += limiter.dropped
    needs = snapshot.needed_by(stay)
    staying = {record.reference for record in stay}
    gone_names = tuple(record for record in snapshot.names if record.reference not in staying)
    noted = {record.root.digest for record in notes}
    # Content of a dropped name was complete; its age does not indicate an active writer.
    released = set(snapshot.needed_by(gone_names)) - leased - noted - recent
    always = leased | young | noted
    garbage: list[Digest] = []
    spared: list[Digest] = []
    for digest, status in snapshot.files.items():
        if digest in needs or stat.S_ISDIR(status.st_mode):
            continue
        (spared if digest in always and digest not in released else garbage).append(digest)
    missing = tuple(
        digest
        for digest, need in needs.items()
        if not need.is_optional and digest not in snapshot.files
    )
    remembered = {record.reference for record in notes}
    return _Choice(
        tuple(record.reference for record in gone_names),
        tuple(record.reference for record in snapshot.seen if record.reference not in remembered),
        snapshot.items(garbage, snapshot.needed_by(gone_names)),
        tuple(left),
        missing,
        (*kept, *_stays(snapshot, spared, noted, loose_left, rules, now)),
        sum(loose.size for loose in loose_left),
    )


def _choose_without_leases(snapshot: GcSnapshot, rules: Retention, now: float) -> _Choice:
    """Choose what can be removed although an active lease cannot be read.

    The lease may protect any blob that was present before it began. It needs no unlocked partial or
    lease, and no temporary file older than itself.
    """
    begun = min(each.since if each.since is not None else 0.0 for each in snapshot.unread)
    left: list[Loose] = []
    staying = 0
    for loose in _loose(snapshot.root):
        is_left = _is_left_behind(loose, now - rules.grace)
        if is_left and (loose.folder not in ("tmp", FOLDER) or loose.changed < begun):
            left.append(loose)
        else:
            staying += loose.size
    return _Choice((), (), (), tuple(left), (), (), staying)


def _names_to_keep(snapshot: GcSnapshot, rules: Retention) -> list[PulledName]:
    if rules.keep is None and rules.used_since is None:
        return list(snapshot.names)
    keep, since = rules.keep or frozenset(), rules.used_since
    return [
        record
        for record in snapshot.names
        if record.reference in keep or (since is not None and record.pulled_at >= since)
    ]


def _unexpired(snapshot: GcSnapshot, names: list[PulledName], now: float) -> list[PulledName]:
    """Remove names that have expired; a referrer stays as long as its subject."""
    expired = [record for record in names if 0 < record.expires <= now]
    stay = [record for record in names if not 0 < record.expires <= now]
    while expired:
        needed = snapshot.needed_by(stay).keys()
        found = [record for record in expired if _subject(snapshot, record) in needed]
        if not found:
            break
        stay += found
        expired = [record for record in expired if record not in found]
    return stay


def _subject(snapshot: GcSnapshot, record: PulledName) -> Digest | None:
    document = snapshot.reach.document(record.root)
    return None if document is None or document.subject is None else document.subject.digest


class _SizeLimiter:
    """Brings a store below a size: drops set-aside files, then the least recently used names."""

    def __init__(
        self,
        snapshot: GcSnapshot,
        stay: list[PulledName],
        notes: list[NameRecord],
        fixed: tuple[set[Digest], set[Digest]],
        loose: list[Loose],
    ) -> None:
        self._snapshot = snapshot
        self.stay = stay
        self.notes = notes
        self.loose = loose
        self.dropped: list[Loose] = []
        self.kept: list[Stay] = []
        always, young = fixed
        self._users: Counter[Digest] = Counter(always)
        # Young content of a dropped name would be removed with it.
        self._users.update(young - always - set(snapshot.needed_by(snapshot.names)))
        for record in stay:
            self._users.update(snapshot.closure(record).keys())
        self._users.update(note.root.digest for note in notes)
        self._size = snapshot.size_of(self._users) + sum(each.size for each in loose)

    def run(self, rules: Retention, now: float) -> None:
        limit = rules.max_size or 0
        loose, self.loose = self.loose, []
        for each in loose:
            goes = self._size > limit and is_aside(each.name)
            (self.dropped if goes else self.loose).append(each)
            self._size -= each.size if goes else 0
        shield = now - rules.keep_newer if rules.keep_newer is not None else None
        notes = {note.reference: note for note in self.notes}
        staying: list[PulledName] = []
        for record in sorted(self.stay, key=lambda each: (each.pulled_at, each.reference)):
            if self._size <= limit:
                staying.append(record)
            elif (stay := self._refusal(record, shield, rules)) is not None:
                staying.append(record)
                self.kept.append(stay)
            else:
                self._drop(self._snapshot.closure(record))
                note = notes.pop(record.reference, None)
                self._drop(() if note is None else (note.root.digest,))
        kept = {record.reference for record in staying}
        for reference, note in list(notes.items()):
            # Records for `--offline` are small and are dropped last.
            if self._size > limit and reference not in kept:
                self._drop((note.root.digest,))
                del notes[reference]
        self.stay = [record for record in self.stay if record.reference in kept]
        self.notes = [note for note in self.notes if note.reference in notes]

    def _drop(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            self._users[digest] -= 1
            if not self._users[digest]:
                self._size -= self._snapshot.size_of((digest,))

    def _refusal(self, record: PulledName, shield: float | None, rules: Retention) -> Stay | None:
        size = self._snapshot.size_of(self._snapshot.closure(record))
        core = {record.root.digest, *(image.manifest.digest for image in record.images)}
        for lease in self._snapshot.leases:
            if lease.digests & core:
                return Stay("image-lease", 1, size, lease.purpose, lease.process)
        if shield is not None and record.pulled_at >= shield:
            return Stay("image-keep-newer", 1, size, age=rules.keep_newer or 0.0)
        return None


def _stays(
    snapshot: GcSnapshot,
    spared: Iterable[Digest],
    noted: set[Digest],
    loose: Iterable[Loose],
    rules: Retention,
    now: float,
) -> list[Stay]:
    """Return why unneeded content stays, summed by reason."""
    users = snapshot.users()
    first = min(snapshot.leases, key=lambda lease: lease.since, default=None)
    found: list[Stay] = []
    for digest in spared:
        status = snapshot.files[digest]
        size = status.st_size
        if digest in users:
            found.append(Stay("lease", 1, size, users[digest].purpose, users[digest].process))
        elif first is not None and status.st_mtime >= first.since:
            found.append(Stay("since", 1, size, first.purpose, first.process))
        elif digest in noted:
            found.append(Stay("noted", 1, size))
        else:
            found.append(_too_young(size, now - status.st_mtime, rules))
    for each in loose:
        if each.folder in ("partial", FOLDER) and each.is_active:
            found.append(Stay("transfer", 1, each.size))
        elif each.folder != "leases":
            found.append(_too_young(each.size, now - each.changed, rules))
    sums: dict[Stay, tuple[int, int]] = {}
    for stay in found:
        key = replace(stay, count=0, size=0)
        count, size = sums.get(key, (0, 0))
        sums[key] = (count + stay.count, size + stay.size)
    return [replace(key, count=count, size=size) for key, (count, size) in sums.items()]


def _too_young(size: int, age: float, rules: Retention) -> Stay:
    is_grace = age <= rules.grace or rules.keep_newer is None
    return Stay(
        "grace" if is_grace else "keep-newer",
        1,
        size,
        age=rules.grace if is_grace else rules.keep_newer or 0.0,
    )


def _recent(snapshot: GcSnapshot) -> set[Digest]:
    """Return content written since the oldest active lease began; it may be needed by it."""
    if not snapshot.leases:
        return set()
    since = min(lease.since for lease in snapshot.leases)
    return {d for d, status in snapshot.files.items() if status.st_mtime >= since}


def _loose(root: StoreFolder) -> list[Loose]:
    """List partials, uploads, temporary files and leases; the first two may be large."""
    return [
        *reachable.partials(root),
        *reachable.uploads(root),
        *reachable.temporaries(root),
        *reachable.leases(root),
    ]


def _is_left_behind(loose: Loose, before: float) -> bool:
    return not loose.is_active and loose.changed <= before


def _discard(root: StoreFolder, loose: Loose) -> None:
    with root.need(loose.folder) as folder:
        if loose.folder == "partial":
            discard(folder, loose.name)
        elif loose.folder == FOLDER:
            folder.discard(loose.name)
            folder.discard(f"{loose.name}{END}")
        else:
            folder.discard(loose.name)


def _report(snapshot: GcSnapshot, choice: _Choice, rules: Retention, *, dry_run: bool) -> Collected:
    names = tuple(Item(reference, 0, "name") for reference in (*choice.pulled, *choice.seen))
    loose = tuple(
        Item(f"{x.folder}/{x.name}", x.size, _KINDS[x.folder])
        for x in choice.loose
        # Marks of blobs are many, and take no room.
        if x.folder != FOLDER or x.size
    )
    removed = (*names, *choice.blobs, *loose)
    gone = {item.name for item in choice.blobs}
    kept = [digest for digest in snapshot.files if str(digest) not in gone]
    kept_size = snapshot.size_of(kept)
    return Collected(
        removed,
        sum(item.size for item in removed),
        len(kept),
        kept_size,
        choice.missing,
        dry_run,
        choice.stays,
        kept_size + choice.loose_size,
        rules.max_size,
        snapshot.unread,
    )
