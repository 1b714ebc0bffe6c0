"""RegistrySource: one repository of one registry (OCI distribution-spec v1.1.1)."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from resolver.core.oci.content import Document, RangeAnswer, read_content_range
from resolver.core.oci.descriptor import (
    ACCEPT,
    DOCUMENT_TYPES,
    OCI_INDEX,
    Descriptor,
)
from resolver.core.oci.digest import HEX_DIGITS, Digest, verify
from resolver.core.oci.manifest import MAX_DOCUMENT, parse_document
from resolver.core.registry.endpoints import upstream
from resolver.core.results.events import Warned
from resolver.errors import (
    BlobNotFound,
    DigestMismatch,
    InvalidReference,
    LimitExceeded,
    RangeRefused,
    RepositoryNotFound,
    ResolverError,
    ServerFault,
    SizeMismatch,
    StorageRefused,
)
from resolver.sources.http.requests import Request, Response, Scope
from resolver.sources.http.responses import (
    descriptor_from_headers,
    printable,
    refusal,
    refuse_what_is_no_manifest,
    undo_gzip,
)
from resolver.sources.registry.referrers import Referring, list_referrers
from resolver.sources.registry.tags import MAX_PAGE, TagPages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.registry.endpoints import Endpoint
    from resolver.core.results.pull_events import Observer
    from resolver.sources.http.client import Transport
    from resolver.sources.http.messages import Headers, StreamedResponse


_WHOLE = 200
#: Not satisfiable, and not implemented.
_NO_RANGES = frozenset({416, 501})
#: What storage says of a link that is too old. Source: S3 and Azure 403, GCS 400, and 410.
_LINK_EXPIRED = frozenset({400, 401, 403, 410})


def refuse_what_is_no_part(answer: StreamedResponse, what: str, *, part: bool) -> None:
    """Refuse an answer that another request may get around; `part`, that a range was asked for.

    Raises:
        RangeRefused: ranges are not given out here; all of it may be.
        StorageRefused: the registry's link to its storage is not honoured; a new one may be.
    """
    place = answer.url.authority
    if part and answer.status in _NO_RANGES:
        raise RangeRefused(f"`{place}` answered {answer.status} to a range of {what}")
    if not answer.direct and answer.status in _LINK_EXPIRED:
        # The link is the registry's proof, not ours (protocol.md 7.2).
        raise StorageRefused(f"the storage `{place}` answered {answer.status} for {what}")


def read_part(
    answer: StreamedResponse, descriptor: Descriptor, asked: tuple[int, int] | None, what: str
) -> RangeAnswer:
    """Check what a blob's answer says that it brings, before a byte of it is read (R16, R17).

    `asked` is the first byte that was asked for and the one behind the last; None for all.

    Raises:
        RangeRefused: it brings another part, or several.
        SizeMismatch: it says that the blob is longer or shorter.
    """
    headers, size = answer.headers, descriptor.size
    coding = headers.encoded or ""
    announced = headers.content_length
    if answer.status == _WHOLE:
        if announced not in (None, size) and not coding:
            raise SizeMismatch(what, size, announced or 0)
        return RangeAnswer(whole=True, end=size, chunks=answer.chunks(), coding=coding)
    place = answer.url.authority
    if asked is None:
        raise RangeRefused(f"`{place}` answered with a part of {what}, and all was asked for")
    end = read_content_range(headers.all("content-range"), *asked, size)
    is_several = (headers.content_type or "").strip().lower().startswith("multipart/")
    if end is None or is_several:
        raise RangeRefused(f"`{place}` answered with another part of {what} than was asked for")
    if announced not in (None, end - asked[0]):
        raise RangeRefused(f"`{place}` announces {announced} bytes for a part of {end - asked[0]}")
    return RangeAnswer(whole=False, end=end, chunks=answer.chunks(), coding=coding)


_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
#: Source: RFC 7234 5.5 and distribution-spec "Warnings": code 299, agent `-`.
_WARNING = re.compile(r'[ \t]*299[ \t]+-[ \t]+"((?:[^"\\]|\\.)*)"', re.DOTALL)
_MAX_WARNING, _MAX_WARNINGS = 4_096, 100
_OK, _PARTIAL, _NOT_FOUND = 200, 206, 404

T = TypeVar("T")


def open_registry(
    transport: Transport, registry: str, repository: str, observe: Observer | None = None
) -> RegistrySource:
    """Open a repository; nothing is asked yet."""
    return RegistrySource(transport, registry, repository, observe)


class RegistrySource:
    """One repository, as a place that holds content; safe to share between threads.

    Args:
        transport: asks.
        registry: identity, `host[:port]`, as references spell it; `docker.io` for Docker Hub.
        repository: without the registry.
        observe: told of warnings; by default whoever the transport tells.
        endpoint: where it is asked for instead, by another name, or in another way.
        attempts: for one question; None for the usual number.
    """

    def __init__(
        self,
        transport: Transport,
        registry: str,
        repository: str,
        observe: Observer | None = None,
        *,
        endpoint: Endpoint | None = None,
        attempts: int | None = None,
    ) -> None:
        self._transport = transport
        self.endpoint = endpoint or upstream(registry, repository)
        # Who is asked decides whose credentials are used, whatever is asked for (quirk q-088).
        self._asker = Scope(self.endpoint.credentials, self.endpoint.repository)
        self._attempts = attempts
        self._observe = observe or transport.observe
        self._lock = threading.Lock()
        self._warnings: dict[str, None] = {}
        self._referring = Referring(
            str(self._asker),
            f"{self.endpoint.prefix}/{self._asker.repository}/referrers",
            self._ask_for_referrers,
            self._refusal,
            self.document,
            self.read,
            self._observe,
        )

    # --- names -----------------------------------------------------------------------------

    def resolve(self, name: str) -> Descriptor:
        """Turn a tag or a digest into a descriptor, by HEAD if the answer is complete.

        The size is then what the registry says, and may be wrong (quirk q-054): read what is
        found by `document`, which measures.

        Raises:
            NotFound: there is no such name.
            Denied, Unavailable, Untrusted: as `document`.
        """
        asked = _digest(name)
        response = self._ask("HEAD", f"manifests/{name}", self._called(name), (("Accept", ACCEPT),))
        found = descriptor_from_headers(response.headers, asked) if response.status == _OK else None
        # No body comes with HEAD: what is wrong, if anything, GET tells (protocol.md 3, 4.3).
        return found or self.document(name).descriptor

    def document(self, name: str) -> Document:
        """Read what a tag or a digest points at, in one round trip.

        Raises:
            NotFound: there is no such name.
            DigestMismatch: a digest was asked for and other bytes came.
            BadDocument, UnsupportedDocument, LimitExceeded: it is no manifest or index that can be
                used.
            Denied, Unavailable: nobody let us in, or answered.
        """
        expected = _digest(name)
        what = f"the manifest of `{self._called(name)}`"

        def verified() -> tuple[Response, Digest]:
            response = self._manifest(name, what)
            return response, self._measure(response, expected, what)

        response, digest = _twice(verified)
        parsed = parse_document(response.body, response.headers.content_type, what)
        size = len(response.body)
        return Document(Descriptor(parsed.media_type, digest, size), response.body)

    def tags(self) -> Iterator[str]:
        """List the tags, in the registry's order; pages are asked for as they are needed.

        Raises:
            RepositoryNotFound: there is no such repository, or it is empty, for some.
            BadDocument, ServerFault, LimitExceeded: the answer is no list of tags, or has no end.
        """
        api = self.endpoint.prefix
        path = f"{api}/{self._asker.repository}/tags/list"
        what = f"the list of tags of `{self._asker}`"

        def ask(target: str) -> Response:
            headers = (("Accept", "application/json"),)
            return self._fetch(self._at("GET", target, what, headers, MAX_PAGE))

        def refuse(response: Response) -> ResolverError:
            if response.status == _NOT_FOUND:
                return RepositoryNotFound(self._asker.repository, self._asker.registry)
            return self._refusal(response, str(self._asker))

        return iter(TagPages(str(self._asker), path, ask, refuse, self._observe, api))

    def referrers(self, digest: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """List what refers to a manifest: signatures, attestations and the like.

        An entry proves nothing before its own manifest has been read and names this digest as its
        `subject` (protocol.md 6).

        Args:
            digest: of the manifest that is referred to.
            artifact_type: only of this type; an entry that says none has that of its config.

        Raises:
            RepositoryNotFound: there is no such repository.
            Denied, Unavailable: nobody let us in, or answered; a limit was reached.
            LimitExceeded: there is no end in sight.
        """
        return list_referrers(self._referring, digest, artifact_type)

    def warnings(self) -> tuple[str, ...]:
        """Give what the registry wants people to know, each text once, fit to be shown."""
        with self._lock:
            return tuple(self._warnings)

    # --- content ---------------------------------------------------------------------------

    def has(self, descriptor: Descriptor) -> bool:
        """Say whether the repository holds the content, by HEAD."""
        response = self._ask(
            "HEAD", self._place(descriptor), str(descriptor.digest), _accept(descriptor)
        )
        if response.status in (_OK, _NOT_FOUND):
            return response.status == _OK
        raise self._refusal(response, str(descriptor.digest))

    def size(self, digest: Digest) -> int:
        """Say how many bytes a blob has, by HEAD; as the registry claims.

        Raises:
            BlobNotFound: it is not here.
            ServerFault: the registry does not say.
            Denied, Unavailable: nobody let us in, or answered.
        """
        response = self._ask("HEAD", f"blobs/{digest}", str(digest), (("Accept", "*/*"),))
        if response.status != _OK:
            raise self._refusal(response, str(digest), blob=True)
        length = response.headers.content_length
        if length is None:
            place = response.url.authority
            raise ServerFault(f"`{place}` does not say how long `{digest}` is")
        return length

    def read(self, descriptor: Descriptor) -> bytes:
        """Read a document whole: verified against digest and size, at most 4 MiB.

        Raises:
            NotFound: it is not here.
            SizeMismatch, DigestMismatch: other bytes came, twice.
            LimitExceeded: it says that it is longer than 4 MiB.
            Denied, Unavailable: nobody let us in, or answered.
        """
        what = f"`{descriptor.digest}` of `{self._asker}`"
        descriptor.digest.require_verifiable(what)
        if descriptor.size > MAX_DOCUMENT:
            raise LimitExceeded(what, MAX_DOCUMENT, descriptor.size)
        return _twice(lambda: self._read_once(descriptor, what))

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Stream content in raw chunks; the caller verifies.

        Raises:
            NotFound: it is not here.
            SizeMismatch: the answer says that it is longer or shorter.
            Denied, Unavailable: nobody let us in, or answered; also while it streams.
        """
        what = f"`{descriptor.digest}` of `{self._asker}`"
        descriptor.digest.require_verifiable(what)
        request = self._request("GET", self._place(descriptor), what, _accept(descriptor))
        with self._transport.stream(request) as answer:
            self._collect(answer.headers)
            if answer.status != _OK:
                raise self._refused_blob(answer, descriptor)
            announced = answer.headers.content_length
            if announced not in (None, descriptor.size) and answer.headers.encoded is None:
                raise SizeMismatch(what, descriptor.size, announced or 0)
            yield answer.chunks()

    @contextmanager
    def open_range(self, descriptor: Descriptor, start: int, end: int) -> Iterator[RangeAnswer]:
        """Stream a blob from byte `start` to just before `end`; the caller verifies.

        All of it is asked for without `Range`, which some registries cannot answer.

        Raises:
            RangeRefused: another part came, or none.
            StorageRefused: the storage that the registry redirects to refuses the link.
            NotFound: it is not here.
            SizeMismatch: the answer says that the blob is longer or shorter.
            Denied, Unavailable: nobody let us in, or answered; also while it streams.
        """
        what = f"`{descriptor.digest}` of `{self._asker}`"
        descriptor.digest.require_verifiable(what)
        part = start > 0 or end < descriptor.size
        headers = _accept(descriptor)
        if part:
            # Closed: `crane registry serve` answers 416 to open ranges (protocol.md 7.2).
            headers = (*headers, ("Range", f"bytes={start}-{end - 1}"))
        request = self._request("GET", self._place(descriptor), what, headers)
        with self._transport.stream(request) as answer:
            self._collect(answer.headers)
            refuse_what_is_no_part(answer, what, part=part)
            if answer.status not in (_OK, _PARTIAL):
                raise self._refused_blob(answer, descriptor)
            yield read_part(answer, descriptor, (start, end) if part else None, what)

    @contextmanager
    def open_elsewhere(self, descriptor: Descriptor, url: str) -> Iterator[RangeAnswer]:
        """Stream a blob from a URL of its descriptor, anonymously; the caller verifies (R24).

        Raises:
            RedirectRefused, AddressRefused: the URL leads where a registry must not lead.
            NotFound: it is not there.
            SizeMismatch: the answer says that it is longer or shorter.
            Unavailable: nobody answered, or something else came; also while it streams.
        """
        what = f"`{descriptor.digest}` of `{self._asker}`"
        descriptor.digest.require_verifiable(what)
        request = self._request("GET", self._place(descriptor), what, _accept(descriptor))
        with self._transport.stream_elsewhere(request, url) as answer:
            place = answer.url.authority
            if answer.status == _NOT_FOUND:
                raise BlobNotFound(str(descriptor.digest), place)
            if answer.status != _OK:
                raise ServerFault(f"`{place}` answered {answer.status} for {what}")
            yield read_part(answer, descriptor, None, what)

    # --- how -------------------------------------------------------------------------------

    def _called(self, name: str) -> str:
        return f"{self._asker}@{name}" if ":" in name else f"{self._asker}:{name}"

    def _place(self, descriptor: Descriptor) -> str:
        kind = "manifests" if descriptor.media_type in DOCUMENT_TYPES else "blobs"
        return f"{kind}/{descriptor.digest}"

    def _request(
        self, method: str, place: str, what: str, headers: tuple[tuple[str, str], ...]
    ) -> Request:
        target = f"{self.endpoint.prefix}/{self._asker.repository}/{place}"
        return self._at(method, target, what, headers, MAX_DOCUMENT)

    def _at(
        self, method: str, target: str, what: str, headers: tuple[tuple[str, str], ...], limit: int
    ) -> Request:
        here = self.endpoint
        if here.namespace:
            # Tells one mirror of many upstreams which is meant. Source: containerd docs/hosts.md.
            target = f"{target}{'&' if '?' in target else '?'}ns={here.namespace}"
        return Request(
            method,
            here.host,
            self._asker,
            target,
            what,
            limit,
            headers,
            here.settings,
            self._attempts,
        )

    def _ask(
        self, method: str, place: str, what: str, headers: tuple[tuple[str, str], ...]
    ) -> Response:
        return self._fetch(self._request(method, place, what, headers))

    def _fetch(self, request: Request) -> Response:
        response = self._transport.fetch(request)
        self._collect(response.headers)
        return response

    def _ask_for_referrers(self, target: str, what: str) -> Response:
        request = self._at("GET", target, what, (("Accept", OCI_INDEX),), MAX_DOCUMENT)
        return self._fetch(replace(request, stays=True))

    def _manifest(self, name: str, what: str) -> Response:
        response = self._ask("GET", f"manifests/{name}", what, (("Accept", ACCEPT),))
        if response.status != _OK:
            raise self._refusal(response, self._called(name))
        refuse_what_is_no_manifest(response, what, self._transport.redactor)
        return response

    def _measure(self, response: Response, expected: Digest | None, what: str) -> Digest:
        """Hash a body, and compare with what was asked for, never with what a header says.

        By tag the header decides the algorithm: a registry that names a manifest by sha512 need
        not know it by another digest (OCI distribution-spec v1.1.1, "Pulling manifests").
        """
        if expected is not None:
            verify(response.body, expected, None, what)
            return expected
        stated = (response.headers.get("docker-content-digest") or "").strip()
        algorithm = stated.partition(":")[0]
        known = algorithm in HEX_DIGITS
        if known and stated == str(digest := Digest.of(response.body, algorithm)):
            return digest
        digest = Digest.of(response.body)
        if known:
            self._observe(
                Warned(
                    "digest-header",
                    f"`{self._asker.registry}` says that {what} is `{self._shown(stated)}`, "
                    f"but its bytes are `{digest}`; the bytes count",
                )
            )
        return digest

    def _read_once(self, descriptor: Descriptor, what: str) -> bytes:
        place = self._place(descriptor)
        response = self._ask("GET", place, what, _accept(descriptor))
        if response.status != _OK:
            raise self._refusal(
                response, str(descriptor.digest), blob=descriptor.media_type not in DOCUMENT_TYPES
            )
        body = response.body
        if response.headers.encoded is not None:
            body = undo_gzip(body, descriptor)
        verify(body, descriptor.digest, descriptor.size, what)
        return body

    def _refused_blob(self, answer: StreamedResponse, descriptor: Descriptor) -> ResolverError:
        response = Response(
            answer.status, answer.headers, answer.read_some(), answer.url, answer.url
        )
        return self._refusal(response, str(descriptor.digest), blob=True)

    def _refusal(self, response: Response, name: str, *, blob: bool = False) -> ResolverError:
        return refusal(
            response,
            self._asker,
            name,
            self._transport.redactor,
            blob=blob,
            shown=self._transport.has_shown_credentials(self._asker),
        )

    def _collect(self, headers: Headers) -> None:
        """Keep `Warning` headers; the registry may repeat itself, people hear it once."""
        for value in headers.all("warning"):
            for found in _WARNING.finditer(value[:_MAX_WARNING]):
                text = self._shown(re.sub(r"\\(.)", r"\1", found[1]))
                with self._lock:
                    if text and len(self._warnings) < _MAX_WARNINGS:
                        self._warnings[text] = None

    def _shown(self, text: str) -> str:
        return printable(text, self._transport.redactor)


def _twice(work: Callable[[], T]) -> T:
    """Do it once more when the bytes were wrong: a cache may have been caught half-way.

    Source: protocol.md 10; more than once on the same host would not help.
    """
    try:
        return work()
    except (DigestMismatch, SizeMismatch):
        return work()


def _digest(name: str) -> Digest | None:
    """Read a name as a digest; a tag has no colon. Nothing else may become part of a path."""
    if ":" in name:
        return Digest.parse(name)
    if not _TAG.fullmatch(name):
        raise InvalidReference(name, "it is neither a tag nor a digest")
    return None


def _accept(descriptor: Descriptor) -> tuple[tuple[str, str], ...]:
    return (("Accept", ACCEPT if descriptor.media_type in DOCUMENT_TYPES else "*/*"),)
