"""Read documents and choose among them: from the store if it has them, else from their source.

The number of requests is decided here (docs/wire-protocol.md, "Request budget"): a tag that the
store does not know costs one GET, whose answer is both document and digest; a known tag costs one
HEAD, which Docker Hub does not count against its rate limit; content named by digest is fetched at
most once.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from resolver.core.oci.content import Distrusting, Document, Refers
from resolver.core.oci.descriptor import MANIFEST_TYPES, Descriptor, EntryKind
from resolver.core.oci.digest import Digest, Verifier
from resolver.core.oci.manifest import (
    MAX_DEPTH,
    MAX_DOCUMENT,
    Index,
    Manifest,
    parse_document,
)
from resolver.core.platforms.platform import Grade, Platform
from resolver.core.platforms.select import select
from resolver.core.results.events import Noted, Warned, ignore
from resolver.core.results.resolve import Considered
from resolver.errors import (
    Denied,
    DigestMismatch,
    LimitExceeded,
    ManifestNotFound,
    Negative,
    NotInStore,
    PlatformUnknown,
    RepositoryNotFound,
    SizeMismatch,
    Untrusted,
)
from resolver.store import NameRecord
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resolver.core.oci.content import Source
    from resolver.core.oci.manifest import ImageConfig
    from resolver.core.oci.reference import Reference
    from resolver.core.platforms.platform import PlatformTable
    from resolver.core.platforms.select import Selection
    from resolver.core.results.events import Observer
    from resolver.sources.tier import Tier
    from resolver.store import LocalStore


class DocumentReader:
    """Documents of one repository or one local place.

    Args:
        open_source: called at most when the store cannot answer, so that a reader of a fully held
            image never builds a client.
        tier: asked before the source for documents by digest.
    """

    def __init__(
        self,
        open_source: Callable[[], Source] | None,
        store: LocalStore | None,
        place: str,
        observe: Observer = ignore,
        tier: Callable[[], Tier | None] = lambda: None,
    ) -> None:
        self._open_source = open_source
        self._tier = tier
        self._store = store
        self._place = place
        self._observe = observe
        self._source: Source | None = None

    def named(self, reference: Reference) -> Document:
        """Read the document that a registry reference names."""
        if reference.digest is not None:
            return self._by_digest(reference, reference.digest)
        return self._by_tag(reference)

    def local(self, name: str) -> Document:
        """Read what a name means in a local place; empty when it has one entry only."""
        return self._need("its index").document(name)

    def read(self, descriptor: Descriptor, what: str) -> bytes:
        """Read a document that another one points at, verified."""
        descriptor.digest.require_verifiable(what)
        if descriptor.data is not None:
            return descriptor.data
        held = self.held(descriptor)
        if held is not None:
            return held
        body = self._in_tier(descriptor.digest, descriptor.size)
        if body is None:
            body = self._need(what).read(descriptor)
        self._keep(Document(descriptor, body))
        return body

    def _in_tier(self, digest: Digest, size: int | None) -> bytes | None:
        tier = self._tier() if self.may_request else None
        return None if tier is None else tier.load(digest, size)

    @property
    def may_request(self) -> bool:
        """Whether documents may be requested from a source, not only read from the store."""
        return self._open_source is not None

    def held(self, descriptor: Descriptor) -> bytes | None:
        """Read a document only if that costs no request."""
        if self._store is None:
            return None
        return self._store.load(descriptor.digest, descriptor.size)

    def current(self, tag: str, known: Digest) -> Digest:
        """Return the digest that a tag points at now: one HEAD if it is still `known`.

        A different digest is returned only after its bytes were read: some registries send wrong
        digest headers (docs/wire-protocol.md, "Wrong digest headers"), and a false "it has moved"
        is worse than one more request.
        """
        stated = self._need("where its tag points now").resolve(tag).digest
        if stated == known:
            return known
        document = self._moved(tag, stated, known)
        self._keep(document)
        same = Digest.of(document.body, known.algorithm) == known
        return known if same else document.descriptor.digest

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """List the manifests that refer to a manifest; none where the place has no such lists."""
        source = self._need(f"what refers to `{digest}`")
        return source.referrers(digest) if isinstance(source, Refers) else ()

    def referrers_by_api(self, digest: Digest) -> tuple[Descriptor, ...] | None:
        """List referrers by the referrers API; None where the place has no such API."""
        source = self._need(f"what refers to `{digest}`")
        return source.referrers_by_api(digest) if isinstance(source, Refers) else None

    def tags(self) -> frozenset[str] | None:
        """List the tags, or the names of a local place; None where the list is refused."""
        try:
            return frozenset(self._need("its tags").tags())
        except RepositoryNotFound:
            # Some registries answer this for a repository that has only digests.
            return frozenset()
        except (Denied, Untrusted) as error:
            self._observe(Noted(f"tags of `{self._place}` are requested one by one: {error}"))
            return None

    def blob(self, descriptor: Descriptor, limit: int, what: str) -> bytes:
        """Read a blob of at most `limit` bytes, verified, and keep it in the store.

        Raises:
            LimitExceeded: it is larger; nothing was requested.
            NotInStore, NotFound, Denied, Unavailable, Untrusted: as `read`.

        """
        if descriptor.size > limit:
            raise LimitExceeded(what, limit, descriptor.size)
        if descriptor.size <= MAX_DOCUMENT:
            return self.read(descriptor, what)
        descriptor.digest.require_verifiable(what)
        if self._store is not None:
            held = self._store.load(descriptor.digest, descriptor.size, limit)
            if held is not None:
                return held
        source = self._need(what)
        while True:
            verifier, body = Verifier(descriptor.digest, descriptor.size, what), bytearray()
            try:
                with source.open(descriptor) as chunks:
                    for chunk in chunks:
                        verifier.update(chunk)
                        body += chunk
                verifier.finish()
            except (DigestMismatch, SizeMismatch):
                # Another host may have the right bytes.
                if not (isinstance(source, Distrusting) and source.distrust(descriptor.digest)):
                    raise
            else:
                self._keep(Document(descriptor, bytes(body)))
                return bytes(body)

    def tagged(self, tag: str) -> Document | None:
        """Read the document of another tag of the repository; None if there is no such tag."""
        try:
            document = self._need(f"the tag `{tag}`").document(tag)
        except ManifestNotFound:
            return None
        self._keep(document)
        return document

    def warn(self, warning: Warned) -> None:
        """Pass a warning to the observer."""
        self._observe(warning)

    def report_warnings(self) -> None:
        """Pass the source's warnings to the observer."""
        if self._source is not None:
            for text in self._source.warnings():
                self._observe(Warned("registry-warning", f"`{self._place}` says: {text}"))

    def _by_digest(self, reference: Reference, digest: Digest) -> Document:
        if self._store is not None:
            body = self._store.load(digest)
            if body is not None:
                return _stored(body, digest, None, str(reference))
        body = self._in_tier(digest, None)
        if body is None:
            document = self._need(f"`{digest}`").document(str(digest))
        else:
            document = _stored(body, digest, None, str(reference))
        self._keep(document)
        return document

    def _by_tag(self, reference: Reference) -> Document:
        known = self._store.recall(str(reference)) if self._store is not None else None
        body = None
        if known is not None and self._store is not None:
            body = self._store.load(known.root.digest, known.root.size)
        if known is None or body is None:
            document = self._need("the tag").document(reference.name)
        elif self._open_source is None:
            return _stored(body, known.root.digest, known.root.media_type, str(reference))
        else:
            root, stated = known.root.digest, self._need("").resolve(reference.name).digest
            if stated == root:
                return _stored(body, root, known.root.media_type, str(reference))
            if stated == Digest.of(body, stated.algorithm):
                # The same bytes under the digest that the registry uses for them now.
                document = _stored(body, stated, known.root.media_type, str(reference))
            else:
                document = self._moved(reference.name, stated, root)
        self._keep(document)
        self._remember(reference, document.descriptor)
        return document

    def _moved(self, tag: str, stated: Digest, before: Digest) -> Document:
        """Read the document of a tag for which a HEAD returned a different digest than before.

        By that digest, so that a tag that moves again cannot mix two images. By the tag if the
        digest does not exist, or is of another algorithm: the header was wrong
        (docs/wire-protocol.md, "Wrong digest headers").
        """
        source = self._need("")
        if stated.algorithm == before.algorithm:
            with suppress(DigestMismatch, ManifestNotFound):
                return source.document(str(stated))
        return source.document(tag)

    def _keep(self, document: Document) -> None:
        if self._store is not None:
            self._store.try_add(document, self._observe)

    def _remember(self, reference: Reference, root: Descriptor) -> None:
        if self._store is not None:
            self._store.try_remember(NameRecord(str(reference), root), self._observe)

    def _need(self, what: str) -> Source:
        """Open the source, or raise `NotInStore` when offline."""
        if self._source is None:
            if self._open_source is None:
                store = str(self._store.root) if self._store is not None else ""
                raise NotInStore(self._place, what, store)
            self._source = self._open_source()
        return self._source


def _stored(body: bytes, digest: Digest, media_type: str | None, what: str) -> Document:
    """Wrap bytes that the store has verified; a missing media type is read from the document."""
    kind = media_type
    if kind is None:
        kind = parse_document(body, None, what).media_type
    return Document(Descriptor(kind, digest, len(body)), body)


#: Entries without a platform whose configs are read to identify them.
#: Source: docs/platform-matching.md, "Entries without a platform".
MAX_PROBES = 16
#: Manifests read in one search, whatever the shape of the tree.
#: Source: docs/platform-matching.md, "Nested indexes".
MAX_VISITED = 1_000

_UNKNOWN = Platform(os="unknown", architecture="unknown")
#: Many images of a batch offer the same platforms.
_select = lru_cache(maxsize=64)(select)


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """The entry that was chosen, with the platform that its index or its config names."""

    descriptor: Descriptor
    platform: Platform
    grade: Grade
    path: tuple[int, ...]
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PlatformRequest:
    """The requested platforms, and how strictly to match them.

    Attributes:
        platforms: acceptable platforms, best first; more than one only for a default.
        explicit: whether a platform was requested; a default does not reject a single-platform
            image.
        exact: reject every fallback.
        verify: read the chosen manifest and config too, and compare them with the index.
        strict: raise an error for a contradiction instead of a warning; implies `verify`.
        local: the platform is this machine's, with the level of its processor; see `select`.
        entry: take the index entry with this digest, and no other.
        reads: the chosen manifest is read in any case, so that checking its type costs nothing.
        image: read the manifest of the chosen entry, and reject one that is not an image.
        prefer: of entries that match equally, those with layers in `zstd` or `gzip` come first;
            empty keeps the order of the index.
    """

    platforms: tuple[Platform, ...]
    explicit: bool
    exact: bool = False
    verify: bool = False
    strict: bool = False
    local: bool = False
    entry: Digest | None = None
    reads: bool = False
    image: bool = False
    prefer: str = ""

    @property
    def refuses_artifacts(self) -> bool:
        """Whether an entry whose manifest is not an image is rejected, even if it is the only one.

        Otherwise one request is enough: the index is trusted, as crane does, and artifacts
        published for several platforms can be pulled.
        """
        return self.verify or self.strict or self.image


#: Marks an entry whose layers are compressed with zstd, beside its twin with gzip.
_ZSTD = "io.github.containers.compression.zstd"


class IndexSearch:
    """Search one index for one request, and record why each entry was rejected."""

    def __init__(
        self,
        reader: DocumentReader,
        request: PlatformRequest,
        table: PlatformTable,
        *,
        reference: str,
    ) -> None:
        self._reader = reader
        self._request = request
        self._table = table
        self._reference = reference
        self._for_unknown = any(each.normalized(table) == _UNKNOWN for each in request.platforms)
        self._probes = 0
        self._visited: set[str] = set()
        #: Why each entry lost, by its path; the chosen one has an empty reason.
        self.reasons: dict[tuple[int, ...], tuple[Descriptor, str]] = {}
        #: Platforms that images are offered for, by the path of their entry, as written.
        self.offered: dict[tuple[int, ...], Platform] = {}
        #: Entries that the index lists as images, and whose manifests are none.
        self.warnings: list[Warned] = []
        #: The first of these that matches: the result if there is no image, unless it is rejected.
        self.last_resort: Match | None = None

    def choose(self, index: Index, path: tuple[int, ...] = ()) -> Match | None:
        """Find the best entry; nested indexes are entered, best first."""
        candidates = [self._candidate(entry) for entry in index.manifests]
        ranking, grades, rejected = self._ranked(index.manifests, candidates)
        for position, entry in enumerate(index.manifests):
            candidate = candidates[position]
            if candidate is not None and not entry.is_index:
                self.offered[(*path, position)] = candidate
            reason = self._ineligible(entry) or rejected.get(position, "a better entry was chosen")
            self.reasons[(*path, position)] = (entry, reason)
        # Two images for one platform are rare, and an artifact beside its image is the usual case.
        twins = Counter(
            _without_features(candidate.normalized(self._table))
            for position in ranking
            if (candidate := candidates[position]) is not None
        )
        unverifiable: tuple[Descriptor, Grade] | None = None
        for position, grade in zip(ranking, grades, strict=True):
            entry = index.manifests[position]
            if unverifiable is not None and grade is not unverifiable[1]:
                break
            if not entry.digest.is_verifiable:
                # A twin that fits as well and can be verified will do; a worse one will not.
                unverifiable = unverifiable or (entry, grade)
                self.reasons[(*path, position)] = (entry, _unverifiable(entry))
                continue
            platform = candidates[position] or _UNKNOWN
            here = (*path, position)
            if entry.is_index:
                found = self._descend(entry, here)
                if found is not None:
                    return found
                self.reasons[here] = (entry, "the nested index has no matching image")
                continue
            doubtful = twins[_without_features(platform.normalized(self._table))] > 1
            manifest = self._manifest(entry, doubtful=doubtful)
            if manifest is None or self._for_unknown or manifest.is_image:
                return Match(entry, platform, grade, here, manifest)
            self.last_resort = self.last_resort or Match(entry, platform, grade, here, manifest)
            self._pass_over(entry, here, manifest)
        if unverifiable is not None:
            needed = unverifiable[0]
            needed.digest.require_verifiable(
                f"the entry `{needed.digest}` for `{needed.platform}` of `{self._reference}`"
            )
        return self._untyped(index, path)

    def _ranked(
        self, entries: Sequence[Descriptor], candidates: Sequence[Platform | None]
    ) -> tuple[list[int], tuple[Grade, ...], dict[int, str]]:
        """Return positions, best first, their grades, and why each other one was rejected.

        Source: containers/image, internal/manifest/oci_index.go (the annotation).
        """
        prefer = self._request.prefer
        order = list(range(len(entries)))
        if prefer:
            is_zstd = [entry.annotation(_ZSTD) == "true" for entry in entries]
            order.sort(key=lambda position: is_zstd[position] is not (prefer == "zstd"))
        selection = self._select([candidates[position] for position in order])
        ranking = [order[number] for number in selection.ranking]
        rejected = {order[loser.index]: loser.reason for loser in selection.rejected}
        if prefer and ranking:
            # The reasons of `select` count the entries as they were given to it.
            reason = f"a better entry (#{ranking[0] + 1}) was chosen"
            rejected |= dict.fromkeys(ranking[1:], reason)
        return ranking, selection.grades, rejected

    def _select(self, candidates: Sequence[Platform | None]) -> Selection:
        request = self._request
        return _select(
            tuple(candidates),
            request.platforms,
            exact=request.exact,
            local=request.local,
            table=self._table,
        )

    def _manifest(self, entry: Descriptor, *, doubtful: bool) -> Manifest | None:
        """Read the manifest of the best entry, where it is needed, is here, or decides."""
        request = self._request
        if not (request.refuses_artifacts or request.reads):
            body = entry.data or self._reader.held(entry)
            if body is None and not (doubtful and self._reader.may_request):
                return None
        return read_manifest(self._reader, entry, self._reference)

    def _pass_over(self, entry: Descriptor, path: tuple[int, ...], manifest: Manifest) -> None:
        """Record that the manifest of an entry shows that it is not an image."""
        self.offered.pop(path, None)
        self.reasons[path] = (entry, f"its manifest is not an image but `{type_of(manifest)}`")
        self.warnings.append(passed_over(self._reference, entry, manifest))

    def _candidate(self, entry: Descriptor) -> Platform | None:
        if self._ineligible(entry):
            return None
        return entry.platform

    def _ineligible(self, entry: Descriptor) -> str:
        """Return why an entry can never be chosen; empty if it can.

        See docs/platform-matching.md, "Eligible entries".
        """
        only = self._request.entry
        if only is not None and not entry.is_index and entry.digest != only:
            return "another entry was requested"
        if entry.kind is EntryKind.ATTESTATION and not self._for_unknown:
            return "attestation, not an image"
        if entry.kind is EntryKind.ARTIFACT:
            if entry.media_type in MANIFEST_TYPES and self._for_unknown:
                return ""
            return f"not an image: its type is `{entry.artifact_type or entry.media_type}`"
        if entry.kind is EntryKind.ATTESTATION and entry.media_type not in MANIFEST_TYPES:
            return f"not an image: its type is `{entry.media_type}`"
        return ""

    def _untyped(self, index: Index, path: tuple[int, ...]) -> Match | None:
        """Read the configs of entries without a platform, as the last resort.

        See docs/platform-matching.md, "Entries without a platform".
        """
        found: list[Match] = []
        for position, entry in enumerate(index.manifests):
            if entry.platform is not None or self._ineligible(entry):
                continue
            if not entry.digest.is_verifiable:
                self.reasons[(*path, position)] = (entry, _unverifiable(entry))
                continue
            choice = self._probe(entry, (*path, position))
            if choice is not None:
                found.append(choice)
                if choice.grade in {Grade.EXACT, Grade.NORMALISED}:
                    break
        if not found:
            return None
        platforms = [choice.platform for choice in found]
        selection = self._select(platforms)
        # Configs that only fit without their variant come last, in index order.
        return found[selection.index] if selection.index is not None else found[0]

    def _probe(self, entry: Descriptor, path: tuple[int, ...]) -> Match | None:
        if entry.is_index:
            return self._descend(entry, path)
        if self._probes >= MAX_PROBES:
            self.reasons[path] = (entry, f"not read: the limit of {MAX_PROBES} configs was reached")
            return None
        self._probes += 1
        manifest = read_manifest(self._reader, entry, self._reference)
        if not manifest.is_image:
            self._pass_over(entry, path, manifest)
            return None
        platform = read_config(self._reader, manifest, self._reference).platform
        if platform is None:
            self.reasons[path] = (entry, "has no platform, and its config names none")
            return None
        self.offered[path] = platform
        fit = fits(platform, self._request, self._table)
        if fit is None:
            self.reasons[path] = (entry, f"has no platform; its config says `{platform}`")
            return None
        return Match(entry, platform, fit, path, manifest)

    def _descend(self, entry: Descriptor, path: tuple[int, ...]) -> Match | None:
        if len(path) >= MAX_DEPTH:
            raise LimitExceeded("the depth of nested indexes", MAX_DEPTH, len(path) + 1, "levels")
        if str(entry.digest) in self._visited:
            return None
        self._visited.add(str(entry.digest))
        if len(self._visited) > MAX_VISITED:
            raise LimitExceeded("nested indexes", MAX_VISITED, len(self._visited), "documents")
        what = f"the index `{entry.digest}` inside `{self._reference}`"
        body = self._reader.read(entry, what)
        inner = parse_document(body, entry.media_type, what, entry.media_type)
        return self.choose(inner, path) if isinstance(inner, Index) else None

    def considered(self, chosen: Match | None) -> tuple[Considered, ...]:
        """Return every entry that was considered, with its outcome, in index order."""
        return tuple(
            Considered(
                path,
                descriptor,
                chosen is not None and path == chosen.path,
                "" if chosen is not None and path == chosen.path else reason,
            )
            for path, (descriptor, reason) in sorted(self.reasons.items())
        )


def _unverifiable(entry: Descriptor) -> str:
    return f"`{entry.digest.algorithm}` digests cannot be verified"


def passed_over(reference: str, entry: Descriptor, manifest: Manifest) -> Warned:
    """Warn that an entry is listed as an image, and that its manifest is not one."""
    listed = f" for `{entry.platform}`" if entry.platform is not None else ""
    message = (
        f"`{reference}` lists `{entry.digest}`{listed} as an image, but its manifest is "
        f"`{type_of(manifest)}`: skipped"
    )
    return Warned("artifact-passed-over", message)


def type_of(manifest: Manifest) -> str:
    """Describe a manifest that is not an image."""
    config = manifest.config.media_type if manifest.config is not None else "no config"
    return manifest.artifact_type or config


def _without_features(platform: Platform) -> Platform:
    return replace(platform, os_features=())


def fits(platform: Platform, request: PlatformRequest, table: PlatformTable) -> Grade | None:
    """Grade a config's platform against a request; None if it does not match.

    A config without a variant matches any variant of its architecture, since configs often omit it
    (docs/platform-matching.md, "Entries without a platform"), unless `exact` is set. After moby's
    `OnlyPlatformWithFallback`.
    """
    found = select(
        [platform], request.platforms, exact=request.exact, local=request.local, table=table
    )
    if found.grade is not None:
        return found.grade
    if platform.variant or request.exact:
        return None
    plain = platform.normalized(table)
    for wanted in request.platforms:
        normal = wanted.normalized(table)
        if (normal.os, normal.architecture) == (plain.os, plain.architecture) and normal.variant:
            lifted = replace(platform, variant=normal.variant)
            if select([lifted], [wanted], table=table).index is not None:
                return Grade.FALLBACK
    return None


def read_manifest(reader: DocumentReader, descriptor: Descriptor, reference: str) -> Manifest:
    """Read an image manifest that an index names."""
    what = f"the manifest `{descriptor.digest}` of `{reference}`"
    kind = descriptor.media_type
    document = parse_document(reader.read(descriptor, what), kind, what, kind)
    if isinstance(document, Index):
        raise PlatformUnknown(f"{what} is an index, where an image was expected")
    warn_of_missing_layers(reader, document, what)
    return document


def warn_of_missing_layers(reader: DocumentReader, manifest: Manifest, what: str) -> None:
    """Warn that a manifest lacks the required `layers`, and is read as having none."""
    if manifest.lacks_layers:
        reader.warn(Warned("layers-missing", f"{what} has no `layers`; it is read as having none"))


def read_config(reader: DocumentReader, manifest: Manifest, reference: str) -> ImageConfig:
    """Read an image's config, checked against the number of its layers."""
    from resolver.core.oci.manifest import parse_config  # noqa: PLC0415 - most answers need none

    if manifest.config is None:
        raise PlatformUnknown(f"`{reference}` has no config, so its platform is unknown")
    what = f"the config `{manifest.config.digest}` of `{reference}`"
    body = reader.read(manifest.config, what)
    return parse_config(body, what, len(manifest.layers))


@dataclass(frozen=True, slots=True, eq=False)
class RootDocument:
    """The document that a reference names: the root of every search."""

    text: str
    prefix: str
    document: Document
    parsed: Index | Manifest
    tag_verified: bool | None = None


def read_root(
    reader: DocumentReader, reference: Reference, *, verify_tag: bool = False
) -> RootDocument:
    """Read what a registry reference points at."""
    document = reader.named(reference)
    verified = None
    if verify_tag and reference.digest is not None and reference.tag is not None:
        current = reader.current(reference.tag, reference.digest)
        if current != reference.digest:
            raise Negative(
                f"`{reference}` is pinned to `{reference.digest}`, "
                f"but the tag now points at `{current}`",
                "write the new digest if you want the new image, "
                "or drop the tag from the reference",
                code="tag-moved",
                reference=str(reference),
                pinned=str(reference.digest),
                current=str(current),
            )
        verified = True
    elif verify_tag:
        message = f"`{reference}` is not `name:tag@digest`, so there is no tag to verify"
        reader.warn(Warned("no-tag-to-verify", message))
    return RootDocument(
        str(reference),
        f"{reference.identity}@",
        document,
        _parse(reader, document, str(reference)),
        verified,
    )


def read_local_root(reader: DocumentReader, text: str, name: str) -> RootDocument:
    """Read what a name in a local place means."""
    document = reader.local(name)
    return RootDocument(text, "", document, _parse(reader, document, text))


def _parse(reader: DocumentReader, document: Document, text: str) -> Index | Manifest:
    kind, what = document.descriptor.media_type, f"the document of `{text}`"
    parsed = document.parsed or parse_document(document.body, kind, what, kind)
    if isinstance(parsed, Manifest):
        warn_of_missing_layers(reader, parsed, what)
    return parsed
