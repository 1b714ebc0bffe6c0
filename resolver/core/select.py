"""Selecting: which entry of an index is the one for a platform, and why not the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resolver.core import windows
from resolver.core.platform import BUILTIN, UNKNOWN, Platform, PlatformTable
from resolver.core.platform_reasons import Reasons, missing_features, version_mismatch
from resolver.core.platform_table import (
    Grade as Grade,  # noqa: PLC0414 - one door: a grade is asked for beside its selection
)
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Relatives that an error names; more would hide what they are to show.
NEAREST = 5


@dataclass(frozen=True, slots=True)
class Rejection:
    """An entry that was not chosen.

    Attributes:
        platform: as written; None where the entry has none.
        reason: in words, for people.

    """

    index: int
    platform: Platform | None
    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The best entry, or none.

    Attributes:
        index: of the chosen entry; None when nothing matches, and then `platform` and `grade` too.
        platform: as the entry has it written.
        ranking: indexes of all that match, best first.
        grades: of `ranking`, in its order.
        rejected: every entry but the chosen one, in index order.

    """

    index: int | None
    platform: Platform | None
    grade: Grade | None
    ranking: tuple[int, ...]
    grades: tuple[Grade, ...]
    rejected: tuple[Rejection, ...]


class _Wish(NamedTuple):
    """One acceptable platform: `written` as it was asked for, `normal` as it is compared."""

    rank: int
    grade: Grade
    written: Platform
    normal: Platform
    local: bool


class _Match(NamedTuple):
    position: int
    entry: Platform
    wish: _Wish
    grade: Grade


def select(
    entries: Sequence[Platform | None],
    want: str | Platform | Sequence[Platform],
    *,
    exact: bool = False,
    local: bool = False,
    table: PlatformTable = BUILTIN,
) -> Selection:
    """Choose the entry that fits a platform best; pure, and quick for any index there may be.

    The order of entries matters only between equals, where the first is taken.

    Args:
        entries: platforms as an index states them; None where it states none, which never fits.
        want: one platform takes what else runs there too (`Only`); text is parsed. Of several
            platforms each takes only its like, and the first that finds one decides (`Ordered`).
        exact: refuse lower levels, other architectures (`OnlyStrict`), and every `os.version` but
            the wanted one. Other spellings, and Windows builds that the host is made to run, fit.
        local: `want` is a machine with the level of its processor: a lower level of the same
            architecture is what it is meant to run, and as exact as its own.
        table: the facts to decide by.

    Raises:
        InvalidPlatform: `want` is text that is no platform.

    Source: containerd/platforms v1.0.0-rc.5, compare.go; deviations D1 to D4 and D10 (versions
    outside Windows) in platforms.md 6.
    """
    if isinstance(want, str):
        want = Platform.parse(want, table=table)
    wants = (want,) if isinstance(want, Platform) else tuple(want)
    normal = tuple(wish.normalized(table) for wish in wants)
    wishes = _Wishes(wants, normal, table, exact=exact, local=local)
    found = [None if entry is None else wishes.match(i, entry) for i, entry in enumerate(entries)]
    matches = _ranked([match for match in found if match is not None])
    best = matches[0] if matches else None
    rejected = []
    for index, entry in enumerate(entries):
        match = found[index]
        if entry is None:
            rejected.append(Rejection(index, None, "has no platform"))
        elif match is None:
            rejected.append(Rejection(index, entry, wishes.reason(entry)))
        elif best is not None and match is not best:
            rejected.append(Rejection(index, entry, _lost(match, best)))
    return Selection(
        index=best.position if best else None,
        platform=best.entry if best else None,
        grade=best.grade if best else None,
        ranking=tuple(match.position for match in matches),
        grades=tuple(match.grade for match in matches),
        rejected=tuple(rejected),
    )


def nearest(
    entries: Sequence[Platform | None],
    want: Platform | Sequence[Platform],
    *,
    exact: bool = False,
    local: bool = False,
    table: PlatformTable = BUILTIN,
) -> list[tuple[int, str]]:
    """Name the entries that come near to what was wanted and do not fit, each with its reason.

    Those of the same system and architecture; failing them, those of the same architecture. At
    most five, in index order, and of entries that say the same the first.
    """
    wants = (want,) if isinstance(want, Platform) else tuple(want)
    systems = {wish.normalized(table).os for wish in wants}
    chips = {table.chip(wish.architecture or UNKNOWN, wish.variant) for wish in wants}
    architectures = {other[0] for chip in chips for other, _ in table.vector(chip)}
    selection = select(entries, want, exact=exact, local=local, table=table)
    fitting = frozenset(selection.ranking)
    same: dict[Platform, tuple[int, str]] = {}
    elsewhere: dict[Platform, tuple[int, str]] = {}
    for loser in selection.rejected:
        if loser.platform is None or loser.index in fitting:
            continue
        normal = loser.platform.normalized(table)
        if normal.architecture in architectures and normal.os in systems:
            same.setdefault(normal, (loser.index, loser.reason))
        elif normal.architecture in {chip[0] for chip in chips}:
            elsewhere.setdefault(normal, (loser.index, loser.reason))
    return list((same or elsewhere).values())[:NEAREST]


class _Wishes:
    """Every acceptable platform, indexed by what it is; remembers what it has answered.

    The memory is what makes 20,000 entries quick: an index that wide repeats itself.
    """

    def __init__(
        self,
        wants: tuple[Platform, ...],
        normal: tuple[Platform, ...],
        table: PlatformTable,
        *,
        exact: bool,
        local: bool,
    ) -> None:
        """Take the wishes; several of them leave out whatever else runs there."""
        alone = exact or len(wants) > 1
        self._table = table
        self._exact = exact
        self._explain = Reasons(normal, table, exact=alone, exact_version=exact)
        self._wishes: dict[tuple[str, str, str], list[_Wish]] = {}
        self._reasons: dict[Platform, str] = {}
        self._keys: dict[tuple[str, str, str], tuple[str, str, str]] = {}
        rank = 0
        for written, platform in zip(wants, normal, strict=True):
            vector = table.vector((platform.architecture or UNKNOWN, platform.variant))
            own = vector[0][0][0]
            if local:
                vector = tuple(
                    (chip, Grade.EXACT if chip[0] == own else grade) for chip, grade in vector
                )
            for (architecture, variant), grade in vector:
                if alone and grade is not Grade.EXACT:
                    continue
                wish = _Wish(rank, grade, written, platform, local)
                self._wishes.setdefault((platform.os, architecture, variant), []).append(wish)
                rank += 1

    def match(self, index: int, entry: Platform) -> _Match | None:
        """Find the best wish that an entry fulfils."""
        system, architecture, variant = self._key(entry)
        for wish in self._wishes.get((system, architecture, variant), ()):
            if missing_features(entry, wish.normal, system):
                continue
            if version_mismatch(entry, wish.normal, self._table, exact=self._exact):
                continue
            return _Match(index, entry, wish, _grade(entry, wish, system))
        return None

    def reason(self, entry: Platform) -> str:
        """Say why an entry fulfils no wish."""
        known = self._reasons.get(entry)
        if known is None:
            known = self._reasons[entry] = self._explain.mismatch(entry)
        return known

    def _key(self, entry: Platform) -> tuple[str, str, str]:
        written = (entry.os, entry.architecture, entry.variant)
        known = self._keys.get(written)
        if known is None:
            chip = self._table.chip(entry.architecture or UNKNOWN, entry.variant)
            known = self._keys[written] = (self._table.system(entry.os), *chip)
        return known


def _grade(entry: Platform, wish: _Wish, system: str) -> Grade:
    """Grade a match: by its place in the vector, then by its spelling and its version."""
    written = wish.written
    spelled = (entry.os, entry.architecture, entry.variant)
    grade = wish.grade
    asked = (written.os, written.architecture, written.variant)
    if grade is Grade.EXACT and spelled != asked and not wish.local:
        grade = Grade.NORMALISED
    if not written.os_version or entry.os_version == written.os_version:
        return grade
    if not entry.os_version:
        return grade.worse(Grade.COMPATIBLE)
    host = windows.read_version(written.os_version) if system == "windows" else None
    if host is None:
        return grade.worse(Grade.FALLBACK)
    same_build = windows.read_version(entry.os_version) == host
    return grade.worse(Grade.NORMALISED if same_build else Grade.ABI)


def _ranked(matches: list[_Match]) -> list[_Match]:
    """Put the best first. Each sort keeps the order that the ones before it gave equals.

    Rank, then the version that is wanted, then on Windows the newest (D1) and elsewhere an entry
    without one (D10), then most features, then first. On Windows no build is preferred where none
    is wanted.
    """

    def version_order(match: _Match) -> tuple[tuple[int, str], ...]:
        wanted = match.wish.normal
        readable = wanted.os == "windows" and windows.read_version(wanted.os_version) is not None
        if readable:
            return windows.order(match.entry.os_version)
        if wanted.os == "windows" and not wanted.os_version:
            return ()
        return () if match.entry.os_version else ((0, ""),)

    def other_version(match: _Match) -> bool:
        wanted = match.wish.normal.os_version
        return bool(wanted) and match.entry.os_version != wanted

    ranked = sorted(matches, key=lambda match: -len(set(match.entry.os_features) - {""}))
    ranked.sort(key=version_order, reverse=True)
    ranked.sort(key=other_version)
    ranked.sort(key=lambda match: match.wish.rank)
    return ranked


def _lost(match: _Match, best: _Match) -> str:
    """Say why an entry that fits was not taken; entries are counted from 1, as they are listed."""
    if (match.entry, match.wish) == (best.entry, best.wish):
        return f"the same platform as #{best.position + 1}, which comes first"
    return f"a better entry (#{best.position + 1}) was chosen"
