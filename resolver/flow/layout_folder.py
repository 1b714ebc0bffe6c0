"""OCI layouts in folders: made, and added to by any number of processes at once.

`index.json` is the one file they share. It is read, merged and replaced under a lock on the
folder itself, which leaves nothing behind; blobs need none, since their names say what they are.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.descriptor import OCI_INDEX
from resolver.core.manifest import MAX_DOCUMENT, parse_document
from resolver.core.strict_json import read_object
from resolver.errors import BadDocument, ExportFault, LimitExceeded, UnsupportedDocument
from resolver.flow.naming import MARKER, entry, index, named, referrers
from resolver.flow.outputs import fresh, sweep, writing
from resolver.flow.placing import Placer
from resolver.sources.layout import IMAGE_NAME, REF_NAME
from resolver.store import Patience
from resolver.store.files import Folder
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.exported import ExportedImage
    from resolver.flow.bundle import Bundle
    from resolver.flow.placing import Tally

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BUSY = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})
_STEP = 0.05
#: What others keep in a folder that is otherwise empty.
_NOT_FOREIGN = frozenset({"lost+found", ".DS_Store", ".gitignore", ".gitkeep"})


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
    bundle: Bundle,
    store: Path,
    path: str,
    options: LayoutOptions,
    check: Callable[[], None],
) -> tuple[tuple[ExportedImage, ...], Tally]:
    """Write a bundle into a layout; gives the names it has there.

    An image of the same name is replaced, all others stay. Until the last moment, when
    `index.json` is replaced, nobody sees anything of it, and after a failure nobody ever does.

    Args:
        bundle: what goes into it.
        store: the folder of the store that holds the content.
        path: of the layout; made if there is nothing, along with the folders above it.
        options: how.
        check: called before every blob; may raise to give up.

    Raises:
        ExportFault: it cannot be written, or is a folder with something else in it.
        Untrusted: a blob of the store, or the `index.json` that is there, is not what it must be.
        NotFound, StoreFault: a blob is gone, or cannot be read.

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
                placer.write(piece, made)
        if options.sync:
            _sync_blobs(folder, bundle)
        with _locked(folder, options.patience):
            images, body = _merged(folder, bundle)
            _put(folder, "index.json", body, sync=options.sync)
    return images, placer.tally


def _opened(path: str) -> Folder:
    with writing(path):
        Path(path).mkdir(parents=True, exist_ok=True)
        return Folder(os.open(path, _FOLDER), path)


@contextmanager
def _locked(folder: Folder, patience: Patience) -> Iterator[None]:
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
                    "see who it is with `fuser`, then wait for it or end it",
                )
            patience.sleep(_STEP)
        _still_there(folder)
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


def _still_there(folder: Folder) -> None:
    """Refuse to write into a folder that was removed or replaced while we waited for it."""
    with writing(folder.path):
        try:
            current = Path(folder.path).stat()
        except FileNotFoundError:
            current = None
        if current is None or not os.path.samestat(current, os.fstat(folder.descriptor)):
            raise ExportFault(folder.path, "it was removed while it was in use", "try again")


def _adopt(folder: Folder, *, sync: bool) -> None:
    """Make sure that the folder is a layout, or make an empty one into one."""
    body = _small(folder, "oci-layout")
    if body is not None:
        what = f"`{folder.where('oci-layout')}`"
        version = read_object(body, what).get("imageLayoutVersion")
        if not isinstance(version, str) or not version.startswith("1."):
            reason = "it is of a version that is not known here"
            raise UnsupportedDocument(what, "imageLayoutVersion", reason, "name another folder")
        return
    with writing(folder.path):
        # pathlib cannot list an open descriptor.
        names = set(os.listdir(folder.descriptor)) - _NOT_FOREIGN  # noqa: PTH208
    if any(not name.startswith(".resolver-") for name in names):
        reason = "it is not empty, and it is no OCI layout"
        raise ExportFault(folder.path, reason, "name a new folder, or an empty one")
    _put(folder, "oci-layout", MARKER, sync=sync)


def _merged(folder: Folder, bundle: Bundle) -> tuple[tuple[ExportedImage, ...], bytes]:
    """Add a bundle to what `index.json` says; gives its names there and the new body."""
    body = _small(folder, "index.json")
    old: dict[str, object] = {}
    entries: list[dict[str, object]] = []
    if body is not None:
        what = f"`{folder.where('index.json')}`"
        parse_document(body, OCI_INDEX, what)
        old = read_object(body, what)
        written = old["manifests"]
        if isinstance(written, list):
            entries = [each for each in written if isinstance(each, dict)]
    beside = referrers(bundle.packed)
    names = {*beside, *(each.name for each in bundle.packed)}
    staying = [each for each in entries if _full_name(each) not in names]
    images = named(bundle.packed, {_annotation(each, REF_NAME) for each in staying})
    new = {image.name: entry(image) for image in images} | beside
    listed: list[dict[str, object]] = []
    for each in entries:
        # In the place of the old one, so that nobody's order changes; the first of several.
        ours = _full_name(each)
        if ours not in names:
            listed.append(each)
        elif ours in new:
            listed.append(new.pop(ours))
    listed += new.values()
    text = json.dumps({**index(()), **old, "manifests": listed}, separators=(",", ":"))
    if len(text) > MAX_DOCUMENT:
        raise LimitExceeded(f"`{folder.where('index.json')}`", MAX_DOCUMENT, len(text))
    return images, text.encode()


def _full_name(raw: dict[str, object]) -> str:
    """Say whose entry it is: the full name, in whichever annotation it stands."""
    return _annotation(raw, IMAGE_NAME) or _annotation(raw, REF_NAME)


def _annotation(raw: dict[str, object], key: str) -> str:
    annotations = raw.get("annotations")
    value = annotations.get(key) if isinstance(annotations, dict) else None
    return value if isinstance(value, str) else ""


def _small(folder: Folder, name: str) -> bytes | None:
    """Read a file of the layout; None if there is nothing."""
    path = folder.where(name)
    with writing(path):
        try:
            descriptor = os.open(name, _READ, dir_fd=folder.descriptor)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BadDocument(f"`{path}`", "", "it is no regular file")
        with os.fdopen(descriptor, "rb") as file:
            body = file.read(MAX_DOCUMENT + 1)
    if len(body) > MAX_DOCUMENT:
        raise LimitExceeded(f"`{path}`", MAX_DOCUMENT, len(body))
    return body


def _put(folder: Folder, name: str, body: bytes, *, sync: bool) -> None:
    with fresh(folder) as file:
        file.write(body)
        file.settle(folder, name, sync=sync)


def _sync_blobs(folder: Folder, bundle: Bundle) -> None:
    """Make the names of blobs outlive a power cut before `index.json` speaks of them."""
    blobs = folder.enter("blobs")
    if blobs is None:
        return
    with blobs:
        for algorithm in sorted({piece.digest.algorithm for piece in bundle.pieces}):
            inner = blobs.enter(algorithm)
            if inner is not None:
                with inner:
                    inner.sync()
        blobs.sync()
    folder.sync()
