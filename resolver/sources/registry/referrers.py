"""Listing what refers to a manifest: the referrers API, else the tag that stands in for it.

Source: OCI distribution-spec v1.1.1, "Listing Referrers" and "Referrers Tag Schema"; protocol.md 6
says where registries differ.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import quote

from resolver.core.oci.descriptor import MANIFEST_TYPES, OCI_ARTIFACT, OCI_INDEX
from resolver.core.oci.manifest import Index, parse_document
from resolver.core.results.events import Warned
from resolver.errors import (
    BadDocument,
    LimitExceeded,
    ManifestNotFound,
    RepositoryNotFound,
    UnsupportedDocument,
)
from resolver.sources.http.client import is_redirect
from resolver.sources.registry.tags import MAX_EMPTY_PAGES, MAX_PAGES, next_page
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.oci.content import Document
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.results.pull_events import Observer
    from resolver.errors import ResolverError
    from resolver.sources.http.requests import Response

#: Source: reliability.md section 5, descriptors of one operation.
MAX_REFERRERS = 20_000

_OK, _NOT_FOUND = 200, 404
#: What registries without the API answer. Source: protocol.md 6; go-containerregistry takes 400
#: and 406 for it too, oras-go 404 alone.
_UNSUPPORTED = frozenset({400, 404, 405, 406})
#: Of a tag. Source: distribution-spec, "Referrers Tag Schema".
_ALGORITHM, _ENCODED = 32, 64
_NO_TAG = re.compile(r"[^A-Za-z0-9_.-]", re.ASCII)


@dataclass(slots=True)
class Referring:
    """How to ask one repository, and what is known of it.

    Attributes:
        ask: takes path and query and what it is for, gives an answer of any status below 500.
        refuse: turns an answer that is an error into what to raise.
        document: reads what a tag points at.
        read: reads a manifest by its descriptor.
        has_api: None until the repository was asked once; then it is asked one way alone.
    """

    name: str
    path: str
    ask: Callable[[str, str], Response]
    refuse: Callable[[Response, str], ResolverError]
    document: Callable[[str], Document]
    read: Callable[[Descriptor], bytes]
    observe: Observer
    has_api: bool | None = field(default=None)


def list_referrers(
    place: Referring, digest: Digest, artifact_type: str | None
) -> tuple[Descriptor, ...]:
    """List what refers to a digest, each once, sorted by digest; see `RegistrySource.referrers`."""
    entries: tuple[Descriptor, ...] | None = None
    if place.has_api is not False:
        entries = _by_api(place, digest, artifact_type)
        place.has_api = entries is not None
    if entries is None:
        entries = _by_tag(place, digest)
    if len(entries) > MAX_REFERRERS:
        raise _too_many(place, digest, len(entries))
    once = {str(entry.digest): entry for entry in reversed(entries)}
    found = [once[key] for key in sorted(once)]
    if artifact_type is not None:
        # A registry may filter, or not; filtering again is harmless (protocol.md 6.4).
        found = [entry for entry in found if _type_of(place, entry) == artifact_type]
    return tuple(found)


def fallback_tag(digest: Digest) -> str:
    """Name the tag under which clients keep the referrers of a digest where there is no API."""
    parts = (digest.algorithm[:_ALGORITHM], digest.hex[:_ENCODED])
    return "-".join(_NO_TAG.sub("-", part) for part in parts)


def _by_api(
    place: Referring, digest: Digest, artifact_type: str | None
) -> tuple[Descriptor, ...] | None:
    """Ask the API, page by page; None where there is none."""
    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type is not None else ""
    what = f"what refers to `{digest}` in `{place.name}`"
    target = f"{place.path}/{digest}{query}"
    seen, empty = {target}, 0
    found: list[Descriptor] = []
    for page in range(MAX_PAGES):
        index = _page(place, target, digest, what, is_first=page == 0)
        if index is None:
            return None
        response, entries = index
        found += entries
        if len(found) > MAX_REFERRERS:
            raise _too_many(place, digest, len(found))
        following = next_page(response, what, place.path.partition("/v2/")[0] + "/v2")
        if following is None:
            return tuple(found)
        empty = 0 if entries else empty + 1
        if following in seen or empty > MAX_EMPTY_PAGES:
            _warn(place, f"{what} has pages that lead in a circle; stopped")
            return tuple(found)
        seen.add(target := following)
    raise LimitExceeded(f"the list of {what}", MAX_PAGES, "more", "pages")


def _page(
    place: Referring, target: str, digest: Digest, what: str, *, is_first: bool
) -> tuple[Response, tuple[Descriptor, ...]] | None:
    """Ask for one page; only the first answer can say that there is no API."""
    response = place.ask(target, what)
    index = _index(response, what) if response.status == _OK else None
    if index is not None:
        return response, index.manifests
    refusal = place.refuse(response, str(digest))
    if isinstance(refusal, RepositoryNotFound):
        raise refusal
    missing = response.status in _UNSUPPORTED or is_redirect(response.status)
    if is_first and (missing or response.status == _OK):
        return None
    if response.status == _OK:
        raise BadDocument(what, "", "a page of it is no OCI index")
    raise refusal


def _index(response: Response, what: str) -> Index | None:
    """Read a page; None for what is no OCI index, like the front page of a gateway."""
    kind = (response.headers.content_type or "").partition(";")[0].strip().lower()
    if kind != OCI_INDEX or response.headers.encoded is not None:
        return None
    try:
        document = parse_document(response.body, kind, what)
    except (BadDocument, UnsupportedDocument):
        return None
    return document if isinstance(document, Index) else None


def _by_tag(place: Referring, digest: Digest) -> tuple[Descriptor, ...]:
    """Read the index that clients keep under a tag; no tag, no referrers."""
    tag = fallback_tag(digest)
    try:
        document = place.document(tag)
        kind = document.descriptor.media_type
        parsed = parse_document(document.body, kind, f"`{place.name}:{tag}`", kind)
    except ManifestNotFound:
        return ()
    except (BadDocument, UnsupportedDocument):
        parsed, kind = None, ""
    if not isinstance(parsed, Index) or kind != OCI_INDEX:
        # GitLab finds the subject itself under such a tag.
        _warn(place, f"`{place.name}:{tag}` is no list of what refers to `{digest}`; left out")
        return ()
    return parsed.manifests


def _type_of(place: Referring, entry: Descriptor) -> str:
    """Give the type of an entry; where the list does not say it, its manifest does."""
    if entry.artifact_type:
        return entry.artifact_type
    if entry.media_type not in MANIFEST_TYPES | {OCI_ARTIFACT}:
        return ""
    what = f"the manifest `{entry.digest}` of `{place.name}`"
    document = parse_document(place.read(entry), entry.media_type, what, entry.media_type)
    if isinstance(document, Index):
        return ""
    config = document.config.media_type if document.config is not None else ""
    return document.artifact_type or config


def _too_many(place: Referring, digest: Digest, count: int) -> LimitExceeded:
    what = f"what refers to `{digest}` in `{place.name}`"
    return LimitExceeded(what, MAX_REFERRERS, count, "entries")


def _warn(place: Referring, message: str) -> None:
    place.observe(Warned("referrers", message))
