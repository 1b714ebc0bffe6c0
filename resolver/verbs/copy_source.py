"""Read what is copied: documents, referrers, and the bytes of blobs.

Documents are kept in memory, since they are sent again as they are. Blobs stream from the source in
parallel ranges with a bound on what waits in memory, once for all destinations.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from resolver.clock import SystemClock
from resolver.core.oci.content import Distrusting, Document, Refers
from resolver.core.oci.descriptor import DOCUMENT_TYPES, MANIFEST_TYPES, OCI_ARTIFACT, Descriptor
from resolver.core.oci.digest import Digest, Verifier
from resolver.core.oci.manifest import Index, LeftOut, Manifest, kind_of, parse_document, refers_to
from resolver.core.oci.target import LayoutTarget, RegistryTarget, StoreTarget
from resolver.core.results.copy import (
    CopyEntry,
)
from resolver.core.results.events import Noted, Warned
from resolver.core.results.plan import ImageContent, is_foreign
from resolver.errors import (
    DigestMismatch,
    LimitExceeded,
    ManifestNotFound,
    NotFound,
    RangeRefused,
    ResolverError,
    Unavailable,
)
from resolver.values import dataclass
from resolver.verbs.documents import DocumentReader, RootDocument, read_manifest
from resolver.verbs.fetch import ranged
from resolver.verbs.gather import entries_of
from resolver.verbs.plan import MAX_PIECES, plan_images
from resolver.verbs.threads import DaemonPool, parallel
from resolver.verbs.transfer import RetryState

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from resolver.clock import Clock
    from resolver.core.oci.content import Source
    from resolver.core.results.plan import ChunkReuse, Span
    from resolver.sources.tier import Tier
    from resolver.verbs.chunks import HeldChunks
    from resolver.verbs.context import Context, PlatformLike

#: Bytes of one parallel read, parts ahead of the writer per blob, and parts in memory in total.
_PART: Final = 2 * 1024 * 1024
_AHEAD: Final = 4
_PARTS: Final = 8
#: Chunks that one of several destinations may be ahead of another.
_LEAD: Final = 16
_CHUNK: Final = 1 << 18
#: Tags that are listed to find cosign's; a longer list is not read, and each tag is asked for.
_MOST_TAGS: Final = 10_000
#: Tags under which cosign keeps what is about `sha256:HEX`. Source: cosign, "SIGNATURE_SPEC.md".
_COSIGN: Final = ("sig", "att", "sbom")
_GRACE: Final = 1.0


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


# --- bytes ---------------------------------------------------------------------------------


class BlobBody:
    """The bytes of a blob for one destination, hashed from the first byte on.

    Args:
        blob: what they must be.
        open_at: opens the stream at a position; called again after an interruption.
    """

    def __init__(
        self, blob: Descriptor, open_at: Callable[[int], AbstractContextManager[Iterator[bytes]]]
    ) -> None:
        self._blob = blob
        self._open_at = open_at
        self._verifier = Verifier(blob.digest, blob.size, f"`{blob.digest}`")
        self._hashed = 0
        self._failure: ResolverError | None = None
        self._stream = ExitStack()
        self._chunks: Iterator[bytes] | None = None
        self._rest = b""
        self._position = 0
        self.sent = 0

    def close(self) -> None:
        """Close the source."""
        self._chunks, self._rest = None, b""
        self._stream.close()

    def read(self, start: int, length: int) -> Iterator[bytes]:
        """Yield a part of the blob; see `sources.registry.upload.Body`.

        A part that follows the last one continues the same stream.
        """
        try:
            yield from self._read(start, start + length)
        except ResolverError as error:
            self._failure = error
            raise

    def check(self) -> None:
        """Raise what reading failed with; transports replace it by an error of their own."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        if self._chunks is None or self._position != start:
            self.close()
            # What an earlier run sent was hashed by that run only.
            self._position = min(start, self._hashed)
            self._chunks = self._stream.enter_context(self._open_at(self._position))
        while self._position < end:
            chunk = self._rest or self._next(self._chunks)
            limit = start if self._position < start else end
            part, self._rest = chunk[: limit - self._position], chunk[limit - self._position :]
            before, self._position = self._position, self._position + len(part)
            if before >= start:
                self.sent += len(part)
                yield part

    def _next(self, chunks: Iterator[bytes]) -> bytes:
        """Take a chunk and hash what is new; the last one only if all of them are right."""
        chunk = next(chunks, b"")
        after = self._position + len(chunk)
        if after > self._hashed:
            self._verifier.update(chunk[self._hashed - self._position :])
            self._hashed = after
        if after >= self._blob.size or not chunk:
            self._verifier.finish()
        return chunk


class BlobReader:
    """Reads blobs of the source: from the store if held, else in parallel ranges.

    A layer in chunks is rebuilt from the chunks of held layers where that is faster.

    Args:
        context: has the store.
        content: the source.
        clock: for retries.
        repository: `registry/name` of the source; held layers of it are reused first.
    """

    def __init__(
        self,
        context: Context,
        content: Source,
        clock: Clock | None = None,
        repository: str = "",
    ) -> None:
        self._context = context
        self._repository = repository
        self._content = content
        self._clock = clock or SystemClock()
        self._ranged = ranged(content)
        self._pool = DaemonPool(_PARTS, "resolver-part")
        self._room = threading.BoundedSemaphore(_PARTS)
        self._stop = threading.Event()
        self._reuses: dict[Digest, ChunkReuse | None] = {}
        self._tier = context.tier() if hasattr(content, "open_range") else None
        if self._tier is not None:
            from resolver.sources.tier import TieredSource  # noqa: PLC0415 - for a tier alone

            self._ranged = TieredSource(self._tier, self._ranged)

    def distrust(self, blob: Descriptor) -> bool:
        """Stop reading a blob from where its wrong bytes came from; return whether to try again."""
        reuse = self._reuses.get(blob.digest)
        if reuse is not None:
            self._reuses[blob.digest] = None
            message = f"`{blob.digest}` could not be rebuilt from held chunks and is fetched whole"
            self._context.observe(Warned("chunks-mismatch", message))
            for source in reuse.sources:
                self._context.store.recheck(source)
            return True
        return isinstance(self._ranged, Distrusting) and self._ranged.distrust(blob.digest)

    def tier_to_write(self, blob: Descriptor) -> Tier | None:
        """Return the tier if it takes this blob."""
        tier = self._tier
        return tier if tier is not None and tier.writes and blob.data is None else None

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._pool.close(_GRACE)

    @contextmanager
    def open_at(self, blob: Descriptor, start: int) -> Iterator[Iterator[bytes]]:
        """Stream a blob from a position, unverified."""
        store = self._context.store
        if blob.data is not None:
            yield iter((blob.data[start:],))
        elif store.held(blob):
            with store.open(blob) as chunks:
                yield _skip(chunks, start)
        elif (reuse := self._reuse(blob)) is not None:
            from resolver.verbs.chunks import HeldChunks  # noqa: PLC0415 - for these alone

            observe = self._context.observe
            with ExitStack() as files:
                held = HeldChunks(store, blob.size, reuse, files, observe)
                yield files.enter_context(closing(self._parts(blob, start, held)))
        elif hasattr(self._content, "open_range") and blob.size - start > 2 * _PART:
            yield self._parts(blob, start)
        else:
            yield self._whole(blob, start)

    def _reuse(self, blob: Descriptor) -> ChunkReuse | None:
        """Plan once how to rebuild a layer from held ones; None to read it whole."""
        if not blob.has_chunks or not hasattr(self._content, "open_range"):
            return None
        if blob.digest not in self._reuses:
            from resolver.verbs.chunks import (  # noqa: PLC0415 - for chunked layers alone
                ChunkOptions,
                layers_of,
                plan_reuse,
            )

            context = self._context
            self._reuses[blob.digest] = plan_reuse(
                context.store,
                blob,
                layers_of(context.store, self._repository),
                lambda: self._ranged,
                ChunkOptions(),
                observe=context.observe,
                clock=self._clock,
            )
        return self._reuses[blob.digest]

    def _whole(self, blob: Descriptor, start: int) -> Iterator[bytes]:
        """Stream from one request, and from another one where it breaks off."""
        position, tries = start, RetryState(self._clock, self._stop, start)
        while position < blob.size:
            try:
                with self._ranged.open_range(blob, position, blob.size) as answer:
                    skip = position if answer.whole else 0
                    for chunk in _skip(answer.chunks, skip):
                        # More than was announced is an error of the digest.
                        position += len(chunk)
                        yield chunk
                    if answer.whole or position >= blob.size:
                        return
            except RangeRefused:
                with self._content.open(blob) as chunks:
                    for chunk in _skip(chunks, position):
                        position += len(chunk)
                        yield chunk
                return
            except Unavailable as error:
                tries.wait_after(error, position)

    def _parts(
        self, blob: Descriptor, start: int, held: HeldChunks | None = None
    ) -> Generator[bytes]:
        """Stream from several requests at once, in order, with a bound on what waits in memory."""
        if held is None:
            ends = [*range(start + _PART, blob.size, _PART), blob.size]
            spans: Iterator[Span] = zip([start, *ends[:-1]], ends, strict=True)
            read, ahead = self._part, _AHEAD
        else:
            spans = iter(held.pieces(start, _PART))
            # Most of these are small.
            read, ahead = partial(self._rebuilt, held), _PARTS
        line = object()
        pending: list[Future[bytearray | None]] = []
        position = start
        try:
            while position < blob.size:
                while len(pending) < ahead and self._room.acquire(blocking=not pending):
                    span = next(spans, None)
                    if span is None:
                        self._room.release()
                        break
                    first, last = span
                    pending.append(self._pool.submit(partial(read, blob, first, last), line))
                future = pending.pop(0)
                try:
                    body = future.result()
                finally:
                    self._room.release()
                if body is None:
                    break
                position += len(body)
                for at in range(0, len(body), _CHUNK):
                    yield bytes(body[at : at + _CHUNK])
        finally:
            for future in pending:
                if not future.cancel():
                    future.exception()
                self._room.release()
        if position < blob.size:
            # Ranges are not supported after all.
            yield from self._whole(blob, position)

    def _rebuilt(
        self, held: HeldChunks, blob: Descriptor, start: int, end: int
    ) -> bytearray | None:
        """Join held bytes and ranges; None if there are no ranges."""
        body = bytearray()
        for (first, last), chunk in held.read(start, end):
            found = chunk or self._part(blob, first, last)
            if found is None:
                return None
            body += found
        return body

    def _part(self, blob: Descriptor, start: int, end: int) -> bytearray | None:
        """Read one range; None if there are no ranges."""
        body = bytearray()
        tries = RetryState(self._clock, self._stop, start)
        while len(body) < end - start:
            at = start + len(body)
            try:
                with self._ranged.open_range(blob, at, end) as answer:
                    if answer.whole or answer.coding:
                        return None
                    for chunk in answer.chunks:
                        body += chunk
                        if self._stop.is_set() or len(body) > end - start:
                            return None
            except RangeRefused:
                return None
            except Unavailable as error:
                tries.wait_after(error, start + len(body))
        return body


def _skip(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        if count >= len(chunk):
            count -= len(chunk)
            continue
        yield chunk[count:] if count else chunk
        count = 0


class SharedRead:
    """One read of a blob for several destinations, which take it at the pace of the slowest.

    Args:
        open_at: opens the source at a position.
        readers: destinations that will read or leave.
    """

    def __init__(
        self, open_at: Callable[[int], AbstractContextManager[Iterator[bytes]]], readers: int
    ) -> None:
        self._open_at = open_at
        self._state = threading.Condition()
        self._queues: list[list[bytes]] = [[] for _ in range(readers)]
        self._left = [False] * readers
        self._begun = self._over = False
        self._failure: BaseException | None = None

    def opener(self, reader: int) -> Callable[[int], AbstractContextManager[Iterator[bytes]]]:
        """Return the `open_at` of one destination: the first read is shared, later ones are not."""
        taken = False

        @contextmanager
        def open_at(position: int) -> Iterator[Iterator[bytes]]:
            nonlocal taken
            if taken or position or self._left[reader]:
                self.leave(reader)
                with self._open_at(position) as chunks:
                    yield chunks
                return
            taken = True
            try:
                yield self._take(reader)
            finally:
                self.leave(reader)

        return open_at

    def leave(self, reader: int) -> None:
        """Stop reading for one destination; the others go on."""
        with self._state:
            self._left[reader] = True
            self._queues[reader].clear()
            self._state.notify_all()

    def _take(self, reader: int) -> Iterator[bytes]:
        with self._state:
            if not self._begun:
                self._begun = True
                threading.Thread(target=self._pump, name="resolver-shared", daemon=True).start()
        while True:
            with self._state:
                self._state.wait_for(lambda: self._queues[reader] or self._over)
                if not self._queues[reader]:
                    if self._failure is not None:
                        raise self._failure
                    return
                chunk = self._queues[reader].pop(0)
                self._state.notify_all()
            yield chunk

    def _pump(self) -> None:
        try:
            with self._open_at(0) as chunks:
                for chunk in chunks:
                    with self._state:
                        self._state.wait_for(self._has_room)
                        if all(self._left):
                            return
                        for reader, waiting in enumerate(self._queues):
                            if not self._left[reader]:
                                waiting.append(chunk)
                        self._state.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again by every destination
            self._failure = error
        finally:
            with self._state:
                self._over = True
                self._state.notify_all()

    def _has_room(self) -> bool:
        return all(self._left) or all(
            left or len(waiting) < _LEAD
            for left, waiting in zip(self._left, self._queues, strict=True)
        )
