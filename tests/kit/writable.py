"""The test registry: `serve --writable` with the quirks of other registries, and a log.

    with WritableRegistry(tmp_path / "registry", Quirks(mounts="no")) as registry:
        ...
        assert registry.requests("PATCH") == []

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
from resolver.core.oci.manifest import Index
from resolver.store import LocalStore
from resolver.verbs.serve.api import ServerResponse, answer, problem
from resolver.verbs.serve.server import serve
from resolver.verbs.serve.write import Refused, WriteOptions, Writer
from tests.kit.auth import BasicGate, BearerGate, Gate, Tokens
from tests.kit.messages import Answer, Reply, Script, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from types import TracebackType

    from resolver.core.oci.content import Document
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.manifest import Manifest
    from resolver.verbs.serve.connections import Head, RequestBody, Waits
    from resolver.verbs.serve.server import Server

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
        cut: bytes of a request body after which its connection ends, once.
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
    """A registry in this process; enter it to start.

    Attributes:
        quirks: may be replaced at any time.
        store: what it keeps.
        before: called with each request before it is answered; may raise or block.

    """

    def __init__(self, folder: Path, quirks: Quirks | None = None) -> None:
        self.quirks = quirks or Quirks()
        self.store = LocalStore(folder, fsync=False)
        self.before: Callable[[Seen], None] = lambda _seen: None
        self.changed = threading.Condition()
        self._log: list[Seen] = []
        self._scripts: list[Script] = []
        self._gates: list[Gate] = []
        self._tokens: dict[str, Tokens] = {}
        self._stack = contextlib.ExitStack()
        self._server: Server | None = None
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

    def _start(self) -> None:
        with contextlib.ExitStack() as stack:
            lease = stack.enter_context(self.store.lease((), "test registry"))
            options = WriteOptions(allow_sparse=self.quirks.sparse)
            writer = _QuirkyWriter(self, lease, options)
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

    # What happens

    def on(self, method: str, path: str, *answers: Answer, times: int | None = None) -> None:
        """Script answers, as `FakeRegistry.on`; a reply with `silent` ends the connection."""
        with self.changed:
            self._scripts.append(Script(method, path, answers, times))

    def basic(self, user: str, password: str) -> None:
        """Require Basic credentials for everything under /v2/."""
        self._gates.append(BasicGate(user, password, "test"))

    def bearer(self, *, credentials: tuple[str, str] | None = None) -> Tokens:
        """Require a token for everything under /v2/, and serve tokens at /token."""
        tokens = self._tokens["/token"] = Tokens("T0KEN-1", credentials, 300)
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
        self._registry.before(seen)
        pieces: list[bytes] = []
        self._record(body, pieces)
        session = _SESSION.fullmatch(seen.path)
        try:
            reply = self._registry.refusal(seen)
            early = _response(reply) if reply is not None else self._early(seen, body)
            if early is None:
                given = yield from super().respond(self._without_state(head, session), body)
            else:
                yield from body.drain(_MANY)
                given = early
            if reply is None:
                given = self._changed(seen, given, body.received)
        except (GeneratorExit, OSError):
            if session is not None and self._quirks.forgets:
                upload = self._store.uploads.resume(session[1], session[2])
                if upload is not None:
                    upload.remove()
                    self._store.uploads.leave(upload)
            raise
        finally:
            seen.body = b"".join(pieces)
            seen.done = True
        seen.status = given.status
        return given

    def _record(self, body: RequestBody, pieces: list[bytes]) -> None:
        """Note the body of a request as it is read."""
        read = body.read

        def recorded() -> Generator[Waits, None, bytes]:
            piece = yield from read()
            pieces.append(piece)
            if self._quirks.cut and not self._is_cut and body.received > self._quirks.cut:
                self._is_cut = True
                raise ConnectionResetError("cut as a quirk")
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
        if parsed.subject is not None and quirks.subjects == "refused":
            raise Refused(405, "UNSUPPORTED", "manifests with `subject` are not supported")
        if isinstance(parsed, Index) and parsed.manifests:
            seen = self._late.setdefault(str(document.descriptor.digest), 0)
            if seen < quirks.late:
                self._late[str(document.descriptor.digest)] += 1
                missing = parsed.manifests[0].digest
                raise Refused(404, "MANIFEST_BLOB_UNKNOWN", f"`{missing}` is unknown")
        return super().put(repository, document, parsed, tags, expected)

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
