"""Joining platform facts, and checking what they mean together."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from resolver.core.platform_rules import (
    Facts,
    Family,
    HostFacts,
    Pairs,
    PathFacts,
    WindowsFacts,
    WindowsRelease,
    Words,
)
from resolver.core.platform_table import PlatformTable
from resolver.errors import InvalidConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterator

Value = TypeVar("Value")

#: A number of levels that nobody waits for. Source: platforms.md D4.
_MOST_LEVELS = 999
_ALREADY = "this is said already, and otherwise; facts can be added, not changed"


def merged(base: Facts, extra: Facts, place: str) -> Facts:
    """Add a user's facts to the built-in ones; checked as a whole.

    Args:
        base: the built-in facts.
        extra: the user's own.
        place: the user's file, for messages.

    Raises:
        InvalidConfiguration: the two contradict each other, or make no sense together.

    """
    together = Facts(
        assumed_system=_once(
            base.assumed_system, extra.assumed_system, "", place, "operating_systems.assumed"
        ),
        systems=_union(base.systems, extra.systems),
        system_aliases=_joined(
            base.system_aliases, extra.system_aliases, place, "operating_systems.aliases"
        ),
        architectures=_union(base.architectures, extra.architectures),
        families=_families(base.families, extra.families, place),
        windows=_windows(base.windows, extra.windows, place),
        hosts=_hosts(base.hosts, extra.hosts, place),
        # A user's own machines come first: they are there because they are wanted.
        runners=_union(extra.runners, base.runners),
        paths=PathFacts(
            _words(base.paths.names, extra.paths.names),
            _words(base.paths.loaders, extra.paths.loaders),
            _words(base.paths.libraries, extra.paths.libraries),
        ),
    )
    check(together, place)
    return together


def check(facts: Facts, place: str) -> None:
    """Refuse facts that make no sense together, such as a fallback that leads back to itself.

    Raises:
        InvalidConfiguration: names the first problem.

    """
    for path, reason in problems(facts):
        raise InvalidConfiguration(place, path, reason)


def problems(facts: Facts) -> Iterator[tuple[str, str]]:
    """Find what makes no sense: pairs of a field and a reason."""
    for alias, target in facts.system_aliases:
        if alias in facts.systems or target in dict(facts.system_aliases):
            path = f"operating_systems.aliases.{alias}"
            yield path, "an alias cannot be a name itself, nor lead to another alias"
    taken = set(facts.architectures) | {family.name for family in facts.families}
    for family in facts.families:
        for alias in (*family.aliases, *dict(family.forced)):
            if alias in taken:
                yield f"families.{family.name}.aliases", f"`{alias}` has a meaning already"
            taken.add(alias)
    table = PlatformTable(facts)
    for family in facts.families:
        for field, reason in _family_problems(family, table):
            yield f"families.{family.name}.{field}", reason
    yield from _fallback_problems(facts, taken)
    yield from _windows_problems(facts.windows)


def _family_problems(family: Family, table: PlatformTable) -> Iterator[tuple[str, str]]:
    def spelled(variant: str) -> str:
        return table.chip(family.name, variant)[1]

    for variant in (*dict(family.spellings).values(), *dict(family.forced).values()):
        if spelled(variant) != variant:
            yield "spellings", f"`{variant}` is not where spellings end"
    if family.assumed and spelled(family.assumed) != spelled(""):
        yield "assumed", "this variant and none are not spelled in the same way"
    levels = [*family.variants, *(level for branch in family.branches for level in branch.variants)]
    if len({spelled(level) for level in levels}) != len(levels):
        yield "variants", "a level stands here twice, or is spelled like another"
    yield from _number_problems(family)
    if family.baseline and family.baseline not in family.variants[:1]:
        yield "baseline", "it must be the lowest of `variants`"
    if family.baseline and spelled("") != "":
        yield "baseline", "a missing variant has a meaning here already"


def _number_problems(family: Family) -> Iterator[tuple[str, str]]:
    if family.lowest is not None:
        if family.variants or family.branches or family.baseline:
            yield "numbered", "levels are either numbered or listed"
        if not 1 <= family.lowest <= family.limit <= _MOST_LEVELS:
            yield "numbered", f"the numbers must ascend, from 1 to at most {_MOST_LEVELS}"
    for branch in family.branches:
        joins = dict(branch.joins)
        if set(joins) != set(branch.variants) or not set(joins.values()) <= set(family.variants):
            yield "branches", "every level must join one of `variants`"


def _fallback_problems(facts: Facts, taken: set[str]) -> Iterator[tuple[str, str]]:
    aliases = {alias for family in facts.families for alias in _aliases(family)}
    targets = {
        family.name: [fallback.architecture for fallback in family.falls_back_to]
        for family in facts.families
    }
    for name, direct in targets.items():
        path = f"families.{name}.falls_back_to"
        if not taken.issuperset(direct) or not aliases.isdisjoint(direct):
            yield path, "it leads to an architecture that is not known by this name"
        seen: set[str] = set()
        ahead = list(direct)
        while ahead:
            target = ahead.pop()
            if target == name:
                yield path, "it leads back to itself"
                # The table would follow a circle for ever.
                return
            if target not in seen:
                seen.add(target)
                ahead += targets.get(target, [])


def _aliases(family: Family) -> tuple[str, ...]:
    return (*family.aliases, *dict(family.forced))


def _windows_problems(windows: WindowsFacts) -> Iterator[tuple[str, str]]:
    if list(windows.long_term) != sorted(set(windows.long_term)):
        yield "windows.long_term", "builds must ascend"
    if any(build < windows.stable_abi_from for build in windows.long_term):
        yield "windows.long_term", "a release before `stable_abi_from` is never reached"
    builds = [release.build for release in windows.releases]
    if len(set(builds)) != len(builds):
        yield "windows.releases", "a build stands here twice"
    names = [name for release in windows.releases for name in release.names]
    if len(set(names)) != len(names):
        yield "windows.releases", "a name stands for two builds"
    if names and not windows.version:
        yield "windows.version", "names need it"


def _families(
    base: tuple[Family, ...], extra: tuple[Family, ...], place: str
) -> tuple[Family, ...]:
    joined = {family.name: family for family in base}
    for family in extra:
        known = joined.get(family.name)
        joined[family.name] = family if known is None else _family(known, family, place)
    return tuple(joined.values())


def _family(known: Family, extra: Family, place: str) -> Family:
    plain = Family(known.name)
    path = f"families.{known.name}"
    said = {
        name: _once(getattr(known, name), getattr(extra, name), getattr(plain, name), place, where)
        for name in Family._fields
        if name not in {"aliases", "forced", "spellings"}
        for where in (f"{path}.{name}",)
    }
    return Family(
        **said,
        aliases=_union(known.aliases, extra.aliases),
        forced=_joined(known.forced, extra.forced, place, f"{path}.forced"),
        spellings=_joined(known.spellings, extra.spellings, place, f"{path}.spellings"),
    )


def _windows(base: WindowsFacts, extra: WindowsFacts, place: str) -> WindowsFacts:
    releases = {release.build: release for release in base.releases}
    for release in extra.releases:
        known = releases.get(release.build, release)
        path = "windows.releases"
        releases[release.build] = WindowsRelease(
            release.build,
            _once(known.release, release.release, "", place, path),
            _union(known.names, release.names),
        )
    first = _once(base.stable_abi_from, extra.stable_abi_from, 0, place, "windows.stable_abi_from")
    return WindowsFacts(
        version=_once(base.version, extra.version, "", place, "windows.version"),
        stable_abi_from=first,
        long_term=tuple(sorted({*base.long_term, *extra.long_term})),
        releases=tuple(release for _, release in sorted(releases.items())),
    )


def _hosts(base: HostFacts, extra: HostFacts, place: str) -> HostFacts:
    levels = _once(base.amd64_levels, extra.amd64_levels, (), place, "hosts.amd64_levels")

    def joined(name: str) -> Pairs:
        return _joined(getattr(base, name), getattr(extra, name), place, f"hosts.{name}")

    return HostFacts(
        systems=joined("systems"),
        machines=joined("machines"),
        little_endian=joined("little_endian"),
        narrow=joined("narrow"),
        arm_cpus=joined("arm_cpus"),
        arm_models=joined("arm_models"),
        amd64_levels=levels,
    )


def _once(old: Value, new: Value, unset: Value, place: str, path: str) -> Value:
    if new in (unset, old):
        return old
    if old != unset:
        raise InvalidConfiguration(place, path, _ALREADY)
    return new


def _union(old: tuple[Value, ...], new: tuple[Value, ...]) -> tuple[Value, ...]:
    return tuple(dict.fromkeys((*old, *new)))


def _joined(old: Pairs, new: Pairs, place: str, path: str) -> Pairs:
    known = dict(old)
    for key, value in new:
        if known.setdefault(key, value) != value:
            raise InvalidConfiguration(place, f"{path}.{key}", _ALREADY)
    return tuple(known.items())


def _words(base: Words, extra: Words) -> Words:
    """Add words to those that an architecture has."""
    together = dict(base)
    for name, words in extra:
        together[name] = _union(together.get(name, ()), words)
    return tuple(together.items())
