"""Thresholds: how much builds or images may differ before a comparison fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.compare.compare import ChangeKind, CompareReason, ratio
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolver.core.compare.compare import Comparison, ImageComparison, PlatformChange
    from resolver.core.compare.drift import Aspect, Drift
    from resolver.core.compare.file_difference import FileComparison


#: Aspects whose differences are drift.
_DRIFT_ASPECTS: tuple[Aspect, ...] = ("config", "needs")
#: Decimals that distinguish any two ratios of sizes.
_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as a difference.

    Attributes:
        fail_on: the aspects to compare; empty for the default of the command.
        max_ratio: the largest ratio of two builds' sizes.
        max_delta: the largest difference of two builds' sizes, in bytes.
    """

    fail_on: frozenset[Aspect] = frozenset()
    max_ratio: float | None = None
    max_delta: int | None = None

    @property
    def has_size(self) -> bool:
        """Whether there is a threshold for sizes."""
        return self.max_ratio is not None or self.max_delta is not None

    @property
    def needs_files(self) -> bool:
        """Whether file trees are needed."""
        return not self.fail_on.isdisjoint({"files", "packages"})

    @property
    def is_open(self) -> bool:
        """Whether no thresholds are set."""
        return not self.fail_on and not self.has_size

    def size(self, base: int, size: int) -> str:
        """Describe how a size exceeds its threshold; empty if it does not.

        Without a threshold, any other size exceeds it.
        """
        times = ratio(base, size)
        if self.max_ratio is not None and (size > 0 if times is None else times > self.max_ratio):
            return _times(times, self.max_ratio)
        if self.max_delta is not None and size - base > self.max_delta:
            return f"{_bytes(size - base)} larger, {self.max_delta} allowed"
        if not self.has_size and size != base:
            return f"{_bytes(abs(size - base))} {'larger' if size > base else 'smaller'}"
        return ""


def judge(found: Comparison, thresholds: Thresholds) -> tuple[CompareReason, ...]:
    """Return why the comparison of one image's platforms fails.

    Missing platforms always fail. Other differences fail only on request, because a plain
    comparison of platforms is a view. The larger of base and build is compared with the smaller.
    """
    name = found.reference
    reasons = [_absent(str(platform), name) for platform in found.missing]
    if "size" in thresholds.fail_on or thresholds.has_size:
        reasons += _sizes(found, thresholds)
    if "layers" in thresholds.fail_on:
        reasons += _layer_counts(found)
    for aspect in _DRIFT_ASPECTS:
        drifts = _drifts(found.drift, aspect, thresholds)
        if drifts:
            names = ", ".join(f"`{drift.name}`" for drift in drifts[:5])
            more = f" and {len(drifts) - 5} more" if len(drifts) > 5 else ""  # noqa: PLR2004 - as cut above
            message = f"the platforms of `{name}` do not agree on {names}{more}"
            reasons.append(CompareReason(aspect, "", message))
    if "history" in thresholds.fail_on and found.history.differs:
        count = sum(not row.is_same for row in found.history.rows)
        words = "1 step differs" if count == 1 else f"{count} steps differ"
        reasons.append(CompareReason("history", "", f"{words} between the platforms of `{name}`"))
    return (*reasons, *_files(found.files, "", thresholds))


def judge_images(found: ImageComparison, thresholds: Thresholds) -> tuple[CompareReason, ...]:
    """Return why two images differ, as diff(1) would, or only in the requested aspects.

    Only growth exceeds a threshold of sizes.
    """
    reasons = [_absent(str(platform), found.second) for platform in found.missing]
    if found.is_same:
        return tuple(reasons)
    if thresholds.is_open:
        return (*reasons, _differ(found))
    for change in found.changes:
        reasons += _judge_change(change, thresholds)
    return tuple(reasons)


def _absent(platform: str, reference: str) -> CompareReason:
    return CompareReason("platforms", platform, f"`{reference}` is not offered for `{platform}`")


def _sizes(found: Comparison, thresholds: Thresholds) -> Iterator[CompareReason]:
    base = found.builds[found.base]
    for position, build in enumerate(found.builds):
        if position == found.base:
            continue
        small, large = sorted((base, build), key=lambda side: side.size)
        over = thresholds.size(small.size, large.size)
        if over:
            message = f"`{large.name}` against `{small.name}`: {over}"
            yield CompareReason("size", build.name, message)


def _layer_counts(found: Comparison) -> Iterator[CompareReason]:
    base = found.builds[found.base]
    for build in found.builds:
        ours, theirs = len(build.manifest.layers), len(base.manifest.layers)
        if ours != theirs:
            message = f"`{build.name}` has {ours} layers, and `{base.name}` has {theirs}"
            yield CompareReason("layers", build.name, message)


def _differ(found: ImageComparison) -> CompareReason:
    words = [
        f"{found.count(change)} {change.value}"
        for change in (
            ChangeKind.CHANGED,
            ChangeKind.REWRITTEN,
            ChangeKind.ADDED,
            ChangeKind.REMOVED,
        )
        if found.count(change)
    ]
    summary = ", ".join(words) or "every platform is the same, in another index"
    return CompareReason("platforms", "", f"`{found.first}` and `{found.second}` differ: {summary}")


def _judge_change(change: PlatformChange, thresholds: Thresholds) -> Iterator[CompareReason]:
    if change.before is None or change.after is None:
        if "platforms" in thresholds.fail_on:
            yield CompareReason(
                "platforms", change.name, f"`{change.name}` was {change.change.value}"
            )
        return
    if "size" in thresholds.fail_on or thresholds.has_size:
        over = thresholds.size(change.before.size, change.after.size)
        if over:
            yield CompareReason("size", change.name, f"`{change.name}`: {over}")
    if "layers" in thresholds.fail_on and change.layers_differ:
        yield CompareReason("layers", change.name, f"`{change.name}` has other layers")
    for aspect in _DRIFT_ASPECTS:
        drifts = _drifts(change.drift, aspect, thresholds)
        if drifts:
            names = ", ".join(f"`{drift.name}`" for drift in drifts[:5])
            yield CompareReason(aspect, change.name, f"`{change.name}` differs in {names}")
    if "history" in thresholds.fail_on and change.history is not None and change.history.differs:
        yield CompareReason("history", change.name, f"`{change.name}` has another history")
    yield from _files(change.files, change.name, thresholds)


def _drifts(found: Sequence[Drift], aspect: Aspect, thresholds: Thresholds) -> list[Drift]:
    """Return the drift of an aspect; none unless that aspect fails."""
    return [one for one in found if one.aspect == aspect] if aspect in thresholds.fail_on else []


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count} bytes"


def _files(
    found: FileComparison | None, platform: str, thresholds: Thresholds
) -> Iterator[CompareReason]:
    """Yield differences of file trees; without `platform`, name the tree's own."""
    for tree in found.others if found is not None else ():
        name = platform or tree.summary.label
        if "files" in thresholds.fail_on and tree.differences:
            count = len(tree.differences)
            words = "1 path differs" if count == 1 else f"{count} paths differ"
            yield CompareReason("files", name, f"`{name}`: {words}")
        if "packages" in thresholds.fail_on and tree.packages:
            count = len(tree.packages)
            words = "1 package differs" if count == 1 else f"{count} packages differ"
            yield CompareReason("packages", name, f"`{name}`: {words}")


def _times(times: float | None, allowed: float) -> str:
    """Format a ratio with enough decimals to differ from the allowed one."""
    if times is None:
        return f"any number of times the size, {allowed:.2f} allowed"
    digits = 2
    while f"{times:.{digits}f}" == f"{allowed:.{digits}f}" and digits < _DIGITS:
        digits += 1
    return f"{times:.{digits}f} times the size, {allowed:.{digits}f} allowed"
