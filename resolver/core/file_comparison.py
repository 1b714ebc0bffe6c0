"""Comparing file trees: what really differs, once what must differ is set aside."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from resolver.core.executable import runs_on
from resolver.core.file_difference import (
    Change,
    FileComparison,
    FileDifference,
    FileFacts,
    FolderDelta,
    TreeComparison,
    TreeSummary,
)
from resolver.core.ignoring import Ignoring
from resolver.core.packages import compare_packages, read_installed
from resolver.core.path_words import PathWords
from resolver.core.tar_reader import Kind
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.core.filetree import FileTree
    from resolver.core.layer_listing import LayerFile
    from resolver.core.platform import Platform, PlatformTable
    from resolver.core.xattrs import Xattrs

#: Folders that are named in a comparison.
TOP_FOLDERS = 20
#: A folder is left out where one inside it explains so much of its difference.
_EXPLAINS = 0.95

_KINDS = {
    Kind.FILE: "file",
    Kind.FOLDER: "folder",
    Kind.SYMLINK: "symlink",
    Kind.HARD_LINK: "hard link",
    Kind.CHARACTER: "character",
    Kind.BLOCK: "block",
    Kind.FIFO: "fifo",
}
#: What takes part in a comparison of contents; the others have none.
_CONTENT = frozenset({Change.SIZE, Change.CONTENT})


@dataclass(frozen=True, slots=True, eq=False)
class LabelledTree:
    """A tree that takes part in a comparison.

    Attributes:
        label: what it is called, normally its platform.
        platform: what it should be for; None where nobody says.
        warnings: what was odd about its layers.
    """

    label: str
    platform: Platform | None
    tree: FileTree
    warnings: tuple[str, ...] = ()


def why_apart(base: Platform | None, other: Platform | None) -> str:
    """Say why the files of two builds are not compared; empty where they are.

    A layer of Windows keeps its files below `Files/`, its registry below `Hives/`, and no path of
    it means anything on another system.
    """
    if base is None or other is None or (base.os == "windows") == (other.os == "windows"):
        return ""
    return f"not compared file by file: it is for {other.os}, and the base for {base.os}"


def compare_trees(
    base: LabelledTree,
    others: Iterable[LabelledTree],
    table: PlatformTable,
    ignoring: Ignoring | None = None,
) -> FileComparison:
    """Compare trees with a base.

    Paths meet by their names; of those that have no counterpart, the ones that are the same but
    for words that name each platform's architecture. Programs that are made for their own
    platform's machine, each for another, may differ in content.

    Args:
        base: what the others are compared with.
        others: any number; one after the other is taken, compared and let go of.
        table: words and machines of platforms.
        ignoring: what to leave out: `files.mode`, `files.owner`, `files.xattrs.user.*`.
    """
    left_out = _LeftOut(ignoring or Ignoring())
    known = _Side(base, table)
    return FileComparison(
        known.summary,
        tuple(
            _apart(other, reason)
            if (reason := why_apart(base.platform, other.platform))
            else _Pair(known, _Side(other, table), left_out).compared()
            for other in others
        ),
    )


def _apart(other: LabelledTree, reason: str) -> TreeComparison:
    summary = TreeSummary(other.label, other.platform, 0, 0, 0, 0, (), (), ())
    return TreeComparison(summary, (), (), 0, 0, (0, 0), (), (), 0, reason)


class _LeftOut:
    """What of a difference is ignored; rules are matched once for each name."""

    def __init__(self, ignoring: Ignoring) -> None:
        self._ignoring = ignoring
        self._known: dict[str, bool] = {}

    def has(self, key: str) -> bool:
        """Say whether a rule is about `mode`, or about `xattrs.NAME`."""
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._ignoring.ignores("files", key)
        return found

    def xattrs(self, before: Xattrs, after: Xattrs) -> tuple[str, ...]:
        """Name the attributes that differ."""
        if before == after or self.has(Change.XATTRS.value):
            return ()
        names = sorted({each.name for each in set(before) ^ set(after)})
        return tuple(name for name in names if not self.has(f"{Change.XATTRS.value}.{name}"))


def facts_of(path: str, file: LayerFile) -> FileFacts:
    """Tell a path of a tree to people and renderers."""
    access = file.access
    return FileFacts(
        path,
        _KINDS[file.kind],
        access.mode,
        access.uid,
        access.gid,
        file.size,
        file.sha256.hex(),
        file.link,
        file.device,
        file.program,
        tuple((each.name, each.text) for each in file.xattrs),
    )


class _Side:
    """A tree, listed and counted once however often it is compared."""

    def __init__(self, labelled: LabelledTree, table: PlatformTable) -> None:
        self.platform = labelled.platform
        self.table = table
        self.words = PathWords(labelled.platform, table)
        self.files: dict[str, LayerFile] = {}
        for path, file in labelled.tree.walk():
            labelled.tree.room.text(path)
            # Nearly every path is the entry's own, which is kept in memory anyway.
            self.files[file.path if file.path == path else path] = file
        self.summary = self._summary(labelled)

    def is_native(self, file: LayerFile) -> bool:
        """Whether a file is a program for exactly the machine it should be for."""
        if file.program is None or self.platform is None:
            return False
        return file.program.machine == self.platform.normalized(self.table).architecture

    def _summary(self, labelled: LabelledTree) -> TreeSummary:
        kinds: Counter[Kind] = Counter()
        programs: Counter[str] = Counter()
        strangers: list[FileFacts] = []
        size = 0
        for path, file in self.files.items():
            kinds[file.kind] += 1
            size += file.size
            if file.program is not None:
                programs[str(file.program)] += 1
                if self._is_stranger(file):
                    strangers.append(facts_of(path, file))
        installed = read_installed(labelled.tree)
        return TreeSummary(
            labelled.label,
            labelled.platform,
            kinds[Kind.FILE],
            kinds[Kind.FOLDER],
            kinds[Kind.SYMLINK],
            size,
            tuple(sorted(programs.items(), key=lambda pair: (-pair[1], pair[0]))),
            tuple(strangers),
            installed.packages,
            installed.unread,
            (*labelled.warnings, *labelled.tree.warnings),
        )

    def _is_stranger(self, file: LayerFile) -> bool:
        if file.program is None or self.platform is None:
            return False
        return not runs_on(file.program, self.platform, self.table)


class _Pair:
    """The base and another tree."""

    def __init__(self, before: _Side, after: _Side, left_out: _LeftOut) -> None:
        self._left_out = left_out
        self._before = before
        self._after = after
        self._rebuilt = 0
        self._rebuilt_before = 0
        self._rebuilt_after = 0
        self._same = 0
        self._folders: dict[str, list[int]] = {}

    def compared(self) -> TreeComparison:
        differences = sorted(self._differences(), key=lambda each: each.path)
        counted = Counter(change for each in differences for change in each.changes)
        packages, same_packages = compare_packages(
            self._before.summary.packages, self._after.summary.packages
        )
        return TreeComparison(
            self._after.summary,
            tuple(differences),
            tuple((change, counted[change]) for change in Change if counted[change]),
            self._same,
            self._rebuilt,
            (self._rebuilt_before, self._rebuilt_after),
            top_folders(self._folders),
            packages,
            same_packages,
        )

    def _differences(self) -> Iterator[FileDifference]:
        for key, left, right in self._pairs():
            before = self._before.files[left] if left is not None else None
            after = self._after.files[right] if right is not None else None
            self._weigh(key, before, after)
            changes = self._changes(before, after)
            if changes:
                yield FileDifference(
                    key,
                    changes,
                    facts_of(left, before) if left is not None and before else None,
                    facts_of(right, after) if right is not None and after else None,
                    self._left_out.xattrs(before.xattrs, after.xattrs)
                    if before and after and Change.XATTRS in changes
                    else (),
                )
            else:
                self._same += 1

    def _pairs(self) -> Iterator[tuple[str, str | None, str | None]]:
        """Lay the paths side by side: what both have in common, and each one's own."""
        before, after = self._before, self._after
        lonely_before = before.words.keyed(path for path in before.files if path not in after.files)
        lonely_after = after.words.keyed(path for path in after.files if path not in before.files)
        for path in before.files:
            if path in after.files:
                yield path, path, path
        for key, path in lonely_before.items():
            yield key, path, lonely_after.pop(key, None)
        for key, path in lonely_after.items():
            yield key, None, path

    def _changes(self, before: LayerFile | None, after: LayerFile | None) -> tuple[Change, ...]:
        if before is None or after is None:
            change = Change.ADDED if before is None else Change.REMOVED
            return (change,) if not self._left_out.has(change.value) else ()
        found = set(self._compared(before, after))
        if found & _CONTENT and self._is_rebuilt(before, after):
            found -= _CONTENT
            if not found:
                self._rebuilt += 1
                self._rebuilt_before += before.size
                self._rebuilt_after += after.size
        return tuple(
            change for change in Change if change in found and not self._left_out.has(change.value)
        )

    def _compared(self, before: LayerFile, after: LayerFile) -> Iterator[Change]:
        if before.kind is not after.kind:
            yield Change.TYPE
            return
        # The mode of a symbolic link means nothing, and tools write what they like.
        if before.access.mode != after.access.mode and before.kind is not Kind.SYMLINK:
            yield Change.MODE
        if (before.access.uid, before.access.gid) != (after.access.uid, after.access.gid):
            yield Change.OWNER
        if self._left_out.xattrs(before.xattrs, after.xattrs):
            yield Change.XATTRS
        if before.size != after.size:
            yield Change.SIZE
        if before.sha256 != after.sha256:
            yield Change.CONTENT
        if before.device != after.device:
            yield Change.DEVICE
        if before.link != after.link and (
            self._before.words.taken_out(before.link) != self._after.words.taken_out(after.link)
        ):
            yield Change.LINK

    def _is_rebuilt(self, before: LayerFile, after: LayerFile) -> bool:
        if before.program is None or after.program is None:
            return False
        if before.program.machine == after.program.machine:
            return False
        return self._before.is_native(before) and self._after.is_native(after)

    def _weigh(self, key: str, before: LayerFile | None, after: LayerFile | None) -> None:
        """Count the sizes of both into every folder above."""
        left, right = before.size if before else 0, after.size if after else 0
        while left or right:
            key, slash, _ = key.rpartition("/")
            if not slash:
                break
            sizes = self._folders.setdefault(key, [0, 0])
            sizes[0] += left
            sizes[1] += right


def top_folders(sizes: dict[str, list[int]], count: int = TOP_FOLDERS) -> tuple[FolderDelta, ...]:
    """Choose the folders that say most about a difference in size.

    Of a folder and one inside it that explains nearly all of it, the inner one is taken.
    """
    deltas = [FolderDelta(path, left, right) for path, (left, right) in sizes.items()]
    largest_inside = _largest_inside(deltas)
    telling = (
        each
        for each in deltas
        if each.delta and largest_inside.get(each.path, 0) < _EXPLAINS * abs(each.delta)
    )
    return tuple(sorted(telling, key=lambda each: (-abs(each.delta), each.path))[:count])


def _largest_inside(deltas: Iterable[FolderDelta]) -> dict[str, int]:
    largest: dict[str, int] = {}
    for each in deltas:
        parent = each.path.rpartition("/")[0]
        largest[parent] = max(largest.get(parent, 0), abs(each.delta))
    return largest
