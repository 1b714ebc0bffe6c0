"""Chunk indexes of layers, beside the blobs: they tell which spans of a held layer can be reused.

chunks/<alg>-<hex>.index  the index of a held layer, sorted by key
                  .toc    the end of a layer that is not held yet, with its table of contents

Both are hints: a lost or damaged file costs requests, and the digest of the rebuilt layer decides.
The folder is created with its first file. Files go with their blob, or at the next collection.
"""

from __future__ import annotations

import mmap
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from resolver.core.oci.digest import HEX_DIGITS, Digest
from resolver.errors import BadDocument, Malformed
from resolver.store.files import temporary

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from resolver.core.layers.chunked import ChunkIndex
    from resolver.store.files import File, StoreFolder
    from resolver.store.folder import Home

FOLDER = "chunks"
_INDEX, _TOC = ".index", ".toc"


class ChunkFiles:
    """The `chunks` folder of a store; every method raises `StoreFault` if it cannot be used."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def put_index(self, digest: Digest, data: bytes) -> None:
        """Keep the index of a held layer; the end of the layer is not needed any more."""
        self._put(_name(digest, _INDEX), data)
        with self._home.writing() as root:
            _remove(root, _name(digest, _TOC))

    def open_index(self, digest: Digest) -> ChunkIndex | None:
        """Map the index of a layer; None if it is absent or damaged."""
        from resolver.core.layers.chunked import ChunkIndex  # noqa: PLC0415 - not for collection

        with self._file(_name(digest, _INDEX)) as file:
            if file is None:
                return None
            # The map outlives the descriptor, and ends with the last reference to it.
            with suppress(BadDocument, ValueError, OSError):
                mapped = mmap.mmap(file.descriptor, 0, access=mmap.ACCESS_READ)
                return ChunkIndex(memoryview(mapped))
        return None

    def put_toc(self, digest: Digest, end: bytes) -> None:
        """Keep the end of a layer, so that the next plan needs no request for it."""
        self._put(_name(digest, _TOC), end)

    def read_toc(self, digest: Digest, most: int) -> bytes | None:
        """Return the kept end of a layer; None if it is absent or has more than `most` bytes."""
        with self._file(_name(digest, _TOC)) as file:
            if file is None or file.status.st_size > most:
                return None
            return b"".join(file.chunks())

    def indexed(self, most: int) -> list[Digest]:
        """List the layers that have an index, the newest first, at most `most` of them."""
        with self._folder() as folder:
            found = {} if folder is None else folder.statuses()
        newest = sorted(found, key=lambda name: (-found[name].st_mtime_ns, name))
        digests = (_digest(name) for name in newest if name.endswith(_INDEX))
        return [digest for digest in digests if digest is not None][:most]

    @contextmanager
    def _folder(self) -> Iterator[StoreFolder | None]:
        root = self._home.open()
        if root is None:
            yield None
            return
        with root:
            folder = root.enter(FOLDER)
            if folder is None:
                yield None
                return
            with folder:
                yield folder

    @contextmanager
    def _file(self, name: str) -> Iterator[File | None]:
        with self._folder() as folder:
            file = None if folder is None else folder.open(name)
            if file is None:
                yield None
                return
            with file:
                yield file

    def _put(self, name: str, data: bytes) -> None:
        with self._home.writing() as root:
            root.make(FOLDER)
            with (
                root.need(FOLDER) as folder,
                root.need("tmp") as tmp,
                temporary(tmp, sync=self._home.sync) as file,
            ):
                file.write(data)
                # A hint that a power cut takes back is made again.
                file.publish(folder, name, mode=0o600, sync_folder=False)


def remove_with(root: StoreFolder, digest: Digest) -> None:
    """Remove what belongs to a removed blob, while the store is locked."""
    _remove(root, _name(digest, _INDEX))
    _remove(root, _name(digest, _TOC))


def remove_orphans(root: StoreFolder, held: Container[Digest], before: float) -> None:
    """Remove indexes without their blob, and ends of layers last written by `before`."""
    folder = root.enter(FOLDER)
    if folder is None:
        return
    with folder:
        for name, status in folder.statuses().items():
            digest = _digest(name)
            if digest is None:
                continue
            is_lost = name.endswith(_INDEX) and digest not in held
            if is_lost or (name.endswith(_TOC) and status.st_mtime <= before):
                folder.remove(name)


def _name(digest: Digest, kind: str) -> str:
    return f"{digest.algorithm}-{digest.hex}{kind}"


def _digest(name: str) -> Digest | None:
    """Parse the name of a file; None if it is not one of ours."""
    stem = name.removesuffix(_INDEX).removesuffix(_TOC)
    algorithm, _, digits = stem.partition("-")
    if stem == name or len(digits) != HEX_DIGITS.get(algorithm):
        return None
    try:
        return Digest.parse(f"{algorithm}:{digits}")
    except Malformed:
        return None


def _remove(root: StoreFolder, name: str) -> None:
    folder = root.enter(FOLDER)
    if folder is not None:
        with folder:
            folder.remove(name)
