"""List tags and referrers page by page (docs/wire-protocol.md, "Tag lists" and "Referrers")."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import quote

from resolver.core.oci.descriptor import MANIFEST_TYPES, OCI_ARTIFACT, OCI_INDEX
from resolver.core.oci.digest import fallback_tag
from resolver.core.oci.manifest import Index, parse_document
from resolver.core.parse.json import kind_of, read_array, read_object
from resolver.core.results.events import Warned
from resolver.errors import (
    BadDocument,
    LimitExceeded,
    ManifestNotFound,
    RepositoryNotFound,
    ServerFault,
    UnsupportedDocument,
)
from resolver.sources.http.client import is_redirect
from resolver.sources.http.urls import BadUrl
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.core.oci.content import Document
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.results.events import Observer
    from resolver.errors import ResolverError
    from resolver.sources.http.messages import Response


#: ECR refuses more; distribution caps silently and sends a Link.
PAGE_SIZE = 1_000
#: See docs/store-and-reliability.md, "Size limits".
MAX_PAGES, MAX_TAGS = 1_000, 1_000_000
#: Most bytes of all names: a million of 25.
MAX_NAMES = 24 * 1024 * 1024
#: Most consecutive pages without a tag; servers that filter may send some.
MAX_EMPTY_PAGES = 100
#: Most bytes of one page: GCR sends everything in one, with additional maps.
MAX_PAGE = 32 * 1024 * 1024
#: Largest page parsed as a whole, in bytes: a parsed document takes up to forty times its size.
MAX_WHOLE = 1024 * 1024

_TAG = pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_TARGET = pattern(r"[ \t,]*+(?:<([^<>]*+)>|([^<>;, \t]++))")
_PARAMETER = pattern(
    r'[ \t]*+;[ \t]*+([A-Za-z0-9*_-]*+)(?:[ \t]*+=[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|([^;,"]*+)))?'
)
_MAX_LINK = 16_384
_OK, _FIRST_ERROR, _FIRST_FAULT = 200, 400, 500


@dataclass(frozen=True, slots=True)
class TagPages:
    """The tag list of one repository.

    Attributes:
        ask: sends path and query; returns a response of any status.
        refuse: returns the error for an error response.
        api: path prefix of the registry's API.
    """

    name: str
    path: str
    ask: Callable[[str], Response]
    refuse: Callable[[Response], Exception]
    observe: Observer
    api: str = "/v2"

    def __iter__(self) -> Iterator[str]:
        """Iterate over the tags, each once, in the registry's order, reading pages on demand."""
        # Keep only hashes: even those of a million tags take a hundred megabytes.
        seen: set[int] = set()
        size = 0
        targets = {target := f"{self.path}?n={PAGE_SIZE}"}
        empty = 0
        for _ in range(MAX_PAGES):
            response = self._page(target)
            count = len(seen)
            for tag in self._tags(response):
                if (mark := hash(tag)) in seen:
                    continue
                seen.add(mark)
                if len(seen) > MAX_TAGS:
                    raise LimitExceeded(f"the tags of `{self.name}`", MAX_TAGS, len(seen), "tags")
                size += len(tag)
                if size > MAX_NAMES:
                    raise LimitExceeded(f"the names of all tags of `{self.name}`", MAX_NAMES, size)
                yield tag
            following = next_page(response, f"the tags of `{self.name}`", self.api)
            if following is None:
                return
            empty = empty + 1 if len(seen) == count else 0
            if following in targets or empty > MAX_EMPTY_PAGES:
                self._warn(f"`{self.name}` has pages of tags that form a loop; stopped")
                return
            targets.add(target := following)
        raise LimitExceeded(f"the list of tags of `{self.name}`", MAX_PAGES, "more", "pages")

    def _page(self, target: str) -> Response:
        response = self.ask(target)
        path, _, query = target.partition("?")
        if _FIRST_ERROR <= response.status < _FIRST_FAULT and path != self.path:
            # Artifactory and Nexus link to paths of their own (docs/wire-protocol.md, "Next page
            # links").
            response = self.ask(f"{self.path}?{query}")
        if response.status != _OK:
            raise self.refuse(response)
        return response

    def _tags(self, response: Response) -> Iterator[str]:
        """Parse one page; skip invalid tags with a warning."""
        what = f"the list of tags of `{self.name}`"
        kind = (response.headers.content_type or "").lower()
        if response.headers.encoded is not None:
            raise ServerFault(f"{what} was sent compressed, which was not requested")
        if "json" not in kind and not response.body.lstrip().startswith(b"{"):
            raise ServerFault(
                f"`{response.url.authority}` answered with something other than a tag list",
                "it may be a login page or a proxy's page",
            )
        dropped = 0
        for position, tag in enumerate(_listed(response.body, what)):
            if position >= MAX_TAGS:
                raise LimitExceeded(f"the tags of `{self.name}`", MAX_TAGS, position + 1, "tags")
            if tag is not None and not isinstance(tag, str):
                raise BadDocument(what, f"tags[{position}]", f"must be text, not {kind_of(tag)}")
            # Nexus lists null, Artifactory digests.
            if tag is None or not _TAG.fullmatch(tag):
                dropped += 1
            else:
                yield tag
        if dropped:
            self._warn(f"`{self.name}` lists {dropped} invalid tags; they are skipped")

    def _warn(self, message: str) -> None:
        self.observe(Warned("tags", message))


def _listed(body: bytes, what: str) -> Iterable[object]:
    if len(body) > MAX_WHOLE:
        return read_array(body, "tags", what)
    tags = read_object(body, what).get("tags")
    if tags is not None and not isinstance(tags, list):
        raise BadDocument(what, "tags", f"must be an array, not {kind_of(tags)}")
    return tags or ()


def next_page(response: Response, what: str, api: str = "/v2") -> str | None:
    """Return path and query of the next page; None at the end."""
    link = next_link(response.headers.all("link"))
    if link is None:
        return None
    try:
        url = response.url.join(link)
    except BadUrl as error:
        raise _bad_link(what, str(error)) from error
    # A redirected list may continue at the redirect target; it is requested here again.
    if url.origin not in (response.registry.origin, response.url.origin):
        raise _bad_link(what, f"it is at `{url.authority}`")
    # HTTP libraries treat `%2e%2e` as `..`.
    segments = url.path.lower().replace("%2e", ".").split("/")
    if not url.path.startswith(f"{api}/") or {".", ".."}.intersection(segments):
        raise _bad_link(what, "it is outside of the registry's API")
    return url.target


def _bad_link(what: str, reason: str) -> ServerFault:
    return ServerFault(
        f"the next page of {what} is not requested: {reason}",
        "the registry, or a proxy in front of it, sends wrong links",
    )


def next_link(values: Iterable[str]) -> str | None:
    """Find the target of `rel="next"` in `Link` header lines; None when there is none.

    Accepts several links per line, other parameters before `rel`, an unquoted `next`, and a target
    without angle brackets, as old Quay sent it. Grammar: RFC 8288, section 3.
    """
    for line in values:
        if len(line) > _MAX_LINK:
            continue
        at = 0
        while found := _TARGET.match(line, at):
            at = found.end()
            relations: list[str] = []
            while parameter := _PARAMETER.match(line, at):
                at = parameter.end()
                value = parameter[2] if parameter[2] is not None else parameter[3] or ""
                if parameter[1].lower() == "rel":
                    relations += value.lower().split()
            if "next" in relations:
                return found[1] if found[1] is not None else found[2]
    return None


#: Most referrers of one manifest (docs/store-and-reliability.md, "Size limits").
MAX_REFERRERS = 20_000

_NOT_FOUND = 404
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
    listed = api_referrers(repository, digest, artifact_type)
    if listed is None:
        listed = _once(_by_tag(repository, digest))
        if len(listed) > MAX_REFERRERS:
            raise _too_many(repository, digest, len(listed))
    found = list(listed)
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
    # A registry that has it may still refuse to list for one digest.
    repository.has_api = bool(repository.has_api) or entries is not None
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
            _warn(repository, f"the pages of {what} form a loop; stopped")
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
