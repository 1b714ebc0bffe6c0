"""A registry that takes pushes, as a script for the fake registry, with quirks as switches.

Source: OCI distribution-spec v1.1.1, "Push"; each quirk names the registry that has it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from tests.kit.content import Catalog, Repository, problem
from tests.kit.messages import Reply, Seen
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

_UPLOADS = re.compile(r"/v2/(.+)/blobs/uploads/([a-z0-9-]*)")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/]+)")
_REFERRERS = re.compile(r"/v2/(.+)/referrers/([^/]+)")
_RANGE = re.compile(r"([0-9]+)-([0-9]+)")


@dataclass
class Quirks:
    """What this registry does differently.

    Attributes:
        location: format of `Location`; knows `{host}`, `{name}` (without the port) and `{path}`.
        state: a query that every request of a session must repeat (distribution).
        patch: status of a good PATCH; 201 drops later chunks (ECR).
        most: bytes of a PATCH; more is 416 (GHCR).
        chunks: whether there are PATCHes at all (Google has none).
        body: bytes of any request; more is 413 (a proxy).
        range: format of `Range` after a PATCH; knows `{end}` and `{length}` (zot, Aliyun).
        mounts: `yes`, `no` (202), or `refused` (403).
        head: status of a HEAD for something missing (Artifactory: 403).
        subjects: `listed`, `ignored` (no `OCI-Subject`), or `refused` (405, ECR).
        sparse: whether an index without all children is taken (Nexus: no).
        late: PUTs of an index that are refused before its children are seen (Nexus).
        immutable: a tag that exists is never written again (ECR, Harbor).
        forgets: a cut upload is gone (distribution 2.8); otherwise its bytes stay.
        manifest: status of a good PUT of a manifest.
        exists: repositories that may be pushed to; None for all (ECR).
        least: `OCI-Chunk-Min-Length`.
        subject_tag: a fallback tag answers with the subject itself (GitLab).
        cancels: whether a session may be deleted.
        sha512: whether sha512 digests are taken.
    """

    location: str = "{path}"
    state: str = ""
    patch: int = 202
    most: int | None = None
    chunks: bool = True
    body: int | None = None
    range: str = "0-{end}"
    mounts: str = "yes"
    head: int = 404
    subjects: str = "listed"
    sparse: bool = True
    late: int = 0
    immutable: bool = False
    forgets: bool = False
    manifest: int = 201
    exists: frozenset[str] | None = None
    least: int = 0
    subject_tag: bool = False
    cancels: bool = True
    sha512: bool = True


@dataclass
class Session:
    repository: str
    body: bytearray = field(default_factory=bytearray)
    closed: bool = False


class PushCatalog(Catalog):
    """Repositories that can be written to; `push` answers first."""

    push: Callable[[Seen], Reply | None]

    def answer(self, seen: Seen) -> Reply | None:
        return self.push(seen) or super().answer(seen)


class PushRegistry(FakeRegistry):
    """A fake registry that can be pushed to.

    Attributes:
        quirks: may be changed at any time.
        sessions: open uploads.
        before: called before a request is answered; may raise or kill.
    """

    def __init__(
        self,
        quirks: Quirks | None = None,
        tls: ssl.SSLContext | None = None,
        *,
        strict: bool = True,
    ) -> None:
        self.quirks = quirks or Quirks()
        self.sessions: dict[str, Session] = {}
        self._numbers = count(1)
        self._refused = 0
        super().__init__(tls, strict=strict)
        self.pushed = PushCatalog()
        self.pushed.push = self._push
        self.shelves = self.pushed

    def shelf(self, repository: str) -> Repository:
        return self.shelves.repositories.setdefault(repository, Repository())

    def holds(self, repository: str, digest: str) -> bytes | None:
        """Return a blob or document of a repository."""
        shelf = self.shelves.repositories.get(repository, Repository())
        document = shelf.documents.get(digest)
        return document[1] if document else shelf.blobs.get(digest)

    def complete(self, repository: str, digest: str) -> bool:
        """Whether a document and everything below it is there."""
        shelf = self.shelves.repositories[repository]
        held = shelf.documents.get(digest)
        if held is None:
            return False
        document = json.loads(held[1])
        if "manifests" in document:
            return all(self.complete(repository, one["digest"]) for one in document["manifests"])
        parts = [document["config"], *document.get("layers", ())]
        return all(one["digest"] in shelf.blobs for one in parts)

    def sent(self, method: str) -> int:
        """Count the bytes of all requests of a method."""
        return sum(len(seen.body) for seen in self.requests(method))

    def _push(self, seen: Seen) -> Reply | None:  # noqa: PLR0911 - one per kind of request
        quirks = self.quirks
        if quirks.body is not None and len(seen.body) > quirks.body:
            return Reply(413, close=True)
        if found := _UPLOADS.fullmatch(seen.path):
            if quirks.exists is not None and found[1] not in quirks.exists:
                return problem(404, "NAME_UNKNOWN", "create the repository first")
            return self._upload(seen, found[1], found[2])
        if (found := _MANIFEST.fullmatch(seen.path)) and seen.method == "PUT":
            return self._put(seen, found[1], found[2])
        if (found := _REFERRERS.fullmatch(seen.path)) and quirks.subjects == "listed":
            return self._list(found[1], found[2])
        if seen.method == "HEAD" and quirks.head != 404:
            reply = Catalog.answer(self.shelves, seen)
            return Reply(quirks.head) if reply is None or reply.status == 404 else reply
        if found and quirks.subject_tag and found[2].startswith("sha256-"):
            held = self.shelf(found[1]).documents.get(found[2].replace("-", ":", 1))
            if held is not None:
                return Reply(200, {"Content-Type": held[0]}, held[1])
        return None

    # Uploads

    def _upload(self, seen: Seen, repository: str, name: str) -> Reply:  # noqa: PLR0911 - likewise
        if seen.method == "POST":
            return self._begin(seen, repository)
        session = self.sessions.get(name)
        if session is None or (self.quirks.state and self.quirks.state not in seen.query):
            return problem(404, "BLOB_UPLOAD_UNKNOWN")
        if seen.method == "GET":
            return self._accepted(name, 204)
        if seen.method == "DELETE":
            if not self.quirks.cancels:
                return problem(403, "DENIED")
            del self.sessions[name]
            return Reply(204)
        if seen.method == "PATCH":
            return self._patch(seen, session, name)
        session.body += seen.body
        digest = seen.parameters["digest"][0]
        del self.sessions[name]
        return self._store(repository, digest, bytes(session.body))

    def _begin(self, seen: Seen, repository: str) -> Reply:
        mount = seen.parameters.get("mount", [""])[0]
        origin = seen.parameters.get("from", [""])[0]
        if mount and self.quirks.mounts == "refused":
            return problem(403, "DENIED", "no mounts here")
        if mount and self.quirks.mounts == "yes":
            body = self.shelf(origin).blobs.get(mount)
            if body is not None:
                self.shelf(repository).blobs[mount] = body
                return Reply(201, {"Docker-Content-Digest": mount})
        # Requests come at once: the length of the log would name two sessions alike.
        name = f"session-{next(self._numbers)}"
        self.sessions[name] = Session(repository)
        self.shelf(repository)
        return self._accepted(name, 202)

    def _accepted(self, name: str, status: int, length: int = 0) -> Reply:
        session = self.sessions[name]
        path = f"/v2/{session.repository}/blobs/uploads/{name}"
        if self.quirks.state:
            path += f"?{self.quirks.state}"
        bare = self.host.rpartition(":")[0]
        end = max(len(session.body) - 1, 0)
        headers = {
            "Location": self.quirks.location.format(host=self.host, name=bare, path=path),
            "Range": self.quirks.range.format(end=end, length=length - 1),
        }
        if self.quirks.least:
            headers["OCI-Chunk-Min-Length"] = str(self.quirks.least)
        return Reply(status, headers)

    def _patch(self, seen: Seen, session: Session, name: str) -> Reply:
        quirks = self.quirks
        if not quirks.chunks:
            return problem(405, "UNSUPPORTED")
        found = _RANGE.fullmatch(seen.headers["content-range"])
        assert found is not None
        stated = int(found[2]) - int(found[1]) + 1
        assert stated == int(seen.headers["content-length"])
        if len(seen.body) < stated:
            self.cut(seen, len(seen.body))
            return problem(400, "SIZE_INVALID")
        too_long = quirks.most is not None and len(seen.body) > quirks.most
        if too_long or int(found[1]) != len(session.body):
            return problem(416, "RANGE_INVALID")
        if quirks.patch == 202 or not session.closed:
            session.body += seen.body
        session.closed = quirks.patch == 201
        return self._accepted(name, quirks.patch, len(seen.body))

    def cut(self, seen: Seen, length: int) -> None:
        """Keep the first bytes of a request, as a registry does whose connection is cut."""
        found = _UPLOADS.fullmatch(seen.path)
        assert found is not None
        if self.quirks.forgets:
            self.sessions.pop(found[2], None)
        else:
            self.sessions[found[2]].body += seen.body[:length]

    def _store(self, repository: str, digest: str, body: bytes) -> Reply:
        algorithm = digest.partition(":")[0]
        if f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}" != digest:
            return problem(400, "DIGEST_INVALID")
        self.shelf(repository).blobs[digest] = body
        return Reply(201, {"Docker-Content-Digest": digest, "Location": f"/v2/{digest}"})

    # Documents

    def _put(self, seen: Seen, repository: str, name: str) -> Reply:  # noqa: PLR0911 - likewise
        quirks, shelf = self.quirks, self.shelf(repository)
        document = json.loads(seen.body)
        digest = seen.parameters.get("digest", [name if ":" in name else ""])[0]
        algorithm = digest.partition(":")[0] or "sha256"
        if algorithm == "sha512" and not quirks.sha512:
            return problem(400, "DIGEST_INVALID", "unsupported digest algorithm")
        own = f"{algorithm}:{hashlib.new(algorithm, seen.body).hexdigest()}"
        if digest not in ("", own):
            return problem(400, "DIGEST_INVALID")
        if quirks.immutable and name in shelf.tags:
            return problem(409, "TAG_INVALID", "the tag is immutable")
        subject = document.get("subject")
        if subject is not None and quirks.subjects == "refused":
            return problem(405, "UNSUPPORTED", "no subject here")
        children = [one["digest"] for one in document.get("manifests", ())]
        if children and self._refused < quirks.late:
            self._refused += 1
            return problem(404, "MANIFEST_UNKNOWN", children[0])
        if not quirks.sparse and not all(one in shelf.documents for one in children):
            return problem(400, "MANIFEST_BLOB_UNKNOWN", "a child is missing")
        shelf.documents[own] = (seen.headers["content-type"], seen.body)
        if ":" not in name:
            shelf.tags[name] = own
        headers = {"Docker-Content-Digest": own, "Location": f"/v2/{repository}/manifests/{own}"}
        if subject is not None and quirks.subjects == "listed":
            headers["OCI-Subject"] = subject["digest"]
        return Reply(quirks.manifest, headers)

    def _list(self, repository: str, digest: str) -> Reply:
        found = []
        for own, (media_type, body) in self.shelf(repository).documents.items():
            document = json.loads(body)
            if (document.get("subject") or {}).get("digest") != digest:
                continue
            kind = document.get("artifactType") or document.get("config", {}).get("mediaType")
            found.append(
                {"mediaType": media_type, "digest": own, "size": len(body), "artifactType": kind}
            )
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": found,
        }
        headers = {"Content-Type": "application/vnd.oci.image.index.v1+json"}
        return Reply(200, headers, json.dumps(index).encode())
