"""Drift: differences of configs and annotations between builds, by key."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal

from resolver.core.compare.file_difference import PathChange
from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from resolver.core.compare.builds import Build


#: The aspects of `--fail-on`. `files` and `packages` need `--files`, `needs` needs `--needs`, and
#: `attestations` needs `--attestations`.
Aspect = Literal[
    "size", "layers", "config", "history", "platforms", "files", "packages", "needs", "attestations"
]
ASPECTS: tuple[Aspect, ...] = (
    "size", "layers", "config", "history", "platforms", "files", "packages", "needs",
    "attestations",
)  # fmt: skip

#: Bytes or a count; text; a list of words; a set of names, or a mapping as sorted pairs.
Value = int | str | tuple[str, ...] | tuple[tuple[str, str], ...]


class Unit(Enum):
    """The type of a dimension's values."""

    BYTES = "bytes"
    COUNT = "count"
    TEXT = "text"
    WORDS = "words"
    NAMES = "names"
    PAIRS = "pairs"


@dataclass(frozen=True, slots=True)
class Dimension:
    """One property of a build.

    `name`: stable; used by `--ignore` and JSON. `drifts`: whether a difference is drift; others
    have fields of their own in the result. `look`: returns the value; empty if the build has none.
    """

    name: str
    title: str
    unit: Unit
    aspect: Aspect
    look: Callable[[Build], Value]
    drifts: bool = True


def _env(build: Build) -> tuple[tuple[str, str], ...]:
    """Return the environment as pairs; of duplicate names the last, as when run."""
    pairs = (entry.partition("=") for entry in build.config.env)
    return tuple(sorted({name: value for name, _, value in pairs}.items()))


#: All dimensions, read by `--ignore`, every output format and the contract test.
DIMENSIONS = (
    Dimension("size", "compressed size", Unit.BYTES, "size", lambda b: b.size, drifts=False),
    Dimension(
        "layers", "layers", Unit.COUNT, "layers", lambda b: len(b.manifest.layers), drifts=False
    ),
    Dimension("created", "created", Unit.TEXT, "config", lambda b: b.config.created, drifts=False),
    Dimension("entrypoint", "entrypoint", Unit.WORDS, "config", lambda b: b.config.entrypoint),
    Dimension("cmd", "command", Unit.WORDS, "config", lambda b: b.config.cmd),
    Dimension("env", "environment", Unit.PAIRS, "config", _env),
    Dimension("user", "user", Unit.TEXT, "config", lambda b: b.config.user),
    Dimension("workdir", "working directory", Unit.TEXT, "config", lambda b: b.config.working_dir),
    Dimension("ports", "ports", Unit.NAMES, "config", lambda b: b.config.exposed_ports),
    Dimension("volumes", "volumes", Unit.NAMES, "config", lambda b: b.config.volumes),
    Dimension("labels", "labels", Unit.PAIRS, "config", lambda b: b.config.labels),
    Dimension("stop-signal", "stop signal", Unit.TEXT, "config", lambda b: b.config.stop_signal),
    Dimension("healthcheck", "health check", Unit.TEXT, "config", lambda b: b.config.healthcheck),
    Dimension("author", "author", Unit.TEXT, "config", lambda b: b.config.author),
    Dimension("os.version", "os.version", Unit.TEXT, "config", lambda b: b.config.os_version),
    Dimension("annotations", "annotations", Unit.PAIRS, "config", lambda b: b.annotations),
    Dimension("needs", "needs of programs", Unit.PAIRS, "needs", lambda b: b.needs),
)

NAMES = frozenset(dimension.name for dimension in DIMENSIONS)


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference between builds.

    `key`: of an environment variable, label, …; empty for dimensions without keys. `values`: one
    per build, in their order; None if a build has none.
    """

    dimension: str
    key: str
    values: tuple[str | tuple[str, ...] | None, ...]

    @property
    def name(self) -> str:
        """The name for `--ignore`: `env.PATH`."""
        return f"{self.dimension}.{self.key}" if self.key else self.dimension

    @property
    def aspect(self) -> Aspect:
        """The aspect of `--fail-on` that this difference belongs to."""
        return _DRIFTING[self.dimension].aspect

    @property
    def groups(self) -> tuple[tuple[str | tuple[str, ...] | None, tuple[int, ...]], ...]:
        """The distinct values, each with the positions of its builds."""
        found: dict[str | tuple[str, ...] | None, list[int]] = {}
        for position, value in enumerate(self.values):
            found.setdefault(value, []).append(position)
        return tuple((value, tuple(positions)) for value, positions in found.items())


def drift_of(builds: Sequence[Build], ignoring: Ignoring) -> tuple[Drift, ...]:
    """Return the differences that are not ignored, in the order of `DIMENSIONS`, then of keys."""
    found = (
        drift for dimension in DIMENSIONS if dimension.drifts for drift in _drift(dimension, builds)
    )
    return tuple(drift for drift in found if not ignoring.ignores(drift.dimension, drift.key))


def _drift(dimension: Dimension, builds: Sequence[Build]) -> Iterator[Drift]:
    looks = [dimension.look(build) for build in builds]
    if dimension.unit in {Unit.PAIRS, Unit.NAMES}:
        maps = [_mapping(look) for look in looks]
        for key in sorted({key for values in maps for key in values}):
            values = tuple(mapping.get(key) for mapping in maps)
            if len(set(values)) > 1:
                yield Drift(dimension.name, key, values)
        return
    whole = tuple(_value(look) for look in looks)
    if len(set(whole)) > 1:
        yield Drift(dimension.name, "", whole)


def _value(look: object) -> str | tuple[str, ...] | None:
    if isinstance(look, tuple):
        return tuple(str(word) for word in look) or None
    return str(look) or None


def _mapping(look: object) -> dict[str, str]:
    """Return pairs as a mapping, and names as keys with the value `yes`."""
    pairs: dict[str, str] = {}
    for item in look if isinstance(look, tuple) else ():
        key, value = item if isinstance(item, tuple) else (item, "yes")
        pairs[key] = value
    return pairs


#: The most rules, and characters of one rule.
MAX_RULES = 1_000
MAX_RULE = 1_024

_FILES = "files"
_DRIFTING = {row.name: row for row in DIMENSIONS if row.drifts}


@dataclass(frozen=True, slots=True)
class Ignoring:
    """Rules for differences to ignore.

    A rule is a dimension (`annotations`), or a dimension and a key (`env.PATH`,
    `labels.org.opencontainers.*`), or a kind of difference of files (`files.mode`, `files.owner`,
    `files.xattrs`, `files.xattrs.user.*`). In the key `*` stands for any text and `?` for one
    character.
    """

    rules: tuple[str, ...] = ()

    @classmethod
    def read(cls, lines: Iterable[str], where: str = "--ignore") -> Ignoring:
        """Parse rules, one per line; skip blank lines and lines that begin with `#`."""
        rules = [line.strip() for line in lines]
        rules = [rule for rule in rules if rule and not rule.startswith("#")]
        if len(rules) > MAX_RULES:
            raise Usage(
                f"`{where}` has {len(rules)} rules, and {MAX_RULES} are allowed",
                "combine rules with `*`: `labels.com.example.*`",
            )
        for rule in rules:
            if len(rule) > MAX_RULE:
                raise Usage(
                    f"`{where}` has a rule of more than {MAX_RULE} characters",
                    "shorten it with `*`: `labels.com.example.*`",
                )
            _split(rule, where)
        return cls(tuple(dict.fromkeys(rules)))

    def ignores(self, dimension: str, key: str = "") -> bool:
        """Return whether a difference is ignored."""
        pairs = (_split(rule, "--ignore") for rule in self.rules)
        return any(
            name == dimension and (pattern is None or _matches(pattern, key))
            for name, pattern in pairs
        )


def _split(rule: str, where: str) -> tuple[str, str | None]:
    """Split a rule into dimension and key; the name `os.version` contains a dot itself."""
    known = ", ".join((*_DRIFTING, *(f"{_FILES}.{change.value}" for change in PathChange)))
    if rule in _DRIFTING:
        return rule, None
    name, _, key = rule.partition(".")
    if name == _FILES and _is_change(key):
        return name, key
    dimension = _DRIFTING.get(name)
    if dimension is None:
        raise Usage(f"`{where} {rule}` is not a known difference", f"choose one of {known}")
    if dimension.unit not in {Unit.PAIRS, Unit.NAMES}:
        raise Usage(f"`{where} {rule}`: `{name}` has no keys", f"write `{name}` alone")
    return name, key


def _is_change(key: str) -> bool:
    first, dot, _ = key.partition(".")
    values = [change.value for change in PathChange]
    return (
        (first == PathChange.XATTRS.value) if dot else any(_matches(key, value) for value in values)
    )


def _matches(pattern: str, text: str) -> bool:
    """Match `*` and `?`, backtracking only to the last star, so in quadratic time at most."""
    at = here = 0
    star, resume = -1, 0
    while here < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resume, at = at, here, at + 1
        elif at < len(pattern) and pattern[at] in {"?", text[here]}:
            at, here = at + 1, here + 1
        elif star >= 0:
            resume += 1
            at, here = star + 1, resume
        else:
            return False
    return not pattern[at:].strip("*")
