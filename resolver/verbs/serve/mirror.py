"""A registry that fetches what it does not have: a pull-through cache over the store.

Content is fetched once, verified, kept, and served to all clients; a tag is looked up upstream
again after a while. When upstream cannot be reached, the last known content is served and marked as
stale. Upstream credentials are the mirror's own; those of clients are ignored.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs, unquote
from weakref import WeakValueDictionary

from resolver.core.oci.content import Document, Refers
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import parse_document
from resolver.core.oci.reference import (
    HUB,
    HUB_ALIAS,
    HUB_API,
    HUB_NAMESPACE,
    Reference,
    is_registry,
)
from resolver.core.results.events import Noted, Warned
from resolver.errors import (
    BadDocument,
    BlobNotFound,
    Denied,
    InvalidDigest,
    LimitExceeded,
    Malformed,
    ManifestNotFound,
    NotFound,
    NotInStore,
    RateLimited,
    RepositoryNotFound,
    ResolverError,
    StoreFault,
    Unavailable,
    UnsupportedDocument,
)
from resolver.values import dataclass
from resolver.verbs.export.bundle import Completeness, Pruner, held_entry
from resolver.verbs.fetch import ranged
from resolver.verbs.serve import shared_fetch
from resolver.verbs.serve.api import (
    Later,
    ServerResponse,
    artifact_type,
    content_of,
    document_answer,
    is_repository,
    listing,
    problem,
    referrers_answer,
)
from resolver.verbs.serve.catalog import spelled
from resolver.verbs.serve.connections import NOBODY, Peer
from resolver.verbs.serve.mirror_names import Ledger
from resolver.verbs.serve.misses import MISSING, Busy, Misses
from resolver.verbs.serve.shared_fetch import Fetch, PartialBlobReader, RegularFile
from resolver.verbs.threads import DaemonPool
from resolver.verbs.transfer import Stopped, Transfer, TransferContext, TransferOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.clock import Clock
    from resolver.core.oci.content import RangedSource, Source
    from resolver.core.results.events import Event, Observer
    from resolver.store import LocalStore
    from resolver.store.leases import Lease
    from resolver.verbs.documents import DocumentReader


# Source: OCI distribution-spec v1.1.1, "Endpoints".
_ROUTE = re.compile(r"/v2/(.+)/(manifests|blobs|tags|referrers)/([^/]+)", re.DOTALL)
_ALIASES = {HUB_ALIAS: HUB, HUB_API: HUB}


class Unclear(Exception):
    """The request cannot be forwarded; has the status, code and message of the response."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A client's request about one repository.

    Attributes:
        repository: a reference with a registry, and with neither tag nor digest.
        kind: `manifests`, `blobs`, `tags` or `referrers`.
        name: a tag, a digest, or `list`; not validated yet.
        called: the repository as the client wrote it.
    """

    repository: Reference
    kind: str
    name: str
    called: str


class Upstreams:
    """The registries that may be contacted.

    Args:
        allowed: `host[:port]` each.
        usual: the default one, for clients that name none; None for no default.
    """

    def __init__(self, allowed: Iterable[str], usual: str | None) -> None:
        self.usual = None if usual is None else _known(usual)
        self.allowed = tuple(dict.fromkeys(_known(each) for each in allowed))
        for each in self.allowed:
            Reference(each, f"{HUB_NAMESPACE}/any").check_endpoint()
        # A name on the wire has no colon: `localhost:5000` is written `localhost-5000` there too.
        self._spelled = {each: each for each in self.allowed}
        self._spelled |= {spelled(each): each for each in self.allowed}

    def read(self, path: str, query: str) -> UpstreamRequest:
        """Parse the percent-decoded path and the query of a request."""
        route = _ROUTE.fullmatch(path)
        if route is None:
            raise Unclear(404, "UNSUPPORTED", "there is no such endpoint")
        registry, repository = self._registry(route[1], parse_qs(query).get("ns", []))
        if not is_repository(repository):
            raise Unclear(400, "NAME_INVALID", "this is not a repository name")
        if registry == HUB and "/" not in repository:
            repository = f"{HUB_NAMESPACE}/{repository}"
        try:
            found = Reference(registry, repository)
        except Malformed as error:
            raise Unclear(400, "NAME_INVALID", "this is not a repository name") from error
        return UpstreamRequest(found, route[2], route[3], route[1])

    def _registry(self, name: str, spaces: list[str]) -> tuple[str, str]:
        head, slash, rest = name.partition("/")
        if spaces:
            registry, repository = _known(spaces[0]), name
        elif slash and head in self._spelled:
            registry, repository = self._spelled[head], rest
        elif slash and is_registry(head):
            registry, repository = head, rest
        elif self.usual is None:
            raise Unclear(404, "NAME_UNKNOWN", "name the registry: with `?ns=`, or in the name")
        else:
            registry, repository = self.usual, name
        if registry not in self.allowed:
            raise Unclear(403, "DENIED", "this mirror does not serve that registry")
        return registry, repository


def _known(registry: str) -> str:
    return _ALIASES.get(registry, registry)


#: Blobs that are fetched at once from one registry, for all clients together, and stretches.
MAX_FETCHES, _STRETCHES = 8, 8
#: Fetches of one registry, and stretches, that may be stalled beside those.
MAX_STALLED = 56
#: Seconds between two looks at whether fetches are stalled.
_LOOK = 0.25
#: Other questions to one registry at a time, those aside that have been without an answer for
#: `shared_fetch.STALL` seconds, and all questions together: their threads are those that answer
#: clients, of which some are kept for what is here.
MAX_QUESTIONS, MAX_ALL_QUESTIONS = 16, 48
_BLOB = "application/octet-stream"
#: Tags that are listed in one answer, and those whose meaning is remembered.
_MAX_LISTED, _MAX_TAGS = 100_000, 2_000
#: Lists of tags that are made at once: one takes up to 30 MB.
_LISTS = 4
#: Default `Retry-After` in seconds, where upstream sends none.
_LATER = 60.0
#: Failures, and their responses; the first that matches. Codes: OCI distribution-spec v1.1.1,
#: "Error Codes", and distribution's own UNAVAILABLE.
_REFUSALS: tuple[tuple[type[ResolverError], tuple[int, str, str]], ...] = (
    (RepositoryNotFound, (404, "NAME_UNKNOWN", "upstream has no such repository")),
    (BlobNotFound, (404, "BLOB_UNKNOWN", "upstream has no such blob")),
    (NotFound, (404, "MANIFEST_UNKNOWN", "upstream has no such content")),
    (Denied, (403, "DENIED", "upstream has no such content, or denies it to this mirror")),
    (StoreFault, (500, "UNKNOWN", "the content cannot be kept here")),
)
_UNAVAILABLE = (502, "UNAVAILABLE", "upstream cannot be reached, or sent something else")


class Asking(Protocol):
    """How a mirror gets at registries."""

    @property
    def offline(self) -> bool:
        """Whether no registry may be contacted."""
        ...

    def source(self, repository: Reference) -> Source:
        """Open a repository."""
        ...

    def reader(self, repository: Reference, *, offline: bool) -> DocumentReader:
        """Return a reader that stores what it reads; an `offline` one sends no request."""
        ...


class _Turn:
    """A look-up that one client triggers, while the others retry for its answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise Later

    def __exit__(self, *_: object) -> None:
        self._lock.release()


#: Which clients share a fetch: registry, digest, and size.
_FetchKey = tuple[str, Digest, int]


@dataclass(frozen=True, slots=True)
class _Known:
    document: Document
    asked_at: float


class Mirror:
    """Answers the requests of clients; used from several threads.

    Args:
        fresh: seconds for which a tag is not looked up again.
        via: the `Via` header of its own requests; empty for none.
    """

    def __init__(  # noqa: PLR0913 - each is one thing that decides
        self,
        store: LocalStore,
        lease: Lease,
        upstreams: Upstreams,
        asking: Asking,
        *,
        fresh: float,
        via: str,
        observe: Observer,
        clock: Clock,
    ) -> None:
        self._store = store
        self._lease = lease
        self._upstreams = upstreams
        self._asking = asking
        self._fresh = fresh
        self._via = via
        self._observe = observe
        self._clock = clock
        self._ledger = Ledger(store, observe, clock)
        self._stop = threading.Event()
        #: Per registry, so that one that stalls delays no client of another.
        self._workers: dict[str, DaemonPool] = {}
        self._parts: dict[str, DaemonPool] = {}
        self._lock = threading.Lock()
        self._fetches: dict[_FetchKey, Fetch] = {}
        self._wanted: dict[_FetchKey, set[Reference]] = {}
        #: Running work per registry, including abandoned fetches whose threads still wait.
        self._running: defaultdict[str, set[Fetch]] = defaultdict(set)
        self._looked: dict[str, float] = {}
        #: When the questions that are under way began.
        self._questions: defaultdict[str, list[float]] = defaultdict(list)
        self._misses = Misses(clock)
        self._tags: dict[str, _Known] = {}
        #: Indexes of complete entries, for use when offline.
        self._made: dict[Digest, Document] = {}
        self._lists = threading.BoundedSemaphore(_LISTS)
        self._turns: WeakValueDictionary[str, _Turn] = WeakValueDictionary()
        self._claimed: set[Digest] = set()

    def close(self) -> None:
        """Cancel running fetches; received bytes are kept."""
        self._stop.set()
        for workers in (*self._workers.values(), *self._parts.values()):
            workers.close(1.0)

    def __call__(self, method: str, target: str, via: str, peer: Peer = NOBODY) -> ServerResponse:
        """Answer GET or HEAD.

        `via` has the values of the header.
        """
        if self._via and self._via in via:
            return problem(508, "UNAVAILABLE", "this mirror is configured to use itself")
        path, _, query = target.partition("?")
        path = unquote(path)
        if path in ("/v2/", "/v2"):
            return ServerResponse(200, (("Content-Type", "application/json"),), b"{}")
        try:
            question = self._upstreams.read(path, query)
            given = self._answer(method, question, path, query, peer)
        except Unclear as error:
            given = problem(error.status, error.code, str(error))
        except InvalidDigest as error:
            given = problem(400, "DIGEST_INVALID", f"this is not a digest: {error.reason}")
        except Malformed:
            given = problem(400, "MANIFEST_INVALID", "this is neither a tag nor a digest")
        except Busy:
            given = problem(503, "UNAVAILABLE", "too many requests wait", ("Retry-After", "10"))
        except ResolverError as error:
            self._observe(Noted(f"{method} {path}: {error}"))
            given = refusal(error)
        self._observe(Noted(f"{method} {path}: {given.status}"))
        return given

    def refuse(self, target: str, error: ResolverError) -> ServerResponse:
        """Build the error response for a blob that was promised and cannot be sent."""
        given = refusal(error)
        self._observe(Noted(f"GET {unquote(target)}: {given.status}: {error}"))
        return given

    def _answer(
        self, method: str, question: UpstreamRequest, path: str, query: str, peer: Peer
    ) -> ServerResponse:
        match question.kind:
            case "manifests":
                return self._manifest(question, peer)
            case "blobs":
                digest = Digest.parse(question.name)
                return self._blob(method, question.repository, digest, peer)
            case "tags" if question.name == "list":
                return self._list(question, path, query)
            case "referrers":
                return self._referrers(question, path, query)
            case _:
                return problem(404, "UNSUPPORTED", "there is no such endpoint")

    # --- documents -------------------------------------------------------------------------

    def _manifest(self, question: UpstreamRequest, peer: Peer) -> ServerResponse:
        if ":" not in question.name:
            return self._tag(replace(question.repository, tag=question.name), peer)
        digest = Digest.parse(question.name)
        made = self._made.get(digest)
        if made is not None:
            return document_answer(made)
        reference = replace(question.repository, digest=digest)
        try:
            document = self._held(reference, digest)
            if document is None:
                with (
                    self._turn(str(digest)),
                    self._sought("manifests", reference, str(digest), peer),
                ):
                    document = self._asking.reader(reference, offline=False).named(reference)
        except (BadDocument, UnsupportedDocument, LimitExceeded) as error:
            # The bytes have this digest, and are a config or a layer.
            raise ManifestNotFound(str(reference), reference.registry) from error
        self._ledger.read(reference, document)
        return document_answer(document)

    def _held(self, reference: Reference, digest: Digest) -> Document | None:
        """Read a document that is here already, and keep it here; None when it is not."""
        try:
            document = self._asking.reader(reference, offline=True).named(reference)
            if self._claim(digest):
                # It may have been collected before it was claimed.
                document = self._asking.reader(reference, offline=True).named(reference)
        except NotInStore:
            return None
        return document

    @contextmanager
    def _sought(
        self, kind: str, reference: Reference, name: str, peer: Peer, seconds: float = MISSING
    ) -> Iterator[None]:
        """Request content that may not exist from upstream; a miss is remembered for a while."""
        request, registry = (kind, reference.identity, name), reference.registry
        is_known = ":" in name and self._ledger.descriptor(reference, Digest.parse(name))
        if not is_known and not self._misses.check(registry, request, peer):
            error = BlobNotFound if kind == "blobs" else ManifestNotFound
            raise error(name, registry)
        missing: float | None = None
        try:
            with self._question(registry):
                yield
        except Later:
            if not is_known:
                self._misses.put_back(registry, request, peer)
            raise
        except NotFound:
            missing = seconds
            raise
        except Denied:
            # Some registries answer so for what does not exist; a login may change it at any time.
            missing = 0.0
            raise
        finally:
            self._misses.done(registry, request, peer, missing=missing)

    @contextmanager
    def _question(self, registry: str) -> Iterator[None]:
        now = self._clock.monotonic()
        with self._lock:
            begun = self._questions[registry]
            moving = sum(now - each < shared_fetch.STALL for each in begun)
            free = MAX_ALL_QUESTIONS - sum(len(each) for each in self._questions.values())
            # Never more than are left, so that there are some for any other registry.
            if moving >= MAX_QUESTIONS or len(begun) >= free:
                raise Later
            begun.append(now)
        try:
            yield
        finally:
            with self._lock:
                begun.remove(now)

    def _tag(self, reference: Reference, peer: Peer) -> ServerResponse:
        known = self._fresh_tag(reference)
        if known is not None:
            return document_answer(known.document)
        with self._turn(str(reference)):
            known = self._fresh_tag(reference)
            if known is not None:
                return document_answer(known.document)
            return self._ask_for_tag(reference, peer)

    def _fresh_tag(self, reference: Reference) -> _Known | None:
        with self._lock:
            known = self._tags.get(str(reference))
        if known is None or self._clock.monotonic() - known.asked_at >= self._fresh:
            return None
        return known

    def _ask_for_tag(self, reference: Reference, peer: Peer) -> ServerResponse:
        name, now = str(reference), self._clock.monotonic()
        try:
            seconds = min(self._fresh, MISSING)
            with self._sought("tags", reference, reference.name, peer, seconds):
                document = self._asking.reader(reference, offline=False).named(reference)
        except Unavailable as error:
            return self._stale(reference, error)
        except (NotFound, Denied):
            with self._lock:
                self._tags.pop(name, None)
            raise
        self._claim(document.descriptor.digest)
        self._ledger.read(reference, document)
        if self._asking.offline:
            document = self._pruned(reference, document)
        with self._lock:
            self._tags[name] = _Known(document, now)
            if len(self._tags) > _MAX_TAGS:
                self._tags.pop(next(iter(self._tags)))
        return document_answer(document)

    def _pruned(self, reference: Reference, document: Document) -> Document:
        """Leave out of an index what is not here, where it cannot be fetched."""
        root = document.descriptor
        if not root.is_index:
            return document
        pruner = Pruner(self._store, held_entry(None, Completeness(self._store)))
        served = pruner.prune(root)
        if served is None:
            raise NotInStore(str(reference), "an image that its index lists", str(self._store.root))
        with self._lock:
            for digest, body in pruner.made.items():
                made = replace(root, digest=digest, size=len(body), data=None)
                kind = parse_document(body, None, f"`{digest}`").media_type
                self._made[digest] = Document(replace(made, media_type=kind), body)
                if len(self._made) > _MAX_TAGS:
                    self._made.pop(next(iter(self._made)))
        return document if served is root else self._made[served.digest]

    def _stale(self, reference: Reference, error: Unavailable) -> ServerResponse:
        """Serve the last known content of a tag, with a warning that it may be stale."""
        try:
            document = self._asking.reader(reference, offline=True).named(reference)
        except ResolverError:
            raise error from None
        self._ledger.read(reference, document)
        message = f"`{reference}` is served as it was last seen: {error}"
        self._observe(Warned("stale", message))
        words = f"{reference.registry} cannot be reached now; this may be stale"
        return document_answer(document, ("Warning", f'299 - "{words}"'))

    def _turn(self, name: str) -> _Turn:
        """Return the lock that keeps clients from sending the same request upstream in parallel."""
        with self._lock:
            turn = self._turns.get(name)
            if turn is None:
                turn = self._turns[name] = _Turn()
            return turn

    def _claim(self, digest: Digest) -> bool:
        """Keep what was here before from being collected; whether that is new.

        What comes from now on is kept without it, and what is not here must not be listed: clients
        name any number of digests.
        """
        with self._lock:
            if digest in self._claimed:
                return False
        self._lease.add((digest,))
        with self._lock:
            self._claimed.add(digest)
        return True

    def _list(self, question: UpstreamRequest, path: str, query: str) -> ServerResponse:
        with self._question(question.repository.registry), self._lists:
            found = self._asking.source(question.repository).tags()
            tags = list(islice(found, _MAX_LISTED + 1))
            if len(tags) > _MAX_LISTED:
                place = question.repository.identity
                message = f"`{place}` has more tags than the {_MAX_LISTED:,} that are listed"
                self._observe(Warned("tags", message))
            return listing(path, "tags", tags[:_MAX_LISTED], query, {"name": question.called})

    def _referrers(self, question: UpstreamRequest, path: str, query: str) -> ServerResponse:
        """Forward the request; if upstream lacks the API, read its fallback tag.

        An unreachable upstream is an error and never an empty list: a client would take a signed
        image for an unsigned one.
        """
        digest = Digest.parse(question.name)
        source = self._asking.source(question.repository)
        if not isinstance(source, Refers):
            return problem(404, "UNSUPPORTED", "there is no such endpoint")
        with self._question(question.repository.registry):
            found = source.referrers(digest, artifact_type(query) or None)
        return referrers_answer(found, path, query)

    # --- blobs -----------------------------------------------------------------------------

    def _blob(
        self, method: str, repository: Reference, digest: Digest, peer: Peer
    ) -> ServerResponse:
        file = RegularFile(str(self._store.root), ("blobs", digest.algorithm, digest.hex))
        if self._is_here(repository, digest):
            is_new = self._claim(digest)
            if not is_new or self._is_here(repository, digest):
                return content_of(digest, file)
        descriptor = self._ledger.descriptor(repository, digest)
        if descriptor is None:
            with self._sought("blobs", repository, str(digest), peer):
                size = _measured(self._asking.source(repository), digest)
            descriptor = Descriptor(_BLOB, digest, size)
        if method == "HEAD":
            # Only its length is needed, and no byte of it.
            return content_of(digest, PartialBlobReader(Fetch(descriptor), file))
        fetch = self._fetch(repository, descriptor, peer)
        return content_of(
            digest, PartialBlobReader(fetch, file, lambda: self._make_way(repository.registry))
        )

    def _is_here(self, repository: Reference, digest: Digest) -> bool:
        descriptor = self._ledger.descriptor(repository, digest)
        if descriptor is None:
            path = self._store.root / "blobs" / digest.algorithm / digest.hex
            try:
                descriptor = Descriptor(_BLOB, digest, path.lstat().st_size)
            except OSError:
                return False
        return self._store.has(descriptor)

    def _fetch(self, repository: Reference, descriptor: Descriptor, peer: Peer) -> Fetch:
        """Return the running fetch of a blob, or start one.

        Only clients of one registry share a fetch: the bytes and the size from another registry
        must not affect them.
        """
        registry = repository.registry
        key = (registry, descriptor.digest, descriptor.size)
        with self._lock:
            self._wanted.setdefault(key, set()).add(repository)
            known = self._fetches.get(key)
            if known is not None:
                return known
            for other in self._fetches.values():
                if other.descriptor.digest == descriptor.digest:
                    # The store takes a blob from one place at a time.
                    other.contest(self._clock.monotonic())
            fetch = Fetch(descriptor)
            self._fetches[key] = fetch
            workers = self._workers.get(registry)
            if workers is None:
                workers = self._workers[registry] = DaemonPool(MAX_FETCHES, "resolver-mirror")
                self._parts[registry] = DaemonPool(_STRETCHES, "resolver-part")
        # Clients and repositories take turns.
        line = peer[0], repository.identity
        workers.submit(lambda: self._bring(repository, fetch, key), line)
        return fetch

    def _make_way(self, registry: str, *, at_once: bool = False) -> None:
        """Let blobs of a registry that wait be fetched beside those that are stalled."""
        now = self._clock.monotonic()
        with self._lock:
            if not at_once and now - self._looked.get(registry, now - _LOOK) < _LOOK:
                return
            self._looked[registry] = now
            workers, entries = self._workers.get(registry), self._parts.get(registry)
            stalled = sum(fetch.is_stalled(now) for fetch in self._running[registry])
        if workers is not None and entries is not None:
            workers.resize(MAX_FETCHES + min(stalled, MAX_STALLED))
            entries.resize(_STRETCHES + min(stalled * _STRETCHES, MAX_STALLED))

    def _end_those_in_the_way(self, fetch: Fetch) -> None:
        """Abandon the fetches of this blob from other registries that delay this one."""
        now = self._clock.monotonic()
        with self._lock:
            slow = [
                (key, other)
                for key, other in self._fetches.items()
                if other.descriptor.digest == fetch.descriptor.digest
                and other is not fetch
                and other.is_in_the_way(now)
            ]
        for key, other in slow:
            reason = Unavailable(f"`{other.descriptor.digest}`: it was sent too slowly")
            if other.give_up(reason):
                self._end(key, other)

    def _end(self, key: _FetchKey, fetch: Fetch) -> set[Reference]:
        """Remove a finished fetch; return the repositories whose clients requested it."""
        with self._lock:
            if self._fetches.get(key) is not fetch:
                return set()
            del self._fetches[key]
            return self._wanted.pop(key, set())

    def _bring(self, repository: Reference, fetch: Fetch, key: _FetchKey) -> None:
        """Fetch one blob; in a thread of its own, and to its end whether clients stay or go."""
        entries = self._parts[repository.registry]
        shared = TransferContext(
            self._store, TransferOptions(), self._tell, self._clock, entries, self._stop
        )
        is_done = False
        with self._lock:
            self._running[repository.registry].add(fetch)

        def is_wanted() -> bool:
            if not fetch.has_begun:
                self._end_those_in_the_way(fetch)
            return not fetch.is_in_the_way(self._clock.monotonic())

        try:
            source = ranged(self._asking.source(repository))
            self._transfer(shared, repository, source, fetch, is_wanted)
        except ResolverError as error:
            fetch.failed(error)
        except Stopped:
            is_late = fetch.is_in_the_way(self._clock.monotonic())
            reason = "it was sent too slowly" if is_late else "this mirror is being stopped"
            fetch.failed(Unavailable(f"`{fetch.descriptor.digest}`: {reason}"))
        except BaseException as error:
            fetch.failed(Unavailable(f"internal error of this mirror: {type(error).__name__}"))
            raise
        else:
            fetch.done()
            is_done = True
        finally:
            with self._lock:
                self._running[repository.registry].discard(fetch)
            wanted = self._end(key, fetch)
            self._make_way(repository.registry, at_once=True)
        for each in wanted if is_done else ():
            self._ledger.settle(each)

    def _transfer(
        self,
        shared: TransferContext,
        repository: Reference,
        source: RangedSource,
        fetch: Fetch,
        is_wanted: Callable[[], bool],
    ) -> None:
        """Fetch a blob; a layer in chunks is rebuilt from held ones where that is faster."""
        descriptor = fetch.descriptor
        if not descriptor.has_chunks:
            Transfer(shared, descriptor, source, is_wanted, fetch.began).run()
            return
        from resolver.verbs.chunks import (  # noqa: PLC0415 - for chunked layers alone
            ChunkOptions,
            keep_index,
            layers_of,
            plan_reuse,
        )

        reuse = plan_reuse(
            self._store, descriptor, layers_of(self._store, repository.identity), lambda: source,
            ChunkOptions(), observe=self._tell, clock=self._clock,
        )  # fmt: skip
        if Transfer(shared, descriptor, source, is_wanted, fetch.began, reuse=reuse).run():
            keep_index(self._store, descriptor, reuse, self._tell)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Noted | Warned):
            self._observe(event)


def refusal(error: ResolverError) -> ServerResponse:
    """Build an error response; upstream's messages, and secrets, are not sent to clients.

    A 401 of upstream is not forwarded: clients would send their passwords unencrypted.
    """
    if isinstance(error, RateLimited):
        wait = f"{max(1.0, error.retry_after or _LATER):.0f}"
        return problem(
            429, "TOOMANYREQUESTS", "upstream rejects requests for now", ("Retry-After", wait)
        )
    said = next((words for kind, words in _REFUSALS if isinstance(error, kind)), _UNAVAILABLE)
    return problem(*said)


def _measured(source: Source, digest: Digest) -> int:
    size: Callable[[Digest], int] | None = getattr(source, "size", None)
    if size is None:
        raise NotFound(f"the size of `{digest}` is unknown")
    return size(digest)
