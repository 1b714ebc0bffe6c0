"""Compare the builds of one image with each other, and those of two images in pairs.

`judge` and `judge_images` then decide whether a comparison fails, by thresholds.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import field
from enum import Enum
from typing import TYPE_CHECKING

from resolver.core.compare.builds import Amount, base_of, missing_of, sharing_of
from resolver.core.compare.drift import Ignoring, drift_of
from resolver.core.compare.history import history_of
from resolver.core.platforms import windows
from resolver.core.platforms.platform import BUILTIN
from resolver.errors import megabytes, size_pair
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from resolver.core.compare.builds import Build, Sharing
    from resolver.core.compare.drift import Aspect, Drift
    from resolver.core.compare.file_difference import FileComparison
    from resolver.core.compare.history import History
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.image import ImageDocuments
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.core.results.attestations import AttestationChange
    from resolver.core.results.events import Warned


@dataclass(frozen=True, slots=True)
class CompareReason:
    """Why a comparison fails.

    `aspect`: the aspect of `--fail-on` that differs. `platform`: of the build; empty for the image
    as a whole.
    """

    aspect: Aspect
    platform: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One image across its platforms.

    Attributes:
        base: position of the build that the others are compared with.
        missing: those of them that are not.
        reasons: why the comparison fails; empty if it passes.
        files: differences of the file trees from the base's; None if not requested.
    """

    reference: str
    root: Descriptor
    builds: tuple[Build, ...]
    base: int
    sharing: Sharing
    drift: tuple[Drift, ...]
    history: History
    expected: tuple[Platform, ...]
    missing: tuple[Platform, ...]
    reasons: tuple[CompareReason, ...] = ()
    warnings: tuple[Warned, ...] = ()
    files: FileComparison | None = None

    def delta(self, position: int) -> int:
        """Return the difference in size from the base, in bytes."""
        return self.builds[position].size - self.builds[self.base].size

    def ratio(self, position: int) -> float | None:
        """Return the ratio of a build's size to the base's; None if the base is empty."""
        return ratio(self.builds[self.base].size, self.builds[position].size)


class ChangeKind(Enum):
    """How a platform changed from the first image to the second."""

    UNCHANGED = "unchanged"
    #: Another manifest with the same config and layers.
    REWRITTEN = "rewritten"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, eq=False)
class PlatformChange:
    """One platform in two images.

    Attributes:
        name: as the second image writes it, or else the first.
        before, after: the builds; None if an image has none.
        fetch: the download from `before` to `after`: number of layers, and bytes of layers, config
            and manifest.
        drift: first before, then after.
        history: first before, then after; None without two different builds.
        files: of the file trees; None if not requested, or if the content is equal.
    """

    name: str
    change: ChangeKind
    before: Build | None
    after: Build | None
    fetch: Amount
    drift: tuple[Drift, ...] = ()
    history: History | None = None
    files: FileComparison | None = None

    @property
    def delta(self) -> int:
        """Growth of the compressed layers, in bytes."""
        return (self.after.size if self.after else 0) - (self.before.size if self.before else 0)

    @property
    def layers_differ(self) -> bool:
        """Whether the builds have different layers, or another order of them."""
        if self.before is None or self.after is None:
            return self.before is not self.after
        ours = [layer.digest for layer in self.before.manifest.layers]
        return ours != [layer.digest for layer in self.after.manifest.layers]


@dataclass(frozen=True, slots=True, eq=False)
class ImageComparison:
    """Two images, platform by platform.

    Attributes:
        first, second: canonical references.
        changes: in the order of the second image; removed ones last, in the order of the first.
        fetch: the download from all builds of the first image to those of the second, with its
            index, each blob once.
        expected, missing: platforms that the second should offer, and those it does not.
        reasons: why the comparison fails; empty if it passes.
        attestations: differences between what is attached; None if it was not looked up.
    """

    first: str
    second: str
    first_root: Descriptor
    second_root: Descriptor
    changes: tuple[PlatformChange, ...]
    fetch: Amount
    expected: tuple[Platform, ...] = ()
    missing: tuple[Platform, ...] = ()
    reasons: tuple[CompareReason, ...] = ()
    warnings: tuple[Warned, ...] = ()
    attestations: tuple[AttestationChange, ...] | None = None

    @property
    def is_same(self) -> bool:
        """Whether both names point at the same bytes."""
        return self.first_root.digest == self.second_root.digest

    def count(self, change: ChangeKind) -> int:
        """Count the platforms with a kind of change."""
        return sum(entry.change is change for entry in self.changes)


def ratio(base: int, size: int) -> float | None:
    """Return the ratio of two sizes; None if the base is zero."""
    return size / base if base else None


@dataclass(frozen=True, slots=True)
class Terms:
    """The options of a comparison.

    `base`: the platform that the others are compared with; None for linux/amd64 or the first.
    """

    base: Platform | None = None
    expected: tuple[Platform, ...] = ()
    ignoring: Ignoring = field(default_factory=Ignoring)
    table: PlatformTable = BUILTIN


def compare_builds(gathered: ImageDocuments, builds: Sequence[Build], terms: Terms) -> Comparison:
    """Compare some builds of an image, at least one, in index order."""
    base = base_of(builds, terms.base, gathered.reference, terms.table)
    return Comparison(
        reference=gathered.reference,
        root=gathered.root,
        builds=tuple(builds),
        base=base,
        sharing=sharing_of(builds),
        drift=drift_of(builds, terms.ignoring),
        history=history_of(builds, base, terms.table),
        expected=terms.expected,
        missing=_missing(gathered, terms),
        warnings=gathered.warnings,
    )


def compare_build_sets(
    first: tuple[ImageDocuments, Sequence[Build]],
    second: tuple[ImageDocuments, Sequence[Build]],
    terms: Terms,
) -> ImageComparison:
    """Compare two images, each with its builds to compare, platform by platform."""
    (before, ours), (after, theirs) = first, second
    pairs = pair_builds(ours, theirs)
    return ImageComparison(
        first=before.reference,
        second=after.reference,
        first_root=before.root,
        second_root=after.root,
        changes=tuple(_change(one, other, terms) for one, other in pairs),
        fetch=_fetch(before, ours, after, theirs),
        expected=terms.expected,
        missing=_missing(after, terms),
        warnings=(*before.warnings, *after.warnings),
    )


def pair_builds(
    ours: Sequence[Build], theirs: Sequence[Build]
) -> tuple[tuple[Build | None, Build | None], ...]:
    """Pair each build of the second image with one of the first, by normalised platform.

    Several builds for one platform are paired in order. Windows images change their version with
    every monthly patch, so a remaining build is paired with the only remaining one of the same
    release (the first three numbers of the version).
    """
    left = dict(enumerate(ours))
    found: dict[int, Build] = {}
    for key in (_exactly, _by_release):
        waiting: defaultdict[object, list[int]] = defaultdict(list)
        for position, build in left.items():
            waiting[key(build)].append(position)
        open_ones = [n for n in range(len(theirs)) if n not in found]
        rivals = [key(theirs[n]) for n in open_ones]
        for number, wanted in zip(open_ones, rivals, strict=True):
            candidates = waiting[wanted]
            is_clear = key is _exactly or (len(candidates) == 1 and rivals.count(wanted) == 1)
            if candidates and is_clear and wanted is not None:
                found[number] = left.pop(candidates.pop(0))
    pairs: list[tuple[Build | None, Build | None]] = [
        (found.get(number), build) for number, build in enumerate(theirs)
    ]
    return (*pairs, *((build, None) for build in left.values()))


def _exactly(build: Build) -> object:
    """Return the key that builds for the same platform share, also those without a platform."""
    return build.normalized or "none"


def _by_release(build: Build) -> object | None:
    """Return the platform of a Windows build without the patch number."""
    normal = build.normalized
    version = windows.read_version(normal.os_version) if normal is not None else None
    if normal is None or normal.os != "windows" or version is None:
        return None
    return normal.architecture, normal.variant, normal.os_features, version[:3]


def _change(before: Build | None, after: Build | None, terms: Terms) -> PlatformChange:
    if after is None:
        assert before is not None  # noqa: S101 - a pair has at least one side
        return PlatformChange(before.name, ChangeKind.REMOVED, before, None, Amount(0, 0))
    fetch = _amount(after.contents, before.contents if before is not None else {}, after.layers)
    if before is None:
        return PlatformChange(after.name, ChangeKind.ADDED, None, after, fetch)
    if before.descriptor.digest == after.descriptor.digest:
        return PlatformChange(after.name, ChangeKind.UNCHANGED, before, after, fetch)
    change = ChangeKind.REWRITTEN if _same_content(before, after) else ChangeKind.CHANGED
    sides = (before, after)
    return PlatformChange(
        after.name,
        change,
        before,
        after,
        fetch,
        drift_of(sides, terms.ignoring),
        history_of(sides, 0, terms.table),
    )


def _same_content(before: Build, after: Build) -> bool:
    ours = [layer.digest for layer in before.manifest.layers]
    theirs = [layer.digest for layer in after.manifest.layers]
    return before.config_digest == after.config_digest and ours == theirs


def _fetch(
    before: ImageDocuments, ours: Iterable[Build], after: ImageDocuments, theirs: Iterable[Build]
) -> Amount:
    held = _contents(before, ours)
    wanted = _contents(after, theirs)
    layers = {digest for build in theirs for digest in build.layers}
    return _amount(wanted, held, layers)


def _contents(gathered: ImageDocuments, builds: Iterable[Build]) -> dict[Digest, int]:
    """Return the content of builds and the root document, as sizes by digest."""
    found = {digest: size for build in builds for digest, size in build.contents.items()}
    root: Descriptor = gathered.root
    found[root.digest] = root.size
    return found


def _amount(wanted: dict[Digest, int], held: Iterable[Digest], layers: Iterable[Digest]) -> Amount:
    """Count the missing content: number of layers, and bytes of everything."""
    have, kinds = frozenset(held), frozenset(layers)
    missing = {digest: size for digest, size in wanted.items() if digest not in have}
    return Amount(sum(digest in kinds for digest in missing), sum(missing.values()))


def _missing(gathered: ImageDocuments, terms: Terms) -> tuple[Platform, ...]:
    offered = [part.platform for part in gathered.images]
    return missing_of(offered, terms.expected, terms.table)


#: Decimals that distinguish any two ratios of sizes.
_DIGITS = 9
#: Aspects whose differences are drift.
_DRIFT_ASPECTS: tuple[Aspect, ...] = ("config", "needs")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as a difference.

    `fail_on`: the aspects to compare; empty for the default of the command. `max_delta`: the
    largest difference of two builds' sizes, in bytes.
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
        """Describe how a size exceeds its threshold, or differs without one; empty if not."""
        times = ratio(base, size)
        if self.max_ratio is not None and (size > 0 if times is None else times > self.max_ratio):
            return _times(times, self.max_ratio)
        if self.max_delta is not None and size - base > self.max_delta:
            more, most = size_pair(size - base, self.max_delta)
            return f"{more} larger, {most} allowed"
        if not self.has_size and size != base:
            return f"{megabytes(abs(size - base))} {'larger' if size > base else 'smaller'}"
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
    """Return why two images differ, as diff(1) would, or only in the requested aspects."""
    reasons = [_absent(str(platform), found.second) for platform in found.missing]
    if thresholds.is_open or "attestations" in thresholds.fail_on:
        reasons += [
            CompareReason(
                "attestations",
                change.name,
                f"the {change.kind} of `{change.name}` was {change.before.value} and is "
                f"{change.after.value}",
            )
            for change in found.attestations or ()
        ]
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
        yield CompareReason("layers", change.name, f"`{change.name}` has different layers")
    for aspect in _DRIFT_ASPECTS:
        drifts = _drifts(change.drift, aspect, thresholds)
        if drifts:
            names = ", ".join(f"`{drift.name}`" for drift in drifts[:5])
            yield CompareReason(aspect, change.name, f"`{change.name}` differs in {names}")
    if "history" in thresholds.fail_on and change.history is not None and change.history.differs:
        yield CompareReason("history", change.name, f"`{change.name}` has a different history")
    yield from _files(change.files, change.name, thresholds)


def _drifts(found: Sequence[Drift], aspect: Aspect, thresholds: Thresholds) -> list[Drift]:
    """Return the drift of an aspect; none unless that aspect fails."""
    return [one for one in found if one.aspect == aspect] if aspect in thresholds.fail_on else []


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
