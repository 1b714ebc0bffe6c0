"""Comparing: the builds of one image with one another, and those of two images in pairs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import field
from typing import TYPE_CHECKING

from resolver.core import windows
from resolver.core.builds import base_of, missing_of
from resolver.core.comparison import Change, Comparison, ImageComparison, PlatformChange
from resolver.core.drift import drift_of
from resolver.core.history_alignment import history_of
from resolver.core.ignoring import Ignoring
from resolver.core.platform import BUILTIN
from resolver.core.sharing import Amount, sharing_of
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.core.builds import Build
    from resolver.core.descriptor import Descriptor
    from resolver.core.digest import Digest
    from resolver.core.gathered import Gathered
    from resolver.core.platform import Platform, PlatformTable


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms images are compared.

    Attributes:
        base: the platform that the others are held against; None for linux/amd64 or the first.
        expected: platforms that should be there.
        ignoring: drift that is meant to be.
        table: the facts to match by.
    """

    base: Platform | None = None
    expected: tuple[Platform, ...] = ()
    ignoring: Ignoring = field(default_factory=Ignoring)
    table: PlatformTable = BUILTIN


def compare(gathered: Gathered, builds: Sequence[Build], terms: Terms) -> Comparison:
    """Compare the builds of one image.

    Args:
        gathered: the image; what it offers is held against what is expected.
        builds: those that are compared, in index order; at least one.
        terms: see there.

    Raises:
        PlatformNotOffered: the base is none of them.
    """
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


def compare_images(
    first: tuple[Gathered, Sequence[Build]],
    second: tuple[Gathered, Sequence[Build]],
    terms: Terms,
) -> ImageComparison:
    """Compare two images, platform by platform; each comes with the builds that are compared."""
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
    """Find for each build of the second image that of the first: the same platform, normalised.

    Of several for one platform the first goes with the first. Windows images are made again for
    every month's patch: what is left over goes with the only one left over of the same release
    (the first three numbers of the version).
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
    """Give what two builds for the same platform have in common; nothing said is a platform too."""
    return build.normalized or "none"


def _by_release(build: Build) -> object | None:
    """Give a Windows build's platform, without the number of the patch."""
    normal = build.normalized
    version = windows.read_version(normal.os_version) if normal is not None else None
    if normal is None or normal.os != "windows" or version is None:
        return None
    return normal.architecture, normal.variant, normal.os_features, version[:3]


def _change(before: Build | None, after: Build | None, terms: Terms) -> PlatformChange:
    if after is None:
        assert before is not None  # noqa: S101 - a pair has at least one side
        return PlatformChange(before.name, Change.REMOVED, before, None, Amount(0, 0))
    fetch = _amount(after.contents, before.contents if before is not None else {}, after.layers)
    if before is None:
        return PlatformChange(after.name, Change.ADDED, None, after, fetch)
    if before.descriptor.digest == after.descriptor.digest:
        return PlatformChange(after.name, Change.UNCHANGED, before, after, fetch)
    change = Change.REWRITTEN if _same_content(before, after) else Change.CHANGED
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
    before: Gathered, ours: Iterable[Build], after: Gathered, theirs: Iterable[Build]
) -> Amount:
    held = _contents(before, ours)
    wanted = _contents(after, theirs)
    layers = {digest for build in theirs for digest in build.layers}
    return _amount(wanted, held, layers)


def _contents(gathered: Gathered, builds: Iterable[Build]) -> dict[Digest, int]:
    """List all that builds consist of, and the document that their name points at."""
    found = {digest: size for build in builds for digest, size in build.contents.items()}
    root: Descriptor = gathered.root
    found[root.digest] = root.size
    return found


def _amount(wanted: dict[Digest, int], held: Iterable[Digest], layers: Iterable[Digest]) -> Amount:
    """Count what is wanted and not held: how many layers, and the bytes of everything."""
    have, kinds = frozenset(held), frozenset(layers)
    missing = {digest: size for digest, size in wanted.items() if digest not in have}
    return Amount(sum(digest in kinds for digest in missing), sum(missing.values()))


def _missing(gathered: Gathered, terms: Terms) -> tuple[Platform, ...]:
    offered = [part.platform for part in gathered.images]
    return missing_of(offered, terms.expected, terms.table)
