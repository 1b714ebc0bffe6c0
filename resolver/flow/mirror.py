"""A registry that fetches what it does not have: a pull-through cache over the store.

Content comes once, is verified, is kept, and serves everybody; what a tag means is asked upstream
again after a while. Where upstream cannot be asked, what is known is served, and said to be old.
Credentials are those of whoever runs the mirror; those of clients are not looked at.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote
from weakref import WeakValueDictionary

from resolver.core.descriptor import Descriptor
from resolver.core.digest import Digest
from resolver.core.events import Noted, Warned
from resolver.errors import (
    BlobNotFound,
    Denied,
    InvalidDigest,
    Malformed,
    NotFound,
    RateLimited,
    RepositoryNotFound,
    ResolverError,
    StoreFault,
    Unavailable,
)
from resolver.flow.bring import ranged
from resolver.flow.distribution import (
    Answer,
    content_of,
    document_answer,
    listing,
    problem,
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
    from collections.abc import Callable

    from resolver.core.content import Document, Source
    from resolver.core.events import Event, Observer
    from resolver.core.reference import Reference
    from resolver.flow.reader import Reader
    from resolver.flow.upstreams import Question, Upstreams
    from resolver.sources.retry import Clock
    from resolver.store import LocalStore
    from resolver.store.leases import Lease

#: Blobs that are fetched at once, for all clients together, and stretches of them.
MAX_FETCHES, _STRETCHES = 8, 8
_BLOB = "application/octet-stream"
#: Tags that are listed in one answer, and those whose meaning is remembered.
_MAX_LISTED, _MAX_TAGS = 100_000, 2_000
#: Lists of tags that are made at once: one takes up to 60 MB.
_LISTS = 2


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
    """One client asks, and the others wait for the answer."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


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
        self._workers = Workers(MAX_FETCHES, "resolver-mirror")
        self._parts = Workers(_STRETCHES, "resolver-part")
        self._lock = threading.Lock()
        self._fetches: dict[Digest, Fetch] = {}
        self._tags: dict[str, _Known] = {}
        self._lists = threading.BoundedSemaphore(_LISTS)
        self._turns: WeakValueDictionary[str, _Turn] = WeakValueDictionary()
        self._claimed: set[Digest] = set()

    def close(self) -> None:
        """Call off what is being fetched; what has come is kept."""
        self._stop.set()
        self._workers.close(1.0)
        self._parts.close(1.0)

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

    def _answer(self, method: str, question: Question, path: str, query: str) -> Answer:
        match question.kind:
            case "manifests":
                return self._manifest(question)
            case "blobs":
                return self._blob(method, question.repository, Digest.parse(question.name))
            case "tags" if question.name == "list":
                return self._list(question.repository, path, query)
            case _:
                # A client then falls back to the tag that the specification names.
                return problem(404, "UNSUPPORTED", "there is no such endpoint")

    # --- documents -------------------------------------------------------------------------

    def _manifest(self, question: Question) -> Answer:
        if ":" not in question.name:
            reference = replace(question.repository, tag=question.name)
            turn = self._turn(str(reference))
            with turn.lock:
                return self._tag(reference)
        digest = Digest.parse(question.name)
        self._claim(digest)
        reference = replace(question.repository, digest=digest)
        turn = self._turn(str(digest))
        with turn.lock:
            document = self._asking.reader(reference, offline=False).named(reference)
        self._ledger.read(reference, document)
        return document_answer(document)

    def _tag(self, reference: Reference) -> Answer:
        name, now = str(reference), self._clock.monotonic()
        with self._lock:
            known = self._tags.get(name)
        if known is not None and now - known.asked_at < self._fresh:
            return document_answer(known.document)
        try:
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

    def _claim(self, digest: Digest) -> None:
        """Keep what may be here already from being collected, before looking for it."""
        with self._lock:
            if digest in self._claimed:
                return
        self._lease.add((digest,))
        with self._lock:
            self._claimed.add(digest)

    def _list(self, repository: Reference, path: str, query: str) -> Answer:
        with self._lists:
            tags = list(islice(self._asking.source(repository).tags(), _MAX_LISTED + 1))
            if len(tags) > _MAX_LISTED:
                message = f"`{repository.registry}/{repository.repository}` has more than "
                message += f"{_MAX_LISTED} tags; the first of them are listed"
                self._observe(Warned("tags", message))
            return listing(path, "tags", tags[:_MAX_LISTED], query, {"name": repository.repository})

    # --- blobs -----------------------------------------------------------------------------

    def _blob(self, method: str, repository: Reference, digest: Digest) -> Answer:
        self._claim(digest)
        file = RegularFile(str(self._store.root), ("blobs", digest.algorithm, digest.hex))
        if self._is_here(repository, digest):
            return content_of(digest, file)
        descriptor = self._ledger.descriptor(repository, digest)
        if descriptor is None:
            size = _measured(self._asking.source(repository), digest)
            descriptor = Descriptor(_BLOB, digest, size)
        if method == "HEAD":
            # Only its length is needed, and no byte of it.
            return content_of(digest, Growing(Fetch(descriptor), file))
        fetch = self._fetch(repository, descriptor)
        fetch.wait_for_first()
        return content_of(digest, Growing(fetch, file))

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
        """Give the fetch of a blob that is under way, or begin it."""
        with self._lock:
            known = self._fetches.get(descriptor.digest)
            if known is not None:
                return known
            fetch = Fetch(descriptor)
            self._fetches[descriptor.digest] = fetch
        self._workers.submit(lambda: self._bring(repository, fetch))
        return fetch

    def _bring(self, repository: Reference, fetch: Fetch) -> None:
        """Fetch one blob; in a thread of its own, and to its end whether clients stay or go."""
        kit = Kit(self._store, PullOptions(), self._tell, self._clock, self._parts, self._stop)
        try:
            source = ranged(self._asking.source(repository))
            Transfer(kit, fetch.descriptor, source, lambda: True, fetch.began).run()
        except ResolverError as error:
            fetch.failed(error)
        except Stopped:
            fetch.failed(Unavailable("this mirror is being stopped"))
        except BaseException as error:
            fetch.failed(Unavailable(f"this mirror has a defect: {type(error).__name__}"))
            raise
        else:
            fetch.done()
            self._ledger.settle(repository)
        finally:
            with self._lock:
                self._fetches.pop(fetch.descriptor.digest, None)

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
