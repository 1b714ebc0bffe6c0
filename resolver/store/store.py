"""LocalStore: verified content and names in a folder on this machine."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import HEX_DIGITS, Digest, Verifier
from resolver.core.oci.manifest import MAX_DOCUMENT, parse_document
from resolver.core.results.events import Warned, ignore
from resolver.errors import BlobNotFound, LimitExceeded, NotFound, SizeMismatch, StoreFault
from resolver.store.files import Patience, aside, temporary
from resolver.store.folder import LOOPBACK, Home
from resolver.store.names import GROUP, PULLED, PUSHES, SEEN, BadName, NameRecord, Records, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Observer
    from resolver.core.results.pull import PulledName
    from resolver.core.results.store import (
        ActiveLease,
        Collected,
        DiskUsage,
        Removed,
        Retention,
        StoredImage,
        Verified,
    )
    from resolver.store.chunks import ChunkFiles
    from resolver.store.files import File, StoreFolder
    from resolver.store.leases import Lease, Leases
    from resolver.store.names import UploadRecord
    from resolver.store.partials import Range
    from resolver.store.receive import BlobWriter, Transfers
    from resolver.store.uploads import Uploads


_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
#: Seconds a resolve waits to record its result; the answer does not depend on it.
BRIEFLY = 5.0
#: Seconds for which the scheme of a registry on this machine is used without looking again, and the
#: largest file with them that is read, in bytes.
_HOUR = 3600.0
_MAX_SCHEMES = 65_536
#: Seconds a reader waits for the lock to set a damaged file aside.
_TO_SET_ASIDE = 2.0


class LocalStore:
    """A store in a folder, created by the first write; a store that does not exist is empty.

    Content is verified when it is added and when it is read. A file that does not match its digest
    counts as absent and is set aside as soon as the store can be written.

    Implements `core.oci.content.Source`. Safe for use by several threads and processes. Every
    method raises `StoreFault` where the store cannot be read or written; those that add content
    raise `Untrusted` where the bytes do not match their descriptor.

    Args:
        fsync: False is faster and may lose content in a power cut; reads verify in any case.
        lock: False relies on no other process using the folder (`--unsafe-no-lock`).
        shared: trust every user who can write to the folder (`--shared-store`).
        patience: how long to wait for the lock.
        observe: receives warnings about damage and about a store that cannot be written.
    """

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
        self._proven: set[tuple[Digest, int, int]] = set()
        self._seen = Records(self._home, SEEN, observe)
        self._pulled = Records(self._home, PULLED, observe)
        self._giving_up = threading.Lock()
        self._gave_up = False
        #: What a batch is to remember, by reference.
        self._later: dict[str, NameRecord] = {}

    @cached_property
    def _transfers(self) -> Transfers:
        """Incoming transfers; loaded on first use, since reads do not need them."""
        from resolver.store.receive import Transfers  # noqa: PLC0415 - for pulls alone

        return Transfers(self._home, self.held)

    @cached_property
    def uploads(self) -> Uploads:
        """What clients of a writable registry send."""
        from resolver.store.uploads import Uploads  # noqa: PLC0415 - for `serve --writable` alone

        return Uploads(self._home)

    @cached_property
    def _leases(self) -> Leases:
        from resolver.store.leases import Leases  # noqa: PLC0415 - for pulls alone

        return Leases(self._home)

    @cached_property
    def chunks(self) -> ChunkFiles:
        """The chunk indexes of held layers."""
        from resolver.store.chunks import ChunkFiles  # noqa: PLC0415 - for chunked layers alone

        return ChunkFiles(self._home)

    @cached_property
    def pushes(self) -> Records[UploadRecord]:
        """Upload sessions of registries, to continue after a crash."""
        with self._home.writing() as root:
            root.make("pushes")
        return Records(self._home, PUSHES, self._observe)

    def writing(self) -> AbstractContextManager[StoreFolder]:
        """Block collection for the duration of the context: from the first look to the name."""
        return self._home.writing()

    # Content

    def load(
        self, digest: Digest, size: int | None = None, limit: int = MAX_DOCUMENT
    ) -> bytes | None:
        """Return verified content; None if it is absent or damaged.

        Raises `SizeMismatch` if it does not have `size` bytes, and `LimitExceeded` above `limit`.
        """
        with self._file(digest) as file:
            if file is None:
                return None
            intact, body = file.examine(digest, limit)
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

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a verified document, or raise `BlobNotFound` if it is absent or damaged."""
        if descriptor.size > MAX_DOCUMENT:
            raise LimitExceeded(f"`{descriptor.digest}`", MAX_DOCUMENT, descriptor.size)
        body = self.load(descriptor.digest, descriptor.size)
        if body is None:
            raise BlobNotFound(str(descriptor.digest), str(self.root))
        return body

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a regular file of the right size is present; nothing is read."""
        return self.size(descriptor.digest) == descriptor.size

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Stream content whose file has the right size; the caller must verify it."""
        with self.file(descriptor) as file:
            yield file.chunks()

    def size(self, digest: Digest) -> int | None:
        """Return the size of a regular file; None if it is absent. Nothing is read."""
        with self._folder(digest) as folder:
            status = folder.look(digest.hex) if folder is not None else None
        return None if status is None or not stat.S_ISREG(status.st_mode) else status.st_size

    @contextmanager
    def file(self, descriptor: Descriptor) -> Iterator[File]:
        """Open the file of content for random access; the caller must verify what it reads."""
        with self._file(descriptor.digest) as file:
            if file is None or file.status.st_size != descriptor.size:
                raise BlobNotFound(str(descriptor.digest), str(self._home.root))
            yield file

    def recheck(self, descriptor: Descriptor) -> bool:
        """Hash content of any size; set it aside if it is damaged, and return whether it is not."""
        with self._file(descriptor.digest) as file:
            if file is None:
                return False
            intact, status = file.examine(descriptor.digest, 0)[0], file.status
        if not intact:
            self.put_aside(descriptor.digest, status)
        return intact

    def add(
        self, descriptor: Descriptor, chunks: Iterable[bytes], *, seconds: float | None = None
    ) -> None:
        """Add verified content, or nothing; `chunks` is not read if the content is present."""
        digest = descriptor.digest
        with (
            self._home.writing(seconds=seconds) as root,
            root.need("blobs", digest.algorithm) as folder,
        ):
            if _may_be_used(folder, descriptor, freshen=True):
                return
            with root.need("tmp") as tmp, temporary(tmp, sync=self._home.sync) as file:
                verifier = Verifier(digest, descriptor.size, f"`{digest}`")
                for chunk in chunks:
                    verifier.update(chunk)
                    file.write(chunk)
                verifier.finish()
                file.publish(folder, digest.hex, mode=0o444, sync_folder=False)
                self._home.sync_folder(folder, "blobs", digest.algorithm)

    def add_document(self, document: Document) -> None:
        """Add a document."""
        self.add(document.descriptor, (document.body,))

    def try_add(self, document: Document, observe: Observer | None = None) -> bool:
        """Add a document if possible; warn once about a store that cannot be written.

        For work whose answer does not depend on the store. After the first failure no further write
        is attempted, so that a batch does not wait for the same lock a hundred times.
        """
        return self._attempt(
            lambda: self.add(document.descriptor, (document.body,), seconds=BRIEFLY), observe
        )

    def held(self, descriptor: Descriptor, *, full: bool = False) -> bool:
        """Whether content can be used: documents are hashed here, large blobs when they are read.

        Without fsync a power cut may leave files of the right size with wrong bytes, so large blobs
        are hashed too, once. See docs/store-and-reliability.md, "Reuse checks" and "fsync and
        --no-fsync".
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

    def put_aside(self, digest: Digest, status: os.stat_result) -> None:
        """Move a damaged file to `tmp` if the store can be written."""
        where = f"{self._home.root}/blobs/{digest.algorithm}/{digest.hex}"
        self._observe(
            Warned("store-damaged", f"`{where}` is damaged and treated as absent; it is read again")
        )
        try:
            with (
                self._home.writing(seconds=_TO_SET_ASIDE) as root,
                root.need("tmp") as tmp,
                root.need("blobs", digest.algorithm) as folder,
            ):
                _move_only(folder, digest.hex, tmp, status)
        except StoreFault:
            return

    @contextmanager
    def _folder(self, digest: Digest) -> Iterator[StoreFolder | None]:
        with ExitStack() as opened:
            # Content that cannot be verified is never stored.
            root = self._home.open() if digest.is_verifiable else None
            folder = opened.enter_context(root).enter("blobs", digest.algorithm) if root else None
            yield opened.enter_context(folder) if folder else None

    @contextmanager
    def _file(self, digest: Digest) -> Iterator[File | None]:
        """Open a blob; warn about anything that is not a regular file, and treat it as absent."""
        with self._folder(digest) as folder:
            status = folder.look(digest.hex) if folder is not None else None
            file = folder.open(digest.hex, status) if folder and status else None
            if folder and status and not file:
                where = folder.where(digest.hex)
                self._observe(
                    Warned("store-not-a-file", f"`{where}` is not a regular file and is not opened")
                )
        with file or nullcontext():
            yield file

    # Transfers

    def receive(
        self, descriptor: Descriptor, *, waiting: Callable[[], None] | None = None
    ) -> AbstractContextManager[BlobWriter | None]:
        """Write a blob in pieces; None if it is already present.

        While another process fetches the same blob, wait until the blob is present or that process
        has ended, then resume where it stopped. Leaving the block without `finish` keeps the
        partial for the next transfer.

        `waiting`: called repeatedly while another process is fetching; may raise to give up.
        """
        return self._transfers.receive(descriptor, waiting)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Sync each folder once for all content and names that are added in the context.

        Content is durable before a name that needs it, and everything when the context ends. What
        `try_remember` gets is written many at a time.

        Raises:
            StoreFault: a folder cannot be synced.

        """
        with self._home.batch():
            try:
                yield
            except KeyboardInterrupt:
                # They only save requests, and a lock may have to be waited for.
                self._later.clear()
                raise
            finally:
                self._remember_later(0)

    def record_transfers(self) -> None:
        """Record the progress of this process's transfers before it ends."""
        self._transfers.record()

    def partial(self, descriptor: Descriptor) -> int:
        """Count the bytes of this blob that an earlier transfer left."""
        return self._transfers.had(descriptor)

    def partial_ranges(self, descriptor: Descriptor) -> tuple[Range, ...]:
        """Return the ranges of this blob that an earlier transfer left, in order."""
        return self._transfers.ranges(descriptor)

    def lease(
        self, digests: Iterable[Digest] = (), purpose: str = "", *, needed: bool = True
    ) -> AbstractContextManager[Lease]:
        """Protect content from collection for the duration of the context, in every process.

        Take the lease before the first look at the store: content added from then on is protected
        too. `Lease.add` protects content that was present before.

        `purpose`: shown to a user who tries to remove it, such as "pull docker.io/library/app:1".
        `needed`: False continues without a lease where the store cannot be written.
        """
        return self._leases.hold(digests, purpose, needed=needed)

    def leases(self) -> tuple[ActiveLease, ...]:
        """List the active leases."""
        root = self._home.open_store()
        if root is None:
            return ()
        from resolver.store.leases import active_leases  # noqa: PLC0415 - for collection alone

        with root:
            return active_leases(root)

    def in_use(self) -> frozenset[Digest]:
        """List the digests that active leases protect."""
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
            observe(Warned(code, f"nothing is stored: {error}"))

    # What was pulled

    def name(
        self,
        record: PulledName,
        found: Collection[str] = (),
        merge: Callable[[PulledName | None, PulledName], PulledName] = merged,
    ) -> PulledName:
        """Record a pulled name; see `name_all`."""
        return self.name_all((record,), found, merge)[0]

    def name_all(
        self,
        records: Sequence[PulledName],
        found: Collection[str] = (),
        merge: Callable[[PulledName | None, PulledName], PulledName] = merged,
    ) -> list[PulledName]:
        """Record pulled names durably, also in a batch; platforms of the same root are merged.

        Call it after every pull, including one that transferred nothing: `pulled_at` shows what is
        still used.

        `found`: digest algorithms of content that was already present. Its folders are synced,
        since the process that added it may have died before the sync.
        """
        from resolver.store.reachable import refuse_incomplete  # noqa: PLC0415 - for pulls alone

        unsynced = set(found) if self._home.sync else set()

        def check(root: StoreFolder, record: PulledName) -> None:
            refuse_incomplete(root, record)
            for algorithm in sorted(unsynced):
                with root.need("blobs", algorithm) as folder:
                    folder.sync()
            unsynced.clear()

        return self._pulled.put_all(records, merge=merge, check=check, now=True)

    def pulled(self, reference: str) -> PulledName | None:
        """Return what was pulled under a canonical reference."""
        return self._pulled.get(reference)

    def pulled_names(self) -> Iterator[PulledName]:
        """Iterate over all pulled names, in no particular order."""
        return self._pulled.usable()

    def unname(self, reference: str) -> bool:
        """Remove a pulled name but not its content; False if there was none."""
        return self._pulled.drop(reference)

    # What a resolve saw

    def remember(self, record: NameRecord) -> None:
        """Record what a reference points at; its content must already be in the store."""
        self._seen.put(record)

    def try_remember(self, record: NameRecord, observe: Observer | None = None) -> bool:
        """Record what a reference points at if possible; see `try_add`. In a batch, later."""
        if self._home.in_batch:
            self._later[record.reference] = record
            self._remember_later(GROUP - 1)
            return True
        return self._attempt(lambda: self._seen.put(record, seconds=BRIEFLY), observe)

    def _remember_later(self, most: int) -> None:
        """Write what a batch has kept, if it is more than `most` records."""
        with self._giving_up:
            if len(self._later) <= most:
                return
            records, self._later = [*self._later.values()], {}
        self._attempt(lambda: self._seen.put_all(records, seconds=BRIEFLY), None)

    def recall(self, reference: str) -> NameRecord | None:
        """Return what a reference pointed at, or the pulled name: a cache may lack the former."""
        seen = self._later.get(reference) or self._seen.get(reference)
        if seen is not None:
            return seen
        pulled = self._pulled.get(reference)
        return None if pulled is None else NameRecord(reference, pulled.root)

    # Registries on this machine (docs/wire-protocol.md, "Plain HTTP")

    def recall_scheme(self, host: str, now: float) -> str | None:
        """Return whether a host used https or http within the last hour; None if unknown.

        `now` is in seconds since 1970.
        """
        scheme, moment = self._schemes().get(host, ("", 0.0))
        return scheme if 0 <= now - moment < _HOUR else None

    def remember_schemes(self, schemes: Mapping[str, str], now: float) -> None:
        """Keep the schemes of hosts in an existing store that can be written."""
        with suppress(StoreFault):
            there = self._home.open()
            if there is None:
                return
            with there:
                if there.look("version") is None:
                    return
            with self._home.writing(seconds=0.0) as root:
                known = {k: v for k, v in self._schemes().items() if 0 <= now - v[1] < _HOUR}
                known |= {host: (scheme, now) for host, scheme in schemes.items()}
                with root.need("tmp") as tmp, temporary(tmp, sync=False) as file:
                    file.write(json.dumps(known).encode())
                    file.publish(root, LOOPBACK, mode=0o600)

    def _schemes(self) -> dict[str, tuple[str, float]]:
        """Return the recorded schemes and their times; empty if there are none that can be read."""
        try:
            root = self._home.open()
            if root is None:
                return {}
            with root:
                file = root.open(LOOPBACK)
                if file is None or file.status.st_size > _MAX_SCHEMES:
                    return {}
                with file:
                    text = b"".join(file.chunks())
            return {
                str(host): (str(scheme), float(moment))
                for host, (scheme, moment) in json.loads(text).items()
                if scheme in ("http", "https")
            }
        except (StoreFault, ValueError, TypeError, AttributeError):
            return {}

    def names(self) -> Iterator[NameRecord]:
        """Iterate over the recorded names, in no particular order."""
        return self._seen.usable()

    def entries(self) -> Iterator[NameRecord | BadName]:
        """Iterate over the recorded names and the name files that cannot be used."""
        return self._seen.entries()

    def forget(self, reference: str) -> bool:
        """Remove a recorded name but not its content; False if there was none."""
        return self._seen.drop(reference)

    def resolve(self, name: str) -> Descriptor:
        """Return the descriptor for a canonical reference or a digest.

        Raises:
            NotFound: it is not in the store.
            InvalidDigest: it looks like a digest and is not valid.
            BadDocument: it is content other than a document.
        """
        if name.partition(":")[0] in HEX_DIGITS:
            return self.document(name).descriptor
        # A pulled name is complete; a resolved one may point at absent content.
        known = self.pulled(name) or self.recall(name)
        if known is None:
            raise NotFound(
                f"the store `{self.root}` has no record of `{name}`",
                "resolve or pull it once while its registry can be reached",
            )
        return known.root

    def document(self, name: str) -> Document:
        """Return the document for a canonical reference or a digest, or raise `NotFound`."""
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
        """List the references in the store."""
        seen = {record.reference for record in self.names()}
        return iter(sorted(seen | {record.reference for record in self.pulled_names()}))

    def warnings(self) -> tuple[str, ...]:
        """Return nothing: warnings go to the observer."""
        return ()

    # Upkeep

    def look(self) -> bool | None:
        """Whether the store exists: None if not, False for an empty folder; nothing is changed."""
        return self._home.look()

    def doubts(self) -> tuple[str, ...]:
        """Return the reasons why other users can change this store, accepted or not."""
        return self._home.doubts()

    def try_writing(self) -> None:
        """Take the lock, and write and remove a test file."""
        self._home.try_writing()

    def images(self) -> tuple[StoredImage, ...]:
        """List pulled images by reference, then the complete images without a pulled name."""
        from resolver.store import images  # noqa: PLC0415 - loaded when used

        return images.images(self._home, self._pulled, self._seen)

    def usage(self) -> DiskUsage:
        """Return disk usage, and what images share."""
        from resolver.store import images  # noqa: PLC0415 - loaded when used

        return images.usage(self._home, self._pulled, self._seen)

    def collect(self, rules: Retention | None = None, *, dry_run: bool = False) -> Collected:
        """Remove content that neither names nor active leases need; `dry_run` only decides."""
        from resolver.core.results.store import Retention  # noqa: PLC0415 - for collection alone
        from resolver.store.collect import collect  # noqa: PLC0415 - loaded when used

        rules = Retention() if rules is None else rules
        return collect(self._home, self._pulled, self._seen, rules, dry_run=dry_run)

    def remove(
        self, target: str, platform: Platform | None = None, *, force: bool = False
    ) -> Removed:
        """Untag an image and delete the content that nothing else needs.

        Args:
            target: a canonical reference with a tag, a digest or both; or an image ID: the digest
                of its config, manifest or index, or a prefix of one.
            platform: remove only the image for this platform.
            force: remove an ID with several names and an image in use; content under a lease is
                untagged and left for a later collection.

        Raises:
            ImageNotHeld: there is no such image here.
            Malformed: it is the start of several ids.
            Negative: it is used, or an id has several names.
        """
        from resolver.store.remove import remove  # noqa: PLC0415 - loaded when used

        records = (self._pulled, self._seen)
        return remove(self._home, records, target, platform, force=force, observe=self._observe)

    def verify(
        self,
        *,
        full: bool = False,
        repair: Callable[[Descriptor, tuple[str, ...]], bool] | None = None,
        hashed: Callable[[int, int], object] = lambda _done, _total: None,
    ) -> Verified:
        """Check that every name is complete and every file matches its digest.

        Damaged files are set aside and count as missing; a pull fetches them again.

        Args:
            full: hash large blobs too.
            repair: fetches content again for the references that need it; its result is checked in
                the store. With it, unreadable name files are set aside too.
            hashed: receives how many bytes are hashed so far, and how many there are.
        """
        from resolver.store.verify import StoreCheck  # noqa: PLC0415 - loaded when used

        records = (self._pulled, self._seen)
        return StoreCheck(self._home, self.put_aside, records, full=full, hashed=hashed).run(repair)


def _may_be_used(
    folder: StoreFolder, descriptor: Descriptor, *, full: bool = False, freshen: bool = False
) -> bool:
    file = folder.open(descriptor.digest.hex)
    if file is None:
        return False
    with file:
        if file.status.st_size != descriptor.size:
            return False
        is_good = (descriptor.size > MAX_DOCUMENT and not full) or file.examine(
            descriptor.digest, 0
        )[0]
        if is_good and freshen:
            file.freshen()
        return is_good


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
