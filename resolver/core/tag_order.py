"""The order of tags: what a tag says of age, as a version, a date, or neither.

A tag is free text; what people write into it is `1.27.3`, `v2`, `1.27-alpine`, `3.0.0-rc1`,
`2024-05-01`, `20240501`, `jammy-20240627`, `latest`. Nothing here asks a registry when a tag was
pushed: few can say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Numbers of a version that are looked at, and digits of each: more say nothing about age.
_MAX_NUMBERS, _MAX_DIGITS = 8, 18

_VERSION = re.compile(
    r"[vV]?(?P<numbers>[0-9]+(?:\.[0-9]+)*)"
    r"(?:[-_.]?(?P<stage>(?:alpha|beta|rc|pre|preview|dev|nightly|snapshot)(?![a-z])"
    r"[-_.]?(?P<count>[0-9.]*)))?"
    r"(?P<rest>[-_.][A-Za-z0-9_.-]+)?",
    re.ASCII | re.IGNORECASE,
)
_DATE = re.compile(
    r"(?P<before>(?:[A-Za-z0-9_.-]*[A-Za-z_.-])?)(?P<year>(?:19|20)[0-9]{2})(?P<gap>[-._]?)"
    r"(?P<month>0[1-9]|1[0-2])(?P=gap)(?P<day>0[1-9]|[12][0-9]|3[01])"
    r"(?P<rest>(?:[^0-9].*)?)",
    re.ASCII,
)
#: Before a release, in this order; what is none of them is a flavour of the release (`-alpine`).
_STAGES = ("dev", "nightly", "snapshot", "alpha", "beta", "pre", "preview", "rc")

Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Age:
    """What a tag says about its age.

    Attributes:
        kind: 2 for a version, 1 for a date, 0 for neither.
        numbers: of the version, without zeros at the end; or year, month, day.
        stage: place among the stages before a release, and its count; a release is after all.
        flavour: what else stands there: `-alpine`, or the name before a date.
        depth: how many numbers were written: `1.27.3` says more than `1.27`.
    """

    kind: int
    numbers: Numbers
    stage: tuple[int, Numbers]
    flavour: str
    depth: int

    @property
    def is_plain_release(self) -> bool:
        """Whether it is a version, and nothing else stands beside it."""
        return self.kind == _IS_VERSION and self.stage == _RELEASED and not self.flavour


_IS_VERSION, _IS_DATE, _IS_NAME = 2, 1, 0
_RELEASED: tuple[int, Numbers] = (len(_STAGES), ())


def age_of(tag: str) -> Age:
    """Read what a tag says; never fails."""
    dated = _DATE.fullmatch(tag)
    if dated is not None:
        numbers = tuple(int(dated[name]) for name in ("year", "month", "day"))
        count = tuple(_numbers(re.sub(r"[^0-9.]", "", dated["rest"]).strip(".")))
        return Age(_IS_DATE, (*numbers, *count), _RELEASED, dated["before"] + dated["rest"], 3)
    matched = _VERSION.fullmatch(tag)
    numbers = _numbers(matched["numbers"]) if matched is not None else ()
    if matched is None or not numbers:
        return Age(_IS_NAME, (), _RELEASED, tag, 0)
    stage = _RELEASED
    if matched["stage"]:
        word = re.sub(r"[^a-z]", "", matched["stage"].lower())
        stage = (_STAGES.index(word), _numbers(matched["count"].strip(".")))
    return Age(_IS_VERSION, _trimmed(numbers), stage, matched["rest"] or "", len(numbers))


def newest_first(tags: Iterable[str]) -> list[str]:
    """Order tags: versions, newest first; then dates, newest first; then names, by the alphabet.

    Of one version the release comes before what led to it, more numbers before fewer, the plain
    tag before its flavours, and flavours by the alphabet.
    """

    def key(tag: str) -> tuple[object, ...]:
        age = age_of(tag)
        return (
            -age.kind,
            _backwards(age.numbers),
            (-age.stage[0], _backwards(age.stage[1])),
            -age.depth,
            age.flavour,
            tag,
        )

    return sorted(tags, key=key)


def in_range(text: str) -> Callable[[str], bool]:
    """Make a question to tags out of a range of versions, as npm and Cargo write them.

    `>=1.25`, `^1.2`, `~1.2`, `1.x`, `>=1.2 <2`, `1.2 - 1.4`, `1.2 || 2`. Only tags that are
    versions answer yes; a flavour (`1.27-alpine`) and what comes before a release never do, as a
    semantic version's own rule for pre-releases has it.

    Raises:
        Usage: it is no range.

    Source: https://github.com/npm/node-semver, "Ranges".
    """
    from semantic_version import NpmSpec, Version  # noqa: PLC0415 - for this question alone

    if len(text) > _MAX_RANGE:
        raise Usage(f"`--semver` takes at most {_MAX_RANGE} characters", "write it shorter")
    try:
        spec = NpmSpec(text)
    except ValueError as error:
        raise Usage(
            f"`{text}` is no range of versions", "write `>=1.25`, `^1.2`, `~1.2`, `1.x` or `>=1 <3`"
        ) from error

    def matches(tag: str) -> bool:
        age = age_of(tag)
        if not age.is_plain_release:
            return False
        numbers = (*age.numbers, 0, 0, 0)[:3]
        return bool(spec.match(Version(".".join(map(str, numbers)))))

    return matches


_MAX_RANGE = 256


def _numbers(text: str) -> Numbers:
    """Read numbers between dots; none where one is longer than any version's."""
    parts = [part for part in text.split(".") if part]
    if len(parts) > _MAX_NUMBERS or any(len(part) > _MAX_DIGITS for part in parts):
        return ()
    return tuple(map(int, parts))


def _trimmed(numbers: Numbers) -> Numbers:
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers = numbers[:-1]
    return numbers


def _backwards(numbers: Numbers) -> tuple[int, ...]:
    """Turn numbers round for sorting; a longer one of the same start is the newer."""
    return (*(-number for number in numbers), 1)
