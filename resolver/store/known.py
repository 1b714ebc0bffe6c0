"""Names in a store: what a resolve saw, and what was pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.events import ignore
from resolver.store.content import BRIEFLY, StoredContent
from resolver.store.names import PULLED, SEEN, NameRecord, merged
from resolver.store.records import BadName, Records

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from resolver.core.events import Observer
    from resolver.core.pulled_name import PulledName
    from resolver.store.files import Folder
    from resolver.store.lock import Patience


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
        from resolver.store.reach import refuse_incomplete  # noqa: PLC0415 - for pulls alone

        def check(root: Folder, record: PulledName) -> None:
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
