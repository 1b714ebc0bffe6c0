"""Platform facts: read a `platforms.yaml` field by field, and merge it with the built-in ones.

Every scalar is read as it is written: `386` and `8.0` are text here. `merged` then checks what the
facts mean together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from resolver.core.parse.document import FieldReader
from resolver.core.parse.yaml_tree import YamlScalar
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

#: A name of ours: lower-case, no blanks.
NAME = re.compile(r"[a-z0-9_.-]{1,64}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)
#: What processors call themselves in /proc/cpuinfo.
_WORD = re.compile(r"[a-z0-9_.()?-]{1,64}", re.ASCII)
_OPTIONAL = re.compile(r"[a-z0-9_.-]{0,64}", re.ASCII)
_TEXT = re.compile(r"[ -~]{1,300}", re.ASCII)
_CHIP = re.compile(r"[a-z0-9_.-]{1,64}(?:/[a-z0-9_.-]{1,64})?", re.ASCII)
_PLATFORM = re.compile(
    r"([a-z0-9_-]{1,64})/([a-z0-9_.-]{1,64})(?:/([a-z0-9_.-]{1,64}))?(?::([0-9.]{1,64}))?", re.ASCII
)
_GRADE = re.compile(r"fallback|abi")
_UNLISTED = re.compile(r"plain|itself")


def read_facts(root: FieldReader, *, sourced: bool) -> Facts:
    """Read a platform document; whatever it leaves out is empty."""
    top = _Fields(
        root,
        "schema", "operating_systems", "architectures", "families", "windows", "hosts", "runners",
        "paths",
    )  # fmt: skip
    if _written(top["schema"]) != SCHEMA:
        root.fail(f"`schema: {SCHEMA}` is expected")
    if sourced:
        for name, node in top.given.items():
            if name != "schema":
                for part in _mapping(node).values() if name == "families" else (node,):
                    _check_source(part)
    systems = _Fields(top["operating_systems"], "source", "assumed", "known", "aliases")
    paths = _Fields(top["paths"], "source", "names", "loaders", "libraries")
    return Facts(
        assumed_system=systems.text("assumed"),
        systems=systems.words("known"),
        system_aliases=systems.pairs("aliases"),
        architectures=_Fields(top["architectures"], "source", "known").words("known"),
        families=tuple(_family(name, node) for name, node in _mapping(top["families"]).items()),
        windows=_windows(top["windows"]),
        hosts=_hosts(top["hosts"]),
        runners=_runners(top["runners"]),
        paths=PathFacts(*(_named_words(paths[key]) for key in ("names", "loaders", "libraries"))),
    )


def _check_source(node: FieldReader) -> None:
    source = _mapping(node).get("source")
    if source is None:
        node.fail("it has no `source`")
    if source.is_list:
        if not _word_list(source, _TEXT):
            source.fail("a source is expected")
    else:
        _word(source, _TEXT)


class _Fields:
    """A mapping whose names are fixed; a field that is not given reads as empty."""

    def __init__(self, node: FieldReader, *known: str) -> None:
        self._node = node
        self.given = _mapping(node)
        for key, member in self.given.items():
            if key not in known:
                member.fail(f"unknown field; known fields are {', '.join(known)}")

    def __getitem__(self, key: str) -> FieldReader:
        empty = YamlScalar(0, 0, "")
        return self.given.get(key) or FieldReader(self._node.place, key, empty)

    def required(self, key: str) -> FieldReader:
        return self.given.get(key) or self._node.fail(f"it has no `{key}`")

    def words(self, key: str) -> tuple[str, ...]:
        return _word_list(self[key])

    def pairs(
        self, key: str, keys: re.Pattern[str] = NAME, values: re.Pattern[str] = NAME
    ) -> Pairs:
        inner = _mapping(self[key])
        for name, member in inner.items():
            if not keys.fullmatch(name):
                member.fail(f"a name of the form `{keys.pattern}` is expected")
        return tuple((name, _word(member, values)) for name, member in inner.items())

    def text(self, key: str, default: str = "", pattern: re.Pattern[str] = NAME) -> str:
        return _word(self[key], pattern) if key in self.given else default

    def number(self, key: str, default: int) -> int:
        return _number(self[key]) if key in self.given else default


def _family(name: str, node: FieldReader) -> Family:
    if not NAME.fullmatch(name):
        node.fail(f"a name of the form `{NAME.pattern}` is expected")
    fields = _Fields(
        node,
        "source", "aliases", "forced", "spellings", "assumed", "baseline", "variants", "branches",
        "numbered", "unlisted", "falls_back_to",
    )  # fmt: skip
    numbered = _Fields(fields["numbered"], "lowest", "limit")
    return Family(
        name=name,
        aliases=fields.words("aliases"),
        forced=fields.pairs("forced", values=_OPTIONAL),
        spellings=fields.pairs("spellings", _OPTIONAL, _OPTIONAL),
        assumed=fields.text("assumed"),
        baseline=fields.text("baseline"),
        variants=fields.words("variants"),
        branches=tuple(map(_branch, _items(fields["branches"]))),
        lowest=_number(numbered.required("lowest")) if "numbered" in fields.given else None,
        limit=numbered.number("limit", Family(name).limit),
        unlisted=fields.text("unlisted", "plain", _UNLISTED),
        falls_back_to=tuple(map(_fallback, _items(fields["falls_back_to"]))),
    )


def _branch(node: FieldReader) -> Branch:
    fields = _Fields(node, "variants", "joins")
    return Branch(_word_list(fields.required("variants")), fields.pairs("joins"))


def _fallback(node: FieldReader) -> Fallback:
    fields = _Fields(node, "architecture", "variant", "grade")
    architecture = _word(fields.required("architecture"))
    return Fallback(architecture, fields.text("variant"), _word(fields.required("grade"), _GRADE))


def _windows(node: FieldReader) -> WindowsFacts:
    fields = _Fields(node, "source", "version", "stable_abi_from", "long_term", "releases")
    return WindowsFacts(
        version=fields.text("version"),
        stable_abi_from=fields.number("stable_abi_from", 0),
        long_term=tuple(map(_number, _items(fields["long_term"]))),
        releases=tuple(map(_release, _items(fields["releases"]))),
    )


def _release(node: FieldReader) -> WindowsRelease:
    fields = _Fields(node, "build", "release", "names")
    build = _number(fields.required("build"))
    return WindowsRelease(build, fields.text("release", pattern=_TEXT), fields.words("names"))


def _hosts(node: FieldReader) -> HostFacts:
    fields = _Fields(
        node,
        "source", "systems", "machines", "little_endian", "narrow", "arm_cpus", "arm_models",
        "amd64_levels",
    )  # fmt: skip
    levels = _mapping(fields["amd64_levels"])
    return HostFacts(
        systems=fields.pairs("systems"),
        machines=fields.pairs("machines", values=_CHIP),
        little_endian=fields.pairs("little_endian"),
        narrow=fields.pairs("narrow", values=_CHIP),
        arm_cpus=fields.pairs("arm_cpus", _WORD),
        arm_models=fields.pairs("arm_models", _WORD),
        amd64_levels=tuple((level, _word_list(flags)) for level, flags in levels.items()),
    )


def _runners(node: FieldReader) -> tuple[Runner, ...]:
    providers = {name: inner for name, inner in _mapping(node).items() if name != "source"}
    return tuple(
        _runner(provider, entry) for provider, inner in providers.items() for entry in _items(inner)
    )


def _runner(provider: str, node: FieldReader) -> Runner:
    fields = _Fields(node, "platform", "label")
    where = fields.required("platform")
    matched = _PLATFORM.fullmatch(_word(where, _PLATFORM))
    if matched is None:  # pragma: no cover - `text` has just said that it does
        where.fail("a platform is expected")
    return Runner(provider, _word(fields.required("label"), _TEXT), *matched.groups(default=""))


def _named_words(node: FieldReader) -> Words:
    inner = _mapping(node)
    for name, part in inner.items():
        if not NAME.fullmatch(name):
            part.fail(f"a name of the form `{NAME.pattern}` is expected")
    return tuple((name, _word_list(part)) for name, part in inner.items())


def _mapping(node: FieldReader) -> dict[str, FieldReader]:
    if _written(node) == "":
        return {}
    return node.members() if node.is_mapping else node.fail("a mapping is expected")


def _items(node: FieldReader) -> Iterator[FieldReader]:
    if _written(node) != "":
        yield from node.items() if node.is_list else node.fail("a list is expected")


def _written(node: FieldReader) -> str | None:
    """Return a scalar as it is written, whatever YAML types it as; None for a collection."""
    return node.value.value if isinstance(node.value, YamlScalar) else None


def _word(node: FieldReader, pattern: re.Pattern[str] = NAME) -> str:
    text = _written(node)
    if text is None or not pattern.fullmatch(text):
        node.fail(f"text of the form `{pattern.pattern}` is expected")
    return text


def _number(node: FieldReader) -> int:
    return int(_word(node, _NUMBER))


def _word_list(node: FieldReader, pattern: re.Pattern[str] = NAME) -> tuple[str, ...]:
    return tuple(_word(item, pattern) for item in _items(node))


Value = TypeVar("Value")

#: The most levels of one architecture. Source: docs/platform-matching.md, "Bounded levels".
_MOST_LEVELS = 999
_ALREADY = "this contradicts a known fact; facts can be added, not changed"


def merged(base: Facts, extra: Facts, place: str) -> Facts:
    """Add a user's facts to the built-in ones, and check the result; `place` is the user's file."""
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
    """Refuse inconsistent facts, such as a cycle of fallbacks."""
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
                yield f"families.{family.name}.aliases", f"`{alias}` is already defined"
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
        yield "variants", "a level is listed twice, or is spelled like another"
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
    aliases = {
        alias for family in facts.families for alias in (*family.aliases, *dict(family.forced))
    }
    targets = {
        family.name: [fallback.architecture for fallback in family.falls_back_to]
        for family in facts.families
    }
    for name, direct in targets.items():
        path = f"families.{name}.falls_back_to"
        if not taken.issuperset(direct) or not aliases.isdisjoint(direct):
            yield path, "it leads to an unknown architecture"
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


def _windows_problems(windows: WindowsFacts) -> Iterator[tuple[str, str]]:
    if list(windows.long_term) != sorted(set(windows.long_term)):
        yield "windows.long_term", "builds must ascend"
    if any(build < windows.stable_abi_from for build in windows.long_term):
        yield "windows.long_term", "a release before `stable_abi_from` is never reached"
    builds = [release.build for release in windows.releases]
    if len(set(builds)) != len(builds):
        yield "windows.releases", "a build is listed twice"
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
    together = dict(base)
    for name, words in extra:
        together[name] = _union(together.get(name, ()), words)
    return tuple(together.items())
