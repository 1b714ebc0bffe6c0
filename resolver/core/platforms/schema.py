"""Platform facts: read a `platforms.yaml` field by field, and merge it with the built-in ones.

The document comes from a YAML reader that keeps every scalar as text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from resolver.core.parse.document import NAME, Node
from resolver.core.platforms.fact_types import (
    Branch,
    Facts,
    Fallback,
    Family,
    HostFacts,
    Pairs,
    PathFacts,
    Runner,
    WindowsFacts,
    WindowsRelease,
    Words,
)
from resolver.core.platforms.platform import PlatformTable
from resolver.errors import InvalidConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterator


#: The supported version of the schema.
SCHEMA = "1"

#: Names of processors in /proc/cpuinfo.
_WORD = re.compile(r"[a-z0-9_.()?-]{1,64}", re.ASCII)
_OPTIONAL = re.compile(r"[a-z0-9_.-]{0,64}", re.ASCII)
_TEXT = re.compile(r"[ -~]{1,300}", re.ASCII)
_CHIP = re.compile(r"[a-z0-9_.-]{1,64}(?:/[a-z0-9_.-]{1,64})?", re.ASCII)
_PLATFORM = re.compile(
    r"([a-z0-9_-]{1,64})/([a-z0-9_.-]{1,64})(?:/([a-z0-9_.-]{1,64}))?(?::([0-9.]{1,64}))?",
    re.ASCII,
)
_GRADE = re.compile(r"fallback|abi")
_UNLISTED = re.compile(r"plain|itself")


def read_facts(document: object, place: str, *, sourced: bool) -> Facts:
    """Read a document; omitted groups are empty.

    Args:
        document: text, lists and mappings.
        place: the file, for messages.
        sourced: whether every group must have a `source`.

    Raises:
        InvalidConfiguration: a field is unknown, missing or of the wrong type.
    """
    root = Node(place, "", document)
    groups = root.fields(
        "schema", "operating_systems", "architectures", "families", "windows", "hosts", "runners",
        "paths",
    )  # fmt: skip
    if "schema" not in groups or groups.pop("schema").value != SCHEMA:
        root.fail(f"`schema: {SCHEMA}` is expected")

    def group(name: str) -> Node:
        return groups.get(name, Node(place, name, {}))

    if sourced:
        for name, node in groups.items():
            for part in node.mapping().values() if name == "families" else (node,):
                _check_source(part)
    systems = group("operating_systems").fields("source", "assumed", "known", "aliases")
    chips = group("architectures").fields("source", "known")
    return Facts(
        assumed_system=systems["assumed"].text() if "assumed" in systems else "",
        systems=_names(systems, "known"),
        system_aliases=_pairs(systems, "aliases"),
        architectures=_names(chips, "known"),
        families=tuple(_family(name, node) for name, node in group("families").mapping().items()),
        windows=_windows(group("windows")),
        hosts=_hosts(group("hosts")),
        runners=_runners(group("runners")),
        paths=_paths(group("paths")),
    )


def _check_source(node: Node) -> None:
    source = node.mapping().get("source")
    if source is None:
        node.fail("it has no `source`")
    if isinstance(source.value, list):
        if not source.names(_TEXT):
            source.fail("a source is expected")
    else:
        source.text(_TEXT)


def _names(fields: dict[str, Node], key: str) -> tuple[str, ...]:
    return fields[key].names() if key in fields else ()


def _pairs(
    fields: dict[str, Node],
    key: str,
    keys: re.Pattern[str] = NAME,
    values: re.Pattern[str] = NAME,
) -> Pairs:
    return fields[key].pairs(keys, values) if key in fields else ()


def _text(
    fields: dict[str, Node], key: str, default: str = "", pattern: re.Pattern[str] = NAME
) -> str:
    return fields[key].text(pattern) if key in fields else default


def _required(node: Node, fields: dict[str, Node], key: str) -> Node:
    return fields[key] if key in fields else node.fail(f"it has no `{key}`")


def _family(name: str, node: Node) -> Family:
    if not NAME.fullmatch(name):
        node.fail(f"a name of the form `{NAME.pattern}` is expected")
    fields = node.fields(
        "source", "aliases", "forced", "spellings", "assumed", "baseline", "variants", "branches",
        "numbered", "unlisted", "falls_back_to",
    )  # fmt: skip
    numbered = fields["numbered"].fields("lowest", "limit") if "numbered" in fields else {}
    lowest = None
    if "numbered" in fields:
        lowest = _required(fields["numbered"], numbered, "lowest").number()
    branches = fields["branches"].items() if "branches" in fields else ()
    fallbacks = fields["falls_back_to"].items() if "falls_back_to" in fields else ()
    return Family(
        name=name,
        aliases=_names(fields, "aliases"),
        forced=_pairs(fields, "forced", values=_OPTIONAL),
        spellings=_pairs(fields, "spellings", _OPTIONAL, _OPTIONAL),
        assumed=_text(fields, "assumed"),
        baseline=_text(fields, "baseline"),
        variants=_names(fields, "variants"),
        branches=tuple(_branch(branch) for branch in branches),
        lowest=lowest,
        limit=numbered["limit"].number() if "limit" in numbered else Family(name).limit,
        unlisted=_text(fields, "unlisted", "plain", _UNLISTED),
        falls_back_to=tuple(_fallback(fallback) for fallback in fallbacks),
    )


def _branch(node: Node) -> Branch:
    fields = node.fields("variants", "joins")
    return Branch(_required(node, fields, "variants").names(), _pairs(fields, "joins"))


def _fallback(node: Node) -> Fallback:
    fields = node.fields("architecture", "variant", "grade")
    return Fallback(
        _required(node, fields, "architecture").text(),
        _text(fields, "variant"),
        _required(node, fields, "grade").text(_GRADE),
    )


def _windows(node: Node) -> WindowsFacts:
    fields = node.fields("source", "version", "stable_abi_from", "long_term", "releases")
    long_term = fields["long_term"].items() if "long_term" in fields else ()
    releases = fields["releases"].items() if "releases" in fields else ()
    return WindowsFacts(
        version=_text(fields, "version"),
        stable_abi_from=fields["stable_abi_from"].number() if "stable_abi_from" in fields else 0,
        long_term=tuple(build.number() for build in long_term),
        releases=tuple(_release(release) for release in releases),
    )


def _release(node: Node) -> WindowsRelease:
    fields = node.fields("build", "release", "names")
    return WindowsRelease(
        _required(node, fields, "build").number(),
        _text(fields, "release", pattern=_TEXT),
        _names(fields, "names"),
    )


def _hosts(node: Node) -> HostFacts:
    fields = node.fields(
        "source", "systems", "machines", "little_endian", "narrow", "arm_cpus", "arm_models",
        "amd64_levels",
    )  # fmt: skip
    levels = fields["amd64_levels"].mapping() if "amd64_levels" in fields else {}
    return HostFacts(
        systems=_pairs(fields, "systems"),
        machines=_pairs(fields, "machines", values=_CHIP),
        little_endian=_pairs(fields, "little_endian"),
        narrow=_pairs(fields, "narrow", values=_CHIP),
        arm_cpus=_pairs(fields, "arm_cpus", _WORD),
        arm_models=_pairs(fields, "arm_models", _WORD),
        amd64_levels=tuple((level, flags.names()) for level, flags in levels.items()),
    )


def _runners(node: Node) -> tuple[Runner, ...]:
    providers = {name: inner for name, inner in node.mapping().items() if name != "source"}
    return tuple(
        _runner(provider, entry) for provider, inner in providers.items() for entry in inner.items()
    )


def _runner(provider: str, node: Node) -> Runner:
    fields = node.fields("platform", "label")
    where = _required(node, fields, "platform")
    matched = _PLATFORM.fullmatch(where.text(_PLATFORM))
    if matched is None:  # pragma: no cover - `text` has checked it
        where.fail("a platform is expected")
    label = _required(node, fields, "label").text(_TEXT)
    return Runner(provider, label, *matched.groups(default=""))


def _paths(node: Node) -> PathFacts:
    fields = node.fields("source", "names", "loaders", "libraries")

    def words(key: str) -> Words:
        inner = fields[key].mapping() if key in fields else {}
        for name, part in inner.items():
            if not NAME.fullmatch(name):
                part.fail(f"a name of the form `{NAME.pattern}` is expected")
        return tuple((name, part.names()) for name, part in inner.items())

    return PathFacts(words("names"), words("loaders"), words("libraries"))


Value = TypeVar("Value")

#: The most levels of one architecture. Source: docs/platform-matching.md, "Bounded levels".
_MOST_LEVELS = 999
_ALREADY = "this contradicts a known fact; facts can be added, not changed"


def merged(base: Facts, extra: Facts, place: str) -> Facts:
    """Add a user's facts to the built-in ones, and check the result.

    Args:
        base: the built-in facts.
        extra: the user's facts.
        place: the user's file, for messages.

    Raises:
        InvalidConfiguration: they contradict each other, or are inconsistent together.
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
        windows=_merged_windows(base.windows, extra.windows, place),
        hosts=_merged_hosts(base.hosts, extra.hosts, place),
        # The user's own runners take precedence.
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
    """Refuse inconsistent facts, such as a cycle of fallbacks.

    Raises:
        InvalidConfiguration: with the first problem.
    """
    for path, reason in problems(facts):
        raise InvalidConfiguration(place, path, reason)


def problems(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield the inconsistencies, as pairs of a field and a reason."""
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
                # The table would follow a cycle forever.
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
        joined[family.name] = family if known is None else _merged_family(known, family, place)
    return tuple(joined.values())


def _merged_family(known: Family, extra: Family, place: str) -> Family:
    plain = Family(known.name)
    path = f"families.{known.name}"
    values = {
        name: _once(getattr(known, name), getattr(extra, name), getattr(plain, name), place, where)
        for name in Family._fields
        if name not in {"aliases", "forced", "spellings"}
        for where in (f"{path}.{name}",)
    }
    return Family(
        **values,
        aliases=_union(known.aliases, extra.aliases),
        forced=_joined(known.forced, extra.forced, place, f"{path}.forced"),
        spellings=_joined(known.spellings, extra.spellings, place, f"{path}.spellings"),
    )


def _merged_windows(base: WindowsFacts, extra: WindowsFacts, place: str) -> WindowsFacts:
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


def _merged_hosts(base: HostFacts, extra: HostFacts, place: str) -> HostFacts:
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
    """Merge the words of each architecture."""
    together = dict(base)
    for name, words in extra:
        together[name] = _union(together.get(name, ()), words)
    return tuple(together.items())
