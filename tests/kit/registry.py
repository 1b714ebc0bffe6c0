"""A fake registry: serves images, misbehaves on request, and records every request.

    with FakeRegistry() as registry:
        registry.serve("team/app", "1.0", image)
        registry.on("GET", "/v2/team/app/tags/list", Reply(503), Reply(503), times=2)
        ...
        assert registry.requests("GET", "/blobs/") == []

Order of answers: scripts (`on`, `redirect`, `rate_limit`), then the gate (`bearer`, `basic`), then
what is served. A request that none of them knows is answered 599 and fails the test at the end of
the `with` block, unless the fake is made with `strict=False`.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from tests.kit.auth import BasicGate, BearerGate, Gate, Tokens
from tests.kit.content import Catalog
from tests.kit.messages import Answer, Reply, Script, Seen
from tests.kit.wire_server import WireServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from types import TracebackType

__all__ = ["Answer", "FakeRegistry", "Reply", "Seen", "Tokens"]


class Served(Protocol):
    """What `FakeRegistry.serve` takes; `tests.kit.images.Image` is one."""

    @property
    def digest(self) -> str:
        """Of the root document."""
        ...

    @property
    def documents(self) -> Mapping[str, tuple[str, bytes]]:
        """Manifests and indexes: digest to media type and body."""
        ...

    @property
    def blobs(self) -> Mapping[str, bytes]:
        """Configs and layers, by digest."""
        ...


@dataclass
class Behaviour:
    """The configuration of a test; guarded by the server's lock."""

    scripts: list[Script] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    tokens: dict[str, Tokens] = field(default_factory=dict)
    unexpected: list[Seen] = field(default_factory=list)


class FakeRegistry:
    """One registry on one port of this machine.

    Attributes:
        shelves: what is served, and how tags are paged; see `Catalog`.
    """

    def __init__(
        self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", *, strict: bool = True
    ) -> None:
        self._strict = strict
        self._behaviour = Behaviour()
        self.shelves = Catalog()
        # A client that knows the port may connect before this object is complete.
        self._ready = threading.Event()
        self._server = WireServer(self._answer, tls, host)
        name = f"[{host}]" if ":" in host else host
        self.host = f"{name}:{self._server.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self._ready.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if kind is not None:
            return
        if self._server.failures:
            raise self._server.failures[0]
        if self._strict and self.unexpected:
            lines = [f"{seen.method} {seen.raw_target}" for seen in self.unexpected]
            raise AssertionError("unexpected requests: " + ", ".join(lines))

    def close(self) -> None:
        """Stop serving immediately, without the checks of leaving the block."""
        self._server.close()

    # Content

    def serve(self, repository: str, tag: str | None, image: Served) -> None:
        """Serve an image: all documents and blobs by digest, and the root as `tag`."""
        with self._server.changed:
            self.shelves.add(repository, tag, image.digest, image.documents, image.blobs)

    def on(self, method: str, path: str, *answers: Answer, times: int | None = None) -> None:
        """Script answers for `method` ("*" = any) and exactly `path`.

        Answers are used in order and the last repeats; after `times` answers the script is over
        and the request goes on to what would have answered it. Scripts for the same path queue up.
        """
        if not answers:
            raise ValueError("a script needs an answer")
        with self._server.changed:
            self._behaviour.scripts.append(Script(method, path, answers, times))

    def redirect(self, path: str, url: str, *, status: int = 307, times: int | None = None) -> None:
        """Redirect every request for `path`; `url` is the `Location`, verbatim."""
        self.on("*", path, Reply(status, {"Location": url}), times=times)

    def rate_limit(self, path: str, times: int | None, retry_after: str | int | None) -> None:
        """Answer 429 to the first `times` requests for `path`; `retry_after` is the header."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        headers["Content-Type"] = "application/json"
        body = {"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}
        self.on("*", path, Reply(429, headers, json.dumps(body).encode()), times=times)

    # Authentication

    def bearer(
        self,
        *,
        realm: str | None = None,
        service: str = "fake",
        token: str = "T0KEN-1",
        credentials: tuple[str, str] | None = None,
        expires_in: int | None = 300,
        rotate: bool = False,
    ) -> Tokens:
        """Require a token for everything under /v2/, and serve tokens too.

        Args:
            realm: where tokens are had; None = this server's /token. Elsewhere, let the other
                fake's `token_server` hand out the same `token`.
            credentials: user and password that the token server wants, by Basic or by form; a
                user "" or "<token>" makes the password an identity token; None = anonymous.
            expires_in: seconds; None = the field is left out.
            rotate: every token is another one ("T0KEN-1-1", "T0KEN-1-2", …).
        """
        tokens = Tokens(token, credentials, expires_in, rotate=rotate)
        with self._server.changed:
            if realm is None:
                self._behaviour.tokens["/token"] = tokens
            self._behaviour.gates.append(BearerGate(realm or f"{self.url}/token", service, tokens))
        return tokens

    def token_server(
        self,
        path: str = "/token",
        *,
        token: str = "T0KEN-1",
        credentials: tuple[str, str] | None = None,
        expires_in: int | None = 300,
    ) -> Tokens:
        """Serve tokens at `path` for another registry."""
        tokens = Tokens(token, credentials, expires_in)
        with self._server.changed:
            self._behaviour.tokens[path] = tokens
        return tokens

    def basic(self, user: str, password: str, *, realm: str = "fake") -> None:
        """Require Basic credentials for everything under /v2/."""
        with self._server.changed:
            self._behaviour.gates.append(BasicGate(user, password, realm))

    def gate(self, gate: Gate) -> None:
        """Let a gate decide about everything under /v2/, after those added before."""
        with self._server.changed:
            self._behaviour.gates.append(gate)

    # Records

    @property
    def log(self) -> list[Seen]:
        """Every request so far, in the order of arrival."""
        with self._server.changed:
            return list(self._server.log)

    @property
    def unexpected(self) -> list[Seen]:
        """Requests without an answer."""
        with self._server.changed:
            return list(self._behaviour.unexpected)

    @property
    def hits(self) -> Counter[str]:
        """Count the requests for each "METHOD /path"."""
        return Counter(f"{seen.method} {seen.path}" for seen in self.log)

    @property
    def connections(self) -> int:
        """The number of accepted connections."""
        return self._server.connections

    @property
    def handshake_failures(self) -> list[str]:
        """Failed TLS handshakes, in the words of OpenSSL."""
        return list(self._server.handshake_failures)

    def requests(self, method: str | None = None, path_contains: str | None = None) -> list[Seen]:
        """Return requests from the log; None matches any."""
        return [
            seen
            for seen in self.log
            if method in (None, seen.method) and (path_contains or "") in seen.path
        ]

    def wait_for(self, predicate: Callable[[], bool], timeout: float = 5.0) -> bool:
        """Wait until `predicate` holds; return whether it does.

        For example `registry.wait_for(lambda: len(registry.log) == 2)`; `timeout` in seconds.
        """
        return self._server.wait_for(predicate, timeout)

    def _answer(self, seen: Seen) -> Reply:
        self._ready.wait()
        with self._server.changed:
            pending = [script for script in self._behaviour.scripts if script.matches(seen)]
            gates = list(self._behaviour.gates)
            tokens = self._behaviour.tokens.get(seen.path)
        for script in pending:
            reply = self._play(script, seen)
            if reply is not None:
                return reply
        if tokens is not None:
            return tokens.answer(seen)
        if seen.path.startswith("/v2/"):
            for gate in gates:
                refusal = gate.refusal(seen)
                if refusal is not None:
                    return refusal
        with self._server.changed:
            served = self.shelves.answer(seen)
            if served is None:
                self._behaviour.unexpected.append(seen)
        return served or Reply(599, body=b"the fake registry did not expect this request")

    def _play(self, script: Script, seen: Seen) -> Reply | None:
        with self._server.changed:
            if not script.matches(seen):
                return None
            answer = script.next()
        return answer if isinstance(answer, Reply) else answer(seen)
