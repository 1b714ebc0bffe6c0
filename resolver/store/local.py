"""LocalStore: the place on this machine where verified content and names are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.content import Document
from resolver.core.descriptor import Descriptor
from resolver.core.digest import HEX_DIGITS, Digest
from resolver.core.manifest import parse_document
from resolver.errors import BlobNotFound, NotFound
from resolver.store.known import StoredNames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.platform import Platform
    from resolver.core.stored import Collected, Removed, Retention, StoredImage, Usage, Verified


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
        from resolver.store import listing  # noqa: PLC0415 - loaded when used

        return listing.images(self._home, self._pulled, self._seen)

    def usage(self) -> Usage:
        """Say what takes how much, and who shares what with whom.

        Raises:
            StoreFault: the store cannot be read.

        """
        from resolver.store import listing  # noqa: PLC0415 - loaded when used

        return listing.usage(self._home, self._pulled, self._seen)

    def collect(self, rules: Retention | None = None, *, dry_run: bool = False) -> Collected:
        """Remove what neither names nor living processes need.

        Args:
            rules: what stays besides; the usual rules if None.
            dry_run: decide everything, and remove nothing.

        Raises:
            StoreFault: what is needed is not known for sure, and nothing was removed; or
                something cannot be removed.

        """
        from resolver.core.stored import Retention  # noqa: PLC0415 - for collection alone
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
            AmbiguousId: it is the start of several ids.
            InUse: it is used, or an id has several names.
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
        from resolver.store.check import Check  # noqa: PLC0415 - loaded when used

        records = (self._pulled, self._seen)
        return Check(self._home, self._blobs, records, full=full).run(repair)
