"""Content of the fake registry: the distribution API over content in memory.

Source: OCI distribution-spec v1.1.1, "Endpoints"; the paging and the codes are those of CNCF
distribution.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.kit.messages import Reply, Seen

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROUTE = re.compile(r"/v2/(.+)/(manifests|blobs|tags|referrers)/([^/]+)")
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")
_JSON = {"Content-Type": "application/json"}


def problem(status: int, code: str, message: str = "") -> Reply:
    """Return an error of the distribution API."""
    body = {"errors": [{"code": code, "message": message or code.lower().replace("_", " ")}]}
    return Reply(status, _JSON, json.dumps(body).encode())


@dataclass
class Repository:
    """One repository."""

    tags: dict[str, str] = field(default_factory=dict)
    documents: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Catalog:
    """All repositories and the options of this registry.

    Attributes:
        page_size: the most tags on one page, whatever is requested; None = no limit.
        honour_accept: answer 404 when the type of a document is not in `Accept`, as CNCF
            distribution does for OCI indexes.
        ranges: whether `Range` on blobs is understood.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    page_size: int | None = None
    honour_accept: bool = False
    ranges: bool = True

    def add(
        self,
        repository: str,
        tag: str | None,
        root: str,
        documents: Mapping[str, tuple[str, bytes]],
        blobs: Mapping[str, bytes],
    ) -> None:
        """Add an image."""
        shelf = self.repositories.setdefault(repository, Repository())
        shelf.documents.update(documents)
        shelf.blobs.update(blobs)
        if tag is not None:
            shelf.tags[tag] = root

    def answer(self, seen: Seen) -> Reply | None:
        """Answer a request of the API; None if it is not one."""
        if seen.path in ("/v2/", "/v2"):
            return Reply(200, {**_JSON, "Docker-Distribution-Api-Version": "registry/2.0"}, b"{}")
        route = _ROUTE.fullmatch(seen.path)
        if route is None or seen.method not in ("GET", "HEAD"):
            return None
        repository, kind, name = route.groups()
        shelf = self.repositories.get(repository)
        if kind == "referrers":
            return Reply(404, {"Content-Type": "text/plain"}, b"404 page not found\n")
        if shelf is None:
            return problem(404, "NAME_UNKNOWN", "repository name not known to registry")
        if kind == "tags":
            return self._tags(repository, shelf, seen) if name == "list" else None
        return (self._manifest if kind == "manifests" else self._blob)(shelf, name, seen)

    def _manifest(self, shelf: Repository, name: str, seen: Seen) -> Reply:
        digest = shelf.tags.get(name, name)
        held = shelf.documents.get(digest)
        if held is None:
            return problem(404, "MANIFEST_UNKNOWN")
        media_type, body = held
        if self.honour_accept and media_type not in seen.headers.get("accept", ""):
            return problem(404, "MANIFEST_UNKNOWN", "accept header does not support this type")
        return Reply(200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, body)

    def _blob(self, shelf: Repository, name: str, seen: Seen) -> Reply:
        body = shelf.blobs.get(name)
        if body is None:
            return problem(404, "BLOB_UNKNOWN")
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": name}
        asked = _RANGE.fullmatch(seen.headers.get("range", ""))
        if asked is None or not self.ranges:
            return Reply(200, headers, body)
        first = int(asked[1])
        last = min(int(asked[2]) if asked[2] else len(body) - 1, len(body) - 1)
        if first > last:
            return Reply(416, {"Content-Range": f"bytes */{len(body)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        return Reply(206, headers, body[first : last + 1])

    def _tags(self, repository: str, shelf: Repository, seen: Seen) -> Reply:
        parameters = seen.parameters
        last = parameters.get("last", [""])[0]
        sizes = [int(text) for text in parameters.get("n", []) if text.isdecimal()]
        if self.page_size is not None:
            sizes.append(self.page_size)
        names = [tag for tag in sorted(shelf.tags) if tag > last]
        page = names[: min(sizes)] if sizes else names
        headers = dict(_JSON)
        if page and len(page) < len(names):
            query = f"n={len(page)}&last={quote(page[-1], safe='')}"
            headers["Link"] = f'</v2/{repository}/tags/list?{query}>; rel="next"'
        body = {"name": repository, "tags": page}
        return Reply(200, headers, json.dumps(body).encode())
