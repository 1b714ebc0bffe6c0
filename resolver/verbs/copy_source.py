"""What is copied: the documents of an image, and what refers to it.

Documents are kept in memory, since they are sent again as they are.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from resolver.core.oci.content import Document, Refers
from resolver.core.oci.descriptor import DOCUMENT_TYPES, MANIFEST_TYPES, OCI_ARTIFACT, Descriptor
from resolver.core.oci.manifest import Index, LeftOut, Manifest, kind_of, parse_document, refers_to
from resolver.core.oci.target import LayoutTarget, RegistryTarget, StoreTarget
from resolver.core.results.copy import CopyEntry
from resolver.core.results.events import Noted, Warned
from resolver.core.results.plan import ImageContent, is_foreign
from resolver.errors import (
    DigestMismatch,
    LimitExceeded,
    ManifestNotFound,
    NotFound,
    ResolverError,
)
from resolver.values import dataclass
from resolver.verbs.documents import DocumentReader, RootDocument, read_manifest
from resolver.verbs.gather import entries_of
from resolver.verbs.plan import MAX_PIECES, plan_images
from resolver.verbs.threads import parallel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from resolver.core.oci.content import Source
    from resolver.core.oci.digest import Digest
    from resolver.verbs.context import Context, PlatformLike

#: Tags that are listed to find cosign's; a longer list is not read, and each tag is asked for.
_MOST_TAGS: Final = 10_000
#: Tags under which cosign keeps what is about `sha256:HEX`. Source: cosign, "SIGNATURE_SPEC.md".
_COSIGN: Final = ("sig", "att", "sbom")


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """What to copy, and on which conditions.

    Attributes:
        platforms: only these, with their attestations; empty for everything.
        exact: reject fallbacks to another platform.
        sparse: keep the original index when platforms are left out.
        referrers: copy what refers to the image from outside its index.
        refresh_referrers: look for new referrers of an unchanged tag.
        if_absent: leave a tag that exists.
        expect: the digest that the tag must name now; empty for no condition.
    """

    platforms: tuple[PlatformLike, ...] = ()
    exact: bool = False
    sparse: bool = False
    referrers: bool = True
    refresh_referrers: bool = False
    if_absent: bool = False
    expect: str = ""


# --- the source ----------------------------------------------------------------------------


class CopyReader(DocumentReader):
    """Documents of the source, kept in memory to be sent; the store is read, and not written.

    Attributes:
        bodies: every document that was read, by digest.
    """

    def __init__(
        self, context: Context, target: RegistryTarget | LayoutTarget | StoreTarget
    ) -> None:
        local = isinstance(target, StoreTarget) or (
            context.settings.offline and isinstance(target, RegistryTarget)
        )
        super().__init__(
            None if local else lambda: context.source(target),
            None if isinstance(target, LayoutTarget) else context.store,
            str(target),
            context.observe,
            context.tier if isinstance(target, RegistryTarget) else lambda: None,
        )
        self.bodies: dict[Digest, bytes] = {}

    def held(self, descriptor: Descriptor) -> bytes | None:
        """Return a document that was read, or that the store holds."""
        body = self.bodies.get(descriptor.digest)
        if body is None:
            body = super().held(descriptor)
            if body is not None:
                self.bodies[descriptor.digest] = body
        return body

    def read(self, descriptor: Descriptor, what: str) -> bytes:
        """Read a document; one that is embedded in its descriptor is kept as well."""
        body = super().read(descriptor, what)
        self.bodies.setdefault(descriptor.digest, body)
        return body

    def document(self, name: str, digest: Digest | None) -> Document:
        """Read the root by its digest, or by its name if that digest was stated wrongly."""
        if digest is not None:
            body = self._store.load(digest) if self._store is not None else None
            body = body or self._in_tier(digest, None)
            try:
                found = (
                    self._need(f"`{digest}`").document(str(digest))
                    if body is None
                    else _parsed(digest, body)
                )
            except (DigestMismatch, ManifestNotFound):
                if not name:
                    raise
                found = self._need(f"`{name}`").document(name)
        else:
            found = self._need(f"`{name}`").document(name)
        self._keep(found)
        return found

    def source(self) -> Source:
        """Return the source itself."""
        return self._need("its content")

    def _keep(self, document: Document) -> None:
        self.bodies[document.descriptor.digest] = document.body


def _parsed(digest: Digest, body: bytes) -> Document:
    parsed = parse_document(body, None, f"`{digest}`")
    return Document(Descriptor(parsed.media_type, digest, len(body)), body)


class CopySource:
    """An opened source: what a name means there, and what it consists of."""

    def __init__(self, context: Context, text: str) -> None:
        self._context = context
        self.target = context.target(text)
        self.reader = CopyReader(context, self.target)
        self._root: RootDocument | None = None
        self._digest: Digest | None = None

    @property
    def repository(self) -> tuple[str, str]:
        """Registry and repository; empty for other places."""
        if not isinstance(self.target, RegistryTarget):
            return "", ""
        return self.target.reference.registry, self.target.reference.repository

    def digest(self) -> Digest:
        """Return what the name means now, by one HEAD of a tag."""
        if self._digest is None:
            if isinstance(self.target, RegistryTarget):
                reference = self.target.reference
                self._digest = reference.digest
                if self._digest is None and self.reader.may_request:
                    self._digest = self.reader.source().resolve(reference.name).digest
            self._digest = self._digest or self.root().document.descriptor.digest
        return self._digest

    def root(self) -> RootDocument:
        """Read the document that the name means."""
        if self._root is None:
            target, text = self.target, str(self.target)
            if isinstance(target, LayoutTarget):
                document = self.reader.document(target.name or "", None)
            elif isinstance(target, StoreTarget) or not self.reader.may_request:
                document = self._context.read_root(self.reader, target).document
                self.reader.bodies[document.descriptor.digest] = document.body
            else:
                reference = target.reference
                name = "" if reference.digest is not None else reference.name
                document = self.reader.document(name, self.digest())
            self._root = as_root(text, document)
            self._digest = document.descriptor.digest
        return self._root

    def listed_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """List what refers to a manifest from outside its index."""
        if isinstance(self.target, StoreTarget) or not self.reader.may_request:
            record = None
            if not isinstance(self.target, LayoutTarget):
                record = self._context.store.pulled(str(self.target.reference))
            return tuple(
                one.manifest
                for one in (record.attached if record is not None else ())
                if one.kind == "referrer" and one.about == subject and not one.tag
            )
        source = self.reader.source()
        return source.referrers(subject) if isinstance(source, Refers) else ()

    def tagged(
        self, subjects: Sequence[Digest], jobs: int
    ) -> Iterator[tuple[Digest, str, Document]]:
        """Find what cosign keeps under tags of the digests: by one list of tags if possible."""
        wanted = [
            (subject, f"{subject.algorithm}-{subject.hex}.{suffix}")
            for subject in subjects
            for suffix in _COSIGN
        ]
        if isinstance(self.target, StoreTarget) or not self.reader.may_request:
            yield from self._stored_tags({tag: subject for subject, tag in wanted})
            return
        known = self._tags()
        if known is not None:
            wanted = [pair for pair in wanted if pair[1] in known]
        for outcome in parallel(lambda pair: self.reader.tagged(pair[1]), wanted, jobs=jobs):
            if isinstance(outcome.value, ResolverError):
                if isinstance(outcome.value, NotFound):
                    continue
                raise outcome.value
            if outcome.value is not None:
                yield (*outcome.item, outcome.value)

    def _tags(self) -> set[str] | None:
        """List the names of the source; None if there are too many, or no list."""
        try:
            found = set(islice(self.reader.source().tags(), _MOST_TAGS + 1))
        except ResolverError as error:
            self._context.observe(Noted(f"tags are asked for one by one: {error}"))
            return None
        return None if len(found) > _MOST_TAGS else found

    def _stored_tags(self, wanted: dict[str, Digest]) -> Iterator[tuple[Digest, str, Document]]:
        if isinstance(self.target, LayoutTarget):
            return
        record = self._context.store.pulled(str(self.target.reference))
        for one in record.attached if record is not None else ():
            if one.tag in wanted:
                body = self.reader.read(one.manifest, f"`{one.tag}`")
                yield wanted[one.tag], one.tag, Document(one.manifest, body)

    def content(self) -> Source:
        """Return where blobs are read that the store does not hold."""
        if isinstance(self.target, StoreTarget) or not self.reader.may_request:
            return self._context.store
        return self.reader.source()


def as_root(text: str, document: Document) -> RootDocument:
    """Parse a document that was read."""
    kind = document.descriptor.media_type
    parsed = parse_document(document.body, kind, f"the document of `{text}`", kind)
    return RootDocument(text, "", document, parsed)


# --- what an image consists of -------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class CopyExtent:
    """What is sent: leaf entries, the indexes above them, children first, and the rest.

    Attributes:
        indexes: the root last; empty for a single manifest.
        whole: whether the root lists nothing that is left out.
    """

    root: Descriptor
    entries: tuple[CopyEntry, ...]
    indexes: tuple[Descriptor, ...]
    left_out: tuple[LeftOut, ...] = ()
    whole: bool = True


def read_extent(context: Context, source: CopySource, options: CopyOptions) -> CopyExtent:
    """Read every document of an image, or of some platforms of it.

    Raises:
        PlatformNotOffered, PlatformUnknown: as `resolve` raises.
        ResolverError: a document cannot be read.
    """
    root, reader = source.root(), source.reader
    jobs = context.settings.jobs
    named = [each for each in options.platforms if each != "all"]
    if not named or "all" in options.platforms:
        return _everything(reader, root, jobs)
    requests = [context.platform_request(each, exact=options.exact) for each in named]
    selected = plan_images(reader, root, requests, context.table)
    if not isinstance(root.parsed, Index):
        return _everything(reader, root, jobs)
    chosen = {one.manifest.digest for one in (*selected.images, *selected.attached)}
    if options.sparse:
        everything = _everything(reader, root, jobs, wanted=chosen)
        return replace(everything, left_out=selected.left_out, whole=not selected.left_out)
    from resolver.verbs.export.bundle import Pruner  # noqa: PLC0415 - for some platforms only

    pruner = Pruner(_Documents(reader, root.text), lambda entry: entry.digest in chosen)
    pruned = pruner.prune(root.document.descriptor)
    if pruned is None or pruned.digest == root.document.descriptor.digest:
        return _everything(reader, root, jobs)
    reader.bodies |= pruner.made
    smaller = as_root(root.text, Document(pruned, pruner.made[pruned.digest]))
    return replace(_everything(reader, smaller, jobs), left_out=selected.left_out)


class _Documents:
    """The documents of a reader as content, for `Pruner`."""

    def __init__(self, reader: CopyReader, text: str) -> None:
        self._reader = reader
        self._text = text

    def has(self, descriptor: Descriptor) -> bool:
        """Whether it is listed: everything can be read."""
        return descriptor.digest.is_verifiable

    def read(self, descriptor: Descriptor) -> bytes:
        """Read a document."""
        return self._reader.read(descriptor, f"`{descriptor.digest}` of `{self._text}`")

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Documents are read whole."""
        raise NotFound(f"`{descriptor.digest}` is not read as a stream")


def _everything(
    reader: CopyReader, root: RootDocument, jobs: int, wanted: set[Digest] | None = None
) -> CopyExtent:
    """Take every entry of an index, or the wanted ones, as it is."""
    top = root.document.descriptor
    if isinstance(root.parsed, Manifest):
        return CopyExtent(top, (copy_entry(root.parsed, top),), ())
    nested: dict[tuple[int, ...], Descriptor] = {}
    listed = [
        (path, entry)
        for path, entry in entries_of(reader, root.parsed, root.text, nested=nested)
        if wanted is None or entry.digest in wanted
    ]
    if wanted is not None:
        parents = {path[:depth] for path, _ in listed for depth in range(1, len(path))}
        nested = {path: entry for path, entry in nested.items() if path in parents}
    once = {entry.digest: entry for _, entry in reversed(listed)}
    in_order = [once.pop(entry.digest) for _, entry in listed if entry.digest in once]
    for entry in in_order:
        entry.digest.require_verifiable(f"`{entry.digest}` in the index of `{root.text}`")
    entries: list[CopyEntry] = []

    def look(entry: Descriptor) -> CopyEntry:
        if entry.media_type not in MANIFEST_TYPES | {OCI_ARTIFACT}:
            # Whatever it is: its bytes are what a registry keeps.
            return copy_entry(None, entry)
        return copy_entry(read_manifest(reader, entry, root.text), entry)

    for outcome in parallel(look, in_order, jobs=jobs):
        if isinstance(outcome.value, ResolverError):
            raise outcome.value
        entries.append(outcome.value)
    deepest = sorted(nested, key=len, reverse=True)
    indexes = [bare(nested[path]) for path in deepest]
    unique = {each.digest: each for each in (*indexes, bare(top))}
    _limit(entries, root.text)
    return CopyExtent(bare(top), tuple(entries), tuple(unique.values()))


def bare(descriptor: Descriptor) -> Descriptor:
    """Return only type, digest and size of a descriptor."""
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)


def _limit(entries: Iterable[CopyEntry], text: str) -> None:
    count = sum(len(entry.contents) for entry in entries)
    if count > MAX_PIECES:
        raise LimitExceeded(f"what `{text}` consists of", MAX_PIECES, count, "pieces")


def copy_entry(
    manifest: Manifest | None,
    descriptor: Descriptor,
    *,
    about: Digest | None = None,
    tag: str = "",
    referrer: bool = False,
) -> CopyEntry:
    """List what a manifest consists of; foreign layers stay with their publisher."""
    contents: dict[Digest, ImageContent] = {}
    if manifest is not None:
        for layer in manifest.layers:
            if not is_foreign(layer):
                contents.setdefault(layer.digest, ImageContent(layer, "layer"))
        if manifest.config is not None:
            contents.setdefault(manifest.config.digest, ImageContent(manifest.config, "config"))
    is_document = descriptor.media_type in DOCUMENT_TYPES
    contents[descriptor.digest] = ImageContent(
        bare(descriptor), "manifest" if is_document else "layer"
    )
    listed = None
    if referrer and manifest is not None and manifest.subject is not None:
        config = manifest.config.media_type if manifest.config is not None else None
        listed = replace(
            bare(descriptor),
            artifact_type=manifest.artifact_type or config,
            annotations=manifest.annotations,
        )
    return CopyEntry(
        "referrer" if referrer else kind_of(descriptor, manifest),
        bare(descriptor),
        tuple(contents.values()),
        descriptor.platform,
        about or refers_to(descriptor),
        tag,
        listed,
    )


def find_referrers(
    context: Context, source: CopySource, subjects: Iterable[Digest]
) -> list[CopyEntry]:
    """Find what refers to manifests, and to what refers to them, and what cosign keeps of them.

    Raises:
        LimitExceeded: there are more than 20,000.
        ResolverError: they cannot be listed, or one cannot be read.
    """
    jobs, text = context.settings.jobs, str(source.target)
    known = set(subjects)
    waiting, signed = list(known), list(known)
    found: dict[Digest, CopyEntry] = {}
    while waiting:
        following: list[Digest] = []
        for outcome in parallel(source.listed_referrers, sorted(waiting), jobs=jobs):
            if isinstance(outcome.value, ResolverError):
                raise outcome.value
            for descriptor in outcome.value:
                if descriptor.digest in known:
                    continue
                for entry in _referring(context, source, descriptor, outcome.item):
                    if entry.manifest.digest not in known:
                        known.add(entry.manifest.digest)
                        found[entry.manifest.digest] = entry
                        following.append(entry.manifest.digest)
        if len(found) > MAX_PIECES:
            raise LimitExceeded(f"what refers to `{text}`", MAX_PIECES, len(found), "entries")
        waiting = following
    tagged = list(found.values())
    for subject, tag, document in source.tagged([*signed, *found], jobs):
        tagged += _tagged(context, source, subject, tag, document)
    _limit(tagged, text)
    return tagged


def _referring(
    context: Context, source: CopySource, listed: Descriptor, subject: Digest
) -> list[CopyEntry]:
    """Read a referrer, and verify that it names its subject; an index comes with its entries."""
    text = str(source.target)
    listed.digest.require_verifiable(f"`{listed.digest}`, which refers to `{subject}`,")
    what = f"`{listed.digest}`, which refers to `{subject}` of `{text}`,"
    kind = listed.media_type
    parsed = parse_document(source.reader.read(bare(listed), what), kind, what, kind)
    if parsed.subject is None or parsed.subject.digest != subject:
        message = f"`{listed.digest}` is listed as a referrer of `{subject}`, and does not name it"
        context.observe(Warned("not-a-referrer", f"{message}; it is left out"))
        return []
    return _with_children(context, source, bare(listed), parsed, subject, "")


def _tagged(
    context: Context, source: CopySource, subject: Digest, tag: str, document: Document
) -> list[CopyEntry]:
    parsed = as_root(str(source.target), document).parsed
    source.reader.bodies[document.descriptor.digest] = document.body
    return _with_children(context, source, document.descriptor, parsed, subject, tag)


def _with_children(
    context: Context,
    source: CopySource,
    descriptor: Descriptor,
    parsed: Index | Manifest,
    subject: Digest,
    tag: str,
) -> list[CopyEntry]:
    if isinstance(parsed, Manifest):
        return [copy_entry(parsed, descriptor, about=subject, tag=tag, referrer=True)]
    root = as_root(
        str(source.target), Document(descriptor, source.reader.bodies[descriptor.digest])
    )
    inner = _everything(source.reader, root, context.settings.jobs)
    children = [replace(one, kind="referrer") for one in inner.entries]
    above = [
        CopyEntry("referrer", index, (ImageContent(index, "index"),))
        for index in inner.indexes[:-1]
    ]
    listed = None
    if parsed.subject is not None:
        listed = replace(
            descriptor, artifact_type=parsed.artifact_type, annotations=parsed.annotations
        )
    contents = (ImageContent(descriptor, "index"),)
    last = CopyEntry("referrer", descriptor, contents, None, subject, tag, listed)
    return [*children, *above, last]
