"""LocalStore: the place on this machine where verified content and names are kept."""

from __future__ import annotations

import errno
import os
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import HEX_DIGITS, Digest
from resolver.core.oci.manifest import parse_document
from resolver.core.results.events import Warned
from resolver.core.results.pull_events import ignore
from resolver.errors import BlobNotFound, LimitExceeded, NotFound, StoreFault
from resolver.store.blobs import MAX_DOCUMENT, Blobs
from resolver.store.flock import Patience
from resolver.store.folder import Home
from resolver.store.names import PULLED, SEEN, BadName, NameRecord, Records, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from contextlib import AbstractContextManager

    from resolver.core.platforms.platform import Platform
    from resolver.core.results.pull import PulledName
    from resolver.core.results.pull_events import Observer
    from resolver.core.results.store import (
        ActiveLease,
        Collected,
        DiskUsage,
        Removed,
        Retention,
        StoredImage,
        Verified,
    )
    from resolver.store.files import StoreFolder
    from resolver.store.leases import Lease, Leases
    from resolver.store.receive import BlobWriter, Transfers


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
        from resolver.store.receive import Transfers  # noqa: PLC0415 - for pulls alone

        return Transfers(self._home, self._blobs.held)

    @cached_property
    def _leases(self) -> Leases:
        from resolver.store.leases import Leases  # noqa: PLC0415 - for pulls alone

        return Leases(self._home)

    def writing(self) -> AbstractContextManager[StoreFolder]:
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
    ) -> AbstractContextManager[BlobWriter | None]:
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

    def leases(self) -> tuple[ActiveLease, ...]:
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


class StoredNames(StoredContent):
    """The part of a `LocalStore` that knows references; see there."""

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
        super().__init__(
            root, fsync=fsync, lock=lock, shared=shared, patience=patience, observe=observe
        )
        self._seen = Records(self._home, SEEN, observe)
        self._pulled = Records(self._home, PULLED, observe)

    # What was pulled

    def name(self, record: PulledName, found: Collection[str] = ()) -> PulledName:
        """Note what was pulled, last of all; more platforms of the same root are added to it.

        To be called after every pull, also one that had nothing to do: `pulled_at` says what is
        still used.

        Args:
            record: its content must be in the store before.
            found: algorithms of content that was there already, and beside which nothing was
                added since: who put it there may have died before the disk knew its name.

        Raises:
            StoreFault: it cannot be written, or what it needs is not here.

        """
        from resolver.store.reachable import refuse_incomplete  # noqa: PLC0415 - for pulls alone

        def check(root: StoreFolder, record: PulledName) -> None:
            refuse_incomplete(root, record)
            for algorithm in found if self._home.sync else ():
                with root.need("blobs", algorithm) as folder:
                    folder.sync()

        return self._pulled.put(record, merge=merged, check=check)

    def pulled(self, reference: str) -> PulledName | None:
        """Look up what was pulled under a canonical reference.

        Raises:
            StoreFault: it cannot be read.

        """
        return self._pulled.get(reference)

    def pulled_names(self) -> Iterator[PulledName]:
        """Give everything that was pulled, in no order that means anything.

        Raises:
            StoreFault: it cannot be read.

        """
        return self._pulled.usable()

    def unname(self, reference: str) -> bool:
        """Drop what was pulled under a reference, not its content; False if there was nothing.

        Raises:
            StoreFault: it cannot be removed.

        """
        return self._pulled.drop(reference)

    # What a resolve saw

    def remember(self, record: NameRecord) -> None:
        """Note what a reference points at; to be called after its content was added.

        Raises:
            StoreFault: it cannot be written.

        """
        self._seen.put(record)

    def try_remember(self, record: NameRecord, observe: Observer | None = None) -> bool:
        """Note what a reference points at if possible, as `try_add`."""
        return self._attempt(lambda: self._seen.put(record, seconds=BRIEFLY), observe)

    def recall(self, reference: str) -> NameRecord | None:
        """Look up what a canonical reference pointed at; None if nobody noted it.

        What was pulled answers where no resolve was noted: a cache may have lost the note.

        Raises:
            StoreFault: it cannot be read.

        """
        seen = self._seen.get(reference)
        if seen is not None:
            return seen
        pulled = self._pulled.get(reference)
        return None if pulled is None else NameRecord(reference, pulled.root)

    def names(self) -> Iterator[NameRecord]:
        """Give all names, in no order that means anything.

        Raises:
            StoreFault: they cannot be read.

        """
        return self._seen.usable()

    def entries(self) -> Iterator[NameRecord | BadName]:
        """Give all names, and the files that should be names and cannot be used.

        Raises:
            StoreFault: they cannot be read.
        """
        return self._seen.entries()

    def forget(self, reference: str) -> bool:
        """Drop a name, not what it points at; False if there was none.

        Raises:
            StoreFault: it cannot be removed.

        """
        return self._seen.drop(reference)


class LocalStore(StoredNames):
    """A store in a folder; it is made by the first write, and one that is absent holds nothing.

    Implements `core.content.Source`. Threads and processes may share it freely.

    Args:
        root: the folder.
        fsync: False trades what a power cut may cost for speed; reading hashes anyway.
        lock: False trusts the user that nobody else uses the folder (`--unsafe-no-lock`).
        shared: trust everybody who may write to the folder (`--shared-store`).
        patience: how long to wait for the lock.
        observe: is told about damage, and about a store that cannot be written.

    """

    def resolve(self, name: str) -> Descriptor:
        """Turn a canonical reference, or a digest in text form, into a descriptor.

        Raises:
            NotFound: the store does not know it.
            InvalidDigest: it looks like a digest, and is none.
            BadDocument: it is content, and no document.
            StoreFault: the store cannot be read.

        """
        if name.partition(":")[0] in HEX_DIGITS:
            return self.document(name).descriptor
        # What was pulled is here whole; what was only seen may lead to content that is not.
        known = self.pulled(name) or self.recall(name)
        if known is None:
            raise NotFound(
                f"the store `{self.root}` does not know `{name}`",
                "resolve or pull it once while its registry can be reached",
            )
        return known.root

    def document(self, name: str) -> Document:
        """Read what a canonical reference, or a digest in text form, points at.

        Raises:
            NotFound: the store does not know it, or not its content.
            Untrusted: it is content, and no document.
            StoreFault: the store cannot be read.

        """
        if name.partition(":")[0] in HEX_DIGITS:
            digest = Digest.parse(name)
            body = self.load(digest)
            if body is None:
                raise BlobNotFound(name, str(self.root))
            media_type = parse_document(body, None, f"`{name}`").media_type
            return Document(Descriptor(media_type, digest, len(body)), body)
        root = self.resolve(name)
        return Document(root, self.read(root))

    def tags(self) -> Iterator[str]:
        """List the references that are known."""
        seen = {record.reference for record in self.names()}
        return iter(sorted(seen | {record.reference for record in self.pulled_names()}))

    def warnings(self) -> tuple[str, ...]:
        """Give nothing: what is worth saying went to the observer."""
        return ()

    # Upkeep

    def look(self) -> bool | None:
        """Whether it is there: None if not, False for an empty folder; nothing is changed.

        Raises:
            StoreFault: the folder is not for us, or cannot be read.

        """
        return self._home.look()

    def doubts(self) -> tuple[str, ...]:
        """Say why others may change this store, whether or not that is accepted; empty if not.

        Raises:
            StoreFault: the folder cannot be looked at.

        """
        return self._home.doubts()

    def try_writing(self) -> None:
        """Take the lock, and write a file that is gone again at once.

        Raises:
            StoreFault: one of them does not work.

        """
        self._home.try_writing()

    def images(self) -> tuple[StoredImage, ...]:
        """List what was pulled, by reference, and then the images that no pulled name leads to.

        Raises:
            StoreFault: the store cannot be read.

        """
        from resolver.store import images  # noqa: PLC0415 - loaded when used

        return images.images(self._home, self._pulled, self._seen)

    def usage(self) -> DiskUsage:
        """Say what takes how much, and who shares what with whom.

        Raises:
            StoreFault: the store cannot be read.

        """
        from resolver.store import images  # noqa: PLC0415 - loaded when used

        return images.usage(self._home, self._pulled, self._seen)

    def collect(self, rules: Retention | None = None, *, dry_run: bool = False) -> Collected:
        """Remove what neither names nor living processes need.

        Args:
            rules: what stays besides; the usual rules if None.
            dry_run: decide everything, and remove nothing.

        Raises:
            StoreFault: what is needed is not known for sure, and nothing was removed; or
                something cannot be removed.

        """
        from resolver.core.results.store import Retention  # noqa: PLC0415 - for collection alone
        from resolver.store.collect import collect  # noqa: PLC0415 - loaded when used

        rules = Retention() if rules is None else rules
        return collect(self._home, self._pulled, self._seen, rules, dry_run=dry_run)

    def remove(
        self, target: str, platform: Platform | None = None, *, force: bool = False
    ) -> Removed:
        """Untag an image, then delete what nothing else needs.

        Args:
            target: a canonical reference, with a tag, a digest or both; or an image id: a digest
                of its config, manifest or index, or the start of one.
            platform: remove the image for this one only.
            force: also an id with several names, and what is in use; what a living process
                needs is then untagged, and deleted by a later collection.

        Raises:
            ImageNotHeld: there is no such image here.
            Malformed: it is the start of several ids.
            Negative: it is used, or an id has several names.
            StoreFault: it cannot be removed.

        """
        from resolver.store.remove import remove  # noqa: PLC0415 - loaded when used

        records = (self._pulled, self._seen)
        return remove(self._home, records, target, platform, force=force, observe=self._observe)

    def verify(
        self,
        *,
        full: bool = False,
        repair: Callable[[Descriptor, tuple[str, ...]], bool] | None = None,
    ) -> Verified:
        """Check that every name leads to all it needs, and every file is what its name says.

        What is damaged is set aside, and missing from then on; it is read anew by a pull.

        Args:
            full: hash large blobs too, not documents and small ones only.
            repair: fetches content anew for the references that need it; whether it is here then
                is looked at, whatever it returns. With it, names that cannot be read are set
                aside, too.

        Raises:
            StoreFault: the store cannot be read.

        """
        from resolver.store.verify import StoreCheck  # noqa: PLC0415 - loaded when used

        records = (self._pulled, self._seen)
        return StoreCheck(self._home, self._blobs, records, full=full).run(repair)
