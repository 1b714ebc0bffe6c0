"""What a read-only registry answers: the distribution API as a function, without sockets.

Source: OCI distribution-spec v1.1.1, "Endpoints", "Pull", "Content Discovery", "Error Codes".
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_INDEX, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.parse.json import read_object
from resolver.errors import InvalidDigest, ResolverError
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.demo import Sample
    from resolver.verbs.serve.shared_fetch import PartialBlobReader, RegularFile


class Shelf(Protocol):
    """Content by repository; used from several threads.

    Repository names and references are validated before a shelf is used. A shelf that cannot read
    its content raises a `ResolverError`, and the client gets an error response.
    """

    def repositories(self) -> list[str]:
        """List all repositories, in any order."""
        ...

    def tags(self, repository: str) -> list[str] | None:
        """List the tags, in any order; None if there is no such repository."""
        ...

    def document(self, repository: str, name: str) -> Document | None:
        """Find a manifest or an index by tag, or by digest in text form."""
        ...

    def blob(self, repository: str, digest: Digest) -> bytes | RegularFile | None:
        """Find a config or a layer: its bytes, or a file of exactly these."""
        ...

    def referrers(self, repository: str, digest: Digest) -> list[Document]:
        """Find the manifests whose `subject` is this digest; see `about`."""
        ...


class MemoryShelf:
    """A `Shelf` over the sample images."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._tags: dict[str, dict[str, Digest]] = {}
        self._documents: dict[str, dict[Digest, Document]] = {}
        self._blobs: dict[str, dict[Digest, bytes]] = {}
        for sample in samples:
            self._add(sample)

    def _add(self, sample: Sample) -> None:
        self._tags.setdefault(sample.repository, {})[sample.tag] = sample.root.digest
        self._blobs.setdefault(sample.repository, {}).update(sample.blobs)
        documents = self._documents.setdefault(sample.repository, {})
        for digest, (media_type, body) in sample.documents.items():
            documents[digest] = Document(Descriptor(media_type, digest, len(body)), body)

    def repositories(self) -> list[str]:
        """List all repositories."""
        return list(self._tags)

    def tags(self, repository: str) -> list[str] | None:
        """List the tags of one."""
        tags = self._tags.get(repository)
        return None if tags is None else list(tags)

    def document(self, repository: str, name: str) -> Document | None:
        """Find a document by tag or digest."""
        digest = Digest.parse(name) if ":" in name else self._tags.get(repository, {}).get(name)
        return None if digest is None else self._documents.get(repository, {}).get(digest)

    def blob(self, repository: str, digest: Digest) -> bytes | None:
        """Find a blob."""
        return self._blobs.get(repository, {}).get(digest)

    def referrers(self, repository: str, digest: Digest) -> list[Document]:
        """List the manifests that refer to a document."""
        return list(about(self._documents.get(repository, {}).values(), digest))


def about(documents: Iterable[Document], digest: Digest) -> Iterator[Document]:
    """Pick the documents whose `subject` has this digest; unreadable ones have none."""
    for document in documents:
        subject = fields(document).get("subject")
        if isinstance(subject, dict) and subject.get("digest") == str(digest):
            yield document


def fields(document: Document) -> dict[str, object]:
    """Parse the members of a document; none if it is not a JSON object."""
    try:
        return read_object(document.body, f"`{document.descriptor.digest}`")
    except ResolverError:
        return {}


# Source: OCI distribution-spec v1.1.1, "Pulling manifests" (<name>, <reference as a tag>).
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_ROUTE = re.compile(r"/v2/(.+)/(manifests|blobs|tags|referrers)/([^/]+)", re.DOTALL)
#: Characters of a repository name. Source: docs/wire-protocol.md, "Reference grammar".
_NAME_LIMIT = 255
#: Digits that fit a 64-bit number, so that a long one is never converted.
_NUMBER = re.compile(r"[0-9]{1,19}")
# Source: RFC 9110, 14.1.1: a unit is compared without case; positions below 2^63 are read.
_RANGES = re.compile(r"bytes=([0-9, \t-]{1,4096})", re.IGNORECASE)
_SPEC = re.compile(r"([0-9]{0,19})-([0-9]{0,19})")
# Source: RFC 9110, 8.8.3.
_ENTITY_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
# Source: RFC 6838, 4.2. A type comes from a document and goes into a header.
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\w!#$&^.+-]{0,126}/[A-Za-z0-9][\w!#$&^.+-]{0,126}", re.ASCII)
_BINARY = "application/octet-stream"
_OK = 200
#: Entries of one page of referrers, and bytes: clients read 4 MiB of an index.
_REFERRERS_PAGE, _REFERRERS_BYTES = 1_000, 3 << 20

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ServerResponse:
    """The response to send.

    Attributes:
        content: the whole content, the file that has it, or a stream that is still being fetched.
        span: first byte and number of bytes of `content` to send; None for all of it.
        ranged: whether a client may request a range.
        tag: the entity tag, with its quotes; empty for none.

    """

    status: int
    headers: Headers
    content: bytes | RegularFile | PartialBlobReader = b""
    span: tuple[int, int] | None = None
    ranged: bool = False
    tag: str = ""


class Later(Exception):
    """The answer needs more time than a thread may wait; retry soon."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditional headers of a request; None where a header is absent.

    Attributes:
        span: the value of `Range`.
        if_range: the value of `If-Range`.
        if_match, if_none_match: their values, several lines joined by commas.

    """

    span: str | None = None
    if_range: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None


@dataclass(frozen=True, slots=True)
class _Question:
    """A request about one repository; `name` is a tag, a digest, or `list`, not validated yet."""

    repository: str
    name: str
    path: str
    query: str


def is_repository(name: str) -> bool:
    """Whether a repository may have this name."""
    return len(name) <= _NAME_LIMIT and _NAME.fullmatch(name) is not None


def problem(status: int, code: str, message: str, *headers: tuple[str, str]) -> ServerResponse:
    """Build an error in the words of the specification; `code` as in its table."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return ServerResponse(status, (("Content-Type", "application/json"), *headers), body)


def answer(shelf: Shelf, target: str) -> ServerResponse:
    """Answer GET or HEAD from a shelf; `cut` applies a `Range` once the size is known.

    `target` is path and query, as the request line has them.

    Raises:
        ResolverError: the shelf could not read what it holds.

    """
    path, _, query = target.partition("?")
    path = unquote(path)
    if path in ("/v2/", "/v2"):
        return ServerResponse(200, (("Content-Type", "application/json"),), b"{}")
    if path == "/v2/_catalog":
        return listing(path, "repositories", shelf.repositories(), query, {})
    route = _ROUTE.fullmatch(path)
    if route is None:
        return problem(404, "UNSUPPORTED", "there is no such endpoint")
    return _of_repository(shelf, route[2], _Question(route[1], route[3], path, query))


def cut(given: ServerResponse, request: Conditions, size: int) -> ServerResponse:
    """Apply the conditions of a GET or HEAD to an answer whose content has `size` bytes.

    A request for several parts gets everything, as RFC 9110, 14.2 allows: clients of a registry
    have no use for `multipart/byteranges`.

    Source: RFC 9110, 13.2.2 (order of evaluation), 14.1.2, 14.2, 15.5.17.
    """
    if given.tag and given.status == _OK:
        if request.if_match is not None and not lists_tag(
            request.if_match, given.tag, weakly=False
        ):
            return problem(412, "PRECONDITION_FAILED", "the content has another entity tag")
        if request.if_none_match is not None and lists_tag(
            request.if_none_match, given.tag, weakly=True
        ):
            return ServerResponse(304, given.headers)
    if not given.ranged:
        return given
    accepts = (*given.headers, ("Accept-Ranges", "bytes"))
    # Content is named by its digest and has no date, so a date in `If-Range` matches nothing.
    is_same = request.if_range is None or request.if_range.strip(" \t") == given.tag
    spans = _spans(request.span, size) if request.span is not None and is_same else None
    if spans is None or len(spans) > 1:
        return ServerResponse(_OK, accepts, given.content)
    if not spans:
        total = ("Content-Range", f"bytes */{size}")
        return problem(416, "RANGE_INVALID", "the blob has no byte of this range", total)
    first, last = spans[0]
    said = ("Content-Range", f"bytes {first}-{last}/{size}")
    return ServerResponse(206, (*accepts, said), given.content, (first, last - first + 1))


def _spans(request: str, size: int) -> list[tuple[int, int]] | None:
    """Parse a `Range` header into first and last bytes; None where it is to be ignored."""
    found = _RANGES.fullmatch(request.strip(" \t"))
    if found is None:
        return None
    # Empty elements of a list are allowed. Source: RFC 9110, 5.6.1.2.
    specs = [text for entry in found[1].split(",") if (text := entry.strip(" \t"))]
    spans: list[tuple[int, int]] = []
    for text in specs:
        spec = _SPEC.fullmatch(text)
        if spec is None or spec[0] == "-":
            return None
        if not spec[1]:
            wanted = min(int(spec[2]), size)
            if int(spec[2]) and not size:
                # An empty blob has no satisfiable range, and no valid `Content-Range`.
                return None
            if wanted:
                spans.append((size - wanted, size - 1))
            continue
        first, last = int(spec[1]), int(spec[2]) if spec[2] else size - 1
        if spec[2] and last < first:
            return None
        if first < size:
            spans.append((first, min(last, size - 1)))
    return spans if specs else None


def lists_tag(header: str, tag: str, *, weakly: bool) -> bool:
    """Whether a list of entity tags, or `*`, matches this one. Source: RFC 9110, 8.8.3.2."""
    if header.strip(" \t") == "*":
        return True
    return any(
        found[2] == tag and (weakly or not found[1]) for found in _ENTITY_TAG.finditer(header)
    )


def _of_repository(shelf: Shelf, endpoint: str, request: _Question) -> ServerResponse:
    """Answer a request about one repository, if it exists."""
    if not is_repository(request.repository):
        return problem(400, "NAME_INVALID", "this is not a repository name")
    # Source: distribution-spec, "Listing Referrers": never 404 where the endpoint is supported.
    if endpoint != "referrers" and shelf.tags(request.repository) is None:
        return problem(404, "NAME_UNKNOWN", "there is no such repository")
    try:
        return _ENDPOINTS[endpoint](shelf, request)
    except InvalidDigest as error:
        return problem(400, "DIGEST_INVALID", f"this is not a digest: {error.reason}")


def _manifest(shelf: Shelf, request: _Question) -> ServerResponse:
    """Answer with a document, by tag or digest."""
    if ":" in request.name:
        document = shelf.document(request.repository, str(Digest.parse(request.name)))
    else:
        known = _TAG.fullmatch(request.name)
        document = shelf.document(request.repository, request.name) if known else None
    if document is None:
        return problem(404, "MANIFEST_UNKNOWN", "there is no such manifest in this repository")
    return document_answer(document)


def document_answer(document: Document, *headers: tuple[str, str]) -> ServerResponse:
    """Answer with a manifest or an index."""
    said = document.descriptor.media_type
    media_type = said if _MEDIA_TYPE.fullmatch(said) else _BINARY
    said_of_it, tag = _identity(document.descriptor.digest)
    every = (("Content-Type", media_type), *said_of_it, *headers)
    return ServerResponse(_OK, every, document.body, tag=tag)


def _blob(shelf: Shelf, request: _Question) -> ServerResponse:
    """Answer with a config or a layer."""
    digest = Digest.parse(request.name)
    content = shelf.blob(request.repository, digest)
    if content is None:
        return problem(404, "BLOB_UNKNOWN", "there is no such blob in this repository")
    return content_of(digest, content)


def content_of(digest: Digest, content: bytes | RegularFile | PartialBlobReader) -> ServerResponse:
    """Answer with a blob."""
    said, tag = _identity(digest)
    return ServerResponse(_OK, (("Content-Type", _BINARY), *said), content, ranged=True, tag=tag)


def _identity(digest: Digest) -> tuple[Headers, str]:
    """Return the headers that identify the content, and its entity tag."""
    tag = f'"{digest}"'
    return (("Docker-Content-Digest", str(digest)), ("ETag", tag)), tag


def _tags(shelf: Shelf, request: _Question) -> ServerResponse:
    """List the tags of a repository."""
    if request.name != "list":
        return problem(404, "UNSUPPORTED", "there is no such endpoint")
    tags = shelf.tags(request.repository) or []
    return listing(request.path, "tags", tags, request.query, {"name": request.repository})


def _referrers(shelf: Shelf, request: _Question) -> ServerResponse:
    """List the referrers of a document; an unknown one has an empty list, as the spec requires."""
    documents = shelf.referrers(request.repository, Digest.parse(request.name))
    entries = [_with_own_fields(document) for document in documents]
    wanted = artifact_type(request.query)
    if wanted:
        entries = [entry for entry in entries if entry.artifact_type == wanted]
    return referrers_answer(entries, request.path, request.query)


def artifact_type(query: str) -> str:
    """Return the artifact type to filter referrers by; empty for none."""
    return parse_qs(query).get("artifactType", [""])[0]


def referrers_answer(entries: Iterable[Descriptor], path: str, query: str) -> ServerResponse:
    """List referrers; a long list in pages by digest, after `last`, with a link to the next.

    Args:
        entries: filtered already, if `query` has a filter.
        path: of the request.
        query: of the request.

    Source: OCI distribution-spec v1.1.1, "Listing Referrers".
    """
    headers: Headers = (("Content-Type", OCI_INDEX),)
    if artifact_type(query):
        headers = (*headers, ("OCI-Filters-Applied", "artifactType"))
    rest = list(entries)
    last = parse_qs(query).get("last", [""])[0]
    if last or len(_page(rest)) < len(rest):
        rest = sorted((each for each in rest if str(each.digest) > last), key=_by_digest)
    page = _page(rest)
    if len(page) < len(rest):
        headers = (*headers, _next(path, query, last=str(page[-1]["digest"])))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page}
    return ServerResponse(_OK, headers, json.dumps(index).encode())


def _page(entries: list[Descriptor]) -> list[dict[str, object]]:
    page: list[dict[str, object]] = []
    size = 0
    for each in entries[:_REFERRERS_PAGE]:
        entry = _entry(each)
        size += len(json.dumps(entry))
        if page and size > _REFERRERS_BYTES:
            break
        page.append(entry)
    return page


def _by_digest(descriptor: Descriptor) -> str:
    return str(descriptor.digest)


def _entry(descriptor: Descriptor) -> dict[str, object]:
    entry: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if descriptor.artifact_type:
        entry["artifactType"] = descriptor.artifact_type
    if descriptor.annotations:
        entry["annotations"] = dict(descriptor.annotations)
    return entry


def _with_own_fields(document: Document) -> Descriptor:
    """Describe one referrer, with its own type and annotations.

    Source: OCI distribution-spec v1.1.1, "Listing Referrers".
    """
    said = fields(document)
    config, notes = said.get("config"), said.get("annotations")
    kind = said.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else "")
    pairs = notes.items() if isinstance(notes, dict) else ()
    texts = tuple((name, value) for name, value in pairs if isinstance(value, str))
    return replace(
        document.descriptor,
        artifact_type=kind if isinstance(kind, str) else None,
        annotations=texts,
    )


def listing(
    path: str, field: str, names: list[str], query: str, head: dict[str, str]
) -> ServerResponse:
    """Answer with names in ASCII order, from `last` on, at most `n`, and a link to the rest."""
    parameters = parse_qs(query)
    last = parameters.get("last", [""])[0]
    rest = [name for name in sorted(names) if name > last]
    page, headers = rest, [("Content-Type", "application/json")]
    if "n" in parameters:
        text = parameters["n"][0]
        if not _NUMBER.fullmatch(text):
            return problem(400, "PAGINATION_NUMBER_INVALID", "`n` must be a number")
        page = rest[: int(text)]
        # `n=0` requests nothing, so there is no next page. Source: "Listing Tags".
        if page and len(page) < len(rest):
            headers.append(_next(path, query, n=text, last=page[-1]))
    return ServerResponse(200, tuple(headers), json.dumps({**head, field: page}).encode())


def _next(path: str, query: str, **said: str) -> tuple[str, str]:
    """Build the link to the next page, which keeps the client's other parameters."""
    others = [pair for pair in parse_qsl(query) if pair[0] not in said]
    target = f"{quote(path)}?{urlencode([*said.items(), *others], quote_via=quote, safe='')}"
    return "Link", f'<{target}>; rel="next"'


_ENDPOINTS: dict[str, Callable[[Shelf, _Question], ServerResponse]] = {
    "manifests": _manifest,
    "blobs": _blob,
    "tags": _tags,
    "referrers": _referrers,
}
