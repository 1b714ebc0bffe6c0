"""A registry that fetches what it does not have: a pull-through cache over the store.

Content comes once, is verified, is kept, and serves everybody; what a tag means is asked upstream
again after a while. Where upstream cannot be asked, what is known is served, and said to be old.
Credentials are those of whoever runs the mirror; those of clients are not looked at.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote
from weakref import WeakValueDictionary

from resolver.core.content import Refers
from resolver.core.descriptor import Descriptor
from resolver.core.digest import Digest
from resolver.core.events import Noted, Warned
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
from resolver.flow.bring import ranged
from resolver.flow.distribution import (
    Answer,
    Later,
    artifact_type,
    content_of,
    document_answer,
    listing,
    problem,
    referrers_answer,
)
from resolver.flow.growing import Fetch, Growing
from resolver.flow.kit import Kit, PullOptions, Stopped
from resolver.flow.ledger import Ledger
from resolver.flow.regular import RegularFile
from resolver.flow.transfer import Transfer
from resolver.flow.upstreams import Unclear
from resolver.flow.workers import Workers
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.content import Document, Source
    from resolver.core.events import Event, Observer
    from resolver.core.reference import Reference
    from resolver.flow.reader import Reader
    from resolver.flow.upstreams import Question, Upstreams
    from resolver.sources.retry import Clock
    from resolver.store import LocalStore
    from resolver.store.leases import Lease

#: Blobs that are fetched at once from one registry, for all clients together, and stretches.
MAX_FETCHES, _STRETCHES = 8, 8
#: Other questions to one registry at a time; their threads are those that answer clients.
MAX_QUESTIONS = 16
_BLOB = "application/octet-stream"
#: Tags that are listed in one answer, and those whose meaning is remembered.
_MAX_LISTED, _MAX_TAGS = 100_000, 2_000
#: Times a second that one registry is asked in vain for what no document names.
MAX_MISSES = 20
#: Seconds for which it is remembered that something is missing, and for which a question is put
#: off before that is assumed; entries that are kept of each.
_MISSING, _PUT_OFF, _MAX_KNOWN = 10.0, 2.0, 10_000

#: Seconds after which a client may come again where upstream does not say.
_LATER = 60.0
#: Failures, and what is said of them; the first that fits. Codes: OCI distribution-spec v1.1.1,
#: "Error Codes", and distribution's own UNAVAILABLE.
_REFUSALS: tuple[tuple[type[ResolverError], tuple[int, str, str]], ...] = (
    (RepositoryNotFound, (404, "NAME_UNKNOWN", "upstream has no such repository")),
    (BlobNotFound, (404, "BLOB_UNKNOWN", "upstream has no such blob")),
    (NotFound, (404, "MANIFEST_UNKNOWN", "upstream has no such content")),
    (Denied, (403, "DENIED", "there is no such thing upstream, or this mirror may not have it")),
    (StoreFault, (500, "UNKNOWN", "the content cannot be kept here")),
)
_UNAVAILABLE = (502, "UNAVAILABLE", "upstream cannot be asked, or sends something else")


class Asking(Protocol):
    """How a mirror gets at registries."""

    def source(self, repository: Reference) -> Source:
        """Open a repository."""
        ...

    def reader(self, repository: Reference, *, offline: bool) -> Reader:
        """Make a reader of its documents that keeps what it reads; `offline` asks nobody."""
        ...


class _Turn:
    """One client asks, and the others come again for the answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise Later

    def __exit__(self, *_: object) -> None:
        self._lock.release()


#: Which clients share a fetch: registry, digest, and size.
_FetchKey = tuple[str, Digest, int]
#: What is asked for: kind, repository, tag or digest.
_Asked = tuple[str, str, str]


class Misses:
    """Remembers for a short time what upstream does not have; safe to share.

    Clients choose names freely, so a registry is asked in vain some times a second and no more.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[_Asked, float] = {}
        self._recent: dict[str, deque[float]] = {}
        self._put_off: dict[_Asked, float] = {}

    def check(self, registry: str, asked: _Asked) -> bool:
        """Say whether a registry may be asked; what it is known to lack it is not.

        Raises:
            Later: it was asked in vain too often just now.

        """
        now = self._clock.monotonic()
        with self._lock:
            if self._until.get(asked, now) > now:
                return False
            recent = self._recent.setdefault(registry, deque(maxlen=MAX_MISSES))
            if len(recent) < MAX_MISSES or now - recent[0] >= 1.0:
                self._put_off.pop(asked, None)
                return True
            since = self._put_off.setdefault(asked, now)
            _forget(self._put_off)
            if now - since >= _PUT_OFF:
                del self._put_off[asked]
                return False
        raise Later

    def add(self, registry: str, asked: _Asked, seconds: float = _MISSING) -> None:
        """Note that a registry does not have it, which is so for some seconds."""
        now = self._clock.monotonic()
        with self._lock:
            self._recent.setdefault(registry, deque(maxlen=MAX_MISSES)).append(now)
            self._until[asked] = now + seconds
            _forget(self._until)


def _forget(known: dict[_Asked, float]) -> None:
    """Drop the oldest where it is too much."""
    while len(known) > _MAX_KNOWN:
        known.pop(next(iter(known)))


@dataclass(frozen=True, slots=True)
class _Known:
    """What a tag meant, and when somebody last said so."""

    document: Document
    asked_at: float


class Mirror:
    """Answers the requests of clients; asked from several threads at once.

    Args:
        store: where everything is kept.
        lease: keeps it there while this runs.
        upstreams: who may be asked.
        asking: how.
        fresh: seconds for which the meaning of a tag is not asked again.
        via: what its own requests carry; empty for nothing.
        observe: is told of every request, and of what is served though it may be old.
        clock: for what is fresh, and for waiting.

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
        #: Per registry, so that one that stalls keeps nobody waiting for another.
        self._workers: dict[str, Workers] = {}
        self._parts: dict[str, Workers] = {}
        self._lock = threading.Lock()
        self._fetches: dict[_FetchKey, Fetch] = {}
        self._wanted: dict[_FetchKey, set[Reference]] = {}
        self._questions: Counter[str] = Counter()
        self._misses = Misses(clock)
        self._tags: dict[str, _Known] = {}
        self._turns: WeakValueDictionary[str, _Turn] = WeakValueDictionary()
        self._claimed: set[Digest] = set()

    def close(self) -> None:
        """Call off what is being fetched; what has come is kept."""
        self._stop.set()
        for workers in (*self._workers.values(), *self._parts.values()):
            workers.close(1.0)

    def __call__(self, method: str, target: str, via: str) -> Answer:
        """Answer GET or HEAD.

        Args:
            method: one of these.
            target: path and query, as the request line has them.
            via: the values of this header.

        """
        if self._via and self._via in via:
            return problem(508, "UNAVAILABLE", "this mirror is set up to ask itself")
        path, _, query = target.partition("?")
        path = unquote(path)
        if path in ("/v2/", "/v2"):
            return Answer(200, (("Content-Type", "application/json"),), b"{}")
        try:
            question = self._upstreams.read(path, query)
            given = self._answer(method, question, path, query)
        except Unclear as error:
            given = problem(error.status, error.code, str(error))
        except InvalidDigest as error:
            given = problem(400, "DIGEST_INVALID", f"this is no digest: {error.reason}")
        except Malformed:
            given = problem(400, "MANIFEST_INVALID", "this is neither a tag nor a digest")
        except ResolverError as error:
            self._observe(Noted(f"{method} {path}: {error}"))
            given = refusal(error)
        self._observe(Noted(f"{method} {path}: {given.status}"))
        return given

    def refuse(self, target: str, error: ResolverError) -> Answer:
        """Say to a client why a blob does not come that was about to."""
        given = refusal(error)
        self._observe(Noted(f"GET {unquote(target)}: {given.status}: {error}"))
        return given

    def _answer(self, method: str, question: Question, path: str, query: str) -> Answer:
        match question.kind:
            case "manifests":
                return self._manifest(question)
            case "blobs":
                return self._blob(method, question.repository, Digest.parse(question.name))
            case "tags" if question.name == "list":
                return self._list(question, path, query)
            case "referrers":
                return self._referrers(question, path, query)
            case _:
                return problem(404, "UNSUPPORTED", "there is no such endpoint")

    # --- documents -------------------------------------------------------------------------

    def _manifest(self, question: Question) -> Answer:
        if ":" not in question.name:
            return self._tag(replace(question.repository, tag=question.name))
        digest = Digest.parse(question.name)
        reference = replace(question.repository, digest=digest)
        try:
            document = self._held(reference, digest)
            if document is None:
                with self._turn(str(digest)), self._sought("manifests", reference, str(digest)):
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
        self, kind: str, reference: Reference, name: str, seconds: float = _MISSING
    ) -> Iterator[None]:
        """Ask upstream for what a client may have made up; a miss is remembered for so long.

        Raises:
            NotFound: it is known, or to be assumed, that upstream does not have it.
            Later: there are too many questions.

        """
        asked, registry = (kind, reference.identity, name), reference.registry
        is_known = ":" in name and self._ledger.descriptor(reference, Digest.parse(name))
        if not is_known and not self._misses.check(registry, asked):
            missing = BlobNotFound if kind == "blobs" else ManifestNotFound
            raise missing(name, registry)
        try:
            with self._question(registry):
                yield
        except NotFound:
            self._misses.add(registry, asked, seconds)
            raise
        except Denied:
            # Some say so of what does not exist; a login may change it at any time.
            self._misses.add(registry, asked, 0.0)
            raise

    @contextmanager
    def _question(self, registry: str) -> Iterator[None]:
        """Take one of the places for questions to a registry.

        Raises:
            Later: all of them are taken.

        """
        with self._lock:
            if self._questions[registry] >= MAX_QUESTIONS:
                raise Later
            self._questions[registry] += 1
        try:
            yield
        finally:
            with self._lock:
                self._questions[registry] -= 1

    def _tag(self, reference: Reference) -> Answer:
        known = self._fresh_tag(reference)
        if known is not None:
            return document_answer(known.document)
        with self._turn(str(reference)):
            known = self._fresh_tag(reference)
            if known is not None:
                return document_answer(known.document)
            return self._ask_for_tag(reference)

    def _fresh_tag(self, reference: Reference) -> _Known | None:
        with self._lock:
            known = self._tags.get(str(reference))
        if known is None or self._clock.monotonic() - known.asked_at >= self._fresh:
            return None
        return known

    def _ask_for_tag(self, reference: Reference) -> Answer:
        name, now = str(reference), self._clock.monotonic()
        try:
            with self._sought("tags", reference, reference.name, min(self._fresh, _MISSING)):
                document = self._asking.reader(reference, offline=False).named(reference)
        except Unavailable as error:
            return self._stale(reference, error)
        except (NotFound, Denied):
            with self._lock:
                self._tags.pop(name, None)
            raise
        self._claim(document.descriptor.digest)
        with self._lock:
            self._tags[name] = _Known(document, now)
            if len(self._tags) > _MAX_TAGS:
                self._tags.pop(next(iter(self._tags)))
        self._ledger.read(reference, document)
        return document_answer(document)

    def _stale(self, reference: Reference, error: Unavailable) -> Answer:
        """Serve what a tag meant when upstream was last asked, and say so.

        Raises:
            Unavailable: `error`, when nothing is known.

        """
        try:
            document = self._asking.reader(reference, offline=True).named(reference)
        except ResolverError:
            raise error from None
        self._ledger.read(reference, document)
        message = f"`{reference}` is served as it was last seen: {error}"
        self._observe(Warned("stale", message))
        words = f"{reference.registry} cannot be asked now; this may be old"
        return document_answer(document, ("Warning", f'299 - "{words}"'))

    def _turn(self, name: str) -> _Turn:
        """Give what keeps several clients from asking upstream the same at once."""
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

    def _list(self, question: Question, path: str, query: str) -> Answer:
        tags: list[str] = []
        with self._question(question.repository.registry):
            for tag in self._asking.source(question.repository).tags():
                tags.append(tag)
                if len(tags) >= _MAX_LISTED:
                    place = question.repository.identity
                    message = f"`{place}` has more tags than the {_MAX_LISTED:,} that are listed"
                    self._observe(Warned("tags", message))
                    break
        return listing(path, "tags", tags, query, {"name": question.called})

    def _referrers(self, question: Question, path: str, query: str) -> Answer:
        """Pass the question on; where upstream has no such API, its fallback tag answers.

        An upstream that cannot be asked is an error and never an empty list: a client would take
        a signed image for an unsigned one.
        """
        digest = Digest.parse(question.name)
        source = self._asking.source(question.repository)
        if not isinstance(source, Refers):
            return problem(404, "UNSUPPORTED", "there is no such endpoint")
        with self._question(question.repository.registry):
            found = source.referrers(digest, artifact_type(query) or None)
        return referrers_answer(found, path, query)

    # --- blobs -----------------------------------------------------------------------------

    def _blob(self, method: str, repository: Reference, digest: Digest) -> Answer:
        file = RegularFile(str(self._store.root), ("blobs", digest.algorithm, digest.hex))
        if self._is_here(repository, digest):
            is_new = self._claim(digest)
            if not is_new or self._is_here(repository, digest):
                return content_of(digest, file)
        descriptor = self._ledger.descriptor(repository, digest)
        if descriptor is None:
            with self._sought("blobs", repository, str(digest)):
                size = _measured(self._asking.source(repository), digest)
            descriptor = Descriptor(_BLOB, digest, size)
        if method == "HEAD":
            # Only its length is needed, and no byte of it.
            return content_of(digest, Growing(Fetch(descriptor), file))
        return content_of(digest, Growing(self._fetch(repository, descriptor), file))

    def _is_here(self, repository: Reference, digest: Digest) -> bool:
        descriptor = self._ledger.descriptor(repository, digest)
        if descriptor is None:
            path = self._store.root / "blobs" / digest.algorithm / digest.hex
            try:
                descriptor = Descriptor(_BLOB, digest, path.lstat().st_size)
            except OSError:
                return False
        return self._store.has(descriptor)

    def _fetch(self, repository: Reference, descriptor: Descriptor) -> Fetch:
        """Give the fetch of a blob that is under way, or begin it.

        Only clients of one registry share a fetch: what another one sends for this digest, and how
        long it says that it is, is nothing to them.
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
                workers = self._workers[registry] = Workers(MAX_FETCHES, "resolver-mirror")
                self._parts[registry] = Workers(_STRETCHES, "resolver-part")
        workers.submit(lambda: self._bring(repository, fetch, key))
        return fetch

    def _bring(self, repository: Reference, fetch: Fetch, key: _FetchKey) -> None:
        """Fetch one blob; in a thread of its own, and to its end whether clients stay or go."""
        parts = self._parts[repository.registry]
        kit = Kit(self._store, PullOptions(), self._tell, self._clock, parts, self._stop)
        is_done = False

        def is_wanted() -> bool:
            return not fetch.is_in_the_way(self._clock.monotonic())

        try:
            source = ranged(self._asking.source(repository))
            Transfer(kit, fetch.descriptor, source, is_wanted, fetch.began).run()
        except ResolverError as error:
            fetch.failed(error)
        except Stopped:
            is_late = fetch.is_in_the_way(self._clock.monotonic())
            reason = "it came too slowly" if is_late else "this mirror is being stopped"
            fetch.failed(Unavailable(f"`{fetch.descriptor.digest}`: {reason}"))
        except BaseException as error:
            fetch.failed(Unavailable(f"this mirror has a defect: {type(error).__name__}"))
            raise
        else:
            fetch.done()
            is_done = True
        finally:
            with self._lock:
                self._fetches.pop(key, None)
                wanted = self._wanted.pop(key, set())
        for each in wanted if is_done else ():
            self._ledger.settle(each)

    def _tell(self, event: Event) -> None:
        """Hand on what a person may want to know; progress is nobody's here."""
        if isinstance(event, Noted | Warned):
            self._observe(event)


def refusal(error: ResolverError) -> Answer:
    """Say to a client why there is nothing for it; words of upstream, and secrets, stay here.

    A refusal of upstream is no 401: that would ask clients to send their passwords in the open.
    """
    if isinstance(error, RateLimited):
        wait = f"{max(1.0, error.retry_after or _LATER):.0f}"
        return problem(429, "TOOMANYREQUESTS", "upstream refuses for now", ("Retry-After", wait))
    said = next((words for kind, words in _REFUSALS if isinstance(error, kind)), _UNAVAILABLE)
    return problem(*said)


def _measured(source: Source, digest: Digest) -> int:
    size: Callable[[Digest], int] | None = getattr(source, "size", None)
    if size is None:
        raise NotFound(f"nobody says how long `{digest}` is")
    return size(digest)
