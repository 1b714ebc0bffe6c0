"""Compare file trees, apart from differences that the architecture causes."""

from __future__ import annotations

import struct
from collections import Counter
from sys import getsizeof
from typing import TYPE_CHECKING, NamedTuple

from resolver.core.compare.drift import Ignoring
from resolver.core.compare.file_difference import (
    FileComparison,
    FileDifference,
    FileFacts,
    FolderDelta,
    Installed,
    PathChange,
    TreeComparison,
    TreeSummary,
)
from resolver.core.compare.history import words_of
from resolver.core.compare.packages import compare_packages, read_installed
from resolver.core.layers.executable import runs_on
from resolver.core.layers.listing import (
    PackedSequence,
    PathLog,
    decoded,
    encoded,
    number_and_size,
    unpack,
)
from resolver.core.layers.tar import TarEntryKind
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.core.layers.filetree import FileTree
    from resolver.core.layers.listing import LayerFile, TreeRoom
    from resolver.core.layers.xattrs import Xattrs
    from resolver.core.platforms.platform import Platform, PlatformTable


#: Placeholders for the words of an architecture, and for its dynamic loader.
ARCHITECTURE, LOADER = "{arch}", "{loader}"


class PathWords:
    """Replace the words for one platform's architecture in paths."""

    def __init__(self, platform: Platform | None, table: PlatformTable) -> None:
        self._words = words_of(platform, table)
        self._components: dict[str, str] = {}
        if platform is None or self._words is None:
            return
        chip = platform.normalized(table).architecture
        paths = table.facts.paths
        self._components = dict.fromkeys(dict(paths.loaders).get(chip, ()), LOADER)
        self._components |= dict.fromkeys(dict(paths.libraries).get(chip, ()), "lib")

    def taken_out(self, path: str) -> str:
        """Return a path with placeholders."""
        if self._words is None:
            return path
        if any(name in path for name in self._components):
            parts = path.split("/")
            path = "/".join(self._components.get(part, part) for part in parts)
        return self._words.sub(ARCHITECTURE, path)


#: Folders listed in a comparison.
TOP_FOLDERS = 20
#: A folder is omitted if one inside it causes this share of its difference.
_EXPLAINS = 0.95

_KINDS = {
    TarEntryKind.FILE: "file",
    TarEntryKind.FOLDER: "folder",
    TarEntryKind.SYMLINK: "symlink",
    TarEntryKind.HARD_LINK: "hard link",
    TarEntryKind.CHARACTER: "character",
    TarEntryKind.BLOCK: "block",
    TarEntryKind.FIFO: "fifo",
}
#: Differences of content.
_CONTENT = frozenset({PathChange.SIZE, PathChange.CONTENT})


@dataclass(frozen=True, slots=True, eq=False)
class LabelledTree:
    """A tree in a comparison.

    `label`: its name, normally its platform. `platform`: the stated one; None if there is none.
    """

    label: str
    platform: Platform | None
    tree: FileTree
    warnings: tuple[str, ...] = ()


def why_apart(base: Platform | None, other: Platform | None) -> str:
    """Return why the files of two builds cannot be compared (one is for Windows); else empty."""
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

    Paths are paired by name, or else by name without the words for each platform's architecture.
    Programs for their own platform's machine may differ in content.

    `others`: read, compared and released one by one. `ignoring`: differences to ignore:
    `files.mode`, `files.owner`, `files.xattrs.user.*`.
    """
    left_out = _LeftOut(ignoring or Ignoring())
    known = _Side(base, table)
    found = []
    for other in others:
        reason = why_apart(base.platform, other.platform)
        if reason:
            found.append(_apart(other, reason))
        else:
            found.append(_Pair(known, _Side(other, table), left_out).compared())
    return FileComparison(known.summary, tuple(found))


def _apart(other: LabelledTree, reason: str) -> TreeComparison:
    summary = TreeSummary(other.label, other.platform, 0, 0, 0, 0, (), (), ())
    return TreeComparison(summary, (), (), 0, 0, (0, 0), (), (), 0, reason)


class _LeftOut:
    """Ignored differences; each name is matched once."""

    def __init__(self, ignoring: Ignoring) -> None:
        self._ignoring = ignoring
        self._known: dict[str, bool] = {}

    def has(self, key: str) -> bool:
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._ignoring.ignores("files", key)
        return found

    def xattrs(self, before: Xattrs, after: Xattrs) -> tuple[str, ...]:
        if before == after or self.has(PathChange.XATTRS.value):
            return ()
        names = sorted({xattr.name for xattr in set(before) ^ set(after)})
        return tuple(name for name in names if not self.has(f"{PathChange.XATTRS.value}.{name}"))


def facts_of(path: str, file: LayerFile) -> FileFacts:
    """Return a file's properties for renderers."""
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
        tuple((xattr.name, xattr.text) for xattr in file.xattrs),
    )


class _Side:
    """A tree, listed and counted once for all comparisons."""

    def __init__(self, labelled: LabelledTree, table: PlatformTable) -> None:
        self.platform = labelled.platform
        self.table = table
        self.words = PathWords(labelled.platform, table)
        self.room = labelled.tree.room
        self._strange: dict[int, bool] = {}
        installed = read_installed(labelled.tree)
        self.files = labelled.tree.packed()
        self.summary = self._summary(labelled, installed)

    def is_native(self, file: LayerFile) -> bool:
        """Whether a file is a program for exactly the platform's machine."""
        if file.program is None or self.platform is None:
            return False
        return file.program.machine == self.platform.normalized(self.table).architecture

    def _summary(self, labelled: LabelledTree, installed: Installed) -> TreeSummary:
        alike: Counter[int] = Counter()
        strangers = PathLog(self.room)
        size = 0
        for path, node in self.files:
            number, length = number_and_size(node)
            alike[number] += 1
            size += length
            if self._is_stranger(number):
                strangers.add(path, node)
        kinds: Counter[TarEntryKind] = Counter()
        named: Counter[str] = Counter()
        for number, count in alike.items():
            traits = self.room.traits[number]
            kinds[traits.kind] += count
            if traits.program is not None:
                named[str(traits.program)] += count
        room = self.room
        return TreeSummary(
            labelled.label,
            labelled.platform,
            kinds[TarEntryKind.FILE],
            kinds[TarEntryKind.FOLDER],
            kinds[TarEntryKind.SYMLINK],
            size,
            tuple(sorted(named.items(), key=lambda pair: (-pair[1], pair[0]))),
            PackedSequence(strangers, lambda path, node: facts_of(path, unpack(path, node, room))),
            installed.packages,
            installed.unread,
            (*labelled.warnings, *labelled.tree.warnings),
        )

    def _is_stranger(self, number: int) -> bool:
        """Whether traits are those of programs that the platform does not run."""
        known = self._strange.get(number)
        if known is None:
            program = self.room.traits[number].program
            known = self._strange[number] = (
                program is not None
                and self.platform is not None
                and not runs_on(program, self.platform, self.table)
            )
        return known


#: Bits of the changes; then lengths plus one of both paths and files, 0 if equal or absent.
_DIFFERENCE = struct.Struct("<HIIII")
_ORDER = tuple(PathChange)
#: Bytes of memory of a renamed path besides its text and its file.
_RENAMED = 600


class _Met(NamedTuple):
    """A key, with the path and file of each side."""

    key: str
    left: tuple[str, bytes] | None
    right: tuple[str, bytes] | None


class _Pair:
    """The comparison of the base and another tree."""

    def __init__(self, before: _Side, after: _Side, left_out: _LeftOut) -> None:
        self._left_out = left_out
        self._before = before
        self._after = after
        self._room = after.room
        self._rebuilt = 0
        self._rebuilt_before = 0
        self._rebuilt_after = 0
        self._same = 0

    def compared(self) -> TreeComparison:
        log = PathLog(self._room)
        counted: Counter[PathChange] = Counter()
        folders = _Folders()
        for met in _Renamed(self._before, self._after).met():
            left, right = met.left, met.right
            sizes = (number_and_size(side[1])[1] if side else 0 for side in (left, right))
            folders.add(met.key, *sizes)
            changes = self._changes(left, right)
            if changes:
                counted.update(changes)
                log.add(met.key, _written(met, changes))
            else:
                self._same += 1
        packages, same_packages = compare_packages(
            self._before.summary.packages, self._after.summary.packages
        )
        return TreeComparison(
            self._after.summary,
            PackedSequence(log, _reader(self._before.room, self._room, self._left_out)),
            tuple((change, counted[change]) for change in PathChange if counted[change]),
            self._same,
            self._rebuilt,
            (self._rebuilt_before, self._rebuilt_after),
            folders.largest(),
            packages,
            same_packages,
        )

    def _changes(
        self, left: tuple[str, bytes] | None, right: tuple[str, bytes] | None
    ) -> tuple[PathChange, ...]:
        if left is None or right is None:
            change = PathChange.ADDED if left is None else PathChange.REMOVED
            return (change,) if not self._left_out.has(change.value) else ()
        if left[1] == right[1] and self._before.room is self._room:
            return ()
        before = unpack(*left, self._before.room)
        after = unpack(*right, self._room)
        found = set(self._compared(before, after))
        if found & _CONTENT and self._is_rebuilt(before, after):
            found -= _CONTENT
            if not found:
                self._rebuilt += 1
                self._rebuilt_before += before.size
                self._rebuilt_after += after.size
        return tuple(
            change
            for change in PathChange
            if change in found and not self._left_out.has(change.value)
        )

    def _compared(self, before: LayerFile, after: LayerFile) -> Iterator[PathChange]:
        if before.kind is not after.kind:
            yield PathChange.TYPE
            return
        # The mode of a symbolic link has no meaning, and tools write different ones.
        if before.access.mode != after.access.mode and before.kind is not TarEntryKind.SYMLINK:
            yield PathChange.MODE
        if (before.access.uid, before.access.gid) != (after.access.uid, after.access.gid):
            yield PathChange.OWNER
        if self._left_out.xattrs(before.xattrs, after.xattrs):
            yield PathChange.XATTRS
        if before.size != after.size:
            yield PathChange.SIZE
        if before.sha256 != after.sha256:
            yield PathChange.CONTENT
        if before.device != after.device:
            yield PathChange.DEVICE
        if before.link != after.link and (
            self._before.words.taken_out(before.link) != self._after.words.taken_out(after.link)
        ):
            yield PathChange.LINK

    def _is_rebuilt(self, before: LayerFile, after: LayerFile) -> bool:
        if before.program is None or after.program is None:
            return False
        if before.program.machine == after.program.machine:
            return False
        return self._before.is_native(before) and self._after.is_native(after)


def _written(met: _Met, changes: tuple[PathChange, ...]) -> bytes:
    bits = sum(1 << _ORDER.index(change) for change in changes)
    paths = [
        encoded(side[0]) if side is not None and side[0] != met.key else None
        for side in (met.left, met.right)
    ]
    files = [side[1] if side is not None else None for side in (met.left, met.right)]
    parts = (*paths, *files)
    sizes = (0 if part is None else len(part) + 1 for part in parts)
    return _DIFFERENCE.pack(bits, *sizes) + b"".join(part for part in parts if part is not None)


def _reader(
    before: TreeRoom, after: TreeRoom, left_out: _LeftOut
) -> Callable[[str, bytes], FileDifference]:

    def read(key: str, about: bytes) -> FileDifference:
        bits, *sizes = _DIFFERENCE.unpack_from(about)
        parts: list[bytes | None] = []
        at = _DIFFERENCE.size
        for size in sizes:
            parts.append(about[at : at + size - 1] if size else None)
            at += max(0, size - 1)
        files = [
            unpack(decoded(path) if path is not None else key, node, room) if node else None
            for path, node, room in zip(parts[:2], parts[2:], (before, after), strict=True)
        ]
        changes = tuple(change for at, change in enumerate(_ORDER) if bits >> at & 1)
        left, right = files
        names: tuple[str, ...] = ()
        if left and right and PathChange.XATTRS in changes:
            names = left_out.xattrs(left.xattrs, right.xattrs)
        facts = [facts_of(file.path, file) if file else None for file in files]
        return FileDifference(key, changes, facts[0], facts[1], names)

    return read


def _side_by_side(
    before: PathLog, after: PathLog
) -> Iterator[tuple[str, bytes | None, bytes | None]]:
    """Merge two sorted logs, with the data of each side per path."""
    end = (None, b"")
    lefts, rights = iter(before), iter(after)
    (left, node), (right, other) = next(lefts, end), next(rights, end)
    while left is not None or right is not None:
        if left == right and left is not None:
            yield left, node, other
            (left, node), (right, other) = next(lefts, end), next(rights, end)
        elif right is None or (left is not None and left < right):
            if left is not None:
                yield left, node, None
            left, node = next(lefts, end)
        else:
            yield right, None, other
            right, other = next(rights, end)


class _Renamed:
    """Paths of two trees, paired by key; only those are in memory that are not their own keys."""

    def __init__(self, before: _Side, after: _Side) -> None:
        self._sides = (before, after)
        self._room = after.room
        self._taken = 0
        #: By side, in order: paths whose keys are not their names, each with its file.
        self._renamed: tuple[dict[str, tuple[str, bytes]], ...] = ({}, {})
        #: By side: paths that are the keys of others.
        self._own: tuple[dict[str, bytes], ...] = ({}, {})

    def met(self) -> Iterator[_Met]:
        try:
            self._read()
            waiting = iter(self._pairs())
            following = next(waiting, None)
            for path, left, right in self._paths():
                if (left is None or right is None) and path in self._done[left is None]:
                    continue
                while following is not None and following.key < path:
                    yield following
                    following = next(waiting, None)
                yield _Met(
                    path,
                    (path, left) if left is not None else None,
                    (path, right) if right is not None else None,
                )
            while following is not None:
                yield following
                following = next(waiting, None)
        finally:
            self._room.give(self._taken)

    def _paths(self) -> Iterator[tuple[str, bytes | None, bytes | None]]:
        return _side_by_side(self._sides[0].files, self._sides[1].files)

    def _take(self, *texts: str | bytes) -> None:
        size = _RENAMED + sum(map(getsizeof, texts))
        self._room.take(size)
        self._taken += size

    def _read(self) -> None:
        for path, left, right in self._paths():
            if left is not None and right is not None:
                continue
            side = int(left is None)
            key = self._sides[side].words.taken_out(path)
            if key != path:
                node = left or right or b""
                self._take(path, key, node)
                self._renamed[side][path] = (key, node)
        keys = {key for side_paths in self._renamed for key, _node in side_paths.values()}
        if not keys:
            return
        for path, left, right in self._paths():
            if path in keys and (left is None or right is None):
                node = left or right or b""
                self._take(path, node)
                self._own[left is None][path] = node

    def _pairs(self) -> list[_Met]:
        """Pair paths with equal keys, sort them, and note which paths are done.

        Of several paths of one side with the same key, such as `lib/x` and `lib64/x`, the one equal
        to the key, else the first, gets it; the others keep their names as keys.
        """
        keyed: list[dict[str, tuple[str, bytes]]] = []
        for renamed, own in zip(self._renamed, self._own, strict=True):
            found: dict[str, tuple[str, bytes]] = {}
            for path, (key, node) in renamed.items():
                is_free = key not in own and key not in found
                found[key if is_free else path] = (path, node)
            # The others are their own keys, and may be paired with the other side's.
            found |= {path: (path, node) for path, node in own.items() if path not in renamed}
            keyed.append(found)
        left, right = keyed
        self._done = tuple({path for path, _node in side_paths.values()} for side_paths in keyed)
        return [_Met(key, left.get(key), right.get(key)) for key in sorted({*left, *right})]


class _Folders:
    """Find the folders that cause most of a difference in size, from sorted paths.

    If a folder inside another causes nearly all of its difference, the inner one is listed. Only
    the parents of the current path and the best folders so far are held in memory.
    """

    def __init__(self, count: int = TOP_FOLDERS) -> None:
        self._count = count
        self._path = ""
        #: Per parent folder: the end of its name, its sizes, and the largest change inside.
        self._open: list[list[int]] = []
        self._best: list[FolderDelta] = []

    def add(self, path: str, before: int, after: int) -> None:
        """Add the sizes of a path to its parent folders; paths must be sorted."""
        if not before and not after:
            return
        parent = path.rpartition("/")[0]
        while self._open and not self._is_above(parent, self._open[-1][0]):
            self._close()
        at = self._open[-1][0] + 1 if self._open else 0
        while at < len(parent):
            end = parent.find("/", at)
            end = end if end >= 0 else len(parent)
            self._open.append([end, 0, 0, 0])
            at = end + 1
        self._path = parent
        if self._open:
            # Each folder adds its sizes to its parent when it is closed.
            self._open[-1][1] += before
            self._open[-1][2] += after

    def largest(self) -> tuple[FolderDelta, ...]:
        while self._open:
            self._close()
        self._cut()
        return tuple(self._best)

    def _is_above(self, parent: str, end: int) -> bool:
        if parent[end : end + 1] not in {"", "/"} or len(parent) < end:
            return False
        return parent.startswith(self._path[:end])

    def _close(self) -> None:
        end, before, after, inside = self._open.pop()
        delta = abs(after - before)
        if delta and inside < _EXPLAINS * delta:
            self._best.append(FolderDelta(self._path[:end], before, after))
            if len(self._best) > 10 * self._count:
                self._cut()
        if self._open:
            above = self._open[-1]
            above[1] += before
            above[2] += after
            above[3] = max(above[3], delta)

    def _cut(self) -> None:
        self._best.sort(key=lambda folder: (-abs(folder.delta), folder.path))
        del self._best[self._count :]
