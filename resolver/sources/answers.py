"""What a registry's answers mean: a descriptor, a document, or a refusal (protocol.md 3, 4)."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from resolver.core.descriptor import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_ARTIFACT,
    SCHEMA1_TYPES,
    Descriptor,
)
from resolver.core.digest import Digest
from resolver.core.manifest import MAX_DOCUMENT
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
from resolver.sources.complaints import is_web_page, printable, read_complaint

if TYPE_CHECKING:
    from resolver.sources.exchange import Headers
    from resolver.sources.questions import Asker, Response
    from resolver.sources.redaction import Redactor

_DOCUMENTS = INDEX_TYPES | MANIFEST_TYPES | {OCI_ARTIFACT}
_SCHEMA1 = re.compile(rb'"schemaVersion"\s{0,64}:\s{0,64}1\b')
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


def told(headers: Headers, asked: Digest | None) -> Descriptor | None:
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
    response: Response, asker: Asker, name: str, redactor: Redactor, *, blob: bool, shown: bool
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
