"""A client that pushes by hand, one request at a time."""

from __future__ import annotations

import hashlib
import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.kit.images import Image

BINARY = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Got:
    """An answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The error code of the distribution API."""
        return str(self.json["errors"][0]["code"])

    @property
    def json(self) -> Any:
        """The parsed body."""
        return json.loads(self.body)

    @property
    def location(self) -> str:
        """Path and query of `Location`."""
        parts = urlsplit(self.headers["location"])
        return f"{parts.path}?{parts.query}" if parts.query else parts.path


def digest_of(body: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of some bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"


def with_query(location: str, query: str) -> str:
    """Add a parameter to a location."""
    return f"{location}{'&' if '?' in location else '?'}{query}"


class Pusher:
    """Sends requests to one registry."""

    def __init__(self, address: str, headers: Mapping[str, str] | None = None) -> None:
        self.address = address
        self._headers = dict(headers or {})

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Got:
        """Send one request; an iterator is sent in chunks, without a length."""
        link = http.client.HTTPConnection(self.address, timeout=20)
        try:
            link.request(method, target, body, {**self._headers, **(headers or {})})
            answer = link.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Got(answer.status, named, answer.read())
        finally:
            link.close()

    def begin(self, repository: str, query: str = "") -> Got:
        """Begin an upload."""
        return self.ask("POST", f"/v2/{repository}/blobs/uploads/{query}", b"")

    def blob(self, repository: str, body: bytes, algorithm: str = "sha256") -> str:
        """Push a blob with POST and PUT; return its digest."""
        digest = digest_of(body, algorithm)
        begun = self.begin(repository)
        assert begun.status == 202, begun
        done = self.ask("PUT", with_query(begun.location, f"digest={quote(digest)}"), body, BINARY)
        assert done.status == 201, done
        return digest

    def manifest(
        self, repository: str, name: str, body: bytes, media_type: str, query: str = ""
    ) -> Got:
        """Push a manifest."""
        target = f"/v2/{repository}/manifests/{name}{query}"
        return self.ask("PUT", target, body, {"Content-Type": media_type})

    def image(self, repository: str, tag: str, image: Image) -> None:
        """Push an image with all it lists: blobs, then manifests children first, then the tag."""
        for digest, body in image.blobs.items():
            self.blob(repository, body, digest.partition(":")[0])
        waiting = [digest for digest in image.documents if digest != image.digest]
        while waiting:
            # A nested index goes after what it lists.
            refused = [
                digest
                for digest in waiting
                if self._document(repository, digest, image, digest).status != 201
            ]
            assert len(refused) < len(waiting), refused
            waiting = refused
        got = self._document(repository, tag, image, image.digest)
        assert got.status == 201, got

    def _document(self, repository: str, name: str, image: Image, digest: str) -> Got:
        media_type, body = image.documents[digest]
        return self.manifest(repository, name, body, media_type)
