"""Comparing the files of builds: which trees are read, and which are held against which."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.comparison import Change
from resolver.core.file_comparison import LabelledTree, compare_trees, why_apart
from resolver.core.filetree import FileTree
from resolver.core.gathered import Part
from resolver.flow.files import LayeredImage, read_trees

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.builds import Build
    from resolver.core.comparison import Comparison, ImageComparison
    from resolver.core.ignoring import Ignoring
    from resolver.core.platform import PlatformTable
    from resolver.flow.layer import LayerContent


def with_files(
    found: Comparison,
    content: LayerContent,
    table: PlatformTable,
    ignoring: Ignoring | None = None,
) -> Comparison:
    """Add what differs between the files of an image's builds; each layer is read once.

    Layers of a build that cannot be compared with the base, Windows with Linux, are not read.

    Args:
        found: the comparison without files.
        content: has the layers.
        table: words and machines of platforms.
        ignoring: what differences to leave out.

    Raises:
        ResolverError: a layer cannot be had, or is not what it should be.
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

    Raises:
        ResolverError: as `with_files`.
    """
    images = []
    for change in found.changes:
        if change.change is Change.CHANGED and change.before and change.after:
            images.append(_layered(change.before, "from", found.first, before))
            images.append(_layered(change.after, "to", found.second, after))
    trees = read_trees(images)
    changes = []
    for change in found.changes:
        if change.change is Change.CHANGED:
            files = compare_trees(next(trees), [next(trees)], table, ignoring)
            changes.append(replace(change, files=files))
        else:
            changes.append(change)
    return replace(found, changes=tuple(changes))


def _layered(build: Build, label: str, reference: str, content: LayerContent) -> LayeredImage:
    part = Part(build.descriptor, (), build.platform, build.manifest, build.config)
    return LayeredImage.of(part, label, f"`{reference}` for {build.name}", content)
