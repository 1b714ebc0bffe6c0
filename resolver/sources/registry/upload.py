"""RegistryDestination: one repository of a registry that content is pushed to.

Source: OCI distribution-spec main (967efdc), "Push"; docs/wire-protocol.md, "Pushing" describes
where registries differ.
"""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote

from resolver.core.oci.descriptor import ACCEPT, OCI_INDEX, Descriptor
from resolver.core.oci.digest import Digest, fallback_tag
from resolver.core.oci.manifest import Index, parse_document
from resolver.core.parse.json import read_object
from resolver.core.results.copy import CHUNK
from resolver.core.results.events import Noted
from resolver.errors import (
    ConnectionFailed,
    Denied,
    DigestMismatch,
    LimitExceeded,
    NotFound,
    RateLimited,
    RedirectRefused,
    RepositoryNotFound,
    ResolverError,
    ServerFault,
    SizeMismatch,
    TimedOut,
    Unavailable,
)
from resolver.sources.http.responses import descriptor_from_headers, read_error_body
from resolver.sources.http.retry import backoff
from resolver.sources.http.urls import PORTS, BadUrl, Url
from resolver.sources.registry.repository import RegistrySource
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.clock import Clock
    from resolver.core.registry.endpoints import Endpoint
    from resolver.core.results.events import Observer
    from resolver.errors import ResolverError as Error
    from resolver.sources.http.client import Transport
    from resolver.sources.http.messages import Response, Scope

#: Bytes of one PATCH behind a proxy that refuses more; the lowest limit that is common.
SMALL_CHUNK: Final = 4 * 1024 * 1024
_LARGEST_MINIMUM: Final = 1 << 30
#: Attempts for one blob, and for a document whose children a registry does not show yet.
ATTEMPTS: Final = 5
#: Mounts that a host may refuse before no more are tried there.
_MOUNT_REFUSALS: Final = 2
#: Requests at once to one registry, for one action: at first, and at most.
_FIRST_WIDTH: Final = 4
_MOST_WIDTH: Final = 16

_OK, _CREATED, _ACCEPTED, _NO_CONTENT = 200, 201, 202, 204
_FORBIDDEN, _NOT_FOUND, _NOT_ALLOWED, _TOO_LARGE, _NOT_SATISFIABLE = 403, 404, 405, 413, 416
_DONE = frozenset({_OK, _CREATED, _NO_CONTENT})
_ABSENT = frozenset({_FORBIDDEN, _NOT_FOUND, _NOT_ALLOWED})
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,19})")
_LENGTH = re.compile(r"[0-9]{1,12}")
#: Codes of a document that lists what the registry does not have, or does not show yet.
#: Source: distribution-spec, "Error Codes"; MANIFEST_UNKNOWN is sent for missing children.
_LACKS = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})
_OCTETS = (("Content-Type", "application/octet-stream"),)


class Body(Protocol):
    """The bytes of a blob, verified as they are read."""

    def read(self, start: int, length: int) -> Iterator[bytes]:
        """Yield `length` bytes from `start`; the last byte of the blob only if its digest agrees.

        Raises:
            DigestMismatch, SizeMismatch: the blob has other bytes; its end is not yielded.
        """
        ...

    def check(self) -> None:
        """Raise the error that reading failed with, if it did."""
        ...


class Sessions(Protocol):
    """Upload sessions that another process may continue."""

    def find(self, name: str) -> str | None:
        """Return the path and query of the session of `registry/repository@digest`."""
        ...

    def record(self, name: str, target: str) -> None:
        """Record a session."""
        ...

    def drop(self, name: str) -> None:
        """Remove the record of a session."""
        ...


class Width:
    """The number of concurrent requests to one registry for one action.

    It grows by one after as many good answers, and is halved when the registry answers 429 or takes
    more than four times as long as it did at best.
    """

    def __init__(self, first: int = 0, most: int = _MOST_WIDTH) -> None:
        self.limit = first or _FIRST_WIDTH
        self._most = most
        self._state = threading.Condition()
        self._active = self._good = 0
        self._best: float | None = None
        self._halved_at = 0.0

    @contextmanager
    def request(self, now: Callable[[], float] = time.monotonic) -> Iterator[None]:
        """Wait for a turn, and learn from how the request ends."""
        with self._state:
            self._state.wait_for(lambda: self._active < self.limit)
            self._active += 1
        begun, limited = now(), False
        try:
            yield
        except RateLimited:
            limited = True
            raise
        finally:
            with self._state:
                self._active -= 1
                self._learn(now(), begun, limited=limited)
                self._state.notify_all()

    def slow_down(self, now: float) -> None:
        """Halve the width, once for all requests that were sent before the last time."""
        self.limit, self._good, self._halved_at = max(1, self.limit // 2), 0, now

    def _learn(self, now: float, begun: float, *, limited: bool) -> None:
        took = now - begun
        is_slow = self._best is not None and took > max(4 * self._best, 1.0)
        self._best = took if self._best is None else min(self._best, took)
        if (limited or is_slow) and begun >= self._halved_at:
            self.slow_down(now)
            return
        self._good += 1
        if self._good >= self.limit and self.limit < self._most:
            self.limit, self._good = self.limit + 1, 0


class PushHost:
    """What one run has learned about a registry that it pushes to; safe to share.

    Attributes:
        chunks: whether several PATCHes per blob work, as far as known.
        whole: largest blob that is sent in one PUT, which every registry takes.
        step: bytes of one PATCH.
    """

    def __init__(self) -> None:
        self.chunks = True
        self.whole = self.step = CHUNK
        self.looks, self.writes = Width(16, 64), Width()
        self._lock = threading.Lock()
        self._mounted = self._refused = 0
        self._tags: dict[str, threading.Lock] = {}

    @property
    def mounts(self) -> bool:
        """Whether mounting is worth a try: ECR refuses most, others all."""
        return self._mounted > 0 or self._refused < _MOUNT_REFUSALS

    def mounted(self, *, accepted: bool) -> None:
        """Count the answer to a mount."""
        with self._lock:
            self._mounted += accepted
            self._refused += not accepted

    def tag_lock(self, name: str) -> threading.Lock:
        """Return the lock of a fallback tag, which is read and then written."""
        with self._lock:
            return self._tags.setdefault(name, threading.Lock())


@dataclass(frozen=True, slots=True)
class UploadSession:
    """An upload in progress: where the next request goes, and how many bytes were taken."""

    location: Url
    offset: int = 0
    least: int = 0


class _StartOver(Exception):
    """The registry does not take the blob this way; it may take it another way."""


class RegistryDestination(RegistrySource):
    """One repository to push to; safe to share between threads.

    Args:
        transport: sends the requests.
        registry: identity, `host[:port]`.
        repository: without the registry.
        observe: receives notes.
        endpoint: of the registry itself, never of a mirror.
        host: what is known about the registry.
        sessions: records upload sessions for the next run; None for none.
        clock: for retries.
    """

    def __init__(  # noqa: PLR0913 - each comes from elsewhere
        self,
        transport: Transport,
        registry: str,
        repository: str,
        observe: Observer | None = None,
        *,
        endpoint: Endpoint,
        host: PushHost,
        sessions: Sessions | None,
        clock: Clock,
    ) -> None:
        super().__init__(transport, registry, repository, observe, endpoint=endpoint)
        self._scope: Scope = replace(self._scope, push=True)
        self._host = host
        self._sessions = sessions
        self._clock = clock

    @property
    def writes(self) -> Width:
        """The turns of uploads to this registry, which the caller of `send` takes."""
        return self._host.writes

    # --- what is there ---------------------------------------------------------------------

    def current(self, name: str) -> Descriptor | None:
        """Return what a tag or digest names now; None if there is nothing.

        A registry may answer 403 to the HEAD of a missing tag (Artifactory), so that is repeated
        with GET.

        Raises:
            Denied, Unavailable, Untrusted: as `document`.
        """
        with self._host.looks.request():
            response = self._ask("HEAD", f"manifests/{name}", self._name(name), _ACCEPTED_TYPES)
            if response.status == _NOT_FOUND:
                return None
            found = None
            if response.status == _OK:
                found = descriptor_from_headers(response.headers, None)
            try:
                return found or self.document(name).descriptor
            except NotFound:
                return None

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether a blob is there; a refused HEAD counts as absent, and its upload tells why."""
        with self._host.looks.request():
            place = f"blobs/{descriptor.digest}"
            response = self._ask("HEAD", place, str(descriptor.digest), (("Accept", "*/*"),))
        if response.status == _OK:
            return True
        if response.status in _ABSENT:
            return False
        raise self._refusal(response, str(descriptor.digest), blob=True)

    # --- blobs -----------------------------------------------------------------------------

    def send(self, blob: Descriptor, body: Body, mount: str = "") -> bool:
        """Bring a blob into the repository: mount it if possible, else upload it.

        Args:
            blob: the content; absent as far as known.
            body: its bytes.
            mount: a repository of the same registry that has it; empty for none.

        Returns:
            Whether it was mounted.

        Raises:
            Denied: this login may not push here.
            Unavailable: the registry refuses the blob, or did not answer.
            Untrusted: the source has other bytes.
        """
        try:
            return self._send(blob, body, mount)
        except (DigestMismatch, SizeMismatch):
            # The session has wrong bytes, and must not be continued.
            self._cancel(blob, self._recorded(blob))
            raise

    def _send(self, blob: Descriptor, body: Body, mount: str) -> bool:
        """Mount or upload a blob, in as many tries as it takes."""
        session = self._recorded(blob)
        failures = 0
        while True:
            try:
                if session is None:
                    session = self._begin(blob, mount)
                    if session is None:
                        return True
                self._upload(blob, body, session)
            except _StartOver as reason:
                self._transport.observe(Noted(f"`{self._scope}`: {reason}; sending it again"))
                self._cancel(blob, session)
                session, mount = None, ""
                continue
            except (ConnectionFailed, TimedOut, ServerFault, RateLimited) as error:
                body.check()
                failures += 1
                if failures >= ATTEMPTS or getattr(error, "code", "") == "push-refused":
                    raise
                self._clock.sleep(backoff(failures, self._clock), threading.Event())
                session = self._continued(blob, session)
                mount = ""
                continue
            self._forget(blob)
            return False

    def _begin(self, blob: Descriptor, mount: str) -> UploadSession | None:
        """Open an upload session; None if the blob was mounted instead."""
        target = f"{self.endpoint.prefix}/{self._scope.repository}/blobs/uploads/"
        algorithm = blob.digest.algorithm
        query = "" if algorithm == "sha256" else f"?digest-algorithm={algorithm}"
        if mount and self._host.mounts:
            wanted = f"?mount={quote(str(blob.digest))}&from={quote(mount)}"
            scope = replace(self._scope, mount=mount)
            try:
                response = self._push("POST", target + wanted, blob, scope=scope)
            except (Denied, Unavailable):
                response = None
            accepted = response is not None and response.status == _CREATED
            self._host.mounted(accepted=accepted)
            if accepted:
                return None
            if response is not None and response.status == _ACCEPTED:
                return self._session(response)
        response = self._push("POST", target + query, blob)
        if response.status != _ACCEPTED:
            raise self._refused(response, str(blob.digest))
        return self._session(response)

    def _upload(self, blob: Descriptor, body: Body, session: UploadSession) -> None:
        """Send what a session lacks, and complete it."""
        host = self._host
        if session.offset == 0 and (blob.size <= host.whole or not host.chunks):
            response = self._push("PUT", session.location, blob, body, 0, blob.size)
            if response.status == _TOO_LARGE and host.chunks and blob.size > SMALL_CHUNK:
                host.whole = host.step = SMALL_CHUNK
                raise _StartOver(f"a request of {blob.size} bytes is refused")
            if response.status not in _DONE:
                raise self._refused(response, str(blob.digest))
            return
        position = session.offset
        while position < blob.size:
            length = min(max(host.step, session.least), blob.size - position)
            response = self._push("PATCH", session.location, blob, body, position, length)
            body.check()
            position += length
            self._check_chunk(blob, response, is_last=position == blob.size)
            session = self._session(response, session, position)
            self._record(blob, session)
        response = self._push("PUT", session.location, blob, body, blob.size, 0)
        if response.status in _DONE:
            return
        if response.status < 500 and host.chunks:  # noqa: PLR2004 - it got other bytes than were sent
            host.chunks = False
            raise _StartOver("chunks are not put together")
        raise self._refused(response, str(blob.digest))

    def _check_chunk(self, blob: Descriptor, response: Response, *, is_last: bool) -> None:
        """Refuse an answer after which the rest cannot be sent in the same session.

        The `Range` of a good answer is not compared: some registries send the one of the chunk
        alone. The registry compares the digest of the whole in the end.
        """
        host = self._host
        if response.status == _TOO_LARGE and host.step > SMALL_CHUNK:
            host.whole = host.step = SMALL_CHUNK
            raise _StartOver("the chunks are too large")
        if response.status in (_ACCEPTED, _NO_CONTENT) or (response.status == _CREATED and is_last):
            return
        if response.status == _NOT_FOUND and host.chunks:
            # The session is gone; one that cannot be continued at all is never found.
            raise ServerFault(
                f"`{response.url.authority}` has dropped an upload of `{blob.digest}`"
            )
        if host.chunks and response.status < 500:  # noqa: PLR2004 - a refusal
            # GitHub refuses chunks over 4 MiB, Amazon answers 201 and drops all but the first, and
            # Google has no chunks at all (docs/wire-protocol.md, "Pushing").
            host.chunks = False
            raise _StartOver(f"a chunk is answered with {response.status}")
        raise self._refused(response, str(blob.digest))

    # --- sessions --------------------------------------------------------------------------

    def _session(
        self, response: Response, before: UploadSession | None = None, offset: int = 0
    ) -> UploadSession:
        """Read where the next request of an upload goes."""
        least = before.least if before is not None else 0
        stated = response.headers.get("oci-chunk-min-length") or ""
        if _LENGTH.fullmatch(stated):
            least = min(int(stated), _LARGEST_MINIMUM)
        known = before.location if before is not None else None
        return UploadSession(self._location(response, known), offset, least)

    @staticmethod
    def _location(response: Response, known: Url | None = None) -> Url:
        """Return the target of `Location`, at the registry or at storage elsewhere; else `known`.

        Proxies cause a wrong scheme or a missing port; the host of the registry itself is then
        requested where it was found. Source: distribution-spec, "Pushing a blob in chunks".
        """
        base = response.registry
        text = response.headers.get("location")
        if text is None:
            if known is not None:
                return known
            raise ServerFault(f"`{base.authority}` does not say where an upload continues")
        for own in (base.authority, base.host):
            if text.startswith(f"{own}/"):
                text = text[len(own) :]
        try:
            url = response.url.join(text)
        except BadUrl as error:
            raise RedirectRefused(
                f"`{base.authority}` wants an upload at a URL that is refused: {error}"
            ) from error
        if url.host == base.host and url.port == PORTS[url.scheme]:
            return base.at(url.target)
        if url.scheme == "http" and base.scheme == "https":
            raise RedirectRefused(
                f"`{base.authority}` wants an upload over plain http at `{url.authority}`"
            )
        return url

    def _recorded(self, blob: Descriptor) -> UploadSession | None:
        """Continue a session of an earlier run."""
        if self._sessions is None or blob.size <= self._host.whole:
            return None
        target = self._sessions.find(self._key(blob))
        if target is None:
            return None
        base = self._transport.base(self.endpoint.host, self.endpoint.settings)
        return self._continued(blob, UploadSession(base.at(target)))

    def _continued(self, blob: Descriptor, session: UploadSession | None) -> UploadSession | None:
        """Ask how much of an upload was taken; None to begin again."""
        if session is None or blob.size <= self._host.whole or not self._host.chunks:
            return None
        try:
            response = self._push("GET", session.location, blob)
        except (Denied, Unavailable):
            return None
        found = _RANGE.fullmatch(response.headers.get("range") or "")
        if response.status not in (_NO_CONTENT, _OK, _ACCEPTED) or found is None:
            return None
        # An empty session states `0-0` as well: a single byte is not worth the difference.
        taken = int(found[1]) + 1 if int(found[1]) else 0
        if not 0 < taken <= blob.size:
            return None
        at = self._location(response, session.location)
        self._transport.observe(Noted(f"continuing `{blob.digest}` at byte {taken}"))
        return UploadSession(at, taken, session.least)

    def _cancel(self, blob: Descriptor, session: UploadSession | None) -> None:
        """Give up a session; that a registry does not allow it changes nothing."""
        self._forget(blob)
        if session is not None:
            try:
                self._push("DELETE", session.location, blob)
            except ResolverError as error:
                self._transport.observe(Noted(f"an upload was not cancelled: {error}"))

    def _key(self, blob: Descriptor) -> str:
        return f"{self._scope}@{blob.digest}"

    def _record(self, blob: Descriptor, session: UploadSession) -> None:
        base = self._transport.base(self.endpoint.host, self.endpoint.settings)
        if self._sessions is not None and session.location.origin == base.origin:
            self._sessions.record(self._key(blob), session.location.target)

    def _forget(self, blob: Descriptor) -> None:
        if self._sessions is not None and blob.size > self._host.whole:
            self._sessions.drop(self._key(blob))

    def _push(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        at: Url | str,
        blob: Descriptor,
        body: Body | None = None,
        start: int = 0,
        length: int = 0,
        *,
        scope: Scope | None = None,
    ) -> Response:
        """Send one request of an upload; a PUT names the digest."""
        headers: tuple[tuple[str, str], ...] = ()
        if method == "PATCH":
            headers = (*_OCTETS, ("Content-Range", f"{start}-{start + length - 1}"))
        elif method == "PUT":
            headers = _OCTETS
        if method == "PUT" and isinstance(at, Url):
            mark = "&" if at.query else "?"
            at = at.at(f"{at.target}{mark}digest={quote(str(blob.digest), safe='')}")
        what = f"`{blob.digest}` in `{self._scope}`"
        target = at if isinstance(at, str) else at.target
        request = replace(
            self._at(method, target, what, headers, 1 << 16),
            scope=scope or self._scope,
            location=None if isinstance(at, str) else at,
            stays=True,
        )
        if body is not None:
            request = replace(
                request, stream=partial(body.read, start, length), length=length, attempts=1
            )
        return self._transport.fetch(request)

    # --- documents -------------------------------------------------------------------------

    def put(
        self, document: Descriptor, body: bytes, name: str = "", *, sparse: bool = False
    ) -> bool:
        """Put a manifest or index, by its digest or under a tag.

        Args:
            document: its type and digest.
            body: its exact bytes.
            name: a tag; empty for its digest.
            sparse: whether it is an index without all of its children.

        Returns:
            Whether the registry lists it as a referrer of its `subject`.

        Raises:
            Denied: this login may not push here.
            Unavailable: the registry refuses it, or did not answer.
        """
        place = f"manifests/{name or document.digest}"
        if name and document.digest.algorithm != "sha256":
            place += f"?digest={quote(str(document.digest), safe='')}"
        what = self._name(name or str(document.digest))
        request = self._request("PUT", place, what, (("Content-Type", document.media_type),))
        attempt = 0
        while True:
            attempt += 1
            with self._host.writes.request():
                response = self._fetch(replace(request, body=body, stays=True))
            if _OK <= response.status < 300:  # noqa: PLR2004 - some answer 202
                self._check_digest(response, document, what)
                return response.headers.get("oci-subject") is not None
            codes = read_error_body(response.body, response.headers, self._transport.redactor).codes
            if sparse or attempt == ATTEMPTS or not _LACKS.intersection(codes):
                break
            # Nexus shows what was pushed a moment later.
            self._clock.sleep(backoff(attempt, self._clock), threading.Event())
        raise self._refused_document(response, document, what, sparse=sparse)

    def _check_digest(self, response: Response, document: Descriptor, what: str) -> None:
        stated = response.headers.get("docker-content-digest") or ""
        own = str(document.digest)
        if stated.partition(":")[0] == document.digest.algorithm and stated.strip() != own:
            raise _push_refused(
                f"`{self.endpoint.host}` stored {what} as `{self._printable(stated)}`",
                "it changes what is pushed; a copy there would not be the same image",
            )

    def _refused_document(
        self, response: Response, document: Descriptor, what: str, *, sparse: bool
    ) -> Error:
        error = self._refused(response, what)
        if isinstance(error, Denied | RepositoryNotFound):
            return error
        if sparse:
            hint = "it does not take an index without all of its images: leave out `--sparse`"
        elif document.digest.algorithm != "sha256":
            hint = (
                f"it does not take `{document.digest.algorithm}` digests; copy to another registry"
            )
        elif response.status == _NOT_ALLOWED:
            hint = "it takes no manifests with a `subject`: leave them out with `--no-referrers`"
        else:
            return error
        return _push_refused(str(error), hint)

    def add_referrer(self, subject: Digest, entry: Descriptor) -> None:
        """List a referrer under the fallback tag of its subject, for a registry without the API.

        The list is read, merged, written and read again, since others write to it too. Source:
        distribution-spec, "Pushing Manifests with Subject".

        Raises:
            ServerFault: the tag has another document, or others keep replacing it.
            Denied, Unavailable: as `put`.
        """
        tag = fallback_tag(subject)
        with self._host.tag_lock(f"{self._scope}:{tag}"):
            for attempt in range(1, ATTEMPTS + 2):
                listed = self._listed(tag, subject)
                entries = listed["manifests"] or []
                if str(entry.digest) in _digests(entries):
                    return
                if attempt > ATTEMPTS:
                    break
                if attempt > 1:
                    self._clock.sleep(backoff(attempt - 1, self._clock), threading.Event())
                members = {**listed, "manifests": [*entries, _listing(entry)]}
                body = json.dumps(members, separators=(",", ":")).encode()
                self.put(Descriptor(OCI_INDEX, Digest.of(body), len(body)), body, tag)
        raise _push_refused(
            f"`{self._scope}:{tag}` does not keep `{entry.digest}`: other writers replace it",
            "run the command again once they are done",
        )

    def _listed(self, tag: str, subject: Digest) -> dict[str, Any]:
        """Read the index under a fallback tag; a new one if there is none."""
        fresh = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        try:
            document = self.document(tag)
        except NotFound:
            return fresh
        if document.descriptor.digest == subject:
            # GitLab finds the subject itself under such a tag.
            return fresh
        what = f"`{self._scope}:{tag}`"
        kind = document.descriptor.media_type
        if kind != OCI_INDEX or not isinstance(parse_document(document.body, kind, what), Index):
            raise _push_refused(
                f"{what} is not a list of referrers, and would be replaced by one",
                "remove that tag, or leave referrers out with `--no-referrers`",
            )
        return dict(read_object(document.body, what))

    def _refused(self, response: Response, name: str) -> Error:
        """Return the error for a push that was not accepted."""
        if response.status == _TOO_LARGE:
            return _push_refused(
                f"`{response.url.authority}` answered 413: `{name}` is too large for it",
                "raise the limit of the proxy in front of the registry",
            )
        found = self._refusal(response, name)
        if isinstance(found, LimitExceeded | Denied):
            return found
        if response.status == _NOT_FOUND:
            problem = read_error_body(response.body, response.headers, self._transport.redactor)
            said = f": {problem.text}" if problem.text else ""
            return _push_refused(
                f"`{response.url.authority}` answered 404 to a push to `{self._scope}`{said}",
                "some registries need the repository to be created first",
            )
        return _push_refused(str(found), *found.hints())


_ACCEPTED_TYPES = (("Accept", ACCEPT),)


def _push_refused(message: str, *hints: str) -> ServerFault:
    return ServerFault(message, *hints, code="push-refused")


def _digests(entries: list[Any]) -> set[object]:
    return {entry.get("digest") for entry in entries if isinstance(entry, dict)}


def _listing(entry: Descriptor) -> dict[str, object]:
    """Write a referrer as its list states it: with the type and the annotations of its manifest."""
    written: dict[str, object] = {
        "mediaType": entry.media_type,
        "digest": str(entry.digest),
        "size": entry.size,
    }
    if entry.artifact_type:
        written["artifactType"] = entry.artifact_type
    if entry.annotations:
        written["annotations"] = dict(entry.annotations)
    return written
