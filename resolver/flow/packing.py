"""Packing: from what was pulled under some references to a bundle that is whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.attached import Attached, LeftOut, counted, kind_of, refers_to
from resolver.core.descriptor import DOCUMENT_TYPES
from resolver.core.events import Warned
from resolver.core.manifest import MAX_DEPTH, Index, Manifest, parse_document
from resolver.core.plan import is_foreign
from resolver.core.select import select
from resolver.errors import LimitExceeded, NotHeld, PlatformNotOffered
from resolver.flow.bundle import Bundle, Packed, PackedImage
from resolver.flow.pruning import Completeness, Pruner, held_entry, parts_of
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

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
        here = Completeness(self._store)
        entries = self._offered(record, here)
        chosen = self._chosen(record, entries)
        root, left_out = self._root(record, entries, chosen, here)
        by_digest = {entry.descriptor.digest: entry for entry in entries}
        taken = tuple(self._take(root, record, by_digest, 0))
        images = tuple(each for each in taken if isinstance(each, PackedImage))
        attached = [each for each in taken if isinstance(each, Attached)]
        attached += self._referrers(record, {root.digest, *by_digest} & {*self.pieces}, here)
        return Packed(reference, root, record.root, images, tuple(attached), left_out)

    def _offered(self, record: PulledName, here: Completeness) -> tuple[_Entry, ...]:
        """List the images that a reference offers, in index order; what is held among them."""
        held = {image.manifest.digest: image.platform for image in record.images}
        if not record.root.is_index:
            return (_Entry(record.root, held.get(record.root.digest)),)
        return tuple(
            _Entry(entry, entry.platform or held.get(entry.digest))
            for entry in self._leaves(record, record.root, 0)
            if kind_of(entry) == "image"
            and refers_to(entry) is None
            and not here.is_artifact(entry)
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
        if not self._wish.named:
            return held
        chosen = set()
        wishes: list[tuple[Platform, ...]] = [(wanted,) for wanted in self._wish.platforms]
        wishes += [self._wish.machine] if self._wish.machine else []
        for wish in wishes:
            wanted = " or ".join(map(str, wish))
            selection = select(
                [entry.platform for entry in entries],
                wish[0] if len(wish) == 1 else wish,
                exact=self._wish.exact,
                local=wish is self._wish.machine,
                table=self._wish.table,
            )
            if selection.index is None:
                offered = [str(entry.platform) for entry in entries if entry.platform is not None]
                raise PlatformNotOffered(record.reference, wanted, offered)
            digest = entries[selection.index].descriptor.digest
            if digest not in held:
                pull = f"resolver pull {record.reference} -p {wish[0]}"
                raise NotHeld(record.reference, f"`{selection.platform}`", pull)
            chosen.add(digest)
        return frozenset(chosen)

    def _root(
        self,
        record: PulledName,
        entries: Sequence[_Entry],
        chosen: frozenset[Digest],
        here: Completeness,
    ) -> tuple[Descriptor, tuple[LeftOut, ...]]:
        """Say what the name is to point at, and what of its index it leaves behind.

        The original if all of it leaves; else an index that lists less, with its own digest.
        """
        if not record.root.is_index:
            return replace(record.root, platform=entries[0].platform), ()
        self._claim_all(record, record.root, 0)
        keep = self._kept(record, chosen, here)
        pruner = Pruner(self._store, keep)
        root = pruner.prune(record.root)
        left_out = tuple(
            LeftOut(
                record.reference,
                "artifact" if here.is_artifact(entry) else kind_of(entry),
                entry,
                entry.platform,
            )
            for entry in pruner.left_out
        )
        if root is not None and root.digest == record.root.digest:
            return record.root, ()
        wished = [entry for entry in pruner.left_out if self._is_wished(entry)]
        if self._wish.everything and wished:
            missing = wished[0]
            for entry in wished:
                entry.digest.require_verifiable(
                    f"`{entry.digest}` in the index of `{record.reference}`"
                )
            named = f"`{missing.platform}`, `{missing.digest}`" if missing.platform else None
            pull = f"resolver pull {record.reference} -p all"
            raise NotHeld(record.reference, named or f"`{missing.digest}`", pull)
        if root is None:
            # The name says that an image is held, and its own index does not list it.
            raise NotHeld(record.reference, "an image", f"resolver pull {record.reference}")
        self.made.update(pruner.made)
        stays = [str(e.platform) for e in entries if e.descriptor.digest in chosen]
        self._warn(
            "digest-new",
            f"`{record.reference}` leaves with {', '.join(stays) or 'a part'} only, so its index "
            f"has a digest of its own: `{root.digest}` instead of `{record.root.digest}`",
        )
        for entry in pruner.left_out:
            if not entry.digest.is_verifiable:
                self._warn(
                    "unverifiable-entry",
                    f"`{entry.digest}` in the index of `{record.reference}` cannot be verified, so "
                    "it cannot leave with the rest",
                )
        return root, left_out

    def _is_wished(self, entry: Descriptor) -> bool:
        return self._wish.attestations or not entry.is_attestation

    def _kept(
        self, record: PulledName, chosen: frozenset[Digest], here: Completeness
    ) -> Callable[[Descriptor], bool]:
        """Make the rule by which entries leave with the rest."""
        held = held_entry(record, here)

        def keep(entry: Descriptor) -> bool:
            if not self._is_wished(entry):
                return False
            if entry.digest in chosen:
                # What is missing of an image is an error, not a reason to leave it behind.
                return True
            if self._wish.named:
                return refers_to(entry) in chosen and here.is_whole(entry)
            return held(entry)

        return keep

    def _claim_all(self, record: PulledName, root: Descriptor, depth: int) -> None:
        """Claim everything that an index leads to, before anybody looks whether it is here."""
        index = self._index(record, root, depth)
        self._claim(entry.digest for entry in index.manifests if entry.digest.is_verifiable)
        for entry in index.manifests:
            if entry.is_index and self._store.has(entry):
                self._claim_all(record, entry, depth + 1)

    def _referrers(
        self, record: PulledName, leaving: Collection[Digest], here: Completeness
    ) -> Iterator[Attached]:
        """Take what was pulled besides the index and is about something that leaves."""
        about = {*leaving, record.root.digest}
        waiting = [each for each in record.attached if each.kind == "referrer"]
        if waiting and not self._wish.referrers:
            self._warn(
                "referrers-left-out",
                f"`{record.reference}` leaves without {counted('referrer' for _ in waiting)}: only "
                "an OCI layout in a folder can hold them",
            )
            return
        found = True
        while found:
            found = False
            for each in tuple(waiting):
                if each.about in about and here.is_whole(each.manifest):
                    waiting.remove(each)
                    about.add(each.manifest.digest)
                    found = True
                    for _ in self._take(each.manifest, record, {}, 0):
                        pass
                    yield each

    def _take(
        self,
        descriptor: Descriptor,
        record: PulledName,
        entries: Mapping[Digest, _Entry],
        depth: int,
    ) -> Iterator[PackedImage | Attached]:
        """Take in a document and all below it."""
        self._claim((descriptor.digest,))
        if descriptor.media_type not in DOCUMENT_TYPES:
            # An index may list what is no manifest.
            self._keep(descriptor)
            yield Attached("artifact", descriptor, refers_to(descriptor))
            return
        document = self._parsed(record, descriptor, depth)
        self._keep(descriptor)
        if isinstance(document, Index):
            for child in document.manifests:
                yield from self._take(child, record, entries, depth + 1)
            return
        is_whole = True
        parts = parts_of(document)
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
        kind = kind_of(descriptor, document)
        if entry is not None and kind == "image":
            yield PackedImage(descriptor, entry.platform, document, is_whole)
        elif entry is not None and depth == 0:
            # A name that points at content that is no image.
            yield PackedImage(descriptor, entry.platform, document, is_whole)
        elif kind != "image":
            yield Attached(kind, descriptor, refers_to(descriptor))

    def _keep(self, piece: Descriptor) -> None:
        self.pieces.setdefault(piece.digest, piece)
        if len(self.pieces) > MAX_PIECES:
            raise LimitExceeded("the export", MAX_PIECES, len(self.pieces), "pieces")

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
