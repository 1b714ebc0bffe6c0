"""Search: the search API of Docker Hub and others, or the catalog of a registry without one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from resolver.core.oci.descriptor import ACCEPT
from resolver.core.oci.reference import HUB
from resolver.core.parse.json import Fields, read_object
from resolver.core.registry.endpoints import api_host
from resolver.core.results.account import MAX_LIMIT, Hits, Quota, SearchHit, read_limit
from resolver.errors import Denied, NotFound, ServerFault
from resolver.sources.http.messages import Request, Response, Scope
from resolver.sources.http.responses import refusal
from resolver.sources.registry.lists import next_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.sources.http.client import Transport

#: Host of Docker Hub's search. Source: moby registry/config.go, IndexServer.
HUB_INDEX = "index.docker.io"

_RESULT = frozenset({"name", "description", "star_count", "is_official"})
_PAGE = 100
#: Most catalog pages read for one search.
MAX_CATALOG_PAGES = 100
_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9._/-]{0,254}")
_OK = 200


def search(transport: Transport, registry: str, term: str, limit: int) -> Hits:
    """Search a registry by its search API, or else by names in its catalog.

    `limit` is the largest number of hits, 1 to 100.
    """
    host = HUB_INDEX if registry == HUB else registry
    scope = Scope(registry, "", catalog=registry != HUB)
    target = f"/v1/search?q={quote(term, safe='')}&n={min(limit, MAX_LIMIT)}"
    what = f"the search of `{registry}`"
    if term:
        response = transport.fetch(Request("GET", host, scope, target, what))
        if response.status == _OK and _is_json(response):
            return Hits(term, registry, "search", _hits(response.body, what)[:limit])
        if registry == HUB:
            raise ServerFault(f"{what} answered {response.status}", "try again later")
    names = _catalog(transport, scope)
    found = (SearchHit(f"{registry}/{name}", "", None, None) for name in names if term in name)
    return Hits(term, registry, "catalog", tuple(_first(found, limit)))


def quota(transport: Transport, registry: str, repository: str, tag: str) -> Quota:
    """Return the remaining quota, by a HEAD, which is not counted."""
    scope = Scope(registry, repository)
    name = f"{scope}:{tag}"
    response = transport.fetch(
        Request(
            "HEAD",
            api_host(registry),
            scope,
            f"/v2/{repository}/manifests/{tag}",
            f"the quota of `{registry}`",
            headers=(("Accept", ACCEPT),),
        )
    )
    if response.status != _OK:
        shown = transport.has_sent_credentials(scope)
        raise refusal(response, scope, name, transport.redactor, blob=False, shown=shown)
    limit, window = read_limit(response.headers.get("ratelimit-limit") or "")
    remaining, _ = read_limit(response.headers.get("ratelimit-remaining") or "")
    source = response.headers.get("docker-ratelimit-source") or ""
    return Quota(registry, limit, remaining, window, source)


def catalog(transport: Transport, registry: str) -> Iterator[str]:
    """List the repositories of a registry, by its catalog.

    Raises:
        NotFound: it does not list them.
        Unavailable: there is no response.
    """
    return _catalog(transport, Scope(registry, "", catalog=True))


def _hits(body: bytes, what: str) -> tuple[SearchHit, ...]:
    """Read what `/v1/search` answers. Source: moby api/types/registry, SearchResults."""
    fields = Fields.of(read_object(body, what), what, "", frozenset({"results"}))
    found = []
    for result in fields.children("results", _RESULT):
        stars = result.members.get("star_count")
        found.append(
            SearchHit(
                result.text("name") or "",
                result.text("description") or "",
                stars if type(stars) is int and stars >= 0 else 0,
                result.boolean("is_official"),
            )
        )
    return tuple(hit for hit in found if hit.name)


def _not_offered(registry: str) -> NotFound:
    return NotFound(
        f"`{registry}` has no search, and does not list its repositories",
        "look on its web page; `resolver tags REPO` lists the tags of a name you know",
        code="search-not-offered",
        registry=registry,
    )


def _catalog(transport: Transport, scope: Scope) -> Iterator[str]:
    """List the repositories of a registry (distribution-spec "Catalog"; many refuse)."""
    what = f"the list of repositories of `{scope.registry}`"
    host = api_host(scope.registry)
    target: str | None = f"/v2/_catalog?n={_PAGE}"
    seen: set[str] = set()
    for _ in range(MAX_CATALOG_PAGES):
        if target is None or target in seen:
            return
        seen.add(target)
        try:
            response = transport.fetch(Request("GET", host, scope, target, what))
        except (Denied, NotFound) as error:
            raise _not_offered(scope.registry) from error
        if response.status != _OK or not _is_json(response):
            raise _not_offered(scope.registry)
        fields = Fields.of(read_object(response.body, what), what, "", frozenset({"repositories"}))
        for name in fields.array("repositories"):
            if isinstance(name, str) and _REPOSITORY.fullmatch(name):
                yield name
        target = next_page(response, what)


def _first(hits: Iterator[SearchHit], limit: int) -> Iterator[SearchHit]:
    for number, hit in enumerate(hits, 1):
        yield hit
        if number >= limit:
            return


def _is_json(response: Response) -> bool:
    return response.body.lstrip()[:1] == b"{"
