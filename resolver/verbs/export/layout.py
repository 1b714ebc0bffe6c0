"""Write OCI layouts in folders, safely with any number of processes.

`index.json` is the one shared file. It is read, merged and replaced under a lock on the folder
itself, which leaves nothing behind; blobs need no lock, since they are named by their digests.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import OCI_INDEX
from resolver.core.oci.digest import Verifier
from resolver.core.oci.manifest import MAX_DOCUMENT, parse_document
from resolver.core.parse.json import read_object
from resolver.errors import (
    BadDocument,
    BlobNotFound,
    ExportFault,
    LimitExceeded,
    UnsupportedDocument,
)
from resolver.sources.local.layout import IMAGE_NAME, REF_NAME, names_of
from resolver.store import Patience
from resolver.store.files import File, StoreFolder
from resolver.values import dataclass
from resolver.verbs.export.bundle import MARKER, described, entry, index, named, referrers
from resolver.verbs.output_files import fresh, rename, sweep, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.results.export import ExportedImage
    from resolver.verbs.export.bundle import ExportBundle


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
        sync: make copies outlive a power cut.
        link: make hard links where that is possible.
    """

    def __init__(self, store: Path, layout: StoreFolder, *, sync: bool, link: bool = False) -> None:
        self._store = str(store)
        self._layout = layout
        self._sync = sync
        self._clones = True
        self._links = link
        self.tally = Tally()

    def place(self, piece: Descriptor) -> None:
        """Put a blob of the store into the layout."""
        with self._folder(piece) as folder:
            if self._is_there(folder, piece) and not self._is_unwanted_link(folder, piece):
                self.tally.present += piece.size
                return
            with self._source(piece) as source:
                if self._link(source, folder, piece) or self._clone(source, folder, piece):
                    self.tally.linked += piece.size
                    return
                self._copy(source.chunks(_CHUNK), folder, piece)

    def has(self, piece: Descriptor) -> bool:
        """Whether the layout has a blob; its bytes are read and hashed."""
        with self._folder(piece) as folder:
            return self._is_there(folder, piece)

    def write(self, piece: Descriptor, chunks: Iterable[bytes]) -> None:
        """Put content into the layout that no store holds."""
        with self._folder(piece) as folder:
            if self._is_there(folder, piece):
                self.tally.present += piece.size
            else:
                self._copy(chunks, folder, piece)

    def _folder(self, piece: Descriptor) -> StoreFolder:
        """Open the folder it belongs into, making it as needed."""
        with _inside(self._layout, "blobs") as blobs:
            return _inside(blobs, piece.digest.algorithm)

    def _is_there(self, folder: StoreFolder, piece: Descriptor) -> bool:
        """Whether an earlier export wrote all of it; anything but a regular file is replaced."""
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

    def _is_unwanted_link(self, folder: StoreFolder, piece: Descriptor) -> bool:
        """Whether an earlier export made a hard link to the store, and none is requested now."""
        if self._links:
            return False
        name = piece.digest.hex
        with suppress(BlobNotFound), self._source(piece) as source, writing(folder.where(name)):
            there = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
            return os.path.samestat(there, source.status)
        return False

    def _source(self, piece: Descriptor) -> File:
        file = None
        root = StoreFolder.at(self._store)
        if root is not None:
            with root:
                blobs = root.enter("blobs", piece.digest.algorithm)
                if blobs is not None:
                    with blobs:
                        file = blobs.open(piece.digest.hex)
        if file is None:
            raise BlobNotFound(str(piece.digest), self._store)
        return file

    def _clone(self, source: File, folder: StoreFolder, piece: Descriptor) -> bool:
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

    def _link(self, source: File, folder: StoreFolder, piece: Descriptor) -> bool:
        """Add a hard link to the store's file; it is read-only under both names."""
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

    def _copy(self, chunks: Iterable[bytes], folder: StoreFolder, piece: Descriptor) -> None:
        verifier = Verifier(piece.digest, piece.size, f"`{piece.digest}` in the store")
        with fresh(self._layout) as file:
            for chunk in chunks:
                verifier.update(chunk)
                file.write(chunk)
            verifier.finish()
            file.settle(folder, piece.digest.hex, sync=self._sync, mode=_MODE)
        self.tally.written += piece.size


def _inside(folder: StoreFolder, name: str) -> StoreFolder:
    """Open a folder of the layout; a link in its place is refused."""
    path = folder.where(name)
    with writing(path):
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=folder.descriptor)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return StoreFolder(os.open(name, flags, dir_fd=folder.descriptor), path)


def _verify(source: File, piece: Descriptor) -> None:
    verifier = Verifier(piece.digest, piece.size, f"`{piece.digest}` in the store")
    for chunk in source.chunks(_CHUNK):
        verifier.update(chunk)
    verifier.finish()


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BUSY = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})
_STEP = 0.05
#: What others keep in a folder that is otherwise empty.
_NOT_FOREIGN = frozenset({"lost+found", ".DS_Store", ".gitignore", ".gitkeep"})


class LayoutWriter:
    """A layout in a folder that images are copied into; `index.json` is replaced last.

    Args:
        path: of the folder; created by the first write.
        sync: make it outlive a power cut.
        patience: how long to wait for another process that is changing `index.json`.
    """

    def __init__(self, path: str, *, sync: bool, patience: Patience | None = None) -> None:
        self._path = path
        self._sync = sync
        self._patience = patience or Patience()

    def current(self, name: str) -> Descriptor | None:
        """Return what a name means in the layout; None if there is no such name, or no layout."""
        if not Path(self._path, "oci-layout").exists():
            return None
        with _opened(self._path) as folder:
            body = _small(folder, "index.json")
            if body is None:
                return None
            what = f"`{folder.where('index.json')}`"
            index = parse_document(body, OCI_INDEX, what)
        found = [each for each in getattr(index, "manifests", ()) if name in names_of(each)]
        return found[0] if len(found) == 1 else None

    def has(self, piece: Descriptor) -> bool:
        """Whether the layout has all of a blob."""
        path = Path(self._path, "blobs", piece.digest.algorithm, piece.digest.hex)
        if not path.exists():
            return False
        with _opened(self._path) as folder:
            return Placer(Path(), folder, sync=self._sync).has(piece)

    def add(self, piece: Descriptor, chunks: Iterable[bytes]) -> None:
        """Write a blob or a document, verified; one that is there stays.

        Raises:
            ExportFault: the folder cannot be written, or has other content.
            Untrusted: the bytes are wrong.
        """
        with _opened(self._path) as folder:
            with _locked(folder, self._patience):
                _adopt(folder, sync=self._sync)
            Placer(Path(), folder, sync=self._sync).write(piece, chunks)

    def name(
        self, tag: str, root: Descriptor, others: Iterable[tuple[str, Descriptor]] = ()
    ) -> None:
        """Add a root and what refers to it to `index.json`, replacing entries of the same name."""
        new = [(tag, root), *others]
        with _opened(self._path) as folder:
            if self._sync:
                _sync_blobs(folder, {each.digest.algorithm for _, each in new})
            with _locked(folder, self._patience):
                _adopt(folder, sync=self._sync)
                old, entries = _entries(folder)
                names = {name for name, _ in new if name}
                bare = {str(each.digest) for name, each in new if not name}
                listed = [
                    each
                    for each in entries
                    if not names.intersection(_annotation(each, REF_NAME).split(","))
                    and not (each.get("digest") in bare and not _full_name(each))
                ]
                for name, each in new:
                    written = described(each)
                    if each.artifact_type:
                        written["artifactType"] = each.artifact_type
                    if name:
                        written["annotations"] = {REF_NAME: name}
                    listed.append(written)
                _put(folder, "index.json", _index_body(folder, old, listed), sync=self._sync)


@dataclass(frozen=True, slots=True)
class LayoutOptions:
    """How a layout is written.

    Attributes:
        sync: make it outlive a power cut.
        link: share files with the store as hard links; changing one changes both.
        patience: how long to wait for another process that is changing the same `index.json`.
    """

    sync: bool = True
    link: bool = False
    patience: Patience = field(default_factory=Patience)


def write_layout(
    bundle: ExportBundle, store: Path, path: str, options: LayoutOptions, check: Callable[[], None]
) -> tuple[tuple[ExportedImage, ...], Tally]:
    """Write a bundle into a layout; return its names there.

    An image of the same name is replaced, all others stay. Nothing is visible before `index.json`
    is replaced, the last step; after a failure nothing ever is.
    """
    folder = _opened(path)
    with folder:
        with _locked(folder, options.patience):
            _adopt(folder, sync=options.sync)
            sweep(folder)
            _merged(folder, bundle)
        placer = Placer(store, folder, sync=options.sync, link=options.link)
        for piece in bundle.pieces:
            check()
            made = bundle.made.get(piece.digest)
            if made is None:
                placer.place(piece)
            else:
                placer.write(piece, (made,))
        if options.sync:
            _sync_blobs(folder, {piece.digest.algorithm for piece in bundle.pieces})
        with _locked(folder, options.patience):
            images, body = _merged(folder, bundle)
            _put(folder, "index.json", body, sync=options.sync)
    return images, placer.tally


def _opened(path: str) -> StoreFolder:
    with writing(path):
        Path(path).mkdir(parents=True, exist_ok=True)
        return StoreFolder(os.open(path, _FOLDER), path)


@contextmanager
def _locked(folder: StoreFolder, patience: Patience) -> Iterator[None]:
    """Hold the folder for the length of a block; the kernel frees it if we die."""
    deadline = patience.clock() + patience.seconds
    with writing(folder.path):
        descriptor = os.open(".", _FOLDER, dir_fd=folder.descriptor)
    try:
        while not _try_lock(descriptor, folder.path):
            if patience.clock() >= deadline:
                raise ExportFault(
                    folder.path,
                    f"another process has held the folder for {patience.seconds:.0f} s",
                    "find it with `fuser`, then wait for it or end it",
                )
            patience.sleep(_STEP)
        # Refuse to write into a folder that was removed or replaced while we waited for it.
        with writing(folder.path):
            try:
                current = Path(folder.path).stat()
            except FileNotFoundError:
                current = None
            if current is None or not os.path.samestat(current, os.fstat(folder.descriptor)):
                raise ExportFault(folder.path, "it was removed while it was in use", "try again")
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, path: str) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise ExportFault(
            path, "this file system has no locks", "export to a local folder, then copy it"
        ) from error
    return True


def _adopt(folder: StoreFolder, *, sync: bool) -> None:
    """Make sure that the folder is a layout, or make an empty one into one."""
    body = _small(folder, "oci-layout")
    if body is not None:
        what = f"`{folder.where('oci-layout')}`"
        version = read_object(body, what).get("imageLayoutVersion")
        if not isinstance(version, str) or not version.startswith("1."):
            reason = "its version is not supported"
            raise UnsupportedDocument(what, "imageLayoutVersion", reason, "name another folder")
        return
    with writing(folder.path):
        # pathlib cannot list an open descriptor.
        names = set(os.listdir(folder.descriptor)) - _NOT_FOREIGN  # noqa: PTH208
    if any(not name.startswith(".resolver-") for name in names):
        reason = "it is neither empty nor an OCI layout"
        raise ExportFault(folder.path, reason, "name a new folder, or an empty one")
    _put(folder, "oci-layout", MARKER, sync=sync)


def _merged(folder: StoreFolder, bundle: ExportBundle) -> tuple[tuple[ExportedImage, ...], bytes]:
    """Merge a bundle into `index.json`; return its names there and the new body."""
    old, entries = _entries(folder)
    beside = referrers(bundle.packed)
    names = {*beside, *(each.name for each in bundle.packed)}
    staying = [each for each in entries if _full_name(each) not in names]
    images = named(bundle.packed, {_annotation(each, REF_NAME) for each in staying})
    new = {image.name: entry(image) for image in images} | beside
    listed: list[dict[str, object]] = []
    for each in entries:
        # In the place of the old one, so that the order stays; the first of several.
        ours = _full_name(each)
        if ours not in names:
            listed.append(each)
        elif ours in new:
            listed.append(new.pop(ours))
    listed += new.values()
    return images, _index_body(folder, old, listed)


def _entries(folder: StoreFolder) -> tuple[dict[str, object], list[dict[str, object]]]:
    """Read the members of `index.json` and its entries; both empty if there is none."""
    body = _small(folder, "index.json")
    if body is None:
        return {}, []
    what = f"`{folder.where('index.json')}`"
    parse_document(body, OCI_INDEX, what)
    old = read_object(body, what)
    written = old["manifests"]
    entries = written if isinstance(written, list) else []
    return old, [each for each in entries if isinstance(each, dict)]


def _index_body(
    folder: StoreFolder, old: dict[str, object], listed: list[dict[str, object]]
) -> bytes:
    """Write `index.json`, with the other members that it had."""
    text = json.dumps({**index(()), **old, "manifests": listed}, separators=(",", ":"))
    if len(text) > MAX_DOCUMENT:
        raise LimitExceeded(f"`{folder.where('index.json')}`", MAX_DOCUMENT, len(text))
    return text.encode()


def _full_name(raw: dict[str, object]) -> str:
    return _annotation(raw, IMAGE_NAME) or _annotation(raw, REF_NAME)


def _annotation(raw: dict[str, object], key: str) -> str:
    annotations = raw.get("annotations")
    value = annotations.get(key) if isinstance(annotations, dict) else None
    return value if isinstance(value, str) else ""


def _small(folder: StoreFolder, name: str) -> bytes | None:
    path = folder.where(name)
    with writing(path):
        try:
            descriptor = os.open(name, _READ, dir_fd=folder.descriptor)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BadDocument(f"`{path}`", "", "it is not a regular file")
        with os.fdopen(descriptor, "rb") as file:
            body = file.read(MAX_DOCUMENT + 1)
    if len(body) > MAX_DOCUMENT:
        raise LimitExceeded(f"`{path}`", MAX_DOCUMENT, len(body))
    return body


def _put(folder: StoreFolder, name: str, body: bytes, *, sync: bool) -> None:
    with fresh(folder) as file:
        file.write(body)
        file.settle(folder, name, sync=sync)


def _sync_blobs(folder: StoreFolder, algorithms: Iterable[str]) -> None:
    """Sync the folders of blobs before `index.json` refers to them."""
    blobs = folder.enter("blobs")
    if blobs is None:
        return
    with blobs:
        for algorithm in sorted(algorithms):
            inner = blobs.enter(algorithm)
            if inner is not None:
                with inner:
                    inner.sync()
        blobs.sync()
    folder.sync()
