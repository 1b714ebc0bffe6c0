"""A file tree in memory: layers laid over one another, as a container would see them.

Nothing is ever made on this machine. The rules, with what containerd and umoci do on disk:

- A later entry of a path replaces an earlier one with all that is below it; a folder over a folder
  only changes the folder. Folders that are needed and named by no entry are made, 0755 of root.
- The way to an entry leads through symbolic links, which stay inside the tree, 255 at most; the
  last name is never followed. An absolute target begins at the root of the tree.
- A hard link is another name for what its target is at that moment, or at the end of its layer;
  where there is none it stays a hard link to nothing. Extended attributes that its entry has are
  set on the file, so that both names have them.
- `.wh.NAME` takes NAME away, `.wh..wh..opq` all that is in its folder; both only what lower layers
  have put there. What else begins with `.wh..wh.` is AUFS's own, and nothing.

Source: OCI image-spec v1.1.1, layer.md, "Applying Changesets" and "Whiteouts"; containerd
v2.1, core/../archive/tar.go (`applyNaive`); umoci v0.4.7, oci/layer/tar_extract.go.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.layer_listing import Access, LayerFile, Listing
from resolver.core.tar_reader import Kind
from resolver.core.tree_room import TreeRoom
from resolver.errors import BadDocument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.xattrs import Xattrs

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_AUFS = ".wh..wh."
#: Symbolic links on the way to one path. Source: containerd/continuity, fs.RootPath.
MAX_LINKS = 255
_IMPLIED = LayerFile("", Kind.FOLDER, Access(0o755, 0, 0))


class Folder:
    """A folder of a tree: its own entry, None where no layer has one, and what is in it."""

    __slots__ = ("children", "entry")

    def __init__(self, entry: LayerFile | None) -> None:
        self.entry = entry
        self.children: dict[str, Folder | LayerFile] = {}


Node = Folder | LayerFile


class FileTree:
    """Grows layer by layer, lowest first; then it is read.

    Args:
        room: what this tree may take, together with others.

    Attributes:
        warnings: what was odd about how layers fit together.
    """

    def __init__(self, room: TreeRoom | None = None) -> None:
        self.room = room or TreeRoom()
        self.root = Folder(None)
        self.warnings: list[str] = []
        self.bodies: dict[bytes, bytes] = {}
        self.oversized: set[str] = set()

    def apply(self, listing: Listing, what: str) -> None:
        """Lay a layer over what is there.

        Raises:
            BadDocument: the way to one of its entries leads in a circle of links.
            LimitExceeded: there is no room for it.
        """
        _Layer(self, listing, what).apply()
        self.bodies.update(listing.bodies)
        self.oversized |= listing.oversized

    def warn(self, message: str) -> None:
        """Note what was odd, once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def walk(self) -> Iterator[tuple[str, LayerFile]]:
        """Give every path and what is there, folders before what is in them, names in order.

        The root itself is left out.
        """
        waiting = [("", iter(sorted(self.root.children.items())))]
        while waiting:
            prefix, children = waiting[-1]
            found = next(children, None)
            if found is None:
                waiting.pop()
                continue
            name, node = found
            path = prefix + name
            if isinstance(node, Folder):
                yield path, node.entry or _IMPLIED
                waiting.append((f"{path}/", iter(sorted(node.children.items()))))
            else:
                yield path, node

    def find(self, path: str) -> Node | None:
        """Look a path up, through links on the way and at its end; None if there is nothing."""
        *parents, name = path.split("/")
        for _ in range(MAX_LINKS):
            trail = _follow(self.root, parents, self)
            node = trail[-1].children.get(name) if trail else None
            if not isinstance(node, LayerFile) or node.kind is not Kind.SYMLINK or trail is None:
                return node
            way = _parts(node.link)
            if not way:
                return self.root
            here = [] if node.link.startswith("/") else parents
            *parents, name = [*here, *way]
        return None

    def body(self, path: str) -> bytes | None:
        """Give the body of a small file that was wanted; None if there is none, or it is larger."""
        node = self.find(path)
        if not isinstance(node, LayerFile) or node.kind is not Kind.FILE:
            return None
        return self.kept(node)

    def kept(self, file: LayerFile) -> bytes | None:
        """Give the body of a file of this tree if it was kept."""
        body = self.bodies.get(file.sha256)
        return zlib.decompress(body) if body is not None else None


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


def _follow(
    root: Folder, parts: list[str], tree: FileTree, *, make: bool = False, what: str = ""
) -> list[Folder] | None:
    """Walk to a folder through links; gives all folders on the way from the root, in order.

    Args:
        root: where to begin.
        parts: names; `..` among them stays below the root.
        tree: gets a warning where a file stands in the way; its room is used.
        make: make what is missing; otherwise None is given where something is.
        what: the layer, for messages.

    Raises:
        BadDocument: links lead in a circle, and a folder was to be made there.
        LimitExceeded: there is no room.
    """
    trail = [root]
    waiting = parts[::-1]
    links = 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            del trail[max(1, len(trail) - 1) :]
            continue
        node = trail[-1].children.get(part)
        if isinstance(node, LayerFile) and node.kind is Kind.SYMLINK:
            links += 1
            if links > MAX_LINKS:
                if not make:
                    return None
                path = "/".join(parts)
                raise BadDocument(what, path, f"the way leads through more than {MAX_LINKS} links")
            if node.link.startswith("/"):
                trail = [root]
            way = _parts(node.link)
            tree.room.steps(len(way))
            waiting += way[::-1]
            continue
        if not isinstance(node, Folder):
            if not make:
                return None
            node = _implied(trail[-1], part, tree)
        trail.append(node)
    return trail


def _implied(parent: Folder, name: str, tree: FileTree) -> Folder:
    """Make a folder that is needed and named by no entry.

    Raises:
        LimitExceeded: there is no room for it.
    """
    if name in parent.children:
        tree.warn("a file stands where a later entry needs a folder")
    else:
        tree.room.implied(name)
    folder = parent.children[name] = Folder(None)
    return folder


def _merged(old: Xattrs, new: Xattrs) -> Xattrs:
    """Set attributes on a file that has others."""
    if not new:
        return old
    found = {each.name: each for each in (*old, *new)}
    return tuple(found[name] for name in sorted(found))


class _Layer:
    """One layer on its way into a tree."""

    def __init__(self, tree: FileTree, listing: Listing, what: str) -> None:
        self._tree = tree
        self._listing = listing
        self._what = what
        #: Folders that were looked up, as long as nothing on the way to them changes.
        self._known: dict[str, Folder] = {}
        #: What this layer has put there; only whiteouts ask.
        self._fresh: set[int] | None = None
        if any(file.path.rpartition("/")[2].startswith(WHITEOUT) for file in listing.files):
            self._fresh = set()
        #: Folders that have nothing of lower layers any more, so that no folder is searched twice.
        self._thin: dict[int, Folder] = {}
        self._pending: list[tuple[Folder, str, LayerFile]] = []

    def apply(self) -> None:
        for file in self._listing.files:
            parent, _, name = file.path.rpartition("/")
            if not name:
                self._root(file)
            elif name.startswith(WHITEOUT):
                self._white_out(parent, name)
            else:
                self._put(self._folder(parent), name, file)
        for folder, name, link in self._pending:
            if folder.children.get(name) is link:
                self._settle(folder, name, link)

    def _root(self, file: LayerFile) -> None:
        if file.kind is Kind.FOLDER:
            self._tree.root.entry = file
        else:
            self._tree.warn("an entry without a name is no folder, and is passed over")

    def _folder(self, path: str) -> Folder:
        known = self._known.get(path)
        if known is None:
            trail = _follow(
                self._tree.root, path.split("/") if path else [], self._tree, make=True,
                what=self._what,
            )  # fmt: skip
            known = self._known[path] = (trail or [self._tree.root])[-1]
        return known

    def _put(self, folder: Folder, name: str, file: LayerFile) -> None:
        there = folder.children.get(name)
        if there is None:
            self._tree.room.path(name)
        if self._fresh is not None:
            self._fresh.add(id(file))
        if file.kind is Kind.FOLDER:
            if isinstance(there, Folder):
                there.entry = file
                return
            folder.children[name] = Folder(file)
        else:
            folder.children[name] = file
        if there is not None and (isinstance(there, Folder) or there.kind is Kind.SYMLINK):
            self._known.clear()
        if file.kind is Kind.HARD_LINK and not self._linked(folder, name, file):
            self._pending.append((folder, name, file))

    def _linked(self, folder: Folder, name: str, link: LayerFile) -> bool:
        """Put what a hard link names in its place; False where there is nothing (yet)."""
        parent, _, last = link.link.rpartition("/")
        trail = _follow(self._tree.root, parent.split("/") if parent else [], self._tree)
        target = trail[-1].children.get(last) if trail else None
        if trail is None or not isinstance(target, LayerFile) or target.kind is Kind.HARD_LINK:
            return False
        xattrs = _merged(target.xattrs, link.xattrs)
        if xattrs != target.xattrs:
            old = target
            target = trail[-1].children[last] = replace(old, xattrs=xattrs)
            if self._fresh is not None and id(old) in self._fresh:
                self._fresh.remove(id(old))
                self._fresh.add(id(target))
        named = replace(target, path=link.path)
        folder.children[name] = named
        if self._fresh is not None:
            self._fresh.add(id(named))
        return True

    def _settle(self, folder: Folder, name: str, link: LayerFile) -> None:
        if not self._linked(folder, name, link):
            self._tree.warn("a hard link names a file that does not exist")

    def _white_out(self, parent: str, name: str) -> None:
        hidden = name.removeprefix(WHITEOUT)
        trail = _follow(self._tree.root, parent.split("/") if parent else [], self._tree)
        if trail is None:
            return
        folder = trail[-1]
        if name == OPAQUE:
            is_thin = id(folder) in self._thin
            for child in [] if is_thin else list(folder.children):
                self._take_away(folder, child)
            self._thin[id(folder)] = folder
        elif name.startswith(_AUFS) or hidden in {"", ".", ".."}:
            self._tree.warn("a whiteout names nothing, and is passed over")
        else:
            self._take_away(folder, hidden)

    def _take_away(self, folder: Folder, name: str) -> None:
        """Remove what lower layers have put there; what this one has stays, with its folders."""
        node = folder.children.get(name)
        if node is not None and not self._thinned(node):
            del folder.children[name]
            self._known.clear()

    def _thinned(self, node: Node) -> bool:
        """Take out of a node what lower layers have put there; whether anything is left.

        Not by recursion: a path may be as deep as a name is long.
        """
        fresh = self._fresh or set()
        if isinstance(node, LayerFile):
            return id(node) in fresh
        order = [node] if id(node) not in self._thin else []
        for folder in order:
            order += [
                child
                for child in folder.children.values()
                if isinstance(child, Folder) and id(child) not in self._thin
            ]
        for folder in reversed(order):
            self._thin[id(folder)] = folder
            for name, child in list(folder.children.items()):
                if isinstance(child, Folder):
                    is_kept = bool(child.children) or id(child.entry) in fresh
                else:
                    is_kept = id(child) in fresh
                if not is_kept:
                    del folder.children[name]
            if id(folder.entry) not in fresh:
                folder.entry = None
        self._known.clear()
        return bool(node.children) or id(node.entry) in fresh
