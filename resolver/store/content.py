"""Content in a store: asked for, taken in, and kept from being collected while it is needed."""

from __future__ import annotations

import errno
import os
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.events import Warned, ignore
from resolver.errors import BlobNotFound, LimitExceeded, StoreFault
from resolver.store.blobs import MAX_DOCUMENT, Blobs
from resolver.store.home import Home
from resolver.store.lock import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from resolver.core.content import Document
    from resolver.core.descriptor import Descriptor
    from resolver.core.digest import Digest
    from resolver.core.events import Observer
    from resolver.core.stored import Living
    from resolver.store.files import Folder
    from resolver.store.leases import Lease, Leases
    from resolver.store.receiving import Receiving
    from resolver.store.transfers import Transfers

_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
#: Seconds that a resolve waits to note what it found; the answer does not depend on it.
BRIEFLY = 5.0


class StoredContent:
    """The part of a `LocalStore` that knows digests and no names; see there."""

    def __init__(
        self,
        root: Path,
        *,
        fsync: bool = True,
        lock: bool = True,
        shared: bool = False,
        patience: Patience | None = None,
        observe: Observer = ignore,
    ) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links
        self._observe = observe
        self._home = Home(
            self.root,
            sync=fsync,
            lock=lock,
            patience=patience or Patience(),
            shared=shared,
            observe=observe,
        )
        self._blobs = Blobs(self._home, observe)
        self._giving_up = threading.Lock()
        self._gave_up = False

    @cached_property
    def _transfers(self) -> Transfers:
        """What brings content in; loaded when first needed, since asking needs none of it."""
        from resolver.store.transfers import Transfers  # noqa: PLC0415 - for pulls alone

        return Transfers(self._home, self._blobs.held)

    @cached_property
    def _leases(self) -> Leases:
        from resolver.store.leases import Leases  # noqa: PLC0415 - for pulls alone

        return Leases(self._home)

    def writing(self) -> AbstractContextManager[Folder]:
        """Keep collection away for the length of a block: from the first look to the name (R36).

        Raises:
            StoreFault: the store cannot be written, or must not be.

        """
        return self._home.writing()

    # Content

    def load(
        self, digest: Digest, size: int | None = None, limit: int = MAX_DOCUMENT
    ) -> bytes | None:
        """Read content by digest alone, hashed again; None if it is not here, or damaged.

        Raises:
            SizeMismatch: it is here, and has not the `size` that was stated, in bytes.
            LimitExceeded: it is here, and has more than `limit` bytes.
            StoreFault: it cannot be read.

        """
        return self._blobs.load(digest, size, limit)

    def read(self, descriptor: Descriptor) -> bytes:
        """Read a document whole, verified.

        Raises:
            BlobNotFound: it is not here, or damaged.
            Untrusted: it is not what the descriptor says, or too large to be a document.
            StoreFault: it cannot be read.

        """
        if descriptor.size > MAX_DOCUMENT:
            raise LimitExceeded(f"`{descriptor.digest}`", MAX_DOCUMENT, descriptor.size)
        body = self.load(descriptor.digest, descriptor.size)
        if body is None:
            raise BlobNotFound(str(descriptor.digest), str(self.root))
        return body

    def has(self, descriptor: Descriptor) -> bool:
        """Whether content is here, by its size; nothing is read."""
        return self._blobs.has(descriptor)

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Stream content; the caller verifies.

        Raises:
            BlobNotFound: it is not here.
            StoreFault: it cannot be read.

        """
        return self._blobs.open(descriptor)

    def add(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        """Take in content, all of it and verified, or nothing; what is held is not asked for.

        Raises:
            Untrusted: other bytes came.
            StoreFault: they cannot be written.

        """
        self._blobs.add(descriptor, chunks)

    def add_document(self, document: Document) -> None:
        """Take in a document.

        Raises:
            Untrusted: its bytes are not what its descriptor says.
            StoreFault: they cannot be written.

        """
        self._blobs.add(document.descriptor, (document.body,))

    def try_add(self, document: Document, observe: Observer | None = None) -> bool:
        """Take in a document if possible; a store that cannot be written is said once.

        For work whose answer does not depend on the store. After the first failure this store is
        not tried again, so that a batch does not wait for the same lock a hundred times.

        Raises:
            Untrusted: its bytes are not what its descriptor says.

        """
        return self._attempt(
            lambda: self._blobs.add(document.descriptor, (document.body,), seconds=BRIEFLY),
            observe,
        )

    def held(self, descriptor: Descriptor, *, full: bool = False) -> bool:
        """Whether content is here and may be used as it is (R39).

        Args:
            descriptor: what it must be.
            full: hash large blobs too; documents are hashed in any case.

        Raises:
            StoreFault: it cannot be read.

        """
        return self._blobs.held(descriptor, full=full)

    # Transfers

    def receive(
        self, descriptor: Descriptor, *, waiting: Callable[[], None] | None = None
    ) -> AbstractContextManager[Receiving | None]:
        """Take in a blob piece by piece; None if there is nothing to do, since it is here.

        While another process fetches the same blob this waits: until the blob is here, or until
        that process has ended, and then goes on where it stopped. Leaving the block without
        `finish` keeps what has come for the next transfer.

        Args:
            descriptor: what it must be.
            waiting: called again and again while another process is at it; may raise to give up.

        Raises:
            StoreFault: it cannot be written, or the other process makes no progress.

        """
        return self._transfers.receive(descriptor, waiting)

    def record_transfers(self) -> None:
        """Note how far the transfers of this process have got, before it ends."""
        self._transfers.record()

    def partial(self, descriptor: Descriptor) -> int:
        """Count the bytes that a transfer of this blob need not fetch again.

        Raises:
            StoreFault: the store cannot be read.

        """
        return self._transfers.had(descriptor)

    def lease(
        self, digests: Iterable[Digest] = (), purpose: str = "", *, needed: bool = True
    ) -> AbstractContextManager[Lease]:
        """Keep content from being collected for the length of a block, in every process.

        Take it before the first look at what is here: whatever is added from then on stays too.
        `Lease.add` lists what was here before, as soon as it is known to be needed.

        Args:
            digests: of what is needed.
            purpose: what a person is told who wants to remove it: "pull docker.io/library/app:1".
            needed: False goes without a lease where the store cannot be written.

        Raises:
            StoreFault: it cannot be written.

        """
        return self._leases.hold(digests, purpose, needed=needed)

    def leases(self) -> tuple[Living, ...]:
        """List who is using the store right now.

        Raises:
            StoreFault: it cannot be read.

        """
        root = self._home.open_store()
        if root is None:
            return ()
        from resolver.store.leases import living  # noqa: PLC0415 - for collection alone

        with root:
            return living(root)

    def in_use(self) -> frozenset[Digest]:
        """List what somebody is using right now.

        Raises:
            StoreFault: the store cannot be read.

        """
        return frozenset(digest for lease in self.leases() for digest in lease.digests)

    def _attempt(self, act: Callable[[], object], observe: Observer | None) -> bool:
        with self._giving_up:
            if self._gave_up:
                return False
        try:
            act()
        except StoreFault as error:
            self._give_up(error, observe or self._observe)
            return False
        return True

    def _give_up(self, error: StoreFault, observe: Observer) -> None:
        with self._giving_up:
            first = not self._gave_up
            self._gave_up = True
        if first:
            cause = error.__cause__
            read_only = isinstance(cause, OSError) and cause.errno in _READ_ONLY
            code = "store-read-only" if read_only else "store-unwritable"
            observe(Warned(code, f"nothing is kept: {error}"))
