"""Content by digest, verified when it is added and when it is read."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resolver.core.oci.digest import Verifier
from resolver.core.results.events import Warned
from resolver.errors import BlobNotFound, LimitExceeded, SizeMismatch, StoreFault
from resolver.store.files import aside, temporary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.results.events import Observer
    from resolver.store.files import File, StoreFolder
    from resolver.store.folder import Home

#: Largest document, in bytes (docs/wire-protocol.md, "Manifest verification").
MAX_DOCUMENT = 4_194_304
#: Seconds a reader waits for the lock to set a damaged file aside.
_BRIEFLY = 2.0


class Blobs:
    """The `blobs` folder of a store.

    A file that does not match its digest counts as absent and is set aside as soon as the store can
    be written. Only regular files are opened.
    """

    def __init__(self, home: Home, observe: Observer) -> None:
        self._home = home
        self._observe = observe
        self._proven: set[tuple[Digest, int, int]] = set()

    def load(self, digest: Digest, size: int | None, limit: int = MAX_DOCUMENT) -> bytes | None:
        """Return verified content; None if it is absent or damaged.

        Args:
            digest: of the content.
            size: stated by a descriptor, in bytes; None if unknown.
            limit: most bytes to hold in memory.

        Raises:
            SizeMismatch: the stated size is wrong (docs/store-and-reliability.md, "One digest one
                size").
            LimitExceeded: it is larger than `limit`.
            StoreFault: it cannot be read.

        """
        with self._file(digest) as file:
            if file is None:
                return None
            intact, body = examine(file, digest, limit)
            status = file.status
        if not intact:
            self.put_aside(digest, status)
            return None
        what = f"`{digest}` in the store"
        if size is not None and status.st_size != size:
            raise SizeMismatch(what, size, status.st_size)
        if body is None:
            raise LimitExceeded(what, limit, status.st_size)
        return body

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a regular file of the right size is present; nothing is read."""
        with self._folder(descriptor.digest) as folder:
            status = folder.look(descriptor.digest.hex) if folder is not None else None
        if status is None or not stat.S_ISREG(status.st_mode):
            return False
        return status.st_size == descriptor.size

    def held(self, descriptor: Descriptor, *, full: bool = False) -> bool:
        """Whether content can be used: documents are hashed here, large blobs when they are read.

        Without fsync a power cut may leave files of the right size with wrong bytes, so large blobs
        are hashed too, once (docs/store-and-reliability.md, "fsync and --no-fsync").

        Raises:
            StoreFault: it cannot be read.

        """
        digest = descriptor.digest
        with self._folder(digest) as folder:
            if folder is None or full or self._home.sync:
                return folder is not None and _may_be_used(folder, descriptor, full=full)
            status = folder.look(digest.hex)
            if status is None:
                return False
            proof = (digest, status.st_ino, status.st_mtime_ns)
            if proof in self._proven:
                return status.st_size == descriptor.size
            is_good = _may_be_used(folder, descriptor, full=True)
            if is_good:
                self._proven.add(proof)
            return is_good

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Stream content whose file has the right size; the caller must verify it.

        Raises:
            BlobNotFound: it is absent.
            StoreFault: it cannot be read.

        """
        with self._file(descriptor.digest) as file:
            if file is None or file.status.st_size != descriptor.size:
                raise BlobNotFound(str(descriptor.digest), str(self._home.root))
            yield file.chunks()

    def add(
        self, descriptor: Descriptor, chunks: Iterable[bytes], *, seconds: float | None = None
    ) -> None:
        """Add verified content, or nothing; `chunks` is not read if the content is present.

        Args:
            descriptor: of the content.
            chunks: its bytes, in order.
            seconds: to wait for the store's lock; None for the default.

        Raises:
            Untrusted: the bytes do not match the descriptor.
            StoreFault: they cannot be written.

        """
        digest = descriptor.digest
        with self._home.writing(seconds=seconds) as root:
            with root.need("blobs", digest.algorithm) as folder:
                if _may_be_used(folder, descriptor, freshen=True):
                    return
            with root.need("tmp") as tmp, temporary(tmp, sync=self._home.sync) as file:
                verifier = Verifier(digest, descriptor.size, f"`{digest}`")
                for chunk in chunks:
                    verifier.update(chunk)
                    file.write(chunk)
                verifier.finish()
                with root.need("blobs", digest.algorithm) as folder:
                    file.publish(folder, digest.hex, mode=0o444, sync_folder=False)
                    self._home.sync_folder(folder, "blobs", digest.algorithm)

    def put_aside(self, digest: Digest, status: os.stat_result) -> None:
        """Move a damaged file to `tmp` if the store can be written.

        Args:
            digest: of the content.
            status: of the damaged file.

        """
        where = f"{self._home.root}/blobs/{digest.algorithm}/{digest.hex}"
        self._observe(
            Warned("store-damaged", f"`{where}` is damaged and treated as absent; it is read again")
        )
        try:
            with (
                self._home.writing(seconds=_BRIEFLY) as root,
                root.need("tmp") as tmp,
                root.need("blobs", digest.algorithm) as folder,
            ):
                _move_only(folder, digest.hex, tmp, status)
        except StoreFault:
            return

    @contextmanager
    def _folder(self, digest: Digest) -> Iterator[StoreFolder | None]:
        # Content that cannot be verified is never stored.
        root = self._home.open() if digest.is_verifiable else None
        if root is None:
            yield None
            return
        with root:
            folder = root.enter("blobs", digest.algorithm)
            if folder is None:
                yield None
                return
            with folder:
                yield folder

    @contextmanager
    def _file(self, digest: Digest) -> Iterator[File | None]:
        """Open a blob; warn about anything that is not a regular file, and treat it as absent."""
        with self._folder(digest) as folder:
            file = folder.open(digest.hex) if folder is not None else None
            if file is None and folder is not None and folder.look(digest.hex) is not None:
                where = folder.where(digest.hex)
                self._observe(
                    Warned("store-not-a-file", f"`{where}` is not a regular file and is not opened")
                )
        if file is None:
            yield None
            return
        with file:
            yield file


def _may_be_used(
    folder: StoreFolder, descriptor: Descriptor, *, full: bool = False, freshen: bool = False
) -> bool:
    file = folder.open(descriptor.digest.hex)
    if file is None:
        return False
    with file:
        if file.status.st_size != descriptor.size:
            return False
        is_good = (descriptor.size > MAX_DOCUMENT and not full) or examine(
            file, descriptor.digest, 0
        )[0]
        if is_good and freshen:
            file.freshen()
        return is_good


def examine(file: File, digest: Digest, limit: int) -> tuple[bool, bytes | None]:
    """Hash a file; return whether it matches, and its bytes if no more than `limit`."""
    hasher = hashlib.new(digest.algorithm)
    kept: list[bytes] | None = [] if file.status.st_size <= limit else None
    count = 0
    for chunk in file.chunks():
        hasher.update(chunk)
        count += len(chunk)
        if count > limit:
            kept = None
        if kept is not None:
            kept.append(chunk)
    intact = hasher.hexdigest() == digest.hex
    return intact, b"".join(kept) if kept is not None and intact else None


def _move_only(folder: StoreFolder, name: str, tmp: StoreFolder, status: os.stat_result) -> None:
    """Move the damaged file, but not a good one that has replaced it."""
    current = folder.look(name)
    if current is None or not os.path.samestat(current, status):
        return
    moved_to = aside()
    folder.move(name, tmp, moved_to)
    moved = tmp.look(moved_to)
    if moved is not None and not os.path.samestat(moved, status):
        tmp.put_back(moved_to, folder, name)
