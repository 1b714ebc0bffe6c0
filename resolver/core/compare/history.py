"""Align the build histories of several builds step by step.

An additional step in one build does not shift the rest: each history is aligned with the base's as
a longest common subsequence, in which similar steps also match.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import field
from itertools import pairwise
from typing import TYPE_CHECKING

from resolver.core.platforms.platform import BUILTIN
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.compare.builds import Build
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.platforms.platform import Platform, PlatformTable


#: Text that builders add to a command. Source: moby builder/dockerfile/dispatchers.go (`#(nop)`);
#: BuildKit frontend/dockerfile/dockerfile2llb/convert.go (`# buildkit`, `|N ARG=value`).
_WRAPPING = re.compile(
    r"^(?:\|[0-9]{1,6} (?:[A-Za-z_][A-Za-z0-9_]{0,80}=[^ ]{0,400} ){0,100})?"
    r"(?:/bin/(?:ba)?sh -c )?(?:#\(nop\) +)?|[ ]*# buildkit\Z"
)
#: Variants after the name of an architecture: `arm/v7`, `arm64v8`, `arm32v7`.
_VARIANT = r"(?:(?:32)?[/_-]?v[1-9][a-z]?)?"
#: Digests and checksums.
_HASH = re.compile(r"(?<![0-9A-Fa-f])[0-9a-f]{32,128}(?![0-9A-Fa-f])")
_SPACE = re.compile(r"[ \t\r\n\\]+")
#: Characters of a step that are analysed; a longer step is a script.
_LOOKED_AT = 8_000
#: Words of a step that are compared.
_WORDS = 400
#: The likeness of equal steps; that of others is a share of it.
SAME = 1_000
#: The lowest likeness of similar steps.
_ALIKE = 600


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """One normalised step, without added text, architectures and checksums; `words` are counted."""

    text: str
    words: Counter[str] = field(compare=False, repr=False)

    @property
    def verb(self) -> str:
        """The first word: `COPY`, `RUN`, `apt-get`."""
        return self.text.partition(" ")[0]


def words_of(
    platform: Platform | None,
    table: PlatformTable,
    suffix: str = "",
    flags: re.RegexFlag = re.NOFLAG,
) -> re.Pattern[str] | None:
    """Return a pattern of the words for a platform's architecture; None without one."""
    if platform is None or not platform.architecture:
        return None
    chip = platform.normalized(table).architecture
    family = table.family(chip)
    named = dict(table.facts.paths.names).get(chip, ())
    words = {chip, *family.aliases, *dict(family.forced), *named}
    # Longest first: `x86_64-linux-gnu` before `x86_64`.
    listed = "|".join(re.escape(word) for word in sorted(words, key=lambda w: (-len(w), w)))
    return re.compile(rf"(?<![A-Za-z0-9])(?:{listed}){suffix}(?![A-Za-z0-9]|_64)", re.ASCII | flags)


class Normaliser:
    """Normalise the steps of one build: replace the words for its own architecture."""

    def __init__(self, platform: Platform | None, table: PlatformTable) -> None:
        self._words = words_of(platform, table, _VARIANT, re.IGNORECASE)

    def read(self, written: str) -> HistoryStep:
        """Normalise a step of a config."""
        text = _SPACE.sub(" ", written[:_LOOKED_AT]).strip()
        text = _WRAPPING.sub("", text)
        if self._words is not None:
            text = self._words.sub("{arch}", text)
        text = _HASH.sub("{hash}", text).strip()
        words = Counter(text.split(" ")[:_WORDS])
        # The rest is not analysed, but equal steps must have it in common.
        return HistoryStep(text + written[_LOOKED_AT:], words)


def likeness(one: HistoryStep, other: HistoryStep) -> int:
    """Return the likeness of two steps: 1000 for equal ones, 0 for different ones.

    Similar steps begin with the same word and have a likeness from 600, by the words they share
    (the Sørensen-Dice coefficient).
    """
    if one == other:
        return SAME
    if one.verb != other.verb:
        return 0
    both = (one.words & other.words).total()
    share = 2 * (SAME - 1) * both // (one.words.total() + other.words.total())
    return share if share >= _ALIKE else 0


#: The most steps that are aligned. Docker stops at 127 layers; longer histories are hostile.
MAX_STEPS = 300
#: Pairs of steps whose likeness is computed at once.
_MEASURED = 2_500


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a build.

    `position`: in the build's history, counted from 0. `layer`: its layer; None if it has none, or
    it is unknown.
    """

    position: int
    instruction: str
    layer: Descriptor | None


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One step of all builds, None for a build without it; `is_same` after normalisation."""

    steps: tuple[Step | None, ...]
    is_same: bool

    @property
    def instruction(self) -> str:
        """The instruction of the first build that has the step."""
        return next((step.instruction for step in self.steps if step is not None), "")


@dataclass(frozen=True, slots=True)
class History:
    """The aligned histories of several builds.

    `rows`: from the first step to the last; every step of every build is in exactly one.
    `unmatched`: per build, why its layers could not be assigned to steps; empty if they could.
    """

    rows: tuple[HistoryRow, ...]
    unmatched: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether any step differs after normalisation."""
        return any(not row.is_same for row in self.rows)


def history_of(builds: Sequence[Build], base: int, table: PlatformTable = BUILTIN) -> History:
    """Align the histories of builds with the base's; the order of builds affects only columns."""
    read = [_steps(build) for build in builds]
    sides = [steps for steps, _reason in read]
    readers = [Normaliser(build.platform, table) for build in builds]
    keys = [
        [reader.read(step.instruction) for step in steps]
        for reader, steps in zip(readers, sides, strict=True)
    ]
    order = sorted(
        (position for position in range(len(builds)) if position != base),
        key=lambda each: (builds[each].name, str(builds[each].descriptor.digest)),
    )
    pairs = {side: dict(align(keys[base], keys[side])) for side in order}
    grid: list[dict[int, int]] = []
    for position in range(-1, len(keys[base])):
        if position >= 0:
            there = {side: pairs[side][position] for side in order if position in pairs[side]}
            grid.append({base: position, **there})
        grid += _between(position, order, pairs, keys)
    rows = tuple(_row(row, sides, keys) for row in grid)
    return History(rows, tuple(reason for _steps, reason in read))


def align(
    first: Sequence[HistoryStep], second: Sequence[HistoryStep]
) -> tuple[tuple[int, int], ...]:
    """Pair the steps of two histories, in order, with the greatest total likeness."""
    head = 0
    while head < min(len(first), len(second)) and first[head] == second[head]:
        head += 1
    tail = 0
    most = min(len(first), len(second)) - head
    while tail < most and first[-1 - tail] == second[-1 - tail]:
        tail += 1
    inner = _align(first[head : len(first) - tail], second[head : len(second) - tail])
    middle = [(head + one, head + other) for one, other in inner]
    ends = [(len(first) - n, len(second) - n) for n in range(tail, 0, -1)]
    return (*((n, n) for n in range(head)), *middle, *ends)


def _align(first: Sequence[HistoryStep], second: Sequence[HistoryStep]) -> list[tuple[int, int]]:
    """Pair two histories: in long ones first equal steps, then similar steps between them."""
    if len(first) * len(second) <= _MEASURED:
        return _best_pairs([[likeness(one, other) for other in second] for one in first])
    pairs: list[tuple[int, int]] = []
    after, beyond = 0, 0
    for one, other in [*_same_pairs(first, second), (len(first), len(second))]:
        left, right = first[after:one], second[beyond:other]
        if len(left) * len(right) <= _MEASURED:
            pairs += [(after + a, beyond + b) for a, b in _align(left, right)]
        pairs.append((one, other))
        after, beyond = one + 1, other + 1
    return pairs[:-1]


def _same_pairs(
    first: Sequence[HistoryStep], second: Sequence[HistoryStep]
) -> list[tuple[int, int]]:
    ours, theirs = set(first), set(second)
    left = [n for n, one in enumerate(first) if one in theirs]
    right = [n for n, other in enumerate(second) if other in ours]
    likes = [[int(first[one] == second[other]) for other in right] for one in left]
    return [(left[one], right[other]) for one, other in _best_pairs(likes)]


def _best_pairs(likes: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Find the pairs of greatest likeness by dynamic programming (Needleman and Wunsch, 1970)."""
    first, second = range(len(likes)), range(len(likes[0]) if likes else 0)
    best = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for one in range(len(first) - 1, -1, -1):
        for other in range(len(second) - 1, -1, -1):
            paired = best[one + 1][other + 1] + likes[one][other] if likes[one][other] else 0
            best[one][other] = max(paired, best[one + 1][other], best[one][other + 1])
    pairs, one, other = [], 0, 0
    while one < len(first) and other < len(second):
        like = likes[one][other]
        if like and best[one][other] == best[one + 1][other + 1] + like:
            pairs.append((one, other))
            one, other = one + 1, other + 1
        elif best[one][other] == best[one + 1][other]:
            one += 1
        else:
            other += 1
    return pairs


def _row(
    row: dict[int, int], sides: Sequence[Sequence[Step]], keys: Sequence[Sequence[HistoryStep]]
) -> HistoryRow:
    steps = tuple(side[row[n]] if n in row else None for n, side in enumerate(sides))
    written = {keys[side][step] for side, step in row.items()}
    return HistoryRow(steps, is_same=len(row) == len(sides) and len(written) == 1)


def _between(
    position: int,
    order: Sequence[int],
    pairs: dict[int, dict[int, int]],
    keys: Sequence[Sequence[HistoryStep]],
) -> list[dict[int, int]]:
    rows: list[dict[int, int]] = []
    shown: list[HistoryStep] = []
    for side in order:
        extra = _extra(position, pairs[side], len(keys[side]))
        found = dict(align(shown, [keys[side][step] for step in extra]))
        taken = {second: first for first, second in found.items()}
        merged: list[dict[int, int]] = []
        written: list[HistoryStep] = []
        at = 0
        for number, step in enumerate(extra):
            until = taken.get(number)
            if until is None:
                merged.append({side: step})
                written.append(keys[side][step])
                continue
            merged += [*rows[at:until], {**rows[until], side: step}]
            written += shown[at : until + 1]
            at = until + 1
        rows, shown = [*merged, *rows[at:]], [*written, *shown[at:]]
    return rows


def _extra(position: int, pairs: dict[int, int], count: int) -> list[int]:
    """List the unpaired steps of a side that follow one of the base's steps."""
    fixed = [(-1, -1), *sorted(pairs.items())]
    for (mine, begin), (_next, end) in pairwise([*fixed, (-1, count)]):
        if mine == position:
            return list(range(begin + 1, end))
    return []


def _steps(build: Build) -> tuple[list[Step], str]:
    """Assign the layers of a build to its steps; return the reason if that is impossible."""
    history, layers = build.config.history, build.manifest.layers
    if len(history) > MAX_STEPS:
        return [], f"{len(history)} steps are more than the {MAX_STEPS} that are aligned"
    making = sum(not step.empty_layer for step in history)
    reason = ""
    if making != len(layers):
        problem = (
            "1 step should have a layer" if making == 1 else f"{making} steps should have a layer"
        )
        if not history:
            problem = "its history is empty"
        there = "is 1 layer" if len(layers) == 1 else f"are {len(layers)} layers"
        reason = f"{problem}, and there {there}"
    left = iter(layers if not reason else ())
    steps = [
        Step(
            position,
            step.created_by or step.comment,
            None if step.empty_layer else next(left, None),
        )
        for position, step in enumerate(history)
    ]
    return steps, reason
