"""What a registry's answers mean: a descriptor, a document, or a refusal (protocol.md 3, 4)."""

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
    from resolver.sources.http.messages import Headers
    from resolver.sources.http.requests import Response, Scope


#: Characters of remote text that a message repeats.
MAX_SHOWN = 512
_MAX_CODE = 64
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]{1,300})", re.IGNORECASE)
#: Fields in which registries and token servers put their words, best first.
_FIELDS = ("message", "details", "error_description", "error", "detail")


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error's body.

    Attributes:
        codes: upper-case, as far as the distribution API's form was kept.
        text: at most 512 printable characters, without secrets; empty when nothing was said.

    """

    codes: tuple[str, ...] = ()
    text: str = ""


def read_complaint(body: bytes, headers: Headers, redactor: Redactor) -> Complaint:
    """Read the body of an error, whatever it is: JSON of several kinds, HTML, text or nothing."""
    try:
        document = read_object(body, "the error")
    except ResolverError:
        return Complaint(text=_plain(body, headers, redactor))
    entries = document.get("errors")
    errors = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
    codes = tuple(
        one["code"][:_MAX_CODE].upper() for one in errors if isinstance(one.get("code"), str)
    )
    texts = [text for one in errors for text in _first_text(one)] or list(_first_text(document))
    return Complaint(
        codes, printable("; ".join(dict.fromkeys(texts)) or "; ".join(codes), redactor)
    )


def is_web_page(body: bytes, headers: Headers) -> bool:
    """Whether somebody answered a program with a page for people: a login, a captive portal.

    The type alone does not tell: there are registries that send JSON as `text/html`.
    """
    kind = (headers.content_type or "").partition(";")[0].strip().lower()
    first = body.lstrip()[:1]
    return first == b"<" or (kind == "text/html" and first != b"{")


def printable(text: str, redactor: Redactor) -> str:
    """Cut remote text to what fits a message: printable, one line, without secrets."""
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
    """Read what a HEAD tells; None when it is incomplete, malformed, or about something else.

    Raises:
        LimitExceeded: what it describes is longer than a manifest may be.
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


def refuse_what_is_no_manifest(response: Response, what: str, redactor: Redactor) -> None:
    """Refuse what would otherwise end in a puzzling complaint about its digest or its JSON.

    Raises:
        ServerFault: it is compressed, or a page for people.
        UnsupportedDocument: it is schema 1, whose digest is not that of its bytes.
    """
    coding = response.headers.encoded
    if coding is not None:
        raise ServerFault(
            f"{what} came with `Content-Encoding: {printable(coding, redactor)}`, "
            "which was not asked for",
            "a proxy in front of the registry may be set up wrongly",
        )
    if is_web_page(response.body, response.headers):
        raise ServerFault(
            f"`{response.url.authority}` answered with a web page where {what} should be",
            "it may be the page of a login or of a proxy",
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
    """Give the bytes that a CDN compressed without being asked (quirk q-050).

    The header alone proves nothing: many call a blob gzip that is one already. What has the right
    digest stays as it is; of the rest, one byte more than there should be is inflated at most.
    """
    if Digest.of(body, descriptor.digest.algorithm) == descriptor.digest:
        return body
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, descriptor.size + 1)
    except zlib.error:
        return body


def refusal(
    response: Response, asker: Scope, name: str, redactor: Redactor, *, blob: bool, shown: bool
) -> ResolverError:
    """Say what an answer that is no success means; the status decides, its words only explain.

    `name` is what was asked for; `blob`, that it is no manifest; `shown`, that credentials were.
    """
    complaint = read_complaint(response.body, response.headers, redactor)
    said = f": {complaint.text}" if complaint.text else ""
    if response.status == _NOT_FOUND:
        if "NAME_UNKNOWN" in complaint.codes:
            return RepositoryNotFound(asker.repository, asker.registry)
        if blob:
            return BlobNotFound(name, asker.registry)
        return ManifestNotFound(name, asker.registry, complaint.text, str(asker))
    if response.status not in (_UNAUTHORIZED, _FORBIDDEN):
        place = response.url.authority
        return ServerFault(f"`{place}` answered {response.status} for `{name}`{said}")
    # Many say 403 where there is nothing (quirk q-009), so neither is claimed.
    message = f"`{asker}` does not exist or access denied{said}"
    if shown:
        return Denied(message, "the credentials are good, but not for this repository")
    login = f"check the spelling, or log in: `resolver login {asker.registry}`"
    return AuthenticationRequired(message, login)


def _media_type(headers: Headers) -> str:
    return (headers.content_type or "").partition(";")[0].strip().lower()
