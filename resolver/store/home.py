"""The store's folder: made on the first write, and adopted only if it is nobody else's (R30).

version CACHEDIR.TAG   what this is; an unknown version is read and never written
blobs/<alg>/<hex>      verified content, read-only
names/<sha256>.json    what was pulled, one file per reference
seen/<sha256>.json     what a reference pointed at when somebody last asked
partial/ leases/       transfers under way, and who needs what
tmp/                   files being written (new-…) and what was found damaged (bad-…)
lock                   shared by users, exclusive for collection
gate                   passed on the way to the lock; closed by who waits for all users to leave
names.lock             held while a name is changed
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from resolver.core.digest import HEX_DIGITS
from resolver.errors import StoreFault
from resolver.store.files import Folder, faults
from resolver.store.lock import Patience, refuse_remote, through
from resolver.store.temporary import TEMPORARY, temporary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Format of the folder; another number means other rules.
VERSION = "1"
#: Source: https://bford.info/cachedir/, "The Cache Directory Tag".
_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"
_MARK = "# This folder is a store of `resolver` (https://bford.info/cachedir/)."
_TAG = f"{_SIGNATURE}\n{_MARK}\n# It may be removed whole while no `resolver` runs.\n"

_GATE = "gate"
_FOLDERS = ("tmp", "blobs", "names", "seen", "partial", "leases")
#: What every store has that came back from a cache, which may have lost the folders that were
#: empty; and what one may have.
_ALWAYS = frozenset({"blobs", "names"})
_OURS = frozenset({*_FOLDERS, "version", "CACHEDIR.TAG", "lock", _GATE, "names.lock"})
#: Made by the file system itself, at the root of a volume.
_NOT_FOREIGN = frozenset({"lost+found"})
_FOREIGN = "it is not empty, and it is not a store"
#: Seconds to wait for the lock where nothing is at stake.
_BRIEFLY = 2.0
_ANOTHER = "name another folder with `--store`"


class Home:
    """Where a store is, and the right to write there.

    Args:
        root: need not exist yet.
        sync: whether to make every change outlive a power cut.
        lock: False trusts the user that nobody else uses this store.

    """

    def __init__(self, root: Path, *, sync: bool, lock: bool, patience: Patience) -> None:
        self.root = root
        self.sync = sync
        self.lock = lock
        self.patience = patience
        self._is_local = False

    def open(self) -> Folder | None:
        """Open the folder for reading, whatever its version: content proves itself."""
        return Folder.at(str(self.root))

    def look(self) -> bool | None:
        """Whether the folder is a store: None if there is none, False if it may yet become one.

        Nothing is changed.

        Raises:
            StoreFault: it is somebody else's folder, of another version, or cannot be read.

        """
        root = self.open()
        if root is None:
            return None
        with root:
            _refuse_precious(root)
            if not _is_marked(root) and _is_foreign(root) and not _has_our_shape(root):
                raise StoreFault(root.path, _FOREIGN, _ANOTHER)
            return _refuse_other_version(root) is not None

    def try_writing(self) -> None:
        """Take the lock of a store that is there, and write a file that is gone again at once.

        Raises:
            StoreFault: one of them does not work.

        """
        with (
            self.writing(seconds=_BRIEFLY) as root,
            root.need("tmp") as tmp,
            temporary(tmp, sync=self.sync) as file,
        ):
            file.write(b"resolver doctor\n")

    def exists(self) -> bool:
        """Whether there is a folder at all."""
        root = self.open()
        if root is None:
            return False
        with root:
            return True

    @contextmanager
    def writing(self, *, seconds: float | None = None, exclusive: bool = False) -> Iterator[Folder]:
        """Hold the store for writing: made, ours, and its lock taken.

        Args:
            seconds: to wait for the lock, when less than usual is worth it.
            exclusive: keep everyone else away, to remove what nobody needs.

        Raises:
            StoreFault: it cannot be written, or must not be.

        """
        with self._made() as root:
            self._adopt(root)
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

    def _made(self) -> Folder:
        """Open the root, making it and the folders above it as needed."""
        root = Folder.at(str(self.root))
        if root is not None:
            return root
        # One by one: `makedirs` leaves the mode of those in between to the umask.
        for path in (*reversed(self.root.parents), self.root):
            with faults(str(path)), suppress(FileExistsError):
                if not path.exists():
                    path.mkdir(0o700)
                    self._sync_parent(path)
        root = Folder.at(str(self.root))
        if root is None:
            raise StoreFault(str(self.root), "it was removed while it was in use")
        return root

    def _sync_parent(self, path: Path) -> None:
        """Make a new folder outlive a power cut, where its parent may be opened at all."""
        if not self.sync:
            return
        try:
            parent = Folder.at(str(path.parent))
        except StoreFault as error:
            if isinstance(error.__cause__, PermissionError):
                return
            raise
        if parent is not None:
            with parent:
                parent.sync()

    def _adopt(self, root: Folder) -> None:
        """Make sure that the folder is a store of ours, completing one that is not yet."""
        _refuse_precious(root)
        if not _is_marked(root):
            self._mark(root)
        version = _refuse_other_version(root)
        is_changed = self._complete(root, is_new=not version)
        if not version:
            self._put(root, "version", f"{VERSION}\n")
        elif is_changed and self.sync:
            root.sync()

    def _complete(self, root: Folder, *, is_new: bool) -> bool:
        """Make the folders that are missing, and say whether any was; the caller syncs the root.

        All at once, since a new store would else wait for the disk eight times more. Of a store
        that is not complete yet, what is there may be the work of one who died before syncing it.
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

    def _mark(self, root: Folder) -> None:
        if _is_foreign(root):
            # Somebody may have marked it between the two looks, as this very process does below.
            if _is_marked(root):
                return
            if not _has_our_shape(root):
                raise StoreFault(root.path, _FOREIGN, _ANOTHER)
        _keep_to_oneself(root)
        # What is published next syncs the root, and this with it.
        root.make("tmp")
        self._put(root, "CACHEDIR.TAG", _TAG)

    def _put(self, root: Folder, name: str, text: str) -> None:
        with root.need("tmp") as tmp, temporary(tmp, sync=self.sync) as file:
            file.write(text.encode())
            file.publish(root, name, mode=0o600)


def _refuse_precious(root: Folder) -> None:
    """Refuse `/` and the user's home, also under another spelling, and also when marked."""
    with faults(root.path):
        here = os.fstat(root.descriptor)
    for path in ("/", os.path.expanduser("~")):  # noqa: PTH111 - Path.home() raises without one
        try:
            precious = os.path.samestat(here, os.stat(path))  # noqa: PTH116 - samestat takes this
        except OSError:
            continue
        if precious:
            raise StoreFault(root.path, "this folder must not become a store", _ANOTHER)


def _refuse_other_version(root: Folder) -> str | None:
    """Give what the folder says of its version; None if it says nothing yet."""
    version = _small(root, "version")
    if version and version.strip() != VERSION:
        raise StoreFault(
            root.where("version"),
            f"it says version `{version.strip()[:40]}`, and this `resolver` writes `{VERSION}`",
            f"use the `resolver` that made it, or {_ANOTHER}",
        )
    return version or None


def _is_marked(root: Folder) -> bool:
    tag = _small(root, "CACHEDIR.TAG")
    return tag is not None and tag.startswith(_SIGNATURE) and _MARK in tag


def _is_foreign(root: Folder) -> bool:
    """Whether something is in here that an interrupted first write cannot have left."""
    rest = set(root.entries()) - _NOT_FOREIGN
    if rest - {"tmp"}:
        return True
    tmp = root.enter("tmp")
    if tmp is None:
        return False
    with tmp:
        return not all(TEMPORARY.fullmatch(name) for name in tmp.entries())


def _has_our_shape(root: Folder) -> bool:
    """Whether this is a store that lost its mark, as one does that came back from a cache."""
    entries = set(root.entries()) - _NOT_FOREIGN
    return _ALWAYS <= entries <= _OURS


def _keep_to_oneself(root: Folder) -> None:
    """Take an empty folder's write permission from everyone else, where it is ours to take."""
    with faults(root.path):
        status = os.fstat(root.descriptor)
        if status.st_uid == os.geteuid() and status.st_mode & 0o022:
            os.fchmod(root.descriptor, status.st_mode & 0o755)


def _small(root: Folder, name: str) -> str | None:
    """Read a small text file; None if there is none."""
    file = root.open(name)
    if file is None:
        return None
    with file:
        return next(file.chunks(1024), b"").decode("utf-8", "replace")
