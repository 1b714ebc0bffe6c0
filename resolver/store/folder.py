"""The store's root folder: created by the first write, adopted only if it is ours.

version CACHEDIR.TAG   identify the store; an unknown version is read and never written
blobs/<alg>/<hex>      verified content, read-only
names/<sha256>.json    what was pulled, one file per reference
seen/<sha256>.json     what a reference last resolved to
partial/ leases/       partial blobs, and content in use
chunks/                chunk indexes of held layers; may be removed at any time
pushes/<sha256>.json   uploads to registries that were begun; made on first use
uploads/               what clients of `serve --writable` send
tmp/                   files being written (new-…) and damaged files (bad-…)
lock                   shared by users, exclusive for collection
gate                   taken before the lock; held by a process that waits for the exclusive lock
names.lock             held while a name is changed
names.index seen.index caches of the names; may be removed at any time
loopback.json          the same: whether registries on this machine used https or http

See docs/store-and-reliability.md, "Store ownership".
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from resolver.core.oci.digest import HEX_DIGITS
from resolver.core.results.events import Warned, ignore
from resolver.errors import StoreFault
from resolver.store.files import (
    TEMPORARY,
    Patience,
    StoreFolder,
    close,
    faults,
    refuse_remote,
    temporary,
    through,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.events import Observer

#: Format version of the folder.
VERSION = "1"
#: Source: https://bford.info/cachedir/, "The Cache Directory Tag".
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"
_MARK = "# This folder is a store of `resolver` (https://bford.info/cachedir/)."
_TAG = f"{_SIGNATURE}\n{_MARK}\n# It may be removed whole while no `resolver` runs.\n"

_GATE = "gate"
_FOLDERS = ("tmp", "blobs", "names", "seen", "partial", "leases")
#: Entries that a store restored from a cache has, without empty folders; and those it may have.
_ALWAYS = frozenset({"blobs", "names"})
#: Schemes of registries on this machine, by host, with the time in seconds since 1970.
LOOPBACK = "loopback.json"
_OURS = frozenset(
    {
        *_FOLDERS,
        "chunks",
        "pushes",
        "version",
        "CACHEDIR.TAG",
        "lock",
        _GATE,
        "names.lock",
        "names.index",
        "seen.index",
        LOOPBACK,
        "uploads",
    }
)
#: Created by the file system at the root of a volume.
_NOT_FOREIGN = frozenset({"lost+found"})
_FOREIGN = "it is not empty, and it is not a store"
#: Seconds to wait for the lock in a mere check.
_BRIEFLY = 2.0
_ANOTHER = "name another folder with `--store`"
_MENDED = "remove the write permission of others with `chmod`"
_TRUSTED = "use `--shared-store` if all users who can write there are trusted"
#: Most links followed on the path to a store. Source: Linux, include/linux/namei.h, MAXSYMLINKS.
_MAX_LINKS = 40


#: Folders below the root that a batch opens once.
_KEPT = frozenset({("tmp",), ("names",), ("seen",), *(("blobs", name) for name in HEX_DIGITS)})


class KeptFolder(StoreFolder):
    """A folder that stays open as long as it is referenced, as do some below it."""

    def __init__(self, folder: StoreFolder) -> None:
        super().__init__(folder.descriptor, folder.path)
        self._below: dict[tuple[str, ...], KeptFolder] = {}

    def close(self) -> None:
        """Stay open."""

    def __del__(self) -> None:
        close(self.descriptor)

    def enter(self, *names: str) -> StoreFolder | None:
        """Open a folder below this one, once if it is kept too; see `StoreFolder.enter`."""
        found = self._below.get(names)
        if found is None:
            folder = super().enter(*names)
            if folder is None or names not in _KEPT:
                return folder
            found = self._below.setdefault(names, KeptFolder(folder))
        return found


class Home:
    """The location of a store, and write access to it.

    Args:
        sync: make every change survive a power cut.
        lock: False relies on no other process using this store.
        shared: trust every user who can write to it or replace it.
    """

    def __init__(
        self,
        root: Path,
        *,
        sync: bool,
        lock: bool,
        patience: Patience,
        shared: bool = False,
        observe: Observer = ignore,
    ) -> None:
        self.root = root
        self.sync = sync
        self.lock = lock
        self.patience = patience
        self.shared = shared
        self._observe = observe
        self._is_local = False
        self._is_vetted = False
        self._adopted: tuple[int, int] | None = None
        self._batches = 0
        self._kept: KeptFolder | None = None
        self._counting = threading.Lock()
        #: Folders with renames that a power cut may undo, and the lock held while they are synced.
        self._unsynced: set[tuple[str, ...]] = set()
        self._syncing = threading.Lock()

    def open(self) -> StoreFolder | None:
        """Open the folder for reading, whatever its version, unless others can write it."""
        if (kept := self._kept) is not None:
            return kept
        root = StoreFolder.at(str(self.root))
        if root is not None and not self._is_vetted:
            try:
                self._vet(root)
            except BaseException:
                root.close()
                raise
        if root is None or not self._batches:
            return root
        kept = KeptFolder(root)
        with self._counting:
            if self._batches:
                self._kept = kept = self._kept or kept
        return kept

    def open_store(self) -> StoreFolder | None:
        """Open the folder as `open` does, for operations that need a store."""
        root = self.open()
        if root is not None:
            try:
                _refuse_foreign(root)
            except BaseException:
                root.close()
                raise
        return root

    def doubts(self) -> tuple[str, ...]:
        """Return why others can change this store; an absent folder is judged by its parents."""
        root = StoreFolder.at(str(self.root))
        if root is None:
            return _doubts_above(self.root)
        with root:
            own = (*_doubts(root), *_lesser_doubts(root)) if _is_foreign(root) else ()
            return (*_doubts_above(self.root), *own)

    def _vet(self, root: StoreFolder) -> None:
        """Check once who can write there; an empty folder can still be made private."""
        if not self.shared:
            is_used = _is_foreign(root)
            own = _doubts(root) if is_used else ()
            _refuse_doubtful(root.path, (*_doubts_above(self.root), *own))
            for doubt in _lesser_doubts(root) if is_used else ():
                self._observe(Warned("store-shared", f"{doubt}; {_TRUSTED}"))
        self._is_vetted = True

    def look(self) -> bool | None:
        """Whether the folder is a store: None if absent, False if it can become one."""
        root = self.open_store()
        if root is None:
            return None
        with root:
            _refuse_precious(root)
            return _refuse_other_version(root) is not None

    def try_writing(self) -> None:
        """Take the store's lock, and write and remove a test file."""
        with (
            self.writing(seconds=_BRIEFLY) as root,
            root.need("tmp") as tmp,
            temporary(tmp, sync=self.sync) as file,
        ):
            file.write(b"resolver doctor\n")

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Open and sync each folder once for many files: before a name needs them, and at the end.

        See docs/store-and-reliability.md, "Write order".

        Raises:
            StoreFault: a folder cannot be synced.

        """
        with self._counting:
            self._batches += 1
            self._adopted = None
        try:
            yield
        except BaseException:
            with suppress(StoreFault):
                self._end_batch()
            raise
        self._end_batch()

    def _end_batch(self) -> None:
        with self._counting:
            self._batches -= 1
            if not self._batches:
                self._kept = None
        root = self.open() if self._unsynced else None
        if root is not None:
            with root:
                self.sync_renames(root)

    @property
    def in_batch(self) -> bool:
        """Whether files are added in a batch."""
        return self._batches > 0

    def sync_folder(self, folder: StoreFolder, *names: str) -> None:
        """Sync an open folder after a rename in it; in a batch, later.

        Args:
            folder: the folder.
            names: its path below the root.

        Raises:
            StoreFault: it cannot be synced.

        """
        if not self.sync:
            return
        with self._counting:
            if self._batches:
                self._unsynced.add(names)
                return
        folder.sync()

    def sync_renames(self, root: StoreFolder, below: str | None = None) -> None:
        """Sync the folders that a batch has renamed files in, all or those below one.

        Once for all threads: one that waited here finds its renames synced.

        Raises:
            StoreFault: a folder cannot be synced.

        """
        with self._syncing:
            for names in sorted(self._unsynced):
                if below not in (None, names[0]):
                    continue
                # Before the sync, so that a rename during it is synced again.
                self._unsynced.discard(names)
                try:
                    with root.need(*names) as folder:
                        folder.sync()
                except BaseException:
                    self._unsynced.add(names)
                    raise

    def exists(self) -> bool:
        """Whether the folder exists."""
        with self.open() or nullcontext() as root:
            return root is not None

    @contextmanager
    def writing(
        self, *, seconds: float | None = None, exclusive: bool = False
    ) -> Iterator[StoreFolder]:
        """Create or adopt the store, and hold its lock for writing."""
        with self._made() as root:
            with faults(root.path):
                status = os.fstat(root.descriptor)
            identity = (status.st_dev, status.st_ino)
            # A batch writes thousands of files: it checks a folder once.
            if not self._batches or self._adopted != identity:
                self._adopt(root)
                self._adopted = identity
            patience = self.patience
            if seconds is not None:
                patience = Patience(seconds, patience.clock, patience.sleep)
            if not self.lock:
                yield root
                return
            if not self._is_local:
                refuse_remote(root)
                self._is_local = True
            with through(root, _GATE, "lock", exclusive=exclusive, patience=patience):
                yield root

    def _made(self) -> StoreFolder:
        """Open the root, creating it and its parents as needed."""
        root = self.open()
        if root is not None:
            return root
        if not self.shared:
            _refuse_doubtful(str(self.root), _doubts_above(self.root))
        # One by one: `makedirs` leaves the mode of those in between to the umask.
        for path in (*reversed(self.root.parents), self.root):
            with faults(str(path)), suppress(FileExistsError):
                if not path.exists():
                    path.mkdir(0o700)
                    self._sync_parent(path)
        root = self.open()
        if root is None:
            raise StoreFault(str(self.root), "it was removed while it was in use")
        return root

    def _sync_parent(self, path: Path) -> None:
        """Make a new folder outlive a power cut, where its parent may be opened at all."""
        if not self.sync:
            return
        try:
            parent = StoreFolder.at(str(path.parent))
        except StoreFault as error:
            if isinstance(error.__cause__, PermissionError):
                return
            raise
        if parent is not None:
            with parent:
                parent.sync()

    def _adopt(self, root: StoreFolder) -> None:
        """Check that the folder is our store, completing an interrupted creation."""
        _refuse_precious(root)
        if not _is_marked(root):
            self._mark(root)
        version = _refuse_other_version(root)
        is_changed = self._complete(root, is_new=not version)
        if not version:
            self._put(root, "version", f"{VERSION}\n")
        elif is_changed and self.sync:
            root.sync()

    def _complete(self, root: StoreFolder, *, is_new: bool) -> bool:
        """Create missing folders; return whether there were any. The caller syncs the root.

        All at once, since separate syncs would take eight times longer. In an incomplete store,
        existing folders may be unsynced by a process that died.
        """
        missing = [name for name in _FOLDERS if root.look(name) is None]
        for name in missing:
            root.make(name)
        with root.need("blobs") as blobs:
            absent = [name for name in HEX_DIGITS if blobs.look(name) is None]
            for algorithm in absent:
                blobs.make(algorithm)
            if (absent or is_new) and self.sync:
                blobs.sync()
        return bool(missing)

    def _mark(self, root: StoreFolder) -> None:
        if _is_foreign(root):
            # Another process may have marked it between the two checks.
            if _is_marked(root):
                return
            if not _has_our_shape(root):
                raise StoreFault(root.path, _FOREIGN, _ANOTHER)
        _keep_to_oneself(root)
        if not self.shared:
            _refuse_doubtful(root.path, _doubts(root))
        # Publishing the next file syncs the root.
        root.make("tmp")
        self._put(root, "CACHEDIR.TAG", _TAG)

    def _put(self, root: StoreFolder, name: str, text: str) -> None:
        with root.need("tmp") as tmp, temporary(tmp, sync=self.sync) as file:
            file.write(text.encode())
            file.publish(root, name, mode=0o600)


def _refuse_foreign(root: StoreFolder) -> None:
    if not _is_marked(root) and _is_foreign(root) and not _has_our_shape(root):
        raise StoreFault(root.path, _FOREIGN, _ANOTHER)


def _refuse_doubtful(path: str, doubts: tuple[str, ...]) -> None:
    if doubts:
        raise StoreFault(path, doubts[0], f"{_ANOTHER}, {_MENDED}, or {_TRUSTED}")


def _doubts_above(path: Path) -> tuple[str, ...]:
    """Return who could put another folder in the place of this one.

    That is the owner of a folder or link on its path, and every user where a folder is
    world-writable without the sticky bit. Source: unlink(2), EPERM; path_resolution(7).
    """
    found: list[str] = []
    trusted = _trusted_owners(str(path))
    here, rest = "/", list(reversed(path.parts[1:]))
    links = 0
    while rest:
        name = rest.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            here = os.path.dirname(here)  # noqa: PTH120 - all are text here
            continue
        with faults(str(path)):
            above = os.stat(here)  # noqa: PTH116 - likewise
        if above.st_uid not in trusted:
            found.append(f"its parent folder `{here}` belongs to another user")
        if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
            found.append(f"its parent folder `{here}` is world-writable")
        below = f"{here.rstrip('/')}/{name}"
        try:
            status = os.lstat(below)
        except OSError:
            # An absent folder is created by us; other errors appear when it is opened.
            break
        if not stat.S_ISLNK(status.st_mode):
            here = below
            continue
        links += 1
        if status.st_uid not in trusted:
            found.append(f"the link `{below}` on its path belongs to another user")
        if links > _MAX_LINKS:
            break
        with faults(str(path)):
            target = os.readlink(below)  # noqa: PTH115 - likewise
        rest += reversed(target.split("/"))
        here = "/" if target.startswith("/") else here
    return tuple(dict.fromkeys(found))


def _doubts(root: StoreFolder) -> tuple[str, ...]:
    """Return which of the store's own folders are world-writable."""
    return tuple(
        f"`{path}` is world-writable"
        for path, status in _own_folders(root)
        if status.st_mode & stat.S_IWOTH
    )


def _lesser_doubts(root: StoreFolder) -> tuple[str, ...]:
    """Return which of the store's own folders another user or a group may write."""
    trusted = _trusted_owners(root.path)
    found: list[str] = []
    for path, status in _own_folders(root):
        if status.st_uid not in trusted:
            found.append(f"the store's folder `{path}` belongs to another user")
        elif status.st_mode & stat.S_IWGRP:
            found.append(f"a group can write to the store's folder `{path}`")
    # The first is enough: usually the store itself.
    return tuple(found[:1])


def _own_folders(root: StoreFolder) -> Iterator[tuple[str, os.stat_result]]:
    with faults(root.path):
        yield root.path, os.fstat(root.descriptor)
    for name in ("names", "seen", "blobs"):
        status = root.look(name)
        if status is not None and stat.S_ISDIR(status.st_mode):
            yield root.where(name), status


def _trusted_owners(path: str) -> frozenset[int]:
    """Return the trusted users: this one, root, and the owner of `/` in a user namespace."""
    with faults(path):
        return frozenset({os.geteuid(), 0, os.stat("/").st_uid})  # noqa: PTH116 - as above


def _refuse_precious(root: StoreFolder) -> None:
    """Refuse `/` and the user's home, also through links, and also when marked."""
    with faults(root.path):
        here = os.fstat(root.descriptor)
    for path in ("/", os.path.expanduser("~")):  # noqa: PTH111 - Path.home() raises without one
        try:
            precious = os.path.samestat(here, os.stat(path))  # noqa: PTH116 - samestat takes this
        except OSError:
            continue
        if precious:
            raise StoreFault(root.path, "this folder must not become a store", _ANOTHER)


def _refuse_other_version(root: StoreFolder) -> str | None:
    """Return the folder's version; None if there is none yet."""
    version = _small(root, "version")
    if version and version.strip() != VERSION:
        raise StoreFault(
            root.where("version"),
            f"its version is `{version.strip()[:40]}`, and this `resolver` writes `{VERSION}`",
            f"use the `resolver` that created it, or {_ANOTHER}",
        )
    return version or None


def _is_marked(root: StoreFolder) -> bool:
    tag = _small(root, "CACHEDIR.TAG")
    return tag is not None and tag.startswith(_SIGNATURE) and _MARK in tag


def _is_foreign(root: StoreFolder) -> bool:
    """Whether it contains anything that an interrupted first write cannot have left."""
    rest = set(root.entries()) - _NOT_FOREIGN
    if rest - {"tmp"}:
        return True
    tmp = root.enter("tmp")
    if tmp is None:
        return False
    with tmp:
        return not all(TEMPORARY.fullmatch(name) for name in tmp.entries())


def _has_our_shape(root: StoreFolder) -> bool:
    """Whether this is a store without its mark, as restored from a cache."""
    entries = set(root.entries()) - _NOT_FOREIGN
    return _ALWAYS <= entries <= _OURS


def _keep_to_oneself(root: StoreFolder) -> None:
    """Remove the write permission of others from an empty folder that we own."""
    with faults(root.path):
        status = os.fstat(root.descriptor)
        if status.st_uid == os.geteuid() and status.st_mode & 0o022:
            os.fchmod(root.descriptor, status.st_mode & 0o755)


def _small(root: StoreFolder, name: str) -> str | None:
    file = root.open(name)
    if file is None:
        return None
    with file:
        return next(file.chunks(1024), b"").decode("utf-8", "replace")
