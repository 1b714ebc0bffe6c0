"""Reading platform facts: the document of a `platforms.yaml`, checked field by field.

The document is what a YAML reader makes of it when every scalar stays text. `platform_merge` then
checks what the facts mean together.
"""

from __future__ import annotations

import re

from resolver.core.platform_document import NAME, Node
from resolver.core.platform_rules import (
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

#: The one version of the schema there is.
SCHEMA = "1"

#: What processors call themselves in /proc/cpuinfo.
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
    """Read a document; whatever it leaves out is empty.

    Args:
        document: text, lists and mappings.
        place: the file, for messages.
        sourced: whether every group must say where it is from.

    Raises:
        InvalidConfiguration: a field is unknown, missing or of another shape.

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
    if matched is None:  # pragma: no cover - `text` has just said that it does
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
