"""RegistrySource: one repository of a registry (OCI distribution-spec v1.1.1)."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from resolver.core.oci.content import Document, RangeAnswer, read_content_range
from resolver.core.oci.descriptor import ACCEPT, DOCUMENT_TYPES, OCI_INDEX, Descriptor
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
from resolver.sources.http.messages import Request, Response, Scope
from resolver.sources.http.responses import (
    descriptor_from_headers,
    printable,
    refusal,
    refuse_non_manifest,
    undo_gzip,
)
from resolver.values import pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.registry.endpoints import Endpoint
    from resolver.core.results.events import Observer
    from resolver.sources.http.client import Transport
    from resolver.sources.http.messages import Headers, StreamedResponse
    from resolver.sources.registry.lists import ReferrersApi


_WHOLE = 200
#: Not satisfiable, and not implemented.
_NO_RANGES = frozenset({416, 501})
#: Statuses of storage for an expired link. Source: S3 and Azure 403, GCS 400, and 410.
_LINK_EXPIRED = frozenset({400, 401, 403, 410})


def check_blob_response(answer: StreamedResponse, what: str, *, part: bool) -> None:
    """Refuse a response that another request may avoid; `part` is whether a range was requested."""
    place = answer.url.authority
    if part and answer.status in _NO_RANGES:
        raise RangeRefused(f"`{place}` answered {answer.status} to a range of {what}")
    if not answer.direct and answer.status in _LINK_EXPIRED:
        # The link carries the registry's authorization, not ours (docs/wire-protocol.md, "Ranges
        # and resume").
        raise StorageRefused(f"the storage `{place}` answered {answer.status} for {what}")


def read_part(
    answer: StreamedResponse, descriptor: Descriptor, requested: tuple[int, int] | None, what: str
) -> RangeAnswer:
    """Check the headers of a blob response before its body is read.

    `requested` is the requested range with exclusive end; None for the whole blob. See
    docs/wire-protocol.md, "Ranges and resume" and "Blob size checks".
    """
    headers, size = answer.headers, descriptor.size
    coding = headers.encoded or ""
    announced = headers.content_length
    if answer.status == _WHOLE:
        if announced not in (None, size) and not coding:
            raise SizeMismatch(what, size, announced or 0)
        return RangeAnswer(whole=True, end=size, chunks=answer.chunks(), coding=coding)
    place = answer.url.authority
    if requested is None:
        raise RangeRefused(f"`{place}` answered with a range of {what}; all was requested")
    end = read_content_range(headers.all("content-range"), *requested, size)
    is_several = (headers.content_type or "").strip().lower().startswith("multipart/")
    if end is None or is_several:
        raise RangeRefused(f"`{place}` answered with another range of {what} than requested")
    if announced not in (None, end - requested[0]):
        raise RangeRefused(
            f"`{place}` announces {announced} bytes for a part of {end - requested[0]}"
        )
    return RangeAnswer(whole=False, end=end, chunks=answer.chunks(), coding=coding)


_TAG = pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
#: Source: RFC 7234 5.5 and distribution-spec "Warnings": code 299, agent `-`.
_WARNING = pattern(r'[ \t]*299[ \t]+-[ \t]+"((?:[^"\\]|\\.)*)"', re.DOTALL)
_MAX_WARNING, _MAX_WARNINGS = 4_096, 100
_OK, _PARTIAL, _NOT_FOUND = 200, 206, 404

T = TypeVar("T")


def open_registry(
    transport: Transport, registry: str, repository: str, observe: Observer | None = None
) -> RegistrySource:
    """Open a repository; sends no request."""
    return RegistrySource(transport, registry, repository, observe)


class RegistrySource:
    """One repository as a source of content; safe to share between threads.

    Args:
        endpoint: used instead of the registry's own.
        attempts: per request; None for the default.
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
        # The endpoint decides which credentials are used (docs/wire-protocol.md, "Mirror
        # credentials").
        self._scope = Scope(self.endpoint.credentials, self.endpoint.repository)
        self._attempts = attempts
        self._observe = observe or transport.observe
        self._lock = threading.Lock()
        self._warnings: dict[str, None] = {}
        self._referrers_api: ReferrersApi | None = None

    # --- names -----------------------------------------------------------------------------

    def resolve(self, name: str) -> Descriptor:
        """Return the descriptor of a tag or digest, by HEAD if the response is complete.

        The size is then stated by the registry and may be wrong; `document` measures it. See
        docs/wire-protocol.md, "Resolving a tag".
        """
        requested = _digest(name)
        response = self._ask("HEAD", f"manifests/{name}", self._name(name), (("Accept", ACCEPT),))
        found = (
            descriptor_from_headers(response.headers, requested) if response.status == _OK else None
        )
        # HEAD has no body; GET returns the details of an error.
        return found or self.document(name).descriptor

    def document(self, name: str) -> Document:
        """Return the document of a tag or digest, in one round trip."""
        expected = _digest(name)
        what = f"the manifest of `{self._name(name)}`"

        def verified() -> tuple[Response, Digest]:
            response = self._manifest(name, what)
            return response, self._measure(response, expected, what)

        response, digest = _retry_once(verified)
        parsed = parse_document(response.body, response.headers.content_type, what)
        size = len(response.body)
        return Document(Descriptor(parsed.media_type, digest, size), response.body, parsed)

    def tags(self) -> Iterator[str]:
        """List the tags in the registry's order; pages are requested on demand."""
        from resolver.sources.registry.lists import MAX_PAGE, TagPages  # noqa: PLC0415 - for lists

        api = self.endpoint.prefix
        path = f"{api}/{self._scope.repository}/tags/list"
        what = f"the list of tags of `{self._scope}`"

        def ask(target: str) -> Response:
            headers = (("Accept", "application/json"),)
            return self._fetch(self._at("GET", target, what, headers, MAX_PAGE))

        def refuse(response: Response) -> ResolverError:
            if response.status == _NOT_FOUND:
                return RepositoryNotFound(self._scope.repository, self._scope.registry)
            return self._refusal(response, str(self._scope))

        return iter(TagPages(str(self._scope), path, ask, refuse, self._observe, api))

    def referrers(self, digest: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """List the referrers of a manifest, such as signatures and attestations.

        An entry is unverified until its manifest has been read and has this digest as `subject`
        (docs/wire-protocol.md, "Referrers").
        """
        from resolver.sources.registry.lists import list_referrers  # noqa: PLC0415 - for lists

        return list_referrers(self._api(), digest, artifact_type)

    def referrers_by_api(self, digest: Digest) -> tuple[Descriptor, ...] | None:
        """List referrers by the API, without the fallback tag; None if there is no API."""
        from resolver.sources.registry.lists import api_referrers  # noqa: PLC0415 - for lists

        return api_referrers(self._api(), digest)

    def _api(self) -> ReferrersApi:
        """Return the referrers API of the repository, made on first use."""
        from resolver.sources.registry.lists import ReferrersApi  # noqa: PLC0415 - for lists

        with self._lock:
            if self._referrers_api is None:
                self._referrers_api = ReferrersApi(
                    str(self._scope),
                    f"{self.endpoint.prefix}/{self._scope.repository}/referrers",
                    self._ask_for_referrers,
                    self._refusal,
                    self.document,
                    self.read,
                    self._observe,
                )
            return self._referrers_api

    def warnings(self) -> tuple[str, ...]:
        """Return the registry's warnings, each once, cleaned for display."""
        with self._lock:
            return tuple(self._warnings)

    # --- content ---------------------------------------------------------------------------

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the repository has the content, by HEAD."""
        response = self._ask(
            "HEAD", self._place(descriptor), str(descriptor.digest), _accept(descriptor)
        )
        if response.status in (_OK, _NOT_FOUND):
            return response.status == _OK
        raise self._refusal(response, str(descriptor.digest))

    def size(self, digest: Digest) -> int:
        """Return the size of a blob in bytes, as stated by HEAD."""
        response = self._ask("HEAD", f"blobs/{digest}", str(digest), (("Accept", "*/*"),))
        if response.status != _OK:
            raise self._refusal(response, str(digest), blob=True)
        length = response.headers.content_length
        if length is None:
            place = response.url.authority
            raise ServerFault(f"`{place}` does not state the size of `{digest}`")
        return length

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document of at most 4 MiB, verified against digest and size."""
        what = f"`{descriptor.digest}` of `{self._scope}`"
        descriptor.digest.require_verifiable(what)
        if descriptor.size > MAX_DOCUMENT:
            raise LimitExceeded(what, MAX_DOCUMENT, descriptor.size)
        return _retry_once(lambda: self._read_once(descriptor, what))

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Stream content in raw chunks; the caller must verify it."""
        what = f"`{descriptor.digest}` of `{self._scope}`"
        descriptor.digest.require_verifiable(what)
        request = self._request("GET", self._place(descriptor), what, _accept(descriptor))
        with self._transport.stream(request) as answer:
            self._collect_warnings(answer.headers)
            if answer.status != _OK:
                raise self._refused_blob(answer, descriptor)
            announced = answer.headers.content_length
            if announced not in (None, descriptor.size) and answer.headers.encoded is None:
                raise SizeMismatch(what, descriptor.size, announced or 0)
            yield map(bytes, answer.chunks())

    @contextmanager
    def open_range(self, descriptor: Descriptor, start: int, end: int) -> Iterator[RangeAnswer]:
        """Stream a blob from `start` up to `end`; the caller must verify it.

        The whole blob is requested without `Range`, which some registries do not support.
        """
        what = f"`{descriptor.digest}` of `{self._scope}`"
        descriptor.digest.require_verifiable(what)
        part = start > 0 or end < descriptor.size
        headers = _accept(descriptor)
        if part:
            # Closed, since `crane registry serve` answers 416 to open ranges.
            headers = (*headers, ("Range", f"bytes={start}-{end - 1}"))
        request = self._request("GET", self._place(descriptor), what, headers)
        with self._transport.stream(request) as answer:
            self._collect_warnings(answer.headers)
            check_blob_response(answer, what, part=part)
            if answer.status not in (_OK, _PARTIAL):
                raise self._refused_blob(answer, descriptor)
            yield read_part(answer, descriptor, (start, end) if part else None, what)

    @contextmanager
    def open_elsewhere(self, descriptor: Descriptor, url: str) -> Iterator[RangeAnswer]:
        """Stream a blob anonymously from a URL of its descriptor; the caller must verify it."""
        what = f"`{descriptor.digest}` of `{self._scope}`"
        descriptor.digest.require_verifiable(what)
        request = self._request("GET", self._place(descriptor), what, _accept(descriptor))
        with self._transport.stream_elsewhere(request, url) as answer:
            place = answer.url.authority
            if answer.status == _NOT_FOUND:
                raise BlobNotFound(str(descriptor.digest), place)
            if answer.status != _OK:
                raise ServerFault(f"`{place}` answered {answer.status} for {what}")
            yield read_part(answer, descriptor, None, what)

    # --- internals----------------------------------------------------------------------------

    def _name(self, name: str) -> str:
        return f"{self._scope}@{name}" if ":" in name else f"{self._scope}:{name}"

    def _place(self, descriptor: Descriptor) -> str:
        kind = "manifests" if descriptor.media_type in DOCUMENT_TYPES else "blobs"
        return f"{kind}/{descriptor.digest}"

    def _request(
        self, method: str, place: str, what: str, headers: tuple[tuple[str, str], ...]
    ) -> Request:
        target = f"{self.endpoint.prefix}/{self._scope.repository}/{place}"
        return self._at(method, target, what, headers, MAX_DOCUMENT)

    def _at(
        self, method: str, target: str, what: str, headers: tuple[tuple[str, str], ...], limit: int
    ) -> Request:
        here = self.endpoint
        if here.namespace:
            # Names the upstream to a mirror of several. Source: containerd, "Registry Host
            # Namespace".
            target = f"{target}{'&' if '?' in target else '?'}ns={here.namespace}"
        return Request(
            method,
            here.host,
            self._scope,
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
        self._collect_warnings(response.headers)
        return response

    def _ask_for_referrers(self, target: str, what: str) -> Response:
        request = self._at("GET", target, what, (("Accept", OCI_INDEX),), MAX_DOCUMENT)
        return self._fetch(replace(request, stays=True))

    def _manifest(self, name: str, what: str) -> Response:
        response = self._ask("GET", f"manifests/{name}", what, (("Accept", ACCEPT),))
        if response.status != _OK:
            raise self._refusal(response, self._name(name))
        refuse_non_manifest(response, what, self._transport.redactor)
        return response

    def _measure(self, response: Response, expected: Digest | None, what: str) -> Digest:
        """Hash a body and compare it with the requested digest, never with a header.

        For a tag the header decides the algorithm: a registry that uses sha512 for a manifest may
        not serve it by another digest (OCI distribution-spec v1.1.1, "Pulling manifests").
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
                    f"`{self._scope.registry}` states that {what} is `{self._printable(stated)}`, "
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
            self._scope,
            name,
            self._transport.redactor,
            blob=blob,
            shown=self._transport.has_sent_credentials(self._scope),
        )

    def _collect_warnings(self, headers: Headers) -> None:
        for value in headers.all("warning"):
            for found in _WARNING.finditer(value[:_MAX_WARNING]):
                text = self._printable(re.sub(r"\\(.)", r"\1", found[1]))
                with self._lock:
                    if text and len(self._warnings) < _MAX_WARNINGS:
                        self._warnings[text] = None

    def _printable(self, text: str) -> str:
        return printable(text, self._transport.redactor)


def _retry_once(work: Callable[[], T]) -> T:
    """Retry once after wrong bytes: a cache may have been incomplete.

    More retries on the same host would not help (docs/wire-protocol.md, "Manifest verification").
    """
    try:
        return work()
    except (DigestMismatch, SizeMismatch):
        return work()


def _digest(name: str) -> Digest | None:
    """Return the digest that a name is, or None for a tag. Anything else must not enter a path."""
    if ":" in name:
        return Digest.parse(name)
    if not _TAG.fullmatch(name):
        raise InvalidReference(name, "it is neither a tag nor a digest")
    return None


def _accept(descriptor: Descriptor) -> tuple[tuple[str, str], ...]:
    return (("Accept", ACCEPT if descriptor.media_type in DOCUMENT_TYPES else "*/*"),)
