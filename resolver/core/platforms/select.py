"""Select the index entry for a platform, and explain why the others were rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resolver.core.platforms.platform import BUILTIN, UNKNOWN, Grade, Platform, PlatformTable, brief
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.platforms.platform import Chip


#: A feature of Windows itself that every Windows host offers.
#: Source: containerd/platforms v1.0.0-rc.5, `windowsMatchComparer`.
WIN32K = "win32k"


def missing_features(entry: Platform, want: Platform, system: str) -> frozenset[str]:
    """Return the `os.features` that an entry requires and the request does not offer.

    Source: OCI image-spec v1.1.1, image-index.md, `os.features`: each is mandatory.
    """
    needed = frozenset(entry.os_features) - {""}
    if system == "windows":
        needed -= {WIN32K}
    return needed.difference(want.os_features)


def version_mismatch(entry: Platform, want: Platform, table: PlatformTable, *, exact: bool) -> str:
    """Return why an entry's `os.version` does not satisfy a normalised request; empty if it does.

    On Windows the builds decide. Elsewhere any version is a fallback (containerd ignores them),
    and `exact` accepts only the requested one.
    """
    if want.os == "windows":
        from resolver.core.platforms import windows  # noqa: PLC0415 - for Windows alone

        return windows.mismatch(want.os_version, entry.os_version, table.windows)
    if not exact or not want.os_version or entry.os_version == want.os_version:
        return ""
    if not entry.os_version:
        return brief(f"has no version, and {want.os_version} is requested")
    return f"version {brief(entry.os_version)} is not the requested {brief(want.os_version)}"


class Reasons:
    """Explain why an entry satisfies none of some normalised requests.

    `exact` refuses lower levels and other architectures, `exact_version` (if None, as `exact`)
    other versions outside Windows.
    """

    def __init__(
        self,
        wants: Sequence[Platform],
        table: PlatformTable,
        *,
        exact: bool,
        exact_version: bool | None = None,
    ) -> None:
        self._table = table
        self._exact = exact
        self._exact_version = exact if exact_version is None else exact_version
        self._wants = [
            (want, tuple(chip for chip, _ in table.vector(_chip(want)))) for want in wants
        ]

    def mismatch(self, entry: Platform) -> str:
        """Return why an entry does not match; of several requests, the one that came furthest."""
        if not self._wants:
            return "no platform is requested"
        system = self._table.system(entry.os)
        chip = self._table.chip(entry.architecture or UNKNOWN, entry.variant)
        reasons = (self._compared(entry, system, chip, want, runs) for want, runs in self._wants)
        return max(reasons, key=lambda reason: reason[0])[1]

    def _compared(
        self, entry: Platform, system: str, chip: Chip, want: Platform, runs: tuple[Chip, ...]
    ) -> tuple[int, str]:
        """Return how many steps of the comparison passed, and the reason of the failure, if any."""
        if system != want.os:
            attests = "names no platform (`unknown`), as attestations do"
            return 0, attests if system == UNKNOWN else "other operating system"
        if not any(other[0] == chip[0] for other in runs):
            return 1, "other architecture"
        reason = "" if chip == runs[0] else self._level_reason(chip, runs)
        if reason:
            return 2, reason
        reason = version_mismatch(entry, want, self._table, exact=self._exact_version)
        if reason:
            return 3, reason
        missing = sorted(missing_features(entry, want, system))
        if missing:
            return 4, brief(f"needs os feature{'s' * (len(missing) > 1)} {', '.join(missing)}")
        return 5, ""

    def _level_reason(self, chip: Chip, runs: tuple[Chip, ...]) -> str:
        label = self._table.label
        wanted = runs[0]
        if chip in runs:
            if not self._exact:
                return ""
            return f"{label(chip)} can stand in for {label(wanted)}, but is not exact"
        if self._exact and chip[0] != wanted[0]:
            return "other architecture"
        return self._order_reason(chip, wanted, next(o for o in runs if o[0] == chip[0]))

    def _order_reason(self, chip: Chip, wanted: Chip, relative: Chip) -> str:
        """Describe a level relative to the highest of its architecture that `wanted` runs."""
        label = self._table.label
        newer = self._table.newer(chip, relative)
        if newer is None:
            return f"{label(wanted)} is not known to run {label(chip)}"
        if not newer:
            return f"{label(chip)} is older than what {label(wanted)} runs"
        if relative != wanted:
            return f"needs {label(chip)}, newer than the {label(relative)} {label(wanted)} runs"
        plain = label(wanted).partition("/")[2]
        return f"needs {label(chip)}, newer than the requested {plain or label(wanted)}"


def _chip(platform: Platform) -> Chip:
    return platform.architecture or UNKNOWN, platform.variant


#: Similar entries that an error names.
NEAREST = 5


@dataclass(frozen=True, slots=True)
class Rejection:
    """An entry that was not chosen, as written, and the reason for people."""

    index: int
    platform: Platform | None
    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The best entry, or none.

    Attributes:
        index: of the chosen entry; None if nothing matches, and then `platform` and `grade` too.
        ranking: indexes of all matching entries, best first.
        grades: of `ranking`, in its order.
        rejected: every entry but the chosen one, in index order.
    """

    index: int | None
    platform: Platform | None
    grade: Grade | None
    ranking: tuple[int, ...]
    grades: tuple[Grade, ...]
    rejected: tuple[Rejection, ...]


class _Request(NamedTuple):
    """One acceptable platform: `written` as requested, `normal` for comparison."""

    rank: int
    grade: Grade
    written: Platform
    normal: Platform
    local: bool


class _Match(NamedTuple):
    position: int
    entry: Platform
    request: _Request
    grade: Grade


def select(
    entries: Sequence[Platform | None],
    want: str | Platform | Sequence[Platform],
    *,
    exact: bool = False,
    local: bool = False,
    table: PlatformTable = BUILTIN,
) -> Selection:
    """Select the entry that matches a platform best.

    The order of entries matters only among equals, where the first is selected.

    Args:
        entries: platforms as stated in an index; None, for no platform, never matches.
        want: one platform also matches what else runs there (`Only`); text is parsed. Several
            platforms match only themselves, and the first with a match decides (`Ordered`).
        exact: reject lower levels, other architectures (`OnlyStrict`), and every `os.version` but
            the requested one. Other spellings, and Windows builds that the host runs, match.
        local: `want` is a machine with the level of its processor: lower levels of the same
            architecture are graded as exact.
        table: the platform facts.

    Raises:
        InvalidPlatform: `want` is text and not a platform.

    Source: containerd/platforms v1.0.0-rc.5, compare.go; docs/platform-matching.md, "Ranking" and
    "Where other tools differ".
    """
    if isinstance(want, str):
        want = Platform.parse(want, table=table)
    wants = (want,) if isinstance(want, Platform) else tuple(want)
    normal = tuple(request.normalized(table) for request in wants)
    requests = _Requests(wants, normal, table, exact=exact, local=local)
    found = [None if entry is None else requests.match(i, entry) for i, entry in enumerate(entries)]
    matches = _ranked([match for match in found if match is not None])
    best = matches[0] if matches else None
    rejected = []
    for index, entry in enumerate(entries):
        match = found[index]
        if entry is None:
            rejected.append(Rejection(index, None, "has no platform"))
        elif match is None:
            rejected.append(Rejection(index, entry, requests.reason(entry)))
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
    """List at most five similar entries that do not match, by position, each with the reason."""
    wants = (want,) if isinstance(want, Platform) else tuple(want)
    systems = {request.normalized(table).os for request in wants}
    chips = {table.chip(request.architecture or UNKNOWN, request.variant) for request in wants}
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


class _Requests:
    """Every acceptable platform, by system, architecture and variant, with a cache of reasons."""

    def __init__(
        self,
        wants: tuple[Platform, ...],
        normal: tuple[Platform, ...],
        table: PlatformTable,
        *,
        exact: bool,
        local: bool,
    ) -> None:
        """Index the requests; several of them match only themselves."""
        alone = exact or len(wants) > 1
        self._table = table
        self._exact = exact
        self._explain = Reasons(normal, table, exact=alone, exact_version=exact)
        self._requests: dict[tuple[str, str, str], list[_Request]] = {}
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
                request = _Request(rank, grade, written, platform, local)
                self._requests.setdefault((platform.os, architecture, variant), []).append(request)
                rank += 1

    def match(self, index: int, entry: Platform) -> _Match | None:
        system, architecture, variant = self._key(entry)
        for request in self._requests.get((system, architecture, variant), ()):
            if missing_features(entry, request.normal, system):
                continue
            if version_mismatch(entry, request.normal, self._table, exact=self._exact):
                continue
            return _Match(index, entry, request, _grade(entry, request, system))
        return None

    def reason(self, entry: Platform) -> str:
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


def _grade(entry: Platform, request: _Request, system: str) -> Grade:
    """Grade a match by its place in the vector, its spelling and its version."""
    written = request.written
    spelled = (entry.os, entry.architecture, entry.variant)
    grade = request.grade
    requested = (written.os, written.architecture, written.variant)
    if grade is Grade.EXACT and spelled != requested and not request.local:
        grade = Grade.NORMALISED
    if not written.os_version or entry.os_version == written.os_version:
        return grade
    if not entry.os_version:
        return grade.worse(Grade.COMPATIBLE)
    if system != "windows":
        return grade.worse(Grade.FALLBACK)
    from resolver.core.platforms import windows  # noqa: PLC0415 - for Windows alone

    host = windows.read_version(written.os_version)
    if host is None:
        return grade.worse(Grade.FALLBACK)
    same_build = windows.read_version(entry.os_version) == host
    return grade.worse(Grade.NORMALISED if same_build else Grade.ABI)


def _ranked(matches: list[_Match]) -> list[_Match]:
    """Sort matches, best first; the sorts are stable, so the last one is the primary key.

    Rank, then the requested version, then on Windows the newest and elsewhere an entry
    without one, then most features, then first. On Windows no build is preferred if none
    is requested.
    """

    def version_order(match: _Match) -> tuple[tuple[int, str], ...]:
        wanted = match.request.normal
        if wanted.os == "windows":
            from resolver.core.platforms import windows  # noqa: PLC0415 - for Windows alone

            if windows.read_version(wanted.os_version) is not None:
                return windows.order(match.entry.os_version)
            if not wanted.os_version:
                return ()
        return () if match.entry.os_version else ((0, ""),)

    def other_version(match: _Match) -> bool:
        wanted = match.request.normal.os_version
        return bool(wanted) and match.entry.os_version != wanted

    ranked = sorted(matches, key=lambda match: -len(set(match.entry.os_features) - {""}))
    ranked.sort(key=version_order, reverse=True)
    ranked.sort(key=other_version)
    ranked.sort(key=lambda match: match.request.rank)
    return ranked


def _lost(match: _Match, best: _Match) -> str:
    """Return why a matching entry was not selected; entries are counted from 1, as listed."""
    if (match.entry, match.request) == (best.entry, best.request):
        return f"the same platform as #{best.position + 1}, which comes first"
    return f"a better entry (#{best.position + 1}) was chosen"
