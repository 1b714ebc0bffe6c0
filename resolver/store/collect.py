"""Collection: what no name and no living process needs goes (R37).

Everything is looked at before anything is removed, and the dry run is the same code up to there.
"""

from __future__ import annotations

import stat
import time
from collections import Counter
from dataclasses import field, replace
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.manifest import MAX_DOCUMENT, parse_document
from resolver.core.results.store import Collected, Item, Retention, Stay
from resolver.errors import ResolverError, StoreFault
from resolver.store import reachable
from resolver.store.files import is_aside
from resolver.store.index import LEAST, Files
from resolver.store.leases import living, living_and_unread
from resolver.store.names import BadName, Records, file_name
from resolver.store.partials import discard
from resolver.store.reachable import Need, Reach, blob_files
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


#: What points at others goes before what it points at.
_ORDER = ("index", "manifest", "config", "layer", "blob")


@dataclass(frozen=True, slots=True, eq=False)
class GcSnapshot:
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
        cls,
        root: StoreFolder,
        pulled: Records[PulledName],
        seen: Records[NameRecord],
        reference: str,
    ) -> GcSnapshot | None:
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
        from resolver.store.images import current, notes  # noqa: PLC0415 - that module needs this one

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

    def users(self) -> dict[Digest, ActiveLease]:
        """Say which living process needs a piece; of several, one."""
        found: dict[Digest, ActiveLease] = {}
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


_KINDS = {"partial": "partial", "tmp": "temporary", "leases": "lease"}


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """What goes, decided.

    Attributes:
        pulled, seen: references that lose their meaning.
        blobs: parents first.
        loose: what was left behind.
        missing: what kept names need and the store does not hold.
        stays: why something stays that no name needs.
        loose_size: bytes of transfers and of what was set aside that stay.

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
    """Remove what is not needed; see `LocalStore.collect`."""
    if not home.exists():
        return Collected((), 0, 0, 0, dry_run=dry_run, limit=rules.max_size)
    with home.writing(exclusive=True) as root:
        if not dry_run:
            # Also where there is nothing to remove: a job whose collections do nothing should know.
            root.refuse_read_only()
        ground = GcSnapshot.take(root, pulled, seen, lenient=True)
        # Files carry the time of day, so this is compared with the time of day.
        choose = _choose_of_the_dead if ground.unread else _choose
        choice = choose(ground, rules, time.time())
        if not dry_run:
            pulled.drop_in(root, choice.pulled)
            seen.drop_in(root, choice.seen)
            ground.delete(choice.blobs, sync=home.sync and bool(choice.blobs))
            for loose in choice.loose:
                _discard(root, loose)
        return _report(ground, choice, rules, dry_run=dry_run)


def _choose(ground: GcSnapshot, rules: Retention, now: float) -> _Choice:
    stay = _names_to_keep(ground, rules)
    leased = set(ground.users())
    recent = _recent(ground)
    young = recent | _young(ground, now - max(rules.grace, rules.keep_newer or 0))
    notes = [record for record in ground.seen if _is_kept(record, rules)]
    left: list[Loose] = []
    loose_left: list[Loose] = []
    for loose in _loose(ground.root):
        is_left = _is_left_behind(loose, now - rules.grace)
        (left if is_left else loose_left).append(loose)
    kept: list[Stay] = []
    if rules.max_size is not None:
        squeeze = _Squeeze(ground, stay, notes, (leased | recent, young), loose_left)
        squeeze.run(rules, now)
        stay, notes, loose_left, kept = squeeze.stay, squeeze.notes, squeeze.loose, squeeze.kept
        left += squeeze.given_up
    needs = ground.needed_by(stay)
    staying = {record.reference for record in stay}
    gone_names = tuple(record for record in ground.names if record.reference not in staying)
    noted = {record.root.digest for record in notes}
    # What a dropped name needed was whole and in use; its age says nothing about a writer.
    released = set(ground.needed_by(gone_names)) - leased - noted - recent
    always = leased | young | noted
    garbage: list[Digest] = []
    spared: list[Digest] = []
    for digest, status in ground.files.items():
        if digest in needs or stat.S_ISDIR(status.st_mode):
            continue
        (spared if digest in always and digest not in released else garbage).append(digest)
    missing = tuple(
        digest
        for digest, need in needs.items()
        if not need.is_optional and digest not in ground.files
    )
    remembered = {record.reference for record in notes}
    return _Choice(
        tuple(record.reference for record in gone_names),
        tuple(record.reference for record in ground.seen if record.reference not in remembered),
        ground.items(garbage, ground.needed_by(gone_names)),
        tuple(left),
        missing,
        (*kept, *_stays(ground, spared, noted, loose_left, rules, now)),
        sum(loose.size for loose in loose_left),
    )


def _choose_of_the_dead(ground: GcSnapshot, rules: Retention, now: float) -> _Choice:
    """Choose what no living process can need, although it is not known what one of them needs.

    It may use any blob that was here before it began, and has listed that in a lease that cannot
    be read. It needs no transfer and no lease that nobody holds, and no temporary file that is
    older than itself.
    """
    begun = min(each.since if each.since is not None else 0.0 for each in ground.unread)
    left: list[Loose] = []
    staying = 0
    for loose in _loose(ground.root):
        is_left = _is_left_behind(loose, now - rules.grace)
        if is_left and (loose.folder != "tmp" or loose.changed < begun):
            left.append(loose)
        else:
            staying += loose.size
    return _Choice((), (), (), tuple(left), (), (), staying)


def _names_to_keep(ground: GcSnapshot, rules: Retention) -> list[PulledName]:
    """Choose names by what this job used; all of them if nobody says."""
    if rules.keep is None and rules.used_since is None:
        return list(ground.names)
    keep, since = rules.keep or frozenset(), rules.used_since
    return [
        record
        for record in ground.names
        if record.reference in keep or (since is not None and record.pulled_at >= since)
    ]


def _is_kept(record: NameRecord, rules: Retention) -> bool:
    return rules.keep is None or record.reference in rules.keep


class _Squeeze:
    """Brings a store below a size: what was set aside goes first, then the longest unused names.

    Args:
        stay, notes, loose: what would stay without a limit.
        fixed: what stays whichever names go; and what stays unless a name that goes needed it.

    """

    def __init__(
        self,
        ground: GcSnapshot,
        stay: list[PulledName],
        notes: list[NameRecord],
        fixed: tuple[set[Digest], set[Digest]],
        loose: list[Loose],
    ) -> None:
        self._ground = ground
        self.stay = stay
        self.notes = notes
        self.loose = loose
        self.given_up: list[Loose] = []
        self.kept: list[Stay] = []
        always, young = fixed
        self._users: Counter[Digest] = Counter(always)
        # What is young because it belongs to a name that goes would go with it.
        self._users.update(young - always - set(ground.needed_by(ground.names)))
        for record in stay:
            self._users.update(ground.closure(record).keys())
        self._users.update(note.root.digest for note in notes)
        self._size = ground.size_of(self._users) + sum(each.size for each in loose)

    def run(self, rules: Retention, now: float) -> None:
        """Let go of one thing after the other until the rest fits."""
        limit = rules.max_size or 0
        loose, self.loose = self.loose, []
        for each in loose:
            goes = self._size > limit and is_aside(each.name)
            (self.given_up if goes else self.loose).append(each)
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
                self._drop(self._ground.closure(record))
                note = notes.pop(record.reference, None)
                self._drop(() if note is None else (note.root.digest,))
        kept = {record.reference for record in staying}
        for reference, note in list(notes.items()):
            # An answer for `--offline` weighs little: it goes when nothing else is left to go.
            if self._size > limit and reference not in kept:
                self._drop((note.root.digest,))
                del notes[reference]
        self.stay = [record for record in self.stay if record.reference in kept]
        self.notes = [note for note in self.notes if note.reference in notes]

    def _drop(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            self._users[digest] -= 1
            if not self._users[digest]:
                self._size -= self._ground.size_of((digest,))

    def _refusal(self, record: PulledName, shield: float | None, rules: Retention) -> Stay | None:
        """Say why a name must stay; None if it may go."""
        size = self._ground.size_of(self._ground.closure(record))
        core = {record.root.digest, *(image.manifest.digest for image in record.images)}
        for lease in self._ground.leases:
            if lease.digests & core:
                return Stay("image-lease", 1, size, lease.purpose, lease.process)
        if shield is not None and record.pulled_at >= shield:
            return Stay("image-keep-newer", 1, size, age=rules.keep_newer or 0.0)
        return None


def _stays(
    ground: GcSnapshot,
    spared: Iterable[Digest],
    noted: set[Digest],
    loose: Iterable[Loose],
    rules: Retention,
    now: float,
) -> list[Stay]:
    """Say why each piece stays that no name needs; what has the same reason is added up."""
    users = ground.users()
    first = min(ground.leases, key=lambda lease: lease.since, default=None)
    found: list[Stay] = []
    for digest in spared:
        status = ground.files[digest]
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
        if each.folder == "partial" and each.is_living:
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


def _young(ground: GcSnapshot, before: float) -> set[Digest]:
    """Find what was written lately, or in the future: a clock that was wrong proves no age."""
    return {digest for digest, status in ground.files.items() if status.st_mtime > before}


def _recent(ground: GcSnapshot) -> set[Digest]:
    """Find what was written since the first of the living began: it may be theirs."""
    if not ground.leases:
        return set()
    since = min(lease.since for lease in ground.leases)
    return {d for d, status in ground.files.items() if status.st_mtime >= since}


def _loose(root: StoreFolder) -> list[Loose]:
    """List everything but blobs and names, transfers first, since they are large."""
    return [*reachable.partials(root), *reachable.temporaries(root), *reachable.leases(root)]


def _is_left_behind(loose: Loose, before: float) -> bool:
    """Whether the dead left it, and long enough ago."""
    return not loose.is_living and loose.changed <= before


def _discard(root: StoreFolder, loose: Loose) -> None:
    with root.need(loose.folder) as folder:
        if loose.folder == "partial":
            discard(folder, loose.name)
        else:
            folder.discard(loose.name)


def _report(ground: GcSnapshot, choice: _Choice, rules: Retention, *, dry_run: bool) -> Collected:
    names = tuple(Item(reference, 0, "name") for reference in (*choice.pulled, *choice.seen))
    loose = tuple(Item(f"{x.folder}/{x.name}", x.size, _KINDS[x.folder]) for x in choice.loose)
    removed = (*names, *choice.blobs, *loose)
    gone = {item.name for item in choice.blobs}
    kept = [digest for digest in ground.files if str(digest) not in gone]
    kept_size = ground.size_of(kept)
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
        ground.unread,
    )
