"""Packing: from what was pulled under some references to a bundle that is whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.events import Warned
from resolver.core.manifest import MAX_DEPTH, Index, Manifest, parse_document
from resolver.core.plan import is_foreign
from resolver.core.select import select
from resolver.errors import LimitExceeded, NotHeld, PlatformNotOffered
from resolver.flow.bundle import Bundle, Packed, PackedImage
from resolver.flow.pruning import SUBJECT, Pruner
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from resolver.core.descriptor import Descriptor
    from resolver.core.digest import Digest
    from resolver.core.platform import Platform
    from resolver.core.pulled_name import PulledName
    from resolver.core.reference import Reference
    from resolver.flow.bundle import Wish
    from resolver.store import LocalStore

#: Pieces of one bundle. Source: reliability.md R11.
MAX_PIECES = 20_000


def gather(
    references: Sequence[Reference],
    store: LocalStore,
    wish: Wish,
    claim: Callable[[Iterable[Digest]], None],
) -> Bundle:
    """Choose what leaves the store; nothing is read but documents, verified.

    Args:
        references: that were pulled.
        store: holds them.
        wish: which of their images.
        claim: is told what is needed before anybody looks whether it is there (R36).

    Raises:
        NotHeld: one was not pulled, not for a platform of the wish, or not all of it is here.
        PlatformNotOffered: the image does not exist for a platform of the wish.
        Untrusted, StoreFault: a document is malformed, or cannot be read.

    """
    work = _Work(store, wish, claim)
    packed = {each.name: each for each in map(work.pack, dict.fromkeys(references))}
    pieces = sorted(work.pieces.values(), key=lambda piece: piece.digest)
    return Bundle(
        tuple(packed[name] for name in sorted(packed)),
        tuple(pieces),
        work.made,
        tuple(dict.fromkeys(work.warnings)),
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """An image that an index lists, and for what; None where nobody says."""

    descriptor: Descriptor
    platform: Platform | None


class _Work:
    """One call of `gather`."""

    def __init__(
        self, store: LocalStore, wish: Wish, claim: Callable[[Iterable[Digest]], None]
    ) -> None:
        self._store = store
        self._wish = wish
        self._claim = claim
        self.pieces: dict[Digest, Descriptor] = {}
        self.made: dict[Digest, bytes] = {}
        self.warnings: list[Warned] = []

    def pack(self, reference: Reference) -> Packed:
        """Choose the images of one reference, and take in what they consist of."""
        record = self._store.pulled(str(reference))
        if record is None:
            raise NotHeld(str(reference), "", f"resolver pull {reference}")
        self._claim((record.root.digest, *(image.manifest.digest for image in record.images)))
        entries = self._offered(record)
        chosen = self._chosen(record, entries)
        root = self._root(record, entries, chosen)
        images = tuple(self._take(root, record, {e.descriptor.digest: e for e in entries}, 0))
        return Packed(reference, root, record.root, images)

    def _offered(self, record: PulledName) -> tuple[_Entry, ...]:
        """List the images that a reference offers, in index order; what is held among them."""
        held = {image.manifest.digest: image.platform for image in record.images}
        if not record.root.is_index:
            return (_Entry(record.root, held.get(record.root.digest)),)
        return tuple(
            _Entry(entry, entry.platform or held.get(entry.digest))
            for entry in self._leaves(record, record.root, 0)
            if entry.annotation(SUBJECT) is None
        )

    def _leaves(self, record: PulledName, root: Descriptor, depth: int) -> Iterator[Descriptor]:
        for entry in self._index(record, root, depth).manifests:
            if not entry.is_index:
                yield entry
            elif self._store.has(entry):
                yield from self._leaves(record, entry, depth + 1)

    def _chosen(self, record: PulledName, entries: Sequence[_Entry]) -> frozenset[Digest]:
        """Choose among all that is offered, so that a missing best is said, not replaced."""
        held = frozenset(image.manifest.digest for image in record.images)
        if not self._wish.platforms:
            return held
        chosen = set()
        for wanted in self._wish.platforms:
            selection = select(
                [entry.platform for entry in entries],
                wanted,
                exact=self._wish.exact,
                table=self._wish.table,
            )
            if selection.index is None:
                offered = [str(entry.platform) for entry in entries if entry.platform is not None]
                raise PlatformNotOffered(record.reference, str(wanted), offered)
            digest = entries[selection.index].descriptor.digest
            if digest not in held:
                pull = f"resolver pull {record.reference} -p {wanted}"
                raise NotHeld(record.reference, f"`{selection.platform}`", pull)
            chosen.add(digest)
        return frozenset(chosen)

    def _root(
        self, record: PulledName, entries: Sequence[_Entry], chosen: frozenset[Digest]
    ) -> Descriptor:
        """Say what the name is to point at: the original if all of it leaves, else less."""
        if not record.root.is_index:
            return replace(record.root, platform=entries[0].platform)
        pruner = Pruner(self._store, chosen, lambda entry: self._missing(record, entry) is None)
        root = pruner.prune(record.root)
        wanted = [entry for entry in entries if entry.descriptor.digest in chosen]
        if root is not None and root.digest == record.root.digest:
            return record.root
        if root is None or len(chosen) == 1:
            if not wanted:
                # The name says that an image is held, and its own index does not list it.
                raise NotHeld(record.reference, "an image", f"resolver pull {record.reference}")
            plain = wanted[0].descriptor
            return replace(plain, platform=wanted[0].platform, annotations=(), data=None, urls=())
        self.made.update(pruner.made)
        names = ", ".join(str(entry.platform) for entry in wanted)
        self._warn(
            "digest-new",
            f"`{record.reference}` leaves with {names} only, so its index has a digest of its own: "
            f"`{root.digest}` instead of `{record.root.digest}`",
        )
        return root

    def _take(
        self,
        descriptor: Descriptor,
        record: PulledName,
        entries: Mapping[Digest, _Entry],
        depth: int,
    ) -> Iterator[PackedImage]:
        """Take in a document and all below it."""
        self._claim((descriptor.digest,))
        document = self._parsed(record, descriptor, depth)
        self._keep(descriptor)
        if isinstance(document, Index):
            for child in document.manifests:
                yield from self._take(child, record, entries, depth + 1)
            return
        is_whole = True
        parts = _parts(document)
        self._claim(part.digest for part in parts)
        for part in parts:
            if self._store.has(part):
                self._keep(part)
                continue
            if not is_foreign(part):
                raise self._incomplete(record, part)
            is_whole = False
            self._warn(
                "foreign-layer",
                f"`{part.digest}` of `{record.reference}` is kept elsewhere by its publisher, "
                "was not pulled and does not leave with the rest",
            )
        entry = entries.get(descriptor.digest)
        if entry is not None:
            yield PackedImage(descriptor, entry.platform, document, is_whole)

    def _keep(self, piece: Descriptor) -> None:
        self.pieces.setdefault(piece.digest, piece)
        if len(self.pieces) > MAX_PIECES:
            raise LimitExceeded("the export", MAX_PIECES, len(self.pieces), "pieces")

    def _missing(self, record: PulledName, descriptor: Descriptor) -> Descriptor | None:
        """Find a piece of a manifest that is not here, or the manifest itself."""
        self._claim((descriptor.digest,))
        if not self._store.has(descriptor):
            return descriptor
        document = self._parsed(record, descriptor, 0)
        if isinstance(document, Index):
            return descriptor
        parts = _parts(document)
        self._claim(part.digest for part in parts)
        return next((part for part in parts if not self._store.has(part)), None)

    def _index(self, record: PulledName, descriptor: Descriptor, depth: int) -> Index:
        document = self._parsed(record, descriptor, depth)
        return document if isinstance(document, Index) else Index(descriptor.media_type, ())

    def _parsed(self, record: PulledName, descriptor: Descriptor, depth: int) -> Index | Manifest:
        if depth > MAX_DEPTH:
            raise LimitExceeded(f"the index of `{record.reference}`", MAX_DEPTH, depth, "levels")
        made = self.made.get(descriptor.digest)
        if made is None and not self._store.has(descriptor):
            raise self._incomplete(record, descriptor)
        body = self._store.read(descriptor) if made is None else made
        what = f"`{descriptor.digest}` in the store"
        return parse_document(body, None, what, descriptor.media_type)

    def _incomplete(self, record: PulledName, piece: Descriptor) -> NotHeld:
        return NotHeld(record.reference, f"`{piece.digest}`", f"resolver pull {record.reference}")

    def _warn(self, code: str, message: str) -> None:
        self.warnings.append(Warned(code, message))


def _parts(manifest: Manifest) -> tuple[Descriptor, ...]:
    return manifest.layers if manifest.config is None else (manifest.config, *manifest.layers)
