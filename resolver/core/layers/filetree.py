"""A file tree in memory: layers applied in order, as a container would see them.

Nothing is written to disk. The rules follow what containerd and umoci do on disk:

- A later entry of a path replaces an earlier one and everything below it; a folder over a folder
  only changes its attributes. Missing parent folders are created as 0755 of root.
- Symbolic links in parent folders are followed inside the tree, at most 255; the last component is
  never followed. An absolute target starts at the root of the tree.
- A hard link is another name for its target at that moment, or at the end of the layer; without a
  target it stays a dangling hard link. Extended attributes of its entry are set on the file, so
  all of its names have them, including those of earlier entries and layers.
- `.wh.NAME` removes NAME, `.wh..wh..opq` everything in its folder; both only content of lower
  layers. Other names that begin with `.wh..wh.` belong to AUFS and are ignored.

Source: OCI image-spec v1.1.1, layer.md, "Applying Changesets" and "Whiteouts"; containerd
v2.1, core/../archive/tar.go (`applyNaive`); umoci v0.4.7, oci/layer/tar_extract.go.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from dataclasses import replace
from sys import getsizeof
from typing import TYPE_CHECKING, NamedTuple

from resolver.core.layers.listing import (
    Access,
    LayerFile,
    LayerListing,
    PackedSequence,
    PathLog,
    Traits,
    TreeRoom,
    in_memory,
    link_of,
    pack,
    traits_of,
    unpack,
)
from resolver.core.layers.tar import TarEntryKind
from resolver.errors import BadDocument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.core.compare.file_difference import Installed
    from resolver.core.layers.xattrs import Xattrs


WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_AUFS = ".wh..wh."
#: Symbolic links on the way to one path. Source: containerd/continuity, fs.RootPath.
MAX_LINKS = 255
_IMPLIED = LayerFile("", TarEntryKind.FOLDER, Access(0o755, 0, 0))

#: Bytes of a packed file that identify its layer, which whiteouts need.
_STAMP = 2
#: Bytes of a folder or a linked file in its folder besides its name, as measured.
_PLACE = 100
#: Bytes of a folder with its first path.
_FOLDER = 200
#: Bytes of a hard link without its file.
_LINK = 112
#: Bytes of a row in the hash table, which is at least a third full.
_SLOT = 12
#: Bytes of a name in a sorted list besides its text.
_LISTED = 44
#: Names of such a list that are used at once.
_AT_ONCE = 1_000
#: Folders that one layer caches by path.
_KNOWN = 1_024
#: Before a row: the place of the row before it in its folder, and the lengths of key and file.
_ROW = struct.Struct("<IHH")


class _Rows:
    """The files of all folders of a tree: 80 bytes each in one buffer, and 260 as objects.

    A row is its key and the file. A key is the number of the folder, 0 once the row is removed, the
    name, and a slash, which no name has. A hash table finds the place of a key.
    """

    def __init__(self) -> None:
        self.folders = self._used = 0
        self._slots = array("I", bytes(256))
        self._rows = bytearray()

    def find(self, key: bytes) -> tuple[int, int]:
        """Return the slot of a key in the hash table, and the place of its row, 0 if it has none.

        The hash of bytes is keyed at random, so names that collide cannot be chosen.
        """
        slot = hash(key) & (len(self._slots) - 1)
        while (place := self._slots[slot]) and not self._rows.startswith(key, place):
            slot = (slot + 1) & (len(self._slots) - 1)
        return slot, place

    def read(self, place: int) -> tuple[int, bytes, bytes]:
        """Return the place of the row before in the folder, the key, and the file."""
        before, length, size = _ROW.unpack_from(self._rows, place - _ROW.size)
        file = place + length
        return before, bytes(self._rows[place:file]), bytes(self._rows[file : file + size])

    def add(self, key: bytes, file: bytes, before: int) -> int:
        """Add a row for a key that has none; return its place."""
        self._used += 1
        if 3 * self._used > 2 * len(self._slots):
            self._slots = array("I", bytes(8 * len(self._slots)))
            place = _ROW.size
            while place < len(self._rows):
                _before, old, held = self.read(place)
                self._slots[self.find(old)[0]] = place
                place += len(old) + len(held) + _ROW.size
        place = self._slots[self.find(key)[0]] = len(self._rows) + _ROW.size
        self._rows += _ROW.pack(before, len(key), len(file)) + key + file
        return place

    def write(self, place: int, number: int) -> None:
        self._rows[place : place + 4] = number.to_bytes(4, "little")


class TreeFolder:
    """A folder of a tree: its entry, None if no layer has one, and its children.

    Children that are folders or linked files are in `objects`, others are rows.
    """

    __slots__ = ("_last", "_number", "entry", "objects", "rows")

    def __init__(self, entry: bytes | None, rows: _Rows) -> None:
        self.entry = entry
        self.objects: dict[str, TreeFolder | _Name] = {}
        self.rows = rows
        rows.folders += 1
        self._number = rows.folders.to_bytes(4, "little")
        self._last = 0

    def key(self, name: str) -> bytes:
        """Return the key of a name; keys sort as names do, also of those that are not UTF-8."""
        return self._number + name.encode("utf-8", "surrogatepass") + b"/"

    def get(self, name: str) -> Node | None:
        """Return a child, or None."""
        node = self.objects.get(name)
        if node is None and (place := self.rows.find(self.key(name))[1]):
            return self.rows.read(place)[2]
        return node

    def put(self, name: str, node: Node) -> int:
        """Add or replace a child; return the bytes of memory that it takes."""
        self.remove(name)
        if not isinstance(node, bytes):
            self.objects[name] = node
            return getsizeof(name) + _PLACE
        key = self.key(name)
        self._last = self.rows.add(key, node, self._last)
        return len(key) + len(node) + _ROW.size + _SLOT

    def remove(self, name: str) -> None:
        """Remove a child, if there is one."""
        if self.objects.pop(name, None) is None and (place := self.rows.find(self.key(name))[1]):
            self.rows.write(place, 0)

    def has_children(self) -> bool:
        """Whether it is not empty."""
        return bool(self.objects) or any(self.items())

    def items(self) -> Iterator[tuple[str, Node]]:
        """Yield all names and children, which may be removed meanwhile."""
        after, place = 0, self._last
        while place:
            before, key, file = self.rows.read(place)
            if key.startswith(self._number):
                yield key[4:-1].decode("utf-8", "surrogatepass"), file
                after = place
            elif after:
                # So that a removed row is passed only once.
                self.rows.write(after - _ROW.size, before)
            else:
                self._last = before
            place = before
        yield from list(self.objects.items())


class _File:
    """A file with several names."""

    __slots__ = ("node",)

    def __init__(self, node: bytes) -> None:
        self.node = node


class _Name(NamedTuple):
    """One of the names of a file, and the stamp of the layer that added it."""

    stamp: bytes
    file: _File


#: A child of a folder. A file with one name is its stamp followed by the output of `pack`.
Node = TreeFolder | _Name | bytes


def _content(node: _Name | bytes) -> bytes:
    return node[_STAMP:] if isinstance(node, bytes) else node.file.node


class FileTree:
    """A tree that grows layer by layer, lowest first, and is then read and packed."""

    def __init__(self, room: TreeRoom | None = None) -> None:
        self.room = room or TreeRoom()
        self.root = TreeFolder(None, _Rows())
        self.warnings: list[str] = []
        self.bodies: dict[bytes, bytes] = {}
        self.oversized: set[str] = set()
        self.installed: Installed | None = None
        self._layers = 0
        self._taken = 0
        self._log: PathLog | None = None

    def __del__(self) -> None:
        self.room.give(self._taken)

    def apply(self, listing: LayerListing, what: str) -> None:
        """Apply a layer."""
        self._layers += 1
        _Layer(self, listing, what, self._layers.to_bytes(_STAMP, "big")).apply()
        self.bodies.update(listing.bodies)
        self.oversized |= listing.oversized

    def take(self, size: int) -> None:
        """Count bytes of memory that the tree uses until it is packed."""
        self.room.take(size)
        self._taken += size

    def packed(self) -> PathLog:
        """Replace the tree by the sorted log of its paths, which ends the use of `find`."""
        if self._log is None:
            log = PathLog(self.room)
            for path, node in self._nodes():
                self.room.count("text", in_memory(path))
                log.add(path, node)
            self._log = log
            del self.root
            self.bodies = {}
            self.room.give(self._taken)
            self._taken = 0
        return self._log

    def warn(self, message: str) -> None:
        """Add a warning, once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def walk(self) -> Iterator[tuple[str, LayerFile]]:
        """Yield every path and file but the root, sorted by path: folders before children."""
        for path, node in self._log if self._log is not None else self._nodes():
            yield path, unpack(path, node, self.room)

    def files(self, folder: TreeFolder) -> Iterator[tuple[str, LayerFile]]:
        """Yield the names and files of a folder, sorted, without folders."""
        for name in self._order(folder):
            node = folder.get(name)
            if node is not None and not isinstance(node, TreeFolder):
                yield name, unpack(name, _content(node), self.room)

    def _nodes(self) -> Iterator[tuple[str, bytes]]:
        implied = pack(_IMPLIED, self.room)
        prefix = ""
        waiting = [(0, self.root, self._order(self.root))]
        while waiting:
            length, folder, names = waiting[-1]
            name = next(names, None)
            # A prefix per folder would take memory quadratic in the depth.
            prefix = prefix[:length]
            if name is None:
                waiting.pop()
            elif name.endswith("/"):
                inner = folder.get(name[:-1])
                if isinstance(inner, TreeFolder):
                    prefix += name
                    waiting.append((len(prefix), inner, self._order(inner)))
            else:
                node = folder.get(name)
                if isinstance(node, TreeFolder):
                    yield prefix + name, node.entry[_STAMP:] if node.entry else implied
                elif node is not None:
                    yield prefix + name, _content(node)

    def _order(self, folder: TreeFolder) -> Iterator[str]:
        """Yield the names in a folder, and `NAME/` for contents, by path: `a-b` before `a/b`."""
        names = []
        for name, child in folder.items():
            names.append(folder.key(name)[4:-1])
            self.take(len(names[-1]) + _LISTED)
            if isinstance(child, TreeFolder):
                names.append(names[-1] + b"/")
                self.take(len(names[-1]) + _LISTED)
        names.sort(reverse=True)
        while names:
            some = names[-_AT_ONCE:]
            del names[-_AT_ONCE:]
            # Packing needs the memory of the names that were used.
            self.take(-sum(map(len, some)) - _LISTED * len(some))
            yield from (name.decode("utf-8", "surrogatepass") for name in reversed(some))

    def find(self, path: str) -> TreeFolder | LayerFile | None:
        """Look up a path, following links in it and at its end; None if it does not exist."""
        *parents, name = path.split("/")
        for _ in range(MAX_LINKS):
            trail = _follow(self.root, parents, self)
            node = trail[-1].get(name) if trail else None
            if node is None or isinstance(node, TreeFolder):
                return node
            content = _content(node)
            if traits_of(content, self.room).kind is not TarEntryKind.SYMLINK:
                return unpack(path, content, self.room)
            link = link_of(content)
            target = _parts(link)
            if not target:
                return self.root
            here = [] if link.startswith("/") else parents
            *parents, name = [*here, *target]
        return None

    def body(self, path: str) -> bytes | None:
        """Return the body of a file if it was kept; None if not, or if there is no such file."""
        node = self.find(path)
        if not isinstance(node, LayerFile) or node.kind is not TarEntryKind.FILE:
            return None
        return self.kept(node)

    def kept(self, file: LayerFile) -> bytes | None:
        """Return the body of a file if it was kept; else None."""
        body = self.bodies.get(file.sha256)
        return zlib.decompress(body) if body is not None else None


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


def _follow(
    root: TreeFolder, parts: list[str], tree: FileTree, *, make: bool = False, what: str = ""
) -> list[TreeFolder] | None:
    """Follow a path through links; return all folders from the root to the last.

    `..` stays below the root. Without `make`, return None if a folder is missing or links form a
    cycle; with it, create missing folders and raise `BadDocument` for a cycle. `what` is the layer,
    for messages.
    """
    trail = [root]
    waiting = parts[::-1]
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            del trail[max(1, len(trail) - 1) :]
            continue
        node = trail[-1].get(part)
        link = _symlink(node, tree) if node is not None else None
        if link is not None:
            links += 1
            if links > MAX_LINKS:
                if not make:
                    return None
                path = "/".join(parts)
                raise BadDocument(what, path, f"the path contains more than {MAX_LINKS} links")
            if link.startswith("/"):
                trail = [root]
            target = _parts(link)
            tree.room.count("steps", len(target))
            waiting += target[::-1]
            continue
        if not isinstance(node, TreeFolder):
            if not make:
                return None
            node = _implied(trail[-1], part, tree)
        trail.append(node)
    return trail


def _symlink(node: Node, tree: FileTree) -> str | None:
    if isinstance(node, TreeFolder):
        return None
    content = _content(node)
    is_link = traits_of(content, tree.room).kind is TarEntryKind.SYMLINK
    return link_of(content) if is_link else None


def _implied(parent: TreeFolder, name: str, tree: FileTree) -> TreeFolder:
    if parent.get(name) is not None:
        tree.warn("a file is replaced by the parent folder of a later entry")
    else:
        tree.room.count("implied")
        tree.room.count("paths")
    folder = TreeFolder(None, parent.rows)
    tree.take(_FOLDER + parent.put(name, folder))
    return folder


def _merged(old: Xattrs, new: Xattrs) -> Xattrs:
    """Merge extended attributes; `new` takes precedence."""
    if not new:
        return old
    merged = {xattr.name: xattr for xattr in (*old, *new)}
    return tuple(merged[name] for name in sorted(merged))


class _Layer:
    """The application of one layer to a tree."""

    def __init__(self, tree: FileTree, listing: LayerListing, what: str, stamp: bytes) -> None:
        self._tree = tree
        self._listing = listing
        self._what = what
        self._stamp = stamp
        #: Cache of folders by path, cleared when a parent folder changes.
        self._known: dict[str, TreeFolder] = {}
        #: Folders without content of lower layers, so that none is searched twice.
        self._thin: dict[int, TreeFolder] = {}
        self._pending: list[tuple[TreeFolder, str]] = []

    def apply(self) -> None:
        for path, content in self._entries():
            parent, _, name = path.rpartition("/")
            if not name:
                self._root(content)
            elif name.startswith(WHITEOUT):
                self._white_out(parent, name)
            else:
                self._put(self._folder(parent), name, content)
        for folder, name in self._pending:
            link = folder.get(name)
            if (
                isinstance(link, bytes)
                and self._traits(link[_STAMP:]).kind is TarEntryKind.HARD_LINK
                and not self._linked(folder, name, link)
            ):
                self._tree.warn("a hard link names a file that does not exist")

    def _entries(self) -> Iterable[tuple[str, bytes]]:
        files, room = self._listing.files, self._tree.room
        if isinstance(files, PackedSequence) and files.log.room is room:
            return files.log
        return ((file.path, pack(file, room)) for file in files)

    def _root(self, content: bytes) -> None:
        if self._traits(content).kind is TarEntryKind.FOLDER:
            self._tree.root.entry = self._stamp + content
        else:
            self._tree.warn("an entry without a name is not a folder, and is ignored")

    def _traits(self, content: bytes) -> Traits:
        return traits_of(content, self._tree.room)

    def _folder(self, path: str) -> TreeFolder:
        known = self._known.get(path)
        if known is None:
            trail = _follow(
                self._tree.root, path.split("/") if path else [], self._tree, make=True,
                what=self._what,
            )  # fmt: skip
            if len(self._known) >= _KNOWN:
                self._known.clear()
            known = self._known[path] = (trail or [self._tree.root])[-1]
        return known

    def _put(self, folder: TreeFolder, name: str, content: bytes) -> None:
        existing = folder.get(name)
        node = self._stamp + content
        if existing is None:
            self._tree.room.count("paths")
        kind = self._traits(content).kind
        if kind is not TarEntryKind.FOLDER:
            self._tree.take(folder.put(name, node))
        elif isinstance(existing, TreeFolder):
            self._tree.take(len(node) - len(existing.entry or b""))
            existing.entry = node
            return
        else:
            put = folder.put(name, TreeFolder(node, folder.rows))
            self._tree.take(getsizeof(node) + _FOLDER + put)
        if existing is not None and (
            isinstance(existing, TreeFolder) or _symlink(existing, self._tree) is not None
        ):
            self._known.clear()
        if kind is TarEntryKind.HARD_LINK and not self._linked(folder, name, node):
            self._tree.take(_LINK + getsizeof(name))
            self._pending.append((folder, name))

    def _linked(self, folder: TreeFolder, name: str, link: bytes) -> bool:
        """Add a name to the target of a hard link, and its attributes to the file, if it exists."""
        content = link[_STAMP:]
        parent, _, last = link_of(content).rpartition("/")
        trail = _follow(self._tree.root, parent.split("/") if parent else [], self._tree)
        target = trail[-1].get(last) if trail else None
        if trail is None or target is None or isinstance(target, TreeFolder):
            return False
        file = unpack("", _content(target), self._tree.room)
        if file.kind is TarEntryKind.HARD_LINK:
            return False
        if isinstance(target, bytes):
            target = _Name(target[:_STAMP], _File(target[_STAMP:]))
            self._tree.take(_LINK + getsizeof(target.file.node) + trail[-1].put(last, target))
        xattrs = _merged(file.xattrs, self._traits(content).xattrs)
        if xattrs != file.xattrs:
            target.file.node = pack(replace(file, xattrs=xattrs), self._tree.room)
        self._tree.take(_LINK + folder.put(name, _Name(self._stamp, target.file)))
        return True

    def _white_out(self, parent: str, name: str) -> None:
        hidden = name.removeprefix(WHITEOUT)
        trail = _follow(self._tree.root, parent.split("/") if parent else [], self._tree)
        if trail is None:
            return
        folder = trail[-1]
        if name == OPAQUE:
            is_thin = id(folder) in self._thin
            for child, _node in () if is_thin else folder.items():
                self._take_away(folder, child)
            self._thin[id(folder)] = folder
        elif name.startswith(_AUFS) or hidden in {"", ".", ".."}:
            self._tree.warn("a whiteout names nothing, and is ignored")
        else:
            self._take_away(folder, hidden)

    def _take_away(self, folder: TreeFolder, name: str) -> None:
        """Remove content of lower layers; keep content of this one and its folders."""
        node = folder.get(name)
        if node is not None and not self._thinned(node):
            folder.remove(name)
            self._known.clear()

    def _thinned(self, node: Node) -> bool:
        """Remove content of lower layers from a node, iteratively; return whether any is left."""
        if not isinstance(node, TreeFolder):
            return self._is_fresh(node)
        order = [node] if id(node) not in self._thin else []
        for folder in order:
            order += [
                child
                for child in folder.objects.values()
                if isinstance(child, TreeFolder) and id(child) not in self._thin
            ]
        for folder in reversed(order):
            self._thin[id(folder)] = folder
            for name, child in folder.items():
                is_parent = isinstance(child, TreeFolder) and child.has_children()
                if not is_parent and not self._is_fresh(child):
                    folder.remove(name)
            if not self._is_fresh(folder):
                folder.entry = None
        self._known.clear()
        return node.has_children() or self._is_fresh(node)

    def _is_fresh(self, node: Node) -> bool:
        """Whether this layer added a name or, for a folder, has an entry of it."""
        if isinstance(node, _Name):
            return node.stamp == self._stamp
        content = node.entry if isinstance(node, TreeFolder) else node
        return content is not None and content[:_STAMP] == self._stamp
