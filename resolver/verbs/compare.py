"""Comparing the files of builds: which trees are read, and which are held against which."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.check.check import own_level
from resolver.core.compare.builds import builds_of, missing_of, wanted_of
from resolver.core.compare.compare import (
    ChangeKind,
    Terms,
    Thresholds,
    compare_build_sets,
    compare_builds,
    judge,
    judge_images,
)
from resolver.core.compare.drift import Ignoring
from resolver.core.compare.files import LabelledTree, compare_trees, why_apart
from resolver.core.layers.filetree import FileTree
from resolver.core.oci.image import ImageEntry
from resolver.core.platforms.platform import Platform
from resolver.core.platforms.select import select
from resolver.errors import NotFound, PlatformNotOffered, Usage
from resolver.verbs.gather import Depth, gather_platforms, named_images
from resolver.verbs.layers import LayeredImage, read_trees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from resolver.core.compare.builds import Build
    from resolver.core.compare.compare import Comparison, ImageComparison
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.image import ImageDocuments
    from resolver.core.oci.reference import Reference
    from resolver.core.platforms.platform import PlatformTable
    from resolver.verbs.context import Context, Opened, PlatformLike
    from resolver.verbs.layers import LayerContent

    #: An image, and those of its builds that are compared.
    Side = tuple[ImageDocuments, tuple[Build, ...]]
    Wanting = Callable[[Descriptor], bool]


def with_files(
    found: Comparison, content: LayerContent, table: PlatformTable, ignoring: Ignoring | None = None
) -> Comparison:
    """Add what differs between the files of an image's builds; each layer is read once.

    Layers of a build that cannot be compared with the base, Windows with Linux, are not read.
    """
    base = found.builds[found.base]
    others = [build for number, build in enumerate(found.builds) if number != found.base]
    compared = [build for build in others if not why_apart(base.platform, build.platform)]
    trees = read_trees(
        [_layered(build, build.name, found.reference, content) for build in (base, *compared)]
    )

    def against() -> Iterator[LabelledTree]:
        for build in others:
            if why_apart(base.platform, build.platform):
                yield LabelledTree(build.name, build.platform, FileTree())
            else:
                yield next(trees)

    return replace(found, files=compare_trees(next(trees), against(), table, ignoring))


def with_changed_files(
    found: ImageComparison,
    before: LayerContent,
    after: LayerContent,
    table: PlatformTable,
    ignoring: Ignoring | None = None,
) -> ImageComparison:
    """Add, for each platform whose content changed, what differs between its files.

    A layer that both images have is read once.
    """
    images = []
    for change in found.changes:
        if change.change is ChangeKind.CHANGED and change.before and change.after:
            images.append(_layered(change.before, "from", found.first, before))
            images.append(_layered(change.after, "to", found.second, after))
    trees = read_trees(images)
    changes = []
    for change in found.changes:
        if change.change is ChangeKind.CHANGED:
            files = compare_trees(next(trees), [next(trees)], table, ignoring)
            changes.append(replace(change, files=files))
        else:
            changes.append(change)
    return replace(found, changes=tuple(changes))


def _layered(build: Build, label: str, reference: str, content: LayerContent) -> LayeredImage:
    entry = ImageEntry(build.descriptor, (), build.platform, build.manifest, build.config)
    return LayeredImage.of(entry, label, f"`{reference}` for {build.name}", content)


#: Why layers are kept while they are read.
_PURPOSE = "compare"


def compare(  # noqa: PLR0913 - each has a default and a name
    context: Context,
    reference: str | Reference,
    platforms: PlatformLike | Sequence[PlatformLike] = None,
    *,
    base: PlatformLike = None,
    expect: Iterable[str | Platform] = (),
    expect_as: str | Reference | None = None,
    ignore: Iterable[str] = (),
    thresholds: Thresholds | None = None,
    files: bool = False,
    needs: bool = False,
) -> Comparison:
    """Find out how one image differs between its platforms."""
    wants = _wants(context, platforms)
    terms = _terms(context, base, expect, expect_as, ignore)
    limits = _checked(thresholds or Thresholds(), files=files, needs=needs)
    opened = context.open(reference)
    wants = _at_own_level(context, wants, platforms, opened)
    gathered, builds = _builds(context, opened, wants)
    if needs:
        builds = _with_needs(context, opened, builds)
    found = compare_builds(gathered, builds, terms)
    if files:
        brought: list[Descriptor] = []
        try:
            with context.layers_of(opened, _PURPOSE, brought) as content:
                found = with_files(found, content, context.table, terms.ignoring)
        finally:
            context.report_fetched_layers(brought)
    return replace(found, reasons=judge(found, limits))


def compare_images(  # noqa: PLR0913 - each has a default and a name
    context: Context,
    first: str | Reference,
    second: str | Reference,
    platforms: PlatformLike | Sequence[PlatformLike] = None,
    *,
    expect: Iterable[str | Platform] = (),
    expect_as: str | Reference | None = None,
    ignore: Iterable[str] = (),
    thresholds: Thresholds | None = None,
    files: bool = False,
    needs: bool = False,
    attestations: bool = False,
) -> ImageComparison:
    """Find out, platform by platform, what a second image is to the holder of a first."""
    wants = _wants(context, platforms)
    terms = _terms(context, None, expect, expect_as, ignore)
    limits = _checked(
        thresholds or Thresholds(), files=files, needs=needs, attestations=attestations
    )
    one, other = context.open(first), context.open(second)
    wants = _at_own_level(context, wants, platforms, one, other)
    sides = _sides(context, one, other, wants)
    if needs:
        sides = (
            (sides[0][0], _with_needs(context, one, sides[0][1])),
            (sides[1][0], _with_needs(context, other, sides[1][1])),
        )
    found = compare_build_sets(sides[0], sides[1], terms)
    if files and not found.is_same:
        first_fetched: list[Descriptor] = []
        second_fetched: list[Descriptor] = []
        try:
            with (
                context.layers_of(one, _PURPOSE, first_fetched) as before,
                context.layers_of(other, _PURPOSE, second_fetched) as after,
            ):
                found = with_changed_files(found, before, after, context.table, terms.ignoring)
        finally:
            context.report_fetched_layers(first_fetched, second_fetched)
    if attestations:
        from resolver.core.results.attestations import changes_of  # noqa: PLC0415 - as asked
        from resolver.verbs.attestations import coverage_of  # noqa: PLC0415 - as asked

        rows = coverage_of(context, one), coverage_of(context, other)
        found = replace(found, attestations=changes_of(*rows, context.table))
    return replace(found, reasons=judge_images(found, limits))


def _wants(
    context: Context, platforms: PlatformLike | Sequence[PlatformLike]
) -> tuple[Platform, ...]:
    named = (platforms,) if isinstance(platforms, str | Platform) else tuple(platforms or ())
    wished = [one for one in named if one is not None]
    return () if "all" in wished else tuple(_one(context, one) for one in wished)


def _at_own_level(
    context: Context,
    wants: tuple[Platform, ...],
    platforms: PlatformLike | Sequence[PlatformLike],
    *images: Opened,
) -> tuple[Platform, ...]:
    """Replace the platform of `local` by the level of it that the images offer."""
    named = (platforms,) if isinstance(platforms, str | Platform) else tuple(platforms or ())
    if "local" not in named or not wants:
        return wants
    machine = _one(context, "local")
    offered = [platform for opened in images for platform in _stated(context, opened)]
    return tuple(
        own_level(want, offered, context.table) if want == machine else want for want in wants
    )


def _stated(context: Context, opened: Opened) -> list[Platform | None]:
    return [entry.platform for entry in context.gather(opened, Depth(), _silent).images]


def _one(context: Context, wanted: str | Platform) -> Platform:
    return context.platform_request(wanted).platforms[0]


def _terms(
    context: Context,
    base: PlatformLike,
    expect: Iterable[str | Platform],
    expect_as: str | Reference | None,
    ignore: Iterable[str],
) -> Terms:
    """Read everything that a comparison depends on besides the images themselves."""
    chosen = _one(context, base) if base is not None else None
    rules = Ignoring.read(ignore)
    expected = [_one(context, each) for each in expect]
    if expect_as is not None:
        expected += _expected_of(context, expect_as)
    return Terms(chosen, tuple(dict.fromkeys(expected)), rules, context.table)


def _expected_of(context: Context, reference: str | Reference) -> list[Platform]:
    """List the platforms of another image; manifests are read to leave artifacts out."""
    opened = context.open(reference)
    found = gather_platforms(
        opened.reader, opened.root, context.table, jobs=context.settings.jobs, decisive=named_images
    ).sound()
    platforms = [entry.platform for entry in found.images if entry.platform is not None]
    if not platforms:
        raise NotFound(f"`{found.reference}` offers no platform")
    return platforms


def _builds(
    context: Context, opened: Opened, wants: tuple[Platform, ...]
) -> tuple[ImageDocuments, tuple[Build, ...]]:
    found = _side(context, opened, wants)
    _check_wants(context, wants, [found[0]])
    if not found[1]:
        raise NotFound(f"`{found[0].reference}` has no image to compare")
    return found


def _sides(
    context: Context, one: Opened, other: Opened, wants: tuple[Platform, ...]
) -> tuple[Side, Side]:
    """Read both images; where they are the same, not what is behind them."""
    roots = [opened.root.document.descriptor.digest for opened in (one, other)]
    if roots[0] == roots[1]:
        both = [context.gather(opened, Depth(), _silent) for opened in (one, other)]
        sides: tuple[Side, Side] = (both[0], ()), (both[1], ())
    else:
        sides = _side(context, one, wants), _side(context, other, wants)
    _check_wants(context, wants, [gathered for gathered, _builds in sides])
    return sides


def _side(context: Context, opened: Opened, wants: tuple[Platform, ...]) -> Side:
    def wanted(entry: Descriptor) -> bool:
        """Read the builds that match, and those that name no platform."""
        offered = [entry.platform]
        return _silent(entry) or any(
            select(offered, want, exact=True, table=context.table).ranking for want in wants
        )

    every: Wanting = _every if not wants else wanted
    gathered = context.gather(opened, Depth(), every)
    return gathered, wanted_of(builds_of(gathered, context.table), wants, context.table)


def _check_wants(
    context: Context, wants: tuple[Platform, ...], images: list[ImageDocuments]
) -> None:
    """Raise `PlatformNotOffered` for a platform that was named and is missing."""
    offered = [entry.platform for gathered in images for entry in gathered.images]
    for want in missing_of(offered, wants, context.table):
        names = dict.fromkeys(str(platform) for platform in offered if platform is not None)
        raise PlatformNotOffered(images[-1].reference, str(want), list(names))


def _with_needs(context: Context, opened: Opened, builds: tuple[Build, ...]) -> tuple[Build, ...]:
    from resolver.verbs.needs import with_needs  # noqa: PLC0415 - for this option alone

    return with_needs(context, opened, builds)


def _checked(
    thresholds: Thresholds, *, files: bool, needs: bool, attestations: bool = False
) -> Thresholds:
    """Return the thresholds, unless they are about what is not read."""
    if "needs" in thresholds.fail_on and not needs:
        raise Usage("what programs need is seen in layers alone", "add `--needs` to read them")
    if "attestations" in thresholds.fail_on and not attestations:
        raise Usage(
            "attestations are compared between two images, and only on request",
            "name two images, and add `--attestations`",
        )
    if thresholds.needs_files and not files:
        raise Usage(
            "files and packages can be compared only by reading layers",
            "add `--files` to read them",
        )
    return thresholds


def _every(_entry: Descriptor) -> bool:
    return True


def _silent(entry: Descriptor) -> bool:
    return entry.platform is None
