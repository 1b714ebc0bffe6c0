"""The test registry: `serve --writable` with the quirks of other registries, and a log.

    with WritableRegistry(tmp_path / "registry", Quirks(mounts="no")) as registry:
        registry.serve("team/app", "1.0", image)
        ...
        assert registry.requests("PATCH") == []
        assert registry.tags("team/copy") == {"1.0": image.digest}

Order of answers: scripts (`on`), the gates (`basic`, `bearer`), quirks, then the registry itself.
`tests/data/quirks/quirks.json` names the registries that have each quirk, with a source.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, unquote, urlencode

from resolver.clock import SystemClock
from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import Index, parse_document
from resolver.store import LocalStore
from resolver.verbs.serve.api import ServerResponse, answer, problem
from resolver.verbs.serve.server import serve
from resolver.verbs.serve.write import HERE, Refused, WriteOptions, Writer
from tests.kit.auth import BasicGate, BearerGate, Gate, Tokens
from tests.kit.messages import Answer, Reply, Script, Seen
from tests.kit.stored_images import blob_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from types import TracebackType

    from resolver.core.oci.manifest import Manifest
    from resolver.verbs.serve.connections import Head, RequestBody, Waits
    from resolver.verbs.serve.server import Server
    from tests.kit.registry import Served

DATA = Path(__file__).parents[1] / "data" / "quirks" / "quirks.json"
_SESSION = re.compile(r"/v2/(.+)/blobs/uploads/([0-9a-f]{32})")
_UPLOADS = re.compile(r"/v2/(.+)/blobs/uploads/?")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/]+)")
_FALLBACK = re.compile(r"(sha256|sha512)-([0-9a-f]{64})")
_MANY = 1 << 40


@dataclass(frozen=True)
class Quirks:
    """What this registry does differently; see `quirks.json`.

    Attributes:
        location: format of `Location` of an upload; knows `{host}`, `{name}` (without the port)
            and `{path}`.
        state: a query that every request of an upload must repeat.
        patch: status of a good PATCH; with 201 later ones are dropped.
        most: bytes of a PATCH; more is 416.
        chunks: whether there are PATCHes at all.
        least: `OCI-Chunk-Min-Length`.
        body: bytes of any request; more is 413.
        range: format of `Range` after a PATCH; knows `{end}` and `{length}`, of the last chunk.
        mounts: `yes`, `no` (202), `refused` (405), or `from` (not without a source).
        head: status of a HEAD for something missing.
        subjects: `listed`, `ignored` (no `OCI-Subject`), or `refused` (405).
        sparse: whether an index without all of its entries is taken.
        late: PUTs of an index that are refused before its entries are seen.
        immutable: a tag that exists is never written again.
        forgets: an upload is gone after a request that was cut, or a restart.
        cut: bytes of a request body after which its connection ends, once; these are kept.
        manifest: status of a good PUT of a manifest.
        exists: repositories that may be pushed to; None for all.
        subject_tag: a fallback tag answers with the subject itself.
        cancels: whether an upload may be cancelled.
        busy: PUTs of manifests that are answered 429 at first.
        retry_after: `Retry-After` of these.
        sha512: whether sha512 digests are taken.

    """

    location: str = "{path}"
    state: str = ""
    patch: int = 202
    most: int = _MANY
    chunks: bool = True
    least: int = 0
    body: int = _MANY
    range: str = "0-{end}"
    mounts: str = "yes"
    head: int = 404
    subjects: str = "listed"
    sparse: bool = False
    late: int = 0
    immutable: bool = False
    forgets: bool = False
    cut: int = 0
    manifest: int = 201
    exists: tuple[str, ...] | None = None
    subject_tag: bool = False
    cancels: bool = True
    busy: int = 0
    retry_after: str = "1"
    sha512: bool = True


@dataclass(frozen=True)
class QuirkRow:
    """One row of the table.

    Attributes:
        name: a sentence fragment, as docs/registries.md has it.
        registries: those that are known to do so.
        source: where that is written.
        quirks: the switches that are on.

    """

    name: str
    registries: str
    source: str
    quirks: Quirks


def rows() -> list[QuirkRow]:
    """Read the table."""
    found: list[dict[str, Any]] = json.loads(DATA.read_text("utf-8"))
    return [
        QuirkRow(row["name"], row["registries"], row["source"], _quirks(row["switches"]))
        for row in found
    ]


def _quirks(switches: dict[str, Any]) -> Quirks:
    if "exists" in switches:
        switches["exists"] = tuple(switches["exists"])
    return Quirks(**switches)


class WritableRegistry:
    """A registry in this process; enter it to start. Leaving it raises its first failure.

    Attributes:
        quirks: may be replaced at any time.
        store: what it keeps.
        before: called with each request before it is answered; may raise or block.
        on_cut: called before the quirk `cut` ends a connection.

    """

    def __init__(self, folder: Path, quirks: Quirks | None = None) -> None:
        self.quirks = quirks or Quirks()
        self.store = LocalStore(folder, fsync=False)
        self.before: Callable[[Seen], None] = lambda _seen: None
        self.on_cut: Callable[[], None] = lambda: None
        self.changed = threading.Condition()
        self._log: list[Seen] = []
        self._failures: list[BaseException] = []
        self._scripts: list[Script] = []
        self._gates: list[Gate] = []
        self._tokens: dict[str, Tokens] = {}
        self._stack = contextlib.ExitStack()
        self._server: Server | None = None
        self._writer: _QuirkyWriter | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        if kind is None and self._failures:
            raise self._failures[0]

    def _start(self) -> None:
        with contextlib.ExitStack() as stack:
            lease = stack.enter_context(self.store.lease((), "test registry"))
            writer = self._writer = _QuirkyWriter(self, lease, WriteOptions())
            server = serve(writer.shelf, "127.0.0.1", self._port, respond=writer.respond)
            self._server = stack.enter_context(server)
            self._stack = stack.pop_all()
        self._port = int(self.host.rpartition(":")[2])

    def restart(self) -> None:
        """Stop it and start it again at the same port."""
        self._stack.close()
        if self.quirks.forgets:
            for path in (self.store.root / "uploads").glob("*-*"):
                path.unlink()
        self._start()

    @property
    def host(self) -> str:
        """Its `host:port`, as in a reference."""
        assert self._server is not None
        return self._server.address

    @property
    def url(self) -> str:
        """Its origin."""
        return f"http://{self.host}"

    # Content

    def serve(self, repository: str, tag: str | None, image: Served) -> None:
        """Keep an image as a push of it does, without requests and quirks; see `FakeRegistry`."""
        assert self._writer is not None
        self._writer.keep(repository, tag, image)

    def tags(self, repository: str) -> dict[str, str]:
        """Return the tags of a repository, with their digests."""
        start = f"{HERE}/{repository}:"
        return {
            record.reference.removeprefix(start): str(record.root.digest)
            for record in self.store.pulled_names()
            if record.reference.startswith(start)
        }

    def documents(self, repository: str) -> set[str]:
        """Return the digests of all manifests and indexes of a repository."""
        starts = (f"{HERE}/{repository}:", f"{HERE}/{repository}@")
        waiting = [
            str(record.root.digest)
            for record in self.store.pulled_names()
            if record.reference.startswith(starts)
        ]
        found: set[str] = set()
        while waiting:
            digest = waiting.pop()
            if digest in found or self.holds(repository, digest) is None:
                continue
            found.add(digest)
            listed = self.document(repository, digest).get("manifests", ())
            waiting += [one["digest"] for one in listed]
        return found

    def document(self, repository: str, name: str) -> dict[str, Any]:
        """Return a manifest or an index, by tag or digest."""
        digest = name if ":" in name else self.tags(repository)[name]
        body = self.holds(repository, digest)
        assert body is not None, digest
        document: dict[str, Any] = json.loads(body)
        return document

    def holds(self, repository: str, digest: str) -> bytes | None:
        """Return a blob, a manifest or an index of a repository; None if it is not there."""
        assert self._writer is not None
        shelf = self._writer.shelf
        document = shelf.document(repository, digest)
        if document is not None:
            return document.body
        file = shelf.blob(repository, Digest.parse(digest))
        if file is None:
            return None
        with file.open() as opened:
            return opened.read()

    def complete(self, repository: str, digest: str) -> bool:
        """Whether a manifest or an index, and everything that it lists, is in a repository."""
        if self.holds(repository, digest) is None:
            return False
        document = self.document(repository, digest)
        if "manifests" in document:
            return all(self.complete(repository, one["digest"]) for one in document["manifests"])
        parts = [document["config"], *document.get("layers", ())]
        return all(self.holds(repository, one["digest"]) is not None for one in parts)

    # What happens

    def on(self, method: str, path: str, *answers: Answer, times: int | None = None) -> None:
        """Script answers, as `FakeRegistry.on`; a reply with `silent` ends the connection."""
        with self.changed:
            self._scripts.append(Script(method, path, answers, times))

    def basic(self, user: str, password: str) -> None:
        """Require Basic credentials for everything under /v2/."""
        self._gates.append(BasicGate(user, password, "test"))

    def bearer(
        self, *, token: str = "T0KEN-1", credentials: tuple[str, str] | None = None
    ) -> Tokens:
        """Require a token for everything under /v2/, and serve tokens at /token."""
        tokens = self._tokens["/token"] = Tokens(token, credentials, 300)
        self._gates.append(BearerGate(f"{self.url}/token", "test", tokens))
        return tokens

    # What happened

    @property
    def log(self) -> list[Seen]:
        """Every request so far, in the order of arrival."""
        with self.changed:
            return list(self._log)

    def requests(self, method: str | None = None, path_contains: str = "") -> list[Seen]:
        """Return requests from the log; None matches any."""
        return [
            seen
            for seen in self.log
            if method in (None, seen.method) and path_contains in seen.path
        ]

    def sent(self, *methods: str) -> int:
        """Count the body bytes of all requests of these methods."""
        return sum(len(seen.body) for seen in self.log if seen.method in methods)

    def settle(self, timeout: float = 10.0) -> None:
        """Wait until no request is being answered; at most `timeout` seconds."""
        with self.changed:
            is_settled = self.changed.wait_for(
                lambda: all(seen.done for seen in self._log), timeout
            )
        assert is_settled

    def refusal(self, seen: Seen) -> Reply | None:
        """Answer a request by a script, a token server or a gate; None for none of them."""
        with self.changed:
            pending = [script for script in self._scripts if script.matches(seen)]
            given = pending[0].next() if pending else None
        reply = given(seen) if callable(given) else given
        if reply is not None:
            return reply
        if seen.path in self._tokens:
            return self._tokens[seen.path].answer(seen)
        refusals = (gate.refusal(seen) for gate in self._gates)
        return next((found for found in refusals if found is not None), None)

    def note(self, seen: Seen) -> None:
        """Add a request to the log."""
        with self.changed:
            self._log.append(seen)

    def finish(self, seen: Seen, failure: BaseException | None) -> None:
        """Record that a request was answered, that its connection has ended, or that it failed."""
        with self.changed:
            seen.done = True
            if failure is not None:
                self._failures.append(failure)
            self.changed.notify_all()


class _QuirkyWriter(Writer):
    def __init__(self, registry: WritableRegistry, lease: Any, options: WriteOptions) -> None:
        super().__init__(registry.store, lease, options, SystemClock())
        self._registry = registry
        self._closed: set[str] = set()
        self._late: dict[str, int] = {}
        self._busy = 0
        self._is_cut = False

    @property
    def _quirks(self) -> Quirks:
        return self._registry.quirks

    def respond(
        self, head: Head, body: RequestBody
    ) -> Generator[Waits | float, None, ServerResponse]:
        seen = _seen(head)
        self._registry.note(seen)
        pieces: list[bytes] = []
        failure: BaseException | None = None
        session = _SESSION.fullmatch(seen.path)
        try:
            self._registry.before(seen)
            self._record(body, pieces)
            reply = self._registry.refusal(seen)
            early = _response(reply) if reply is not None else self._early(seen, body)
            if early is None:
                given = yield from super().respond(self._without_state(head, session), body)
            else:
                yield from body.drain(_MANY)
                given = early
            if reply is None:
                given = self._changed(seen, given, body.received)
            seen.status = given.status
            if reply is None and given.status == 500:
                failure = AssertionError(f"{seen.method} {seen.raw_target}: {given.content!r}")
        except (GeneratorExit, OSError):
            if session is not None and self._quirks.forgets:
                upload = self._store.uploads.resume(session[1], session[2])
                if upload is not None:
                    upload.remove()
                    self._store.uploads.leave(upload)
            raise
        except Exception as error:
            failure = error
            raise
        finally:
            seen.body = b"".join(pieces)
            self._registry.finish(seen, failure)
        return given

    def _record(self, body: RequestBody, pieces: list[bytes]) -> None:
        """Note the body of a request as it is read."""
        read = body.read

        left = self._quirks.cut if self._quirks.cut and not self._is_cut else _MANY

        def recorded() -> Generator[Waits, None, bytes]:
            nonlocal left
            if not left:
                self._is_cut = True
                self._registry.on_cut()
                raise ConnectionResetError("cut as a quirk")
            piece = (yield from read())[:left]
            left -= len(piece)
            pieces.append(piece)
            return piece

        body.read = recorded  # type: ignore[method-assign]

    def _without_state(self, head: Head, session: re.Match[str] | None) -> Head:
        path, _, query = head.target.partition("?")
        if session is None or not self._quirks.state:
            return head
        ours = set(parse_qsl(self._quirks.state))
        rest = [pair for pair in parse_qsl(query) if pair not in ours]
        return replace(head, target=f"{path}?{urlencode(rest)}")

    def _early(self, seen: Seen, body: RequestBody) -> ServerResponse | None:
        """Answer what this registry refuses before it reads anything."""
        quirks = self._quirks
        session, manifest = _SESSION.fullmatch(seen.path), _MANIFEST.fullmatch(seen.path)
        begins = _UPLOADS.fullmatch(seen.path)
        named = begins or (manifest if seen.method == "PUT" else None)
        refused = _first(
            (
                (body.length or 0) > quirks.body,
                ServerResponse(413, (("Content-Type", "text/html"),), b"<html>too large</html>"),
            ),
            (
                not quirks.sha512 and "sha512" in unquote(seen.raw_target),
                problem(400, "DIGEST_INVALID", "sha512 is not supported"),
            ),
            (
                quirks.exists is not None and named is not None and named[1] not in quirks.exists,
                problem(404, "NAME_UNKNOWN", "create the repository first"),
            ),
            (
                quirks.subjects != "listed" and "/referrers/" in seen.path,
                problem(404, "UNSUPPORTED", "there is no such endpoint"),
            ),
        )
        if refused is not None:
            return refused
        if session is not None:
            return self._early_session(seen, session[2], body.length or 0)
        if begins is not None and "mount" in seen.parameters:
            return self._early_mount(seen, begins[1], body)
        return None if manifest is None else self._early_manifest(seen, manifest[1], manifest[2])

    def _early_session(self, seen: Seen, identity: str, length: int) -> ServerResponse | None:
        quirks = self._quirks
        is_patch = seen.method == "PATCH"
        end = seen.headers.get("content-range", "0-0").rpartition("-")[2]
        refused = _first(
            (
                bool(quirks.state) and quirks.state not in seen.query,
                problem(404, "BLOB_UPLOAD_UNKNOWN", "the state of the upload is missing"),
            ),
            (
                seen.method == "DELETE" and not quirks.cancels,
                problem(403, "DENIED", "cancelling requires the scope `delete`"),
            ),
            (
                is_patch and not quirks.chunks,
                problem(405, "UNSUPPORTED", "chunked uploads are not supported"),
            ),
            (
                is_patch and length > quirks.most,
                problem(416, "RANGE_INVALID", "the chunk is too large"),
            ),
            (
                is_patch and quirks.patch == 201 and identity in self._closed,
                ServerResponse(201, (("Location", seen.path), ("Range", f"0-{end}"))),
            ),
        )
        if is_patch:
            self._closed.add(identity)
        return refused

    def _early_mount(self, seen: Seen, repository: str, body: RequestBody) -> ServerResponse | None:
        mounts = self._quirks.mounts
        if mounts == "refused":
            return problem(405, "UNSUPPORTED", "mounting is not supported")
        if mounts == "no" or (mounts == "from" and "from" not in seen.parameters):
            begun = self._post(body, repository, "")
            try:
                next(begun)
            except StopIteration as end:
                found: ServerResponse = end.value
                return found
            raise AssertionError("an upload begins without a body")
        return None

    def _early_manifest(self, seen: Seen, repository: str, name: str) -> ServerResponse | None:
        quirks = self._quirks
        fallback = _FALLBACK.fullmatch(name)
        if seen.method in ("GET", "HEAD"):
            if not quirks.subject_tag or fallback is None:
                return None
            found = answer(self.shelf, f"/v2/{repository}/manifests/{name}")
            subject = f"/v2/{repository}/manifests/{fallback[1]}:{fallback[2]}"
            return found if found.status == 200 else answer(self.shelf, subject)
        if seen.method == "PUT" and self._busy < quirks.busy:
            self._busy += 1
            after = ("Retry-After", quirks.retry_after)
            return problem(429, "TOOMANYREQUESTS", "slow down", after)
        is_known = ":" not in name and self.shelf.document(repository, name) is not None
        if seen.method == "PUT" and quirks.immutable and is_known:
            return problem(409, "TAG_INVALID", "the tag is immutable")
        return None

    def put(
        self,
        repository: str,
        document: Document,
        parsed: Index | Manifest,
        tags: Sequence[str],
        expected: Callable[[Digest | None], bool] = lambda _: True,
    ) -> ServerResponse:
        quirks = self._quirks
        self._options = WriteOptions(allow_sparse=quirks.sparse)
        if parsed.subject is not None and quirks.subjects == "refused":
            raise Refused(405, "UNSUPPORTED", "manifests with `subject` are not supported")
        if isinstance(parsed, Index) and parsed.manifests:
            seen = self._late.setdefault(str(document.descriptor.digest), 0)
            if seen < quirks.late:
                self._late[str(document.descriptor.digest)] += 1
                missing = parsed.manifests[0].digest
                raise Refused(404, "MANIFEST_BLOB_UNKNOWN", f"`{missing}` is unknown")
        return super().put(repository, document, parsed, tags, expected)

    def keep(self, repository: str, tag: str | None, image: Served) -> None:
        """Put an image into the store, an index after what it lists."""
        self._store.uploads.mark(repository)
        for digest, body in image.blobs.items():
            blob = replace(blob_of(body), digest=Digest.parse(digest))
            self._claim((blob.digest,))
            self._store.add(blob, [body])
            self._store.uploads.mark(repository, blob.digest)
        waiting = dict(image.documents)

        def put(digest: str) -> None:
            media_type, body = waiting.pop(digest)
            parsed = parse_document(body, media_type, digest)
            for child in parsed.manifests if isinstance(parsed, Index) else ():
                if str(child.digest) in waiting:
                    put(str(child.digest))
            root = Descriptor(media_type, Digest.parse(digest), len(body))
            tags = [tag] if tag is not None and digest == image.digest else []
            super(_QuirkyWriter, self).put(repository, Document(root, body), parsed, tags)

        while waiting:
            put(next(iter(waiting)))

    def _changed(self, seen: Seen, given: ServerResponse, received: int) -> ServerResponse:
        """Change an answer to what this registry says."""
        quirks = self._quirks
        status, headers = given.status, dict(given.headers)
        if seen.method == "HEAD" and status == 404:
            status = quirks.head
        if seen.method == "PUT" and _MANIFEST.fullmatch(seen.path):
            status = quirks.manifest if status == 201 else status
            if quirks.subjects != "listed":
                headers.pop("OCI-Subject", None)
        location = headers.get("Location", "")
        if _SESSION.fullmatch(location):
            path = f"{location}?{quirks.state}" if quirks.state else location
            name = self._registry.host.rpartition(":")[0]
            host = self._registry.host
            headers["Location"] = quirks.location.format(host=host, name=name, path=path)
        if seen.method == "POST" and status == 202 and quirks.least:
            headers["OCI-Chunk-Min-Length"] = str(quirks.least)
        if seen.method == "PATCH" and status in (201, 202):
            status = quirks.patch
            end = headers["Range"].rpartition("-")[2]
            headers["Range"] = quirks.range.format(end=end, length=max(received - 1, 0))
        return replace(given, status=status, headers=tuple(headers.items()))


def _first(*cases: tuple[bool, ServerResponse]) -> ServerResponse | None:
    return next((given for holds, given in cases if holds), None)


def _seen(head: Head) -> Seen:
    path, _, query = head.target.partition("?")
    headers: dict[str, str] = {}
    for name, value in head.headers:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Seen(head.method, unquote(path), query, headers, b"", head.target, list(head.headers))


def _response(reply: Reply) -> ServerResponse:
    """Turn a scripted reply into an answer; defects of the wire are for `FakeRegistry`."""
    if reply.silent:
        raise ConnectionResetError("scripted")
    pairs = reply.headers.items() if hasattr(reply.headers, "items") else reply.headers
    return ServerResponse(reply.status, tuple(pairs), reply.body)
