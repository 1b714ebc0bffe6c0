"""Collection: what no name and no living process needs goes (R37).

Everything is looked at before anything is removed, and the dry run is the same code up to there.
"""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING

from resolver.core.stored import Collected, Item, Retention
from resolver.store import census
from resolver.store.ground import Ground
from resolver.store.partials import discard
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.digest import Digest
    from resolver.core.pulled_name import PulledName
    from resolver.store.census import Loose
    from resolver.store.files import Folder
    from resolver.store.home import Home
    from resolver.store.names import NameRecord
    from resolver.store.records import Records

_KINDS = {"partial": "partial", "tmp": "temporary", "leases": "lease"}


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """What goes, decided.

    Attributes:
        pulled, seen: references that lose their meaning.
        blobs: parents first.
        loose: what was left behind.
        missing: what kept names need and the store does not hold.

    """

    pulled: tuple[str, ...]
    seen: tuple[str, ...]
    blobs: tuple[Item, ...]
    loose: tuple[Loose, ...]
    missing: tuple[Digest, ...]


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
        return Collected((), 0, 0, 0, dry_run=dry_run)
    with home.writing(exclusive=True) as root:
        if not dry_run:
            # Also where there is nothing to remove: a job whose collections do nothing should know.
            root.refuse_read_only()
        ground = Ground.take(root, pulled, seen, lenient=True)
        # Files carry the time of day, so this is compared with the time of day.
        choose = _choose_of_the_dead if ground.unread else _choose
        choice = choose(ground, rules, time.time())
        if not dry_run:
            pulled.drop_in(root, choice.pulled)
            seen.drop_in(root, choice.seen)
            ground.delete(choice.blobs, sync=home.sync and bool(choice.blobs))
            for loose in choice.loose:
                _discard(root, loose)
        return _report(ground, choice, dry_run=dry_run)


def _choose(ground: Ground, rules: Retention, now: float) -> _Choice:
    stay = _names_to_keep(ground, rules)
    leased = ground.leased()
    young = _young(ground, now - max(rules.grace, rules.keep_newer or 0))
    noted = {record.root.digest for record in ground.seen if _is_kept(record, rules)}
    always = leased | young | noted
    stay = _within(ground, stay, always, rules, now)
    needs = ground.needed_by(stay)
    gone_names = tuple(record for record in ground.names if record not in stay)
    # What a dropped name needed was whole and in use; its age says nothing about a writer.
    released = set(ground.needed_by(gone_names)) - leased - noted - _recent(ground)
    garbage = [
        digest
        for digest, status in ground.files.items()
        if digest not in needs
        and (digest not in always or digest in released)
        and not stat.S_ISDIR(status.st_mode)
    ]
    missing = tuple(
        digest
        for digest, need in needs.items()
        if not need.is_optional and digest not in ground.files
    )
    return _Choice(
        tuple(record.reference for record in gone_names),
        tuple(record.reference for record in ground.seen if not _is_kept(record, rules)),
        ground.items(garbage, ground.needed_by(gone_names)),
        tuple(_left_behind(ground.root, now - rules.grace)),
        missing,
    )


def _choose_of_the_dead(ground: Ground, rules: Retention, now: float) -> _Choice:
    """Choose what no living process can need, although it is not known what one of them needs.

    It may use any blob that was here before it began, and has listed that in a lease that cannot
    be read. It needs no transfer and no lease that nobody holds, and no temporary file that is
    older than itself.
    """
    before = now - rules.grace
    begun = [each.since if each.since is not None else 0.0 for each in ground.unread]
    loose = [
        each
        for each in _left_behind(ground.root, before)
        if each.folder != "tmp" or each.changed < min(begun)
    ]
    return _Choice((), (), (), tuple(loose), ())


def _names_to_keep(ground: Ground, rules: Retention) -> list[PulledName]:
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


def _within(
    ground: Ground, stay: list[PulledName], always: set[Digest], rules: Retention, now: float
) -> list[PulledName]:
    """Let go of the longest unused names until the rest fits."""
    limit = rules.max_size
    if limit is None:
        return stay
    shield = now - rules.keep_newer if rules.keep_newer is not None else None
    used = {digest for lease in ground.leases for digest in lease.digests}
    rest = sorted(stay, key=lambda record: (record.pulled_at, record.reference), reverse=True)
    untouchable: list[PulledName] = []
    # What is young because it belongs to a name that goes would go with it.
    fixed = always - set(ground.needed_by(ground.names)) | ground.leased()
    while rest:
        needs = set(ground.needed_by([*untouchable, *rest])) | fixed
        if ground.size_of(needs) <= limit:
            break
        oldest = rest.pop()
        is_young = shield is not None and oldest.pulled_at >= shield
        if is_young or oldest.root.digest in used:
            untouchable.append(oldest)
    kept = {record.reference for record in (*untouchable, *rest)}
    return [record for record in stay if record.reference in kept]


def _young(ground: Ground, before: float) -> set[Digest]:
    """Find what was written lately, or in the future: a clock that was wrong proves no age."""
    recent = _recent(ground)
    return {d for d, status in ground.files.items() if d in recent or status.st_mtime > before}


def _recent(ground: Ground) -> set[Digest]:
    """Find what was written since the first of the living began: it may be theirs."""
    if not ground.leases:
        return set()
    since = min(lease.since for lease in ground.leases)
    return {d for d, status in ground.files.items() if status.st_mtime >= since}


def _left_behind(root: Folder, before: float) -> Iterable[Loose]:
    """Find what the dead left: transfers first, since they are large."""
    for loose in (*census.partials(root), *census.temporaries(root), *census.leases(root)):
        if not loose.is_living and loose.changed <= before:
            yield loose


def _discard(root: Folder, loose: Loose) -> None:
    with root.need(loose.folder) as folder:
        if loose.folder == "partial":
            discard(folder, loose.name)
        else:
            folder.discard(loose.name)


def _report(ground: Ground, choice: _Choice, *, dry_run: bool) -> Collected:
    names = tuple(Item(reference, 0, "name") for reference in (*choice.pulled, *choice.seen))
    loose = tuple(Item(f"{x.folder}/{x.name}", x.size, _KINDS[x.folder]) for x in choice.loose)
    removed = (*names, *choice.blobs, *loose)
    gone = {item.name for item in choice.blobs}
    kept = [digest for digest in ground.files if str(digest) not in gone]
    return Collected(
        removed,
        sum(item.size for item in removed),
        len(kept),
        ground.size_of(kept),
        choice.missing,
        dry_run,
        ground.unread,
    )
