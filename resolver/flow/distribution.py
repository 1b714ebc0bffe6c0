"""What a read-only registry answers: the distribution API as a function, without sockets.

Source: OCI distribution-spec v1.1.1, "Endpoints", "Pull", "Content Discovery", "Error Codes".
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode

from resolver.core.descriptor import OCI_INDEX
from resolver.core.digest import Digest
from resolver.errors import InvalidDigest
from resolver.flow.shelf import fields
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from resolver.core.content import Document
    from resolver.core.descriptor import Descriptor
    from resolver.flow.growing import Growing
    from resolver.flow.regular import RegularFile
    from resolver.flow.shelf import Shelf

# Source: OCI distribution-spec v1.1.1, "Pulling manifests" (<name>, <reference as a tag>).
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_ROUTE = re.compile(r"/v2/(.+)/(manifests|blobs|tags|referrers)/([^/]+)", re.DOTALL)
#: Characters of a repository name. Source: protocol.md 1.2.
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
class Answer:
    """What to send.

    Attributes:
        content: the whole content, the file that holds it, or what is still on its way.
        span: first byte and number of bytes of `content` to send; None = all of it.
        ranged: whether a client may ask for a part.
        tag: the entity tag, with its quotes; empty for an answer that has none.

    """

    status: int
    headers: Headers
    content: bytes | RegularFile | Growing = b""
    span: tuple[int, int] | None = None
    ranged: bool = False
    tag: str = ""


class Later(Exception):
    """An answer is not to be had without keeping a thread waiting; ask again soon."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a request says about the answer that it wants; each is None where it says nothing.

    Attributes:
        span: the value of `Range`.
        if_range: of `If-Range`.
        if_match, if_none_match: of these, several lines joined by commas.

    """

    span: str | None = None
    if_range: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None


UNCONDITIONAL = Conditions()


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of one repository; `name` is a tag, a digest, or `list`, not yet checked."""

    repository: str
    name: str
    path: str
    query: str


def is_repository(name: str) -> bool:
    """Say whether a repository may have this name."""
    return len(name) <= _NAME_LIMIT and _NAME.fullmatch(name) is not None


def problem(status: int, code: str, message: str, *headers: tuple[str, str]) -> Answer:
    """Build an error in the words of the specification; `code` as in its table."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, (("Content-Type", "application/json"), *headers), body)


def answer(shelf: Shelf, target: str) -> Answer:
    """Answer GET or HEAD from a shelf; `cut` applies a `Range` once the size is known.

    `target` is path and query, as the request line has them.

    Raises:
        ResolverError: the shelf could not read what it holds.

    """
    path, _, query = target.partition("?")
    path = unquote(path)
    if path in ("/v2/", "/v2"):
        return Answer(200, (("Content-Type", "application/json"),), b"{}")
    if path == "/v2/_catalog":
        return listing(path, "repositories", shelf.repositories(), query, {})
    route = _ROUTE.fullmatch(path)
    if route is None:
        return problem(404, "UNSUPPORTED", "there is no such endpoint")
    return _of_repository(shelf, route[2], _Question(route[1], route[3], path, query))


def cut(given: Answer, asked: Conditions, size: int) -> Answer:
    """Apply the conditions of a GET or HEAD to an answer whose content has `size` bytes.

    A request for several parts gets everything, as RFC 9110, 14.2 allows: clients of a registry
    have no use for `multipart/byteranges`.

    Source: RFC 9110, 13.2.2 (order of evaluation), 14.1.2, 14.2, 15.5.17.
    """
    if given.tag and given.status == _OK:
        if asked.if_match is not None and not _lists(asked.if_match, given.tag, weakly=False):
            return problem(412, "PRECONDITION_FAILED", "the content has another entity tag")
        if asked.if_none_match is not None and _lists(asked.if_none_match, given.tag, weakly=True):
            return Answer(304, given.headers)
    if not given.ranged:
        return given
    accepts = (*given.headers, ("Accept-Ranges", "bytes"))
    # Content is named by its digest and has no date, so a date in `If-Range` matches nothing.
    is_same = asked.if_range is None or asked.if_range.strip(" \t") == given.tag
    spans = _spans(asked.span, size) if asked.span is not None and is_same else None
    if spans is None or len(spans) > 1:
        return Answer(_OK, accepts, given.content)
    if not spans:
        total = ("Content-Range", f"bytes */{size}")
        return problem(416, "RANGE_INVALID", "the blob has no byte of this range", total)
    first, last = spans[0]
    said = ("Content-Range", f"bytes {first}-{last}/{size}")
    return Answer(206, (*accepts, said), given.content, (first, last - first + 1))


def _spans(asked: str, size: int) -> list[tuple[int, int]] | None:
    """Give first and last byte of each part that there is; None where the header does not count."""
    found = _RANGES.fullmatch(asked.strip(" \t"))
    if found is None:
        return None
    # Empty elements of a list are allowed. Source: RFC 9110, 5.6.1.2.
    specs = [text for part in found[1].split(",") if (text := part.strip(" \t"))]
    spans: list[tuple[int, int]] = []
    for text in specs:
        spec = _SPEC.fullmatch(text)
        if spec is None or spec[0] == "-":
            return None
        if not spec[1]:
            wanted = min(int(spec[2]), size)
            if int(spec[2]) and not size:
                # All of nothing can be had, and no `Content-Range` can say so.
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


def _lists(header: str, tag: str, *, weakly: bool) -> bool:
    """Say whether a list of entity tags, or `*`, has this one. Source: RFC 9110, 8.8.3.2."""
    if header.strip(" \t") == "*":
        return True
    return any(
        found[2] == tag and (weakly or not found[1]) for found in _ENTITY_TAG.finditer(header)
    )


def _of_repository(shelf: Shelf, endpoint: str, asked: _Question) -> Answer:
    """Answer what is asked of one repository, if there is such a one."""
    if not is_repository(asked.repository):
        return problem(400, "NAME_INVALID", "this is no repository name")
    if shelf.tags(asked.repository) is None:
        return problem(404, "NAME_UNKNOWN", "there is no such repository")
    try:
        return _ENDPOINTS[endpoint](shelf, asked)
    except InvalidDigest as error:
        return problem(400, "DIGEST_INVALID", f"this is no digest: {error.reason}")


def _manifest(shelf: Shelf, asked: _Question) -> Answer:
    """Answer with a document, by tag or digest."""
    if ":" in asked.name:
        document = shelf.document(asked.repository, str(Digest.parse(asked.name)))
    else:
        known = _TAG.fullmatch(asked.name)
        document = shelf.document(asked.repository, asked.name) if known else None
    if document is None:
        return problem(404, "MANIFEST_UNKNOWN", "there is no such manifest in this repository")
    return document_answer(document)


def document_answer(document: Document, *headers: tuple[str, str]) -> Answer:
    """Answer with a manifest or an index."""
    said = document.descriptor.media_type
    media_type = said if _MEDIA_TYPE.fullmatch(said) else _BINARY
    said_of_it, tag = _identity(document.descriptor.digest)
    every = (("Content-Type", media_type), *said_of_it, *headers)
    return Answer(_OK, every, document.body, tag=tag)


def _blob(shelf: Shelf, asked: _Question) -> Answer:
    """Answer with a config or a layer."""
    digest = Digest.parse(asked.name)
    content = shelf.blob(asked.repository, digest)
    if content is None:
        return problem(404, "BLOB_UNKNOWN", "there is no such blob in this repository")
    return content_of(digest, content)


def content_of(digest: Digest, content: bytes | RegularFile | Growing) -> Answer:
    """Answer with a blob."""
    said, tag = _identity(digest)
    return Answer(_OK, (("Content-Type", _BINARY), *said), content, ranged=True, tag=tag)


def _identity(digest: Digest) -> tuple[Headers, str]:
    """Give the headers that say which content this is, and its entity tag."""
    tag = f'"{digest}"'
    return (("Docker-Content-Digest", str(digest)), ("ETag", tag)), tag


def _tags(shelf: Shelf, asked: _Question) -> Answer:
    """List the tags of a repository."""
    if asked.name != "list":
        return problem(404, "UNSUPPORTED", "there is no such endpoint")
    tags = shelf.tags(asked.repository) or []
    return listing(asked.path, "tags", tags, asked.query, {"name": asked.repository})


def _referrers(shelf: Shelf, asked: _Question) -> Answer:
    """List what refers to a document; an unknown one has an empty list, as the spec wants."""
    documents = shelf.referrers(asked.repository, Digest.parse(asked.name))
    entries = [_with_own_fields(document) for document in documents]
    wanted = artifact_type(asked.query)
    if wanted:
        entries = [entry for entry in entries if entry.artifact_type == wanted]
    return referrers_answer(entries, asked.path, asked.query)


def artifact_type(query: str) -> str:
    """Give the type by which a list of referrers is to be filtered; empty for none."""
    return parse_qs(query).get("artifactType", [""])[0]


def referrers_answer(entries: Iterable[Descriptor], path: str, query: str) -> Answer:
    """List referrers; a list that is too long by digest, after `last`, with a link to the rest.

    Args:
        entries: filtered already, where `query` asks for a filter.
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
    return Answer(_OK, headers, json.dumps(index).encode())


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


def listing(path: str, field: str, names: list[str], query: str, head: dict[str, str]) -> Answer:
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
        # `n=0` asks for nothing, so there is no next page either. Source: "Listing Tags".
        if page and len(page) < len(rest):
            headers.append(_next(path, query, n=text, last=page[-1]))
    return Answer(200, tuple(headers), json.dumps({**head, field: page}).encode())


def _next(path: str, query: str, **said: str) -> tuple[str, str]:
    """Link to the page that follows; what else the client said of its question stays in it."""
    others = [pair for pair in parse_qsl(query) if pair[0] not in said]
    target = f"{quote(path)}?{urlencode([*said.items(), *others], quote_via=quote, safe='')}"
    return "Link", f'<{target}>; rel="next"'


_ENDPOINTS: dict[str, Callable[[Shelf, _Question], Answer]] = {
    "manifests": _manifest,
    "blobs": _blob,
    "tags": _tags,
    "referrers": _referrers,
}
