"""Placing blobs in a layout: as copies that share blocks with the store, else as plain copies.

Hard links are made only on request: what is written to such a file changes the store as well.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from resolver.core.digest import Verifier
from resolver.errors import BlobNotFound, ExportFault
from resolver.flow.outputs import fresh, rename, writing
from resolver.store.files import File, Folder
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from resolver.core.descriptor import Descriptor

#: Source: Linux include/uapi/linux/fs.h, FICLONE: both files share their blocks from now on.
_FICLONE = 0x40049409
_CHUNK = 1 << 20
#: Of blobs: what is named by its digest never changes.
_MODE = 0o444
#: Why a file system shares nothing, now or ever.
_CANNOT = frozenset(
    {
        errno.EOPNOTSUPP,
        errno.ENOTTY,
        errno.EXDEV,
        errno.EINVAL,
        errno.EPERM,
        errno.EACCES,
        errno.ENOSYS,
        errno.EROFS,
        errno.EBADF,
    }
)


@dataclass(slots=True)
class Tally:
    """How blobs came to be in a layout, in bytes."""

    present: int = 0
    linked: int = 0
    written: int = 0


class Placer:
    """Puts blobs of a store into the `blobs` of a layout; every byte is hashed on the way.

    Args:
        store: the folder of the store.
        layout: open, as long as this is used.
        sync: make copies outlive a power cut.
        link: make hard links where that is possible.

    """

    def __init__(self, store: Path, layout: Folder, *, sync: bool, link: bool = False) -> None:
        self._store = str(store)
        self._layout = layout
        self._sync = sync
        self._clones = True
        self._links = link
        self.tally = Tally()

    def place(self, piece: Descriptor) -> None:
        """Put a blob of the store into the layout.

        Raises:
            BlobNotFound: the store does not hold it.
            Untrusted: what the store holds is not what its name says.
            StoreFault, ExportFault: it cannot be read, or written.

        """
        with self._folder(piece) as folder:
            if self._is_there(folder, piece) and not self._is_unwanted_link(folder, piece):
                self.tally.present += piece.size
                return
            with self._source(piece) as source:
                if self._link(source, folder, piece) or self._clone(source, folder, piece):
                    self.tally.linked += piece.size
                    return
                self._copy(source.chunks(_CHUNK), folder, piece)

    def write(self, piece: Descriptor, body: bytes) -> None:
        """Put a document into the layout that no store holds."""
        with self._folder(piece) as folder:
            if self._is_there(folder, piece):
                self.tally.present += piece.size
            else:
                self._copy((body,), folder, piece)

    def _folder(self, piece: Descriptor) -> Folder:
        """Open the folder it belongs into, making it as needed."""
        with _inside(self._layout, "blobs") as blobs:
            return _inside(blobs, piece.digest.algorithm)

    def _is_there(self, folder: Folder, piece: Descriptor) -> bool:
        """Whether an earlier export left it, every byte of it; what is no such file is replaced."""
        path = folder.where(piece.digest.hex)
        with writing(path):
            try:
                status = os.stat(piece.digest.hex, dir_fd=folder.descriptor, follow_symlinks=False)
            except FileNotFoundError:
                return False
            if stat.S_ISDIR(status.st_mode):
                raise ExportFault(path, "there is a folder in its place", "remove it")
            if not stat.S_ISREG(status.st_mode) or status.st_size != piece.size:
                return False
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(piece.digest.hex, flags, dir_fd=folder.descriptor)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                found = hashlib.file_digest(file, lambda: hashlib.new(piece.digest.algorithm))
        return found.hexdigest() == piece.digest.hex

    def _is_unwanted_link(self, folder: Folder, piece: Descriptor) -> bool:
        """Whether an earlier export left a hard link to the store, and none is wanted now."""
        if self._links:
            return False
        name = piece.digest.hex
        with suppress(BlobNotFound), self._source(piece) as source, writing(folder.where(name)):
            there = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
            return os.path.samestat(there, source.status)
        return False

    def _source(self, piece: Descriptor) -> File:
        """Open a blob of the store."""
        file = None
        root = Folder.at(self._store)
        if root is not None:
            with root:
                blobs = root.enter("blobs", piece.digest.algorithm)
                if blobs is not None:
                    with blobs:
                        file = blobs.open(piece.digest.hex)
        if file is None:
            raise BlobNotFound(str(piece.digest), self._store)
        return file

    def _clone(self, source: File, folder: Folder, piece: Descriptor) -> bool:
        """Share the blocks of the file (btrfs, XFS, bcachefs); the copy has a life of its own."""
        if not self._clones:
            return False
        with fresh(self._layout) as file:
            try:
                fcntl.ioctl(file.descriptor, _FICLONE, source.descriptor)
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise ExportFault(folder.where(piece.digest.hex), str(error)) from error
                self._clones = False
                return False
            _verify(source, piece)
            file.settle(folder, piece.digest.hex, sync=self._sync, mode=_MODE)
        return True

    def _link(self, source: File, folder: Folder, piece: Descriptor) -> bool:
        """Give the very file of the store a second name; it is read-only under both."""
        if not self._links:
            return False
        _verify(source, piece)
        name = f".resolver-{os.urandom(16).hex()}"
        layout = self._layout.descriptor
        try:
            try:
                os.link(source.path, name, dst_dir_fd=layout, follow_symlinks=False)
            except OSError as error:
                self._links = error.errno not in _CANNOT
                return False
            linked = os.stat(name, dir_fd=layout, follow_symlinks=False)
            if not os.path.samestat(linked, source.status):
                # Something else has the name by now; what was verified is still open, to copy.
                return False
            with writing(folder.where(piece.digest.hex)):
                rename(self._layout, name, folder, piece.digest.hex)
        finally:
            # A rename onto another name of the same file succeeds and does nothing (rename(2)).
            with suppress(OSError):
                os.unlink(name, dir_fd=layout)
        return True

    def _copy(self, chunks: Iterable[bytes], folder: Folder, piece: Descriptor) -> None:
        verifier = Verifier(piece.digest, piece.size, f"`{piece.digest}` in the store")
        with fresh(self._layout) as file:
            for chunk in chunks:
                verifier.update(chunk)
                file.write(chunk)
            verifier.finish()
            file.settle(folder, piece.digest.hex, sync=self._sync, mode=_MODE)
        self.tally.written += piece.size


def _inside(folder: Folder, name: str) -> Folder:
    """Open a folder of the layout; a link in its place is refused."""
    path = folder.where(name)
    with writing(path):
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=folder.descriptor)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return Folder(os.open(name, flags, dir_fd=folder.descriptor), path)


def _verify(source: File, piece: Descriptor) -> None:
    verifier = Verifier(piece.digest, piece.size, f"`{piece.digest}` in the store")
    for chunk in source.chunks(_CHUNK):
        verifier.update(chunk)
    verifier.finish()
