"""Bundles: which images leave a store, under which names, and all they consist of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import DOCUMENT_TYPES, MANIFEST_TYPES, OCI_ARTIFACT, OCI_INDEX
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import (
    MAX_DEPTH,
    Attached,
    Index,
    LeftOut,
    Manifest,
    counted,
    kind_of,
    parse_document,
    refers_to,
)
from resolver.core.parse.json import read_object
from resolver.core.platforms.platform import BUILTIN
from resolver.core.platforms.select import select
from resolver.core.results.events import Warned
from resolver.core.results.export import ExportedImage
from resolver.core.results.plan import is_foreign
from resolver.errors import LimitExceeded, NotHeld, PlatformNotOffered
from resolver.sources.local.layout import IMAGE_NAME, REF_NAME
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from resolver.core.oci.content import Content
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.reference import Reference
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.core.results.pull import PulledName
    from resolver.store import LocalStore


@dataclass(frozen=True, slots=True)
class ExportSelection:
    """Which images of each reference to export.

    Attributes:
        platforms: the platforms to export; empty for all that are held.
        machine: acceptable platforms of this machine, best first, with the level of its processor,
            to export the image for it.
        exact: reject lower levels and other architectures.
        everything: export every entry of an index, or fail.
        attestations: include those that the index lists.
        referrers: include what was pulled from outside the index; archives cannot hold it.
    """

    platforms: tuple[Platform, ...] = ()
    exact: bool = False
    table: PlatformTable = BUILTIN
    machine: tuple[Platform, ...] = ()
    everything: bool = False
    attestations: bool = True
    referrers: bool = True

    @property
    def named(self) -> tuple[Platform, ...]:
        """Every platform to export; empty for all that are held."""
        return (*self.platforms, *self.machine)


@dataclass(frozen=True, slots=True)
class PackedImage:
    """One image for one platform; `is_whole` unless it has foreign layers that are not held."""

    descriptor: Descriptor
    platform: Platform | None
    manifest: Manifest
    is_whole: bool


@dataclass(frozen=True, slots=True)
class ExportedRoot:
    """The exported content of one reference.

    Attributes:
        root: the document that its name points at; with a platform if it is one image.
        original: the root in its registry.
        images: below `root`, in index order, without attestations.
        attached: exported content besides images; of referrers, `tag` is that of their repository.
        left_out: entries of the original index that are not exported.
    """

    reference: Reference
    root: Descriptor
    original: Descriptor
    images: tuple[PackedImage, ...]
    attached: tuple[Attached, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def name(self) -> str:
        """The full name: with its tag, or with the digest of the exported root."""
        reference = self.reference
        if reference.tag is None and reference.digest is not None:
            return f"{reference.identity}@{self.root.digest}"
        return f"{reference.identity}:{self.tag}"

    @property
    def tag(self) -> str:
        """The tag; empty for a reference by digest alone."""
        reference = self.reference
        if reference.tag is None:
            return "" if reference.digest is not None else reference.name
        return reference.tag


@dataclass(frozen=True, slots=True)
class ExportBundle:
    """The content of an export: images, and everything they consist of.

    Attributes:
        packed: sorted by name, each name once.
        made: the bodies of rewritten indexes, which no store holds.
    """

    packed: tuple[ExportedRoot, ...]
    pieces: tuple[Descriptor, ...]
    made: Mapping[Digest, bytes]
    warnings: tuple[Warned, ...]

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum(piece.size for piece in self.pieces)


class Pruner:
    """Removes entries from an index, and from the indexes nested in it.

    Args:
        keep: whether an entry that is not an index stays.

    Attributes:
        made: the indexes that had to be rewritten.
        left_out: the removed entries, in index order.
    """

    def __init__(self, content: Content, keep: Callable[[Descriptor], bool]) -> None:
        self._content = content
        self._stays = keep
        self.made: dict[Digest, bytes] = {}
        self.left_out: list[Descriptor] = []

    def prune(self, root: Descriptor, depth: int = 0) -> Descriptor | None:
        """Prune an index; return `root` itself if nothing is removed, None if nothing stays.

        All other members and the order of the entries are kept.
        """
        what = f"`{root.digest}` in the store"
        if depth > MAX_DEPTH:
            raise LimitExceeded(what, MAX_DEPTH, depth, "levels")
        body = self._content.read(root)
        index = parse_document(body, None, what, root.media_type)
        document = read_object(body, what)
        written = document["manifests"]
        if not isinstance(index, Index) or not isinstance(written, list):
            return root
        stay: list[object] = []
        changed = False
        for entry, raw in zip(index.manifests, written, strict=True):
            kept = self._keep(entry, depth)
            changed |= kept is not entry
            if kept is not None:
                stay.append(raw if kept is entry else _with(raw, kept))
        if changed and not stay:
            return None
        return self._write(root, {**document, "manifests": stay}) if changed else root

    def _keep(self, entry: Descriptor, depth: int) -> Descriptor | None:
        if entry.is_index:
            kept = self.prune(entry, depth + 1) if self._content.has(entry) else None
            if kept is None:
                self.left_out.append(entry)
            return kept
        if self._stays(entry):
            return entry
        self.left_out.append(entry)
        return None

    def _write(self, root: Descriptor, document: dict[str, object]) -> Descriptor:
        body = json.dumps(document, separators=(",", ":")).encode()
        digest = Digest.of(body)
        self.made[digest] = body
        return replace(root, digest=digest, size=len(body), data=None)


def _with(raw: object, kept: Descriptor) -> dict[str, object]:
    """Write the entry of an index that was pruned itself; `data` would be the old one's."""
    said = raw if isinstance(raw, dict) else {}
    entry = {name: value for name, value in said.items() if name != "data"}
    return {**entry, "digest": str(kept.digest), "size": kept.size}


class Completeness:
    """Checks whether content has an entry with everything it needs; caches the results.

    Layers that registries must not distribute are not required (`is_foreign`).
    """

    def __init__(self, content: Content) -> None:
        self._content = content
        self._known: dict[Digest, bool] = {}

    def is_whole(self, entry: Descriptor) -> bool:
        """Whether a manifest and everything it lists are here, or the children of an index."""
        known = self._known.get(entry.digest)
        if known is None:
            known = self._known[entry.digest] = self._look(entry)
        return known

    def is_artifact(self, entry: Descriptor) -> bool:
        """Whether the manifest, if it is here, shows that an entry is not an image."""
        if entry.media_type not in MANIFEST_TYPES or not self._content.has(entry):
            return False
        what = f"`{entry.digest}`"
        document = parse_document(self._content.read(entry), None, what, entry.media_type)
        return isinstance(document, Manifest) and not document.is_image

    def _look(self, entry: Descriptor) -> bool:
        if not self._content.has(entry):
            return False
        if entry.media_type not in MANIFEST_TYPES | {OCI_ARTIFACT}:
            return True
        what = f"`{entry.digest}`"
        document = parse_document(self._content.read(entry), None, what, entry.media_type)
        if isinstance(document, Index):
            return False
        return all(is_foreign(part) or self._content.has(part) for part in parts_of(document))


def parts_of(manifest: Manifest) -> tuple[Descriptor, ...]:
    """List the blobs of a manifest."""
    return manifest.layers if manifest.config is None else (manifest.config, *manifest.layers)


def held_entry(record: PulledName | None, here: Completeness) -> Callable[[Descriptor], bool]:
    """Return the rule that decides whether an index entry stays.

    Images stay if they were pulled under this name; attestations, artifacts and other attachments,
    if they are complete.

    `record` is what was pulled; None if it was not recorded, as in a layout.
    """
    if record is None:
        return here.is_whole
    images = {image.manifest.digest for image in record.images}
    noted = images | {each.manifest.digest for each in record.attached}

    def keep(entry: Descriptor) -> bool:
        if entry.digest not in noted:
            about = refers_to(entry)
            if about is not None and about not in images:
                return False
            if about is None and kind_of(entry) == "image" and not here.is_artifact(entry):
                return False
        return here.is_whole(entry)

    return keep


#: Documents and blobs of one bundle. Source: docs/store-and-reliability.md, "Index traversal".
MAX_PIECES = 20_000


def gather(
    references: Sequence[Reference],
    store: LocalStore,
    request: ExportSelection,
    claim: Callable[[Iterable[Digest]], None],
) -> ExportBundle:
    """Choose what is exported; only documents are read, and verified.

    `claim` protects the listed content from removal before it is looked up, see
    docs/store-and-reliability.md, "Leases".
    """
    work = _Work(store, request, claim)
    packed = {each.name: each for each in map(work.pack, dict.fromkeys(references))}
    pieces = sorted(work.pieces.values(), key=lambda piece: piece.digest)
    return ExportBundle(
        tuple(packed[name] for name in sorted(packed)),
        tuple(pieces),
        work.made,
        tuple(dict.fromkeys(work.warnings)),
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    descriptor: Descriptor
    platform: Platform | None


class _Work:
    def __init__(
        self, store: LocalStore, request: ExportSelection, claim: Callable[[Iterable[Digest]], None]
    ) -> None:
        self._store = store
        self._selection = request
        self._claim = claim
        self.pieces: dict[Digest, Descriptor] = {}
        self.made: dict[Digest, bytes] = {}
        self.warnings: list[Warned] = []

    def pack(self, reference: Reference) -> ExportedRoot:
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
        return ExportedRoot(reference, root, record.root, images, tuple(attached), left_out)

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
        """Choose among all offered entries, so that a best one that is missing is an error."""
        held = frozenset(image.manifest.digest for image in record.images)
        if not self._selection.named:
            return held
        chosen = set()
        requests: list[tuple[Platform, ...]] = [(wanted,) for wanted in self._selection.platforms]
        requests += [self._selection.machine] if self._selection.machine else []
        for request in requests:
            wanted = " or ".join(map(str, request))
            selection = select(
                [entry.platform for entry in entries],
                request[0] if len(request) == 1 else request,
                exact=self._selection.exact,
                local=request is self._selection.machine,
                table=self._selection.table,
            )
            if selection.index is None:
                offered = [str(entry.platform) for entry in entries if entry.platform is not None]
                raise PlatformNotOffered(record.reference, wanted, offered)
            digest = entries[selection.index].descriptor.digest
            if digest not in held:
                pull = f"resolver pull {record.reference} -p {request[0]}"
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
        """Return the root document of an exported name, and what it omits of its index.

        The original index if all of it is exported; else a shorter one with its own digest.
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
        if self._selection.everything and wished:
            missing = wished[0]
            for entry in wished:
                entry.digest.require_verifiable(
                    f"`{entry.digest}` in the index of `{record.reference}`"
                )
            named = f"`{missing.platform}`, `{missing.digest}`" if missing.platform else None
            pull = f"resolver pull {record.reference} -p all"
            raise NotHeld(record.reference, named or f"`{missing.digest}`", pull)
        if root is None:
            # The name's record lists an image that its index does not.
            raise NotHeld(record.reference, "an image", f"resolver pull {record.reference}")
        self.made.update(pruner.made)
        stays = [str(e.platform) for e in entries if e.descriptor.digest in chosen]
        self._warn(
            "digest-new",
            f"`{record.reference}` is exported with {', '.join(stays) or 'a part'} only, so its "
            f"index has another digest: `{root.digest}` instead of `{record.root.digest}`",
        )
        for entry in pruner.left_out:
            if not entry.digest.is_verifiable:
                self._warn(
                    "unverifiable-entry",
                    f"`{entry.digest}` in the index of `{record.reference}` cannot be verified, so "
                    "it is not exported",
                )
        return root, left_out

    def _is_wished(self, entry: Descriptor) -> bool:
        return self._selection.attestations or not entry.is_attestation

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
            if self._selection.named:
                return refers_to(entry) in chosen and here.is_whole(entry)
            return held(entry)

        return keep

    def _claim_all(self, record: PulledName, root: Descriptor, depth: int) -> None:
        """Claim everything that an index leads to, before it is looked up."""
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
        if waiting and not self._selection.referrers:
            self._warn(
                "referrers-left-out",
                f"`{record.reference}` is exported without "
                f"{counted('referrer' for _ in waiting)}: only an OCI layout in a folder can "
                "hold them",
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
            # An index may list entries that are not manifests.
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
                f"`{part.digest}` of `{record.reference}` is a foreign layer that "
                "was not pulled, so it is not exported",
            )
        entry = entries.get(descriptor.digest)
        kind = kind_of(descriptor, document)
        if entry is not None and kind == "image":
            yield PackedImage(descriptor, entry.platform, document, is_whole)
        elif entry is not None and depth == 0:
            # The root of the name is not an image.
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


#: The whole of `oci-layout`. Source: OCI image-spec v1.1.1, image-layout.md, "oci-layout file".
MARKER = b'{"imageLayoutVersion":"1.0.0"}'


def named(packed: Iterable[ExportedRoot], taken: Collection[str]) -> tuple[ExportedImage, ...]:
    """Name the images of a layout.

    `taken` are short names of the images that stay in the layout.
    """
    used = set(taken)
    images = []
    for each in packed:
        short = each.tag if each.tag and each.tag not in used else each.name
        short = short if each.tag else ""
        used.add(short)
        images.append(
            ExportedImage(
                str(each.reference),
                each.name,
                short,
                each.root,
                each.original,
                tuple(image.platform for image in each.images),
                each.attached,
                each.left_out,
            )
        )
    return tuple(images)


def entry(image: ExportedImage) -> dict[str, object]:
    """Build the `index.json` annotations of an image, as Docker and containerd write them.

    Source: OCI image-spec v1.1.1, annotations.md; containerd images/annotations.go.
    """
    annotations = {IMAGE_NAME: image.name}
    if image.short:
        annotations[REF_NAME] = image.short
    written: dict[str, object] = {**described(image.root), "annotations": annotations}
    if image.root.platform is not None and not image.root.is_index:
        written["platform"] = written_platform(image.root.platform)
    return written


def referrers(packed: Iterable[ExportedRoot]) -> dict[str, dict[str, object]]:
    """Write the entries of what refers to images from outside their indexes, by full name.

    Each is listed by itself: that is where `oras` and servers of a layout look for referrers. What
    cosign keeps under a tag has that tag here too.
    """
    written: dict[str, dict[str, object]] = {}
    for each in packed:
        for one in each.attached:
            if one.kind != "referrer":
                continue
            identity = each.reference.identity
            name = f"{identity}:{one.tag}" if one.tag else f"{identity}@{one.manifest.digest}"
            annotations = {IMAGE_NAME: name, **({REF_NAME: one.tag} if one.tag else {})}
            written[name] = {**described(one.manifest), "annotations": annotations}
    return written


def index(entries: Iterable[dict[str, object]]) -> dict[str, object]:
    """Write an `index.json`."""
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}


def described(descriptor: Descriptor) -> dict[str, object]:
    """Write the three members that every descriptor has."""
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def written_platform(platform: Platform) -> dict[str, object]:
    """Serialize an index without empty members. Source: OCI image-spec v1.1.1, image-index.md."""
    said: dict[str, object] = {
        "architecture": platform.architecture,
        "os": platform.os,
        "os.version": platform.os_version,
        "os.features": list(platform.os_features),
        "variant": platform.variant,
    }
    return {name: value for name, value in said.items() if value}
