"""List the referrers of a manifest, by the referrers API or the fallback tag.

Source: OCI distribution-spec v1.1.1, "Listing Referrers" and "Referrers Tag Schema";
docs/wire-protocol.md, "Referrers" describes where registries differ.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import quote

from resolver.core.oci.descriptor import MANIFEST_TYPES, OCI_ARTIFACT, OCI_INDEX
from resolver.core.oci.digest import fallback_tag
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
    from resolver.core.results.events import Observer
    from resolver.errors import ResolverError
    from resolver.sources.http.messages import Response

#: Most referrers of one manifest (docs/store-and-reliability.md, "Size limits").
MAX_REFERRERS = 20_000

_OK, _NOT_FOUND = 200, 404
#: Statuses of registries without the API; go-containerregistry accepts 400 and 406 too, oras-go
#: only 404.
_UNSUPPORTED = frozenset({400, 404, 405, 406})


@dataclass(slots=True)
class ReferrersApi:
    """Access to the referrers of one repository.

    Attributes:
        ask: sends path and query, with a label for messages; returns a response below status 500.
        refuse: returns the error for an error response.
        document: reads a tag.
        read: reads a manifest by its descriptor.
        has_api: None until the first request shows it.
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
    repository: ReferrersApi, digest: Digest, artifact_type: str | None
) -> tuple[Descriptor, ...]:
    """List the referrers of a digest, each once, by digest; see `RegistrySource.referrers`."""
    found = list(api_referrers(repository, digest, artifact_type) or ())
    if repository.has_api is False:
        entries = _by_tag(repository, digest)
        if len(entries) > MAX_REFERRERS:
            raise _too_many(repository, digest, len(entries))
        found = list(_once(entries))
    if artifact_type is not None:
        # A registry may ignore the filter; filtering again is harmless.
        found = [entry for entry in found if _type_of(repository, entry) == artifact_type]
    return tuple(found)


def api_referrers(
    repository: ReferrersApi, digest: Digest, artifact_type: str | None = None
) -> tuple[Descriptor, ...] | None:
    """List the referrers of a digest by the API alone; None if the registry does not have it."""
    if repository.has_api is False:
        return None
    entries = _by_api(repository, digest, artifact_type)
    repository.has_api = entries is not None
    return None if entries is None else _once(entries)


def _once(entries: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    """Sort entries by digest, each once."""
    once = {str(entry.digest): entry for entry in reversed(entries)}
    return tuple(once[key] for key in sorted(once))


def _by_api(
    repository: ReferrersApi, digest: Digest, artifact_type: str | None
) -> tuple[Descriptor, ...] | None:
    """List referrers by the API, page by page; None if there is none."""
    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type is not None else ""
    what = f"the list of referrers of `{digest}` in `{repository.name}`"
    target = f"{repository.path}/{digest}{query}"
    seen, empty = {target}, 0
    found: list[Descriptor] = []
    for page in range(MAX_PAGES):
        index = _page(repository, target, digest, what, is_first=page == 0)
        if index is None:
            return None
        response, entries = index
        found += entries
        if len(found) > MAX_REFERRERS:
            raise _too_many(repository, digest, len(found))
        following = next_page(response, what, repository.path.partition("/v2/")[0] + "/v2")
        if following is None:
            return tuple(found)
        empty = 0 if entries else empty + 1
        if following in seen or empty > MAX_EMPTY_PAGES:
            _warn(repository, f"the pages of {what} lead in a circle; stopped")
            return tuple(found)
        seen.add(target := following)
    raise LimitExceeded(f"the list of {what}", MAX_PAGES, "more", "pages")


def _page(
    repository: ReferrersApi, target: str, digest: Digest, what: str, *, is_first: bool
) -> tuple[Response, tuple[Descriptor, ...]] | None:
    """Request one page; only the first response can show that there is no API."""
    response = repository.ask(target, what)
    index = _index(response, what) if response.status == _OK else None
    if index is not None:
        return response, index.manifests
    refusal = repository.refuse(response, str(digest))
    if isinstance(refusal, RepositoryNotFound):
        raise refusal
    missing = response.status in _UNSUPPORTED or is_redirect(response.status)
    if is_first and (missing or response.status == _OK):
        return None
    if response.status == _OK:
        raise BadDocument(what, "", "a page of it is not an OCI index")
    raise refusal


def _index(response: Response, what: str) -> Index | None:
    """Parse a page; None if it is not an OCI index, like a gateway's front page."""
    kind = (response.headers.content_type or "").partition(";")[0].strip().lower()
    if kind != OCI_INDEX or response.headers.encoded is not None:
        return None
    try:
        document = parse_document(response.body, kind, what)
    except (BadDocument, UnsupportedDocument):
        return None
    return document if isinstance(document, Index) else None


def _by_tag(repository: ReferrersApi, digest: Digest) -> tuple[Descriptor, ...]:
    """Read the index under the fallback tag; without the tag there are no referrers."""
    tag = fallback_tag(digest)
    try:
        document = repository.document(tag)
        kind = document.descriptor.media_type
        parsed = parse_document(document.body, kind, f"`{repository.name}:{tag}`", kind)
    except ManifestNotFound:
        return ()
    except (BadDocument, UnsupportedDocument):
        parsed, kind = None, ""
    if not isinstance(parsed, Index) or kind != OCI_INDEX:
        # GitLab finds the subject itself under such a tag.
        _warn(
            repository,
            f"`{repository.name}:{tag}` is not a list of referrers of `{digest}`; skipped",
        )
        return ()
    return parsed.manifests


def _type_of(repository: ReferrersApi, entry: Descriptor) -> str:
    """Return the artifact type of an entry, from its manifest if the list lacks it."""
    if entry.artifact_type:
        return entry.artifact_type
    if entry.media_type not in MANIFEST_TYPES | {OCI_ARTIFACT}:
        return ""
    what = f"the manifest `{entry.digest}` of `{repository.name}`"
    document = parse_document(repository.read(entry), entry.media_type, what, entry.media_type)
    if isinstance(document, Index):
        return ""
    config = document.config.media_type if document.config is not None else ""
    return document.artifact_type or config


def _too_many(repository: ReferrersApi, digest: Digest, count: int) -> LimitExceeded:
    what = f"the list of referrers of `{digest}` in `{repository.name}`"
    return LimitExceeded(what, MAX_REFERRERS, count, "entries")


def _warn(repository: ReferrersApi, message: str) -> None:
    repository.observe(Warned("referrers", message))
