"""Interpret registry responses: descriptors, manifests and error bodies."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_ARTIFACT,
    SCHEMA1_TYPES,
    Descriptor,
)
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import MAX_DOCUMENT
from resolver.core.parse.json import read_object
from resolver.errors import (
    AuthenticationRequired,
    BlobNotFound,
    Denied,
    InvalidDigest,
    LimitExceeded,
    ManifestNotFound,
    RepositoryNotFound,
    ResolverError,
    ServerFault,
    UnsupportedDocument,
)
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.sources.credentials.secrets import Redactor
    from resolver.sources.http.messages import Headers, Response, Scope


#: Most characters of remote text in a message.
MAX_SHOWN = 512
_MAX_CODE = 64
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]{1,300})", re.IGNORECASE)
#: Fields with the error text of registries and token servers, best first.
_FIELDS = ("message", "details", "error_description", "error", "detail")


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error body.

    Attributes:
        codes: in upper case, if the body follows the distribution API.
        text: at most 512 printable characters, without secrets; empty if there is none.

    """

    codes: tuple[str, ...] = ()
    text: str = ""


def read_error_body(body: bytes, headers: Headers, redactor: Redactor) -> ErrorBody:
    """Parse an error body: JSON of several forms, HTML, text or nothing."""
    try:
        document = read_object(body, "the error")
    except ResolverError:
        return ErrorBody(text=_plain(body, headers, redactor))
    entries = document.get("errors")
    errors = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
    codes = tuple(
        one["code"][:_MAX_CODE].upper() for one in errors if isinstance(one.get("code"), str)
    )
    texts = [text for one in errors for text in _first_text(one)] or list(_first_text(document))
    return ErrorBody(
        codes, printable("; ".join(dict.fromkeys(texts)) or "; ".join(codes), redactor)
    )


def is_web_page(body: bytes, headers: Headers) -> bool:
    """Whether the response is a web page, such as a login or a captive portal.

    The media type is not enough: some registries send JSON as `text/html`.
    """
    kind = (headers.content_type or "").partition(";")[0].strip().lower()
    first = body.lstrip()[:1]
    return first == b"<" or (kind == "text/html" and first != b"{")


def printable(text: str, redactor: Redactor) -> str:
    """Clean remote text for a message: printable, one line, without secrets, limited length."""
    words = "".join(sign if sign.isprintable() else " " for sign in redactor.clean(text)).split()
    line = " ".join(words)
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"


def _first_text(entry: dict[str, object]) -> Iterator[str]:
    for name in _FIELDS:
        value = entry.get(name)
        if isinstance(value, str) and value.strip():
            yield value
            return


def _plain(body: bytes, headers: Headers, redactor: Redactor) -> str:
    text = body.decode("utf-8", "replace")
    if not is_web_page(body, headers):
        return printable(text, redactor)
    title = _TITLE.search(text)
    return printable(f"a web page, “{title[1]}”" if title else "a web page", redactor)


_DOCUMENTS = INDEX_TYPES | MANIFEST_TYPES | {OCI_ARTIFACT}
_SCHEMA1 = re.compile(rb'"schemaVersion"\s{0,64}:\s{0,64}1\b')
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


def descriptor_from_headers(headers: Headers, asked: Digest | None) -> Descriptor | None:
    """Return the descriptor of a HEAD response; None if invalid or for another digest.

    Raises:
        LimitExceeded: the manifest is too large.
    """
    size = headers.content_length
    stated = headers.get("docker-content-digest")
    media_type = _media_type(headers)
    if stated is None or size is None or media_type not in _DOCUMENTS:
        return None
    try:
        digest = Digest.parse(stated.strip())
    except InvalidDigest:
        return None
    if asked is not None and digest != asked:
        return None
    if size > MAX_DOCUMENT:
        raise LimitExceeded(f"the manifest `{digest}`", MAX_DOCUMENT, size)
    return Descriptor(media_type, digest, size)


def refuse_non_manifest(response: Response, what: str, redactor: Redactor) -> None:
    """Refuse responses that are not manifests, before digest or JSON errors obscure the cause.

    Raises:
        ServerFault: it is compressed, or a web page.
        UnsupportedDocument: it is schema 1, whose digest does not cover its bytes.
    """
    coding = response.headers.encoded
    if coding is not None:
        raise ServerFault(
            f"{what} came with `Content-Encoding: {printable(coding, redactor)}`, "
            "which was not asked for",
            "a proxy in front of the registry may be misconfigured",
        )
    if is_web_page(response.body, response.headers):
        raise ServerFault(
            f"`{response.url.authority}` answered with a web page where {what} should be",
            "it may be a login page or a proxy's page",
        )
    looks_old = b'"fsLayers"' in response.body and _SCHEMA1.search(response.body) is not None
    if looks_old or _media_type(response.headers) in SCHEMA1_TYPES:
        raise UnsupportedDocument(
            what,
            "schemaVersion",
            "it is a schema 1 manifest",
            "push the image again with a current tool: schema 1 was replaced in 2016",
        )


def undo_gzip(body: bytes, descriptor: Descriptor) -> bytes:
    """Return the bytes of a response that a CDN compressed unrequested.

    The header is not enough: many servers label a gzip layer that way. Bytes with the right digest
        stay as they are; otherwise at most one byte more than the expected size is inflated. See
        docs/wire-protocol.md, "Unrequested compression".
    """
    if Digest.of(body, descriptor.digest.algorithm) == descriptor.digest:
        return body
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, descriptor.size + 1)
    except zlib.error:
        return body


def refusal(
    response: Response, scope: Scope, name: str, redactor: Redactor, *, blob: bool, shown: bool
) -> ResolverError:
    """Return the error for an unsuccessful response; the status decides, the text only explains.

    `name` is the requested resource, `blob` whether it is a blob, and `shown` whether credentials
    were sent.
    """
    problem = read_error_body(response.body, response.headers, redactor)
    said = f": {problem.text}" if problem.text else ""
    if response.status == _NOT_FOUND:
        if "NAME_UNKNOWN" in problem.codes:
            return RepositoryNotFound(scope.repository, scope.registry)
        if blob:
            return BlobNotFound(name, scope.registry)
        return ManifestNotFound(name, scope.registry, problem.text, str(scope))
    if response.status not in (_UNAUTHORIZED, _FORBIDDEN):
        place = response.url.authority
        return ServerFault(f"`{place}` answered {response.status} for `{name}`{said}")
    # Many answer 403 for a missing repository, so the message allows for both
    # (docs/wire-protocol.md, "Missing or denied").
    message = f"`{scope}` does not exist or access denied{said}"
    if shown:
        return Denied(message, "the credentials are valid, but not for this repository")
    login = f"check the spelling, or log in: `resolver login {scope.registry}`"
    return AuthenticationRequired(message, login)


def _media_type(headers: Headers) -> str:
    return (headers.content_type or "").partition(";")[0].strip().lower()
