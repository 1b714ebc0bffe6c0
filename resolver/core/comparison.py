"""Comparisons: how the builds of one image differ, and how two images do."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.builds import Build
    from resolver.core.descriptor import Descriptor
    from resolver.core.dimensions import Aspect
    from resolver.core.drift import Drift
    from resolver.core.events import Warned
    from resolver.core.file_difference import FileComparison
    from resolver.core.history_alignment import History
    from resolver.core.platform import Platform
    from resolver.core.sharing import Amount, Sharing


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the answer is no.

    Attributes:
        aspect: what differs, in the words of `--fail-on`.
        platform: which build; empty for the image as a whole.
        message: one sentence, no full stop; text from elsewhere as it is, the printer escapes.
    """

    aspect: Aspect
    platform: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One image across its platforms.

    Attributes:
        reference: canonical text of what was asked.
        root: what the name points at.
        builds: in index order.
        base: position of the build that the others are held against.
        drift: what they say about themselves and do not agree on.
        expected: platforms that should be there.
        missing: those of them that are not.
        reasons: why the answer is no; empty when it is yes.
        files: how the file trees of the others differ from the base's; None where nobody asked.
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
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Warned, ...] = ()
    files: FileComparison | None = None

    def delta(self, position: int) -> int:
        """Say by how many bytes a build is larger than the base."""
        return self.builds[position].size - self.builds[self.base].size

    def ratio(self, position: int) -> float | None:
        """Say how many times the size of the base a build has; None where the base is empty."""
        return ratio(self.builds[self.base].size, self.builds[position].size)


class Change(Enum):
    """What became of a platform from one image to the other."""

    UNCHANGED = "unchanged"
    #: Another manifest around the same config and layers: whoever has one has the other.
    REWRITTEN = "rewritten"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, eq=False)
class PlatformChange:
    """One platform in two images.

    Attributes:
        name: as the second image writes it; as the first does where the second has none.
        before, after: the builds; None where an image has none.
        fetch: what somebody who has `before`, and nothing else, fetches to have `after`: layers,
            and bytes of layers, config and manifest.
        drift: first before, then after.
        history: the same; None where there are not two different builds.
        files: the same, of the file trees; None too where nobody asked, or content is the same.
    """

    name: str
    change: Change
    before: Build | None
    after: Build | None
    fetch: Amount
    drift: tuple[Drift, ...] = ()
    history: History | None = None
    files: FileComparison | None = None

    @property
    def delta(self) -> int:
        """By how many bytes the compressed layers grew."""
        return (self.after.size if self.after else 0) - (self.before.size if self.before else 0)

    @property
    def layers_differ(self) -> bool:
        """Whether the two builds are made of different layers, or in another order."""
        if self.before is None or self.after is None:
            return self.before is not self.after
        ours = [layer.digest for layer in self.before.manifest.layers]
        return ours != [layer.digest for layer in self.after.manifest.layers]


@dataclass(frozen=True, slots=True, eq=False)
class ImageComparison:
    """Two images, platform by platform.

    Attributes:
        first, second: canonical texts of what was asked.
        first_root, second_root: what the names point at.
        changes: in the order of the second image; removed ones last, in the order of the first.
        fetch: what somebody who has all of these builds of the first image fetches to have those
            of the second: each piece once, the index with them.
        expected, missing: platforms that the second should have, and those it has not.
        reasons: why the answer is no; empty when it is yes.
    """

    first: str
    second: str
    first_root: Descriptor
    second_root: Descriptor
    changes: tuple[PlatformChange, ...]
    fetch: Amount
    expected: tuple[Platform, ...] = ()
    missing: tuple[Platform, ...] = ()
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Warned, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether both names point at the same bytes."""
        return self.first_root.digest == self.second_root.digest

    def count(self, change: Change) -> int:
        """Say how many platforms this became of."""
        return sum(each.change is change for each in self.changes)


def ratio(base: int, size: int) -> float | None:
    """Say how many times a size is another; None where that is nothing."""
    return size / base if base else None
