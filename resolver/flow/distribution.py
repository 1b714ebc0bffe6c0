"""What a read-only registry answers: the distribution API as a function, without sockets.

Source: OCI distribution-spec v1.1.1, "Endpoints", "Pull", "Content Discovery", "Error Codes".
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote

from resolver.core.descriptor import OCI_INDEX
from resolver.core.digest import Digest
from resolver.errors import InvalidDigest
from resolver.flow.shelf import fields
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.content import Document
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
# Source: RFC 9110, 14.1.2; one range, because a client of a registry needs no more.
_RANGE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{0,19})")
# Source: RFC 6838, 4.2. A type comes from a document and goes into a header.
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\w!#$&^.+-]{0,126}/[A-Za-z0-9][\w!#$&^.+-]{0,126}", re.ASCII)
_BINARY = "application/octet-stream"

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send.

    Attributes:
        content: the whole content, the file that holds it, or what is still on its way.
        span: first byte and number of bytes of `content` to send; None = all of it.
        ranged: whether a client may ask for a part.

    """

    status: int
    headers: Headers
    content: bytes | RegularFile | Growing = b""
    span: tuple[int, int] | None = None
    ranged: bool = False


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


def cut(given: Answer, asked: str | None, size: int) -> Answer:
    """Apply a `Range` header to an answer whose content has `size` bytes.

    What is not one range is ignored, as RFC 9110, 14.2 allows: the client then gets everything.
    """
    if not given.ranged:
        return given
    accepts = (*given.headers, ("Accept-Ranges", "bytes"))
    found = _RANGE.fullmatch(asked or "")
    if found is None:
        return Answer(200, accepts, given.content)
    first = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return Answer(200, accepts, given.content)
    if first >= size:
        total = ("Content-Range", f"bytes */{size}")
        return problem(416, "RANGE_INVALID", "the blob ends before this range", total)
    last = min(last, size - 1)
    said = ("Content-Range", f"bytes {first}-{last}/{size}")
    return Answer(206, (*accepts, said), given.content, (first, last - first + 1))


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
    digest = ("Docker-Content-Digest", str(document.descriptor.digest))
    return Answer(200, (("Content-Type", media_type), digest, *headers), document.body)


def _blob(shelf: Shelf, asked: _Question) -> Answer:
    """Answer with a config or a layer."""
    digest = Digest.parse(asked.name)
    content = shelf.blob(asked.repository, digest)
    if content is None:
        return problem(404, "BLOB_UNKNOWN", "there is no such blob in this repository")
    return content_of(digest, content)


def content_of(digest: Digest, content: bytes | RegularFile | Growing) -> Answer:
    """Answer with a blob."""
    headers = (("Content-Type", _BINARY), ("Docker-Content-Digest", str(digest)))
    return Answer(200, headers, content, ranged=True)


def _tags(shelf: Shelf, asked: _Question) -> Answer:
    """List the tags of a repository."""
    if asked.name != "list":
        return problem(404, "UNSUPPORTED", "there is no such endpoint")
    tags = shelf.tags(asked.repository) or []
    return listing(asked.path, "tags", tags, asked.query, {"name": asked.repository})


def _referrers(shelf: Shelf, asked: _Question) -> Answer:
    """List what speaks about a document; an unknown one has an empty list, as the spec wants."""
    documents = shelf.referrers(asked.repository, Digest.parse(asked.name))
    entries = [_referrer(document) for document in documents]
    wanted = parse_qs(asked.query).get("artifactType", [""])[0]
    headers: Headers = (("Content-Type", OCI_INDEX),)
    if wanted:
        entries = [entry for entry in entries if entry.get("artifactType") == wanted]
        headers = (*headers, ("OCI-Filters-Applied", "artifactType"))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Answer(200, headers, json.dumps(index).encode())


def _referrer(document: Document) -> dict[str, object]:
    """Describe one referrer, with its own type and annotations.

    Source: OCI distribution-spec v1.1.1, "Listing Referrers".
    """
    said = fields(document)
    config = said.get("config")
    kind = said.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else "")
    entry: dict[str, object] = {
        "mediaType": document.descriptor.media_type,
        "digest": str(document.descriptor.digest),
        "size": document.descriptor.size,
    }
    if kind:
        entry["artifactType"] = kind
    if said.get("annotations"):
        entry["annotations"] = said["annotations"]
    return entry


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
            following = f"{path}?n={text}&last={quote(page[-1], safe='')}"
            headers.append(("Link", f'<{following}>; rel="next"'))
    return Answer(200, tuple(headers), json.dumps({**head, field: page}).encode())


_ENDPOINTS: dict[str, Callable[[Shelf, _Question], Answer]] = {
    "manifests": _manifest,
    "blobs": _blob,
    "tags": _tags,
    "referrers": _referrers,
}
