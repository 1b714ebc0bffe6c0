"""Ignoring: rules for differences that are meant to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.dimensions import DIMENSIONS, Unit
from resolver.core.file_difference import Change
from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Rules, and characters in one of them: a file of rules is read by hand now and then.
MAX_RULES = 1_000
MAX_RULE = 1_024

_FILES = "files"
_DRIFTING = {each.name: each for each in DIMENSIONS if each.drifts}


@dataclass(frozen=True, slots=True)
class Ignoring:
    """What drift to leave out.

    A rule is a dimension (`annotations`), or one and a key behind a full stop (`env.PATH`,
    `labels.org.opencontainers.*`), or a kind of change of files (`files.mode`, `files.owner`,
    `files.xattrs`, `files.xattrs.user.*`). In the key `*` stands for any text and `?` for one
    character.
    """

    rules: tuple[str, ...] = ()

    @classmethod
    def read(cls, lines: Iterable[str], where: str = "--ignore") -> Ignoring:
        """Read rules, one a line; blank lines and what follows `#` at a line's start are skipped.

        Raises:
            Usage: a rule names no dimension, is too long, or there are too many.
        """
        rules = [line.strip() for line in lines]
        rules = [rule for rule in rules if rule and not rule.startswith("#")]
        if len(rules) > MAX_RULES:
            raise Usage(f"`{where}` has {len(rules)} rules, and {MAX_RULES} are allowed")
        for rule in rules:
            if len(rule) > MAX_RULE:
                raise Usage(f"`{where}` has a rule of more than {MAX_RULE} characters")
            _split(rule, where)
        return cls(tuple(dict.fromkeys(rules)))

    def ignores(self, dimension: str, key: str = "") -> bool:
        """Say whether a difference is to be left out."""
        pairs = (_split(rule, "--ignore") for rule in self.rules)
        return any(
            name == dimension and (pattern is None or _matches(pattern, key))
            for name, pattern in pairs
        )


def _split(rule: str, where: str) -> tuple[str, str | None]:
    """Take a rule apart; `os.version` is a name with a full stop of its own.

    Raises:
        Usage: it names no dimension, or a key of one that has none.
    """
    known = ", ".join((*_DRIFTING, *(f"{_FILES}.{change.value}" for change in Change)))
    if rule in _DRIFTING:
        return rule, None
    name, _, key = rule.partition(".")
    if name == _FILES and _is_change(key):
        return name, key
    dimension = _DRIFTING.get(name)
    if dimension is None:
        raise Usage(f"`{where} {rule}` names nothing that can differ", f"choose one of {known}")
    if dimension.unit not in {Unit.PAIRS, Unit.NAMES}:
        raise Usage(f"`{where} {rule}`: `{name}` has no keys", f"write `{name}` alone")
    return name, key


def _is_change(key: str) -> bool:
    """Whether a key can be one of a difference between files."""
    first, dot, _ = key.partition(".")
    values = [change.value for change in Change]
    return (first == Change.XATTRS.value) if dot else any(_matches(key, value) for value in values)


def _matches(pattern: str, text: str) -> bool:
    """Match `*` and `?`; every star needs to be tried at one place at a time, so this is quick."""
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
