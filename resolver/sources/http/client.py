"""Transport: send a request to a registry and return its response, with authentication and retries.

Around one exchange (`engine`), from the inside out: proxy and address selection, redirects,
authentication, the choice of https or http, and retries. Everything that is read has a limit.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast

from resolver.clock import SystemClock
from resolver.core.registry.endpoints import USUAL
from resolver.core.results.events import Noted, ignore
from resolver.errors import (
    AddressRefused,
    BadTokenAnswer,
    InvalidReference,
    RateLimited,
    RedirectRefused,
    ServerFault,
    UnsafeRealm,
)
from resolver.sources.http.addresses import is_loopback, look_up
from resolver.sources.http.connection import Connection, interruptible
from resolver.sources.http.messages import (
    Call,
    Purpose,
    Request,
    Response,
    RetryableFailure,
    Scope,
    TransportOptions,
)
from resolver.sources.http.responses import read_error_body
from resolver.sources.http.retry import (
    RETRIED,
    TOO_MANY,
    Budget,
    Gate,
    RetryPolicy,
    parse_retry_after,
)
from resolver.sources.http.urls import PORTS, BadUrl, Url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from resolver.clock import Clock
    from resolver.core.oci.digest import Digest
    from resolver.core.registry.endpoints import Endpoint, HostSettings
    from resolver.core.results.events import Observer
    from resolver.sources.credentials.chain import CredentialChain
    from resolver.sources.http.addresses import Lookup
    from resolver.sources.http.auth import Flow, RegistryAuth
    from resolver.sources.http.messages import Headers, StreamedResponse


#: containerd, regclient and distribution stop at 10 (docs/wire-protocol.md, "Redirects").
MAX_REDIRECTS = 5
FOLLOWED = frozenset({301, 302, 303, 307, 308})
_FIRST, _LAST = 300, 399


def is_redirect(status: int) -> bool:
    """Whether a status is a 3xx, which is followed or refused, but never a result."""
    return _FIRST <= status <= _LAST


def next_url(current: Url, status: int, headers: Headers, registry: Url) -> Url:
    """Return the target of a redirect; addresses are not checked here.

    Plain http is only allowed if the registry itself uses it.

    Raises:
        ServerFault: the status is not a redirect to follow.
        RedirectRefused: the target is not allowed.

    """
    if status not in FOLLOWED:
        raise ServerFault(
            f"`{current.authority}` answered {status}, which is not a redirect to follow"
        )
    locations = headers.all("location")
    if len(locations) != 1:
        raise RedirectRefused(
            f"`{current.authority}` answered {status} with {len(locations)} `Location` headers"
        )
    try:
        target = current.join(locations[0])
    except BadUrl as error:
        raise RedirectRefused(
            f"`{current.authority}` redirects to a URL that is refused: {error}"
        ) from error
    if target.scheme == "http" and registry.scheme == "https":
        raise RedirectRefused(
            f"`{current.authority}` redirects from https to plain http at `{target.authority}`",
            "content requested over https is not fetched over plain http",
        )
    return target


def leads_away(current: Url, status: int, headers: Headers, registry: Url) -> bool:
    """Whether a redirect leaves its origin or is invalid."""
    try:
        return next_url(current, status, headers, registry).origin != current.origin
    except (RedirectRefused, ServerFault):
        return True


#: Seconds for which an unresponsive endpoint is not used (docs/wire-protocol.md, "Mirrors").
PAUSE: Final = 60.0
#: Wrong blobs after which an endpoint is not used for content any more.
MAX_WRONG: Final = 3


class Health:
    """State of the endpoints in this process; safe to share between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}
        self._wrong: dict[str, set[Digest]] = {}

    def pause(self, endpoint: Endpoint, seconds: float = PAUSE) -> bool:
        """Stop using an endpoint for a while; False if it is paused already."""
        now = self._clock.monotonic()
        with self._lock:
            is_new = self._until.get(endpoint.url, now) <= now
            self._until[endpoint.url] = now + seconds
            return is_new

    def report_wrong_content(self, endpoint: Endpoint, digest: Digest) -> bool:
        """Record that an endpoint returned wrong bytes for a digest; False if already recorded."""
        with self._lock:
            wrong = self._wrong.setdefault(endpoint.url, set())
            is_new = digest not in wrong
            wrong.add(digest)
            return is_new

    def may_ask(self, endpoint: Endpoint, digest: Digest | None) -> bool:
        """Whether an endpoint can be used now for this digest."""
        with self._lock:
            if self._until.get(endpoint.url, 0.0) > self._clock.monotonic():
                return False
            wrong = self._wrong.get(endpoint.url, set())
            return digest not in wrong and len(wrong) < MAX_WRONG


#: Seconds to wait for the port. A local server answers far sooner, unless fifty processes ask it at
#: once; a port without a server refuses at once.
PATIENCE: Final = 10.0
#: First bytes of every TLS record that can answer: alert, handshake. Source: RFC 5246, 6.2.1.
_ANSWERS: Final = (b"\x15", b"\x16")


def has_tls(host: str, port: int, patience: float = PATIENCE) -> bool | None:
    """Check whether a port of this machine uses TLS.

    Returns:
        None if nothing listens or answers.
    """
    try:
        # Text would load the codec for international names, 2 ms.
        place = cast("tuple[str, int]", (host.encode(), port))
        with socket.create_connection(place, timeout=patience) as link:
            link.sendall(CLIENT_HELLO)
            first = link.recv(1)
    except ConnectionResetError:
        return False
    except OSError:
        return None
    return first in _ANSWERS


def _sized(content: bytes, width: int) -> bytes:
    """Prefix content with its length in `width` bytes."""
    return len(content).to_bytes(width, "big") + content


def _extension(kind: int, content: bytes) -> bytes:
    return struct.pack(">H", kind) + _sized(content, 2)


def _client_hello() -> bytes:
    """Return a TLS 1.2 ClientHello; newer servers answer it too, at least with an alert.

    It has line ends instead of random bytes, so that an HTTP server sees a malformed request at
    once rather than waiting for more. Source: RFC 5246, 7.4.1.2.
    """
    suites = bytes.fromhex("c02bc02fc02cc030cca9cca8c013c014009c009d002f0035")
    extensions = (
        _extension(0x0A, _sized(bytes.fromhex("001d00170018"), 2))  # supported_groups
        + _extension(0x0B, _sized(b"\x00", 1))  # ec_point_formats
        + _extension(  # signature_algorithms
            0x0D, _sized(bytes.fromhex("040308040401050308050501080606010201"), 2)
        )
    )
    hello = (
        b"\x03\x03"
        + b"\r\n\r\n" * 8
        + _sized(b"", 1)
        + _sized(suites, 2)
        + _sized(b"\x00", 1)
        + _sized(extensions, 2)
    )
    return b"\x16\x03\x01" + _sized(b"\x01" + _sized(hello, 3), 2)


CLIENT_HELLO: Final = _client_hello()


__all__ = ["Request", "Response", "Scope", "Transport", "TransportOptions"]

_HTTP, _HTTPS = PORTS["http"], PORTS["https"]
_BAD_REQUEST = 400
#: Statuses that may ask for authentication (docs/wire-protocol.md, "Authentication flow").
_CHALLENGES = frozenset({400, 401})
_FIRST_ERROR = 400

T = TypeVar("T")


class Transport:
    """Client for registries; safe to share between threads. Loads the HTTP library on first use.

    Attributes:
        credentials: looked up only after a 401.
        redactor: knows every secret that was used, to clean remote text.
        observe: receives retries and warnings.
        health: state of the mirrors.
    """

    def __init__(
        self,
        options: TransportOptions,
        credentials: CredentialChain,
        observe: Observer = ignore,
        *,
        clock: Clock | None = None,
        lookup: Lookup = look_up,
    ) -> None:
        self.options = options
        self.credentials = credentials
        self.redactor = credentials.redactor
        self.observe = observe
        self._clock = clock or SystemClock()
        #: Made when a registry refuses a request; most of its code is not needed before.
        self._auth: RegistryAuth | None = None
        self._gate = Gate(self._clock)
        self.health = Health(self._clock)
        self._connection = Connection(
            options, self.redactor, observe, self._clock, self._gate, lookup
        )
        self._retries = RetryPolicy(
            attempts=options.attempts, longest_wait=options.max_wait, deadline=options.deadline
        )
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._plain_here: dict[str, bool] = {}
        #: Registries on this machine that have not answered yet, by authority: host, scheme, and
        #: whether an earlier process found that out; then the schemes to keep for later ones.
        self._unconfirmed: dict[str, tuple[str, str, bool]] = {}
        self._to_remember: dict[str, str] = {}
        self._may_recall = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Abort active requests and close connections; a later request opens new ones.

        Requests of other threads fail and are not retried.
        """
        with self._lock:
            stop, self._stop = self._stop, threading.Event()
            found, self._to_remember = self._to_remember, {}
        stop.set()
        self._connection.close()
        if found and self.options.schemes is not None:
            self.options.schemes.remember_schemes(found, self._clock.wall())

    def fetch(self, request: Request) -> Response:
        """Send a request and read the response, of any status below 500 except 401 and 429.

        Raises:
            Denied: access is denied.
            Unavailable: no usable response after all attempts.
            LimitExceeded: the response exceeds `request.limit`.

        """

        def attempt(budget: Budget) -> Response:
            base = self.base(request.host, request.settings)
            with self._authenticate(request, base, budget, budget.remaining()) as answer:
                if answer.status >= _FIRST_ERROR:
                    self._refuse_busy(answer)
                    body = answer.read_some()
                else:
                    # HEAD states the length of a body that is not sent.
                    whole = request.method != "HEAD"
                    body = answer.read(request.limit, request.what) if whole else answer.read_some()
                return Response(answer.status, answer.headers, body, answer.url, base)

        return self._retry(attempt, attempts=request.attempts)

    def probe(self, request: Request) -> Response:
        """Send a request once without credentials and return any response, errors included.

        Raises:
            Unavailable: there was no response.

        """

        def attempt(budget: Budget) -> Response:
            base = self.base(request.host, request.settings)
            call = Call(
                Purpose.RESOURCE,
                request.method,
                base.at(request.target),
                base,
                self._headers(request),
                patience=budget.remaining(),
                stays=True,
            )
            options = self._connection.host_options(request.settings)
            with self._follow(replace(call, options=options), budget) as answer:
                return Response(answer.status, answer.headers, answer.read_some(), answer.url, base)

        return self._retry(attempt, attempts=1)

    def has_sent_credentials(self, scope: Scope) -> bool:
        """Whether requests for this repository carried credentials."""
        return self._auth is not None and self._auth.has_sent_credentials(scope)

    @contextmanager
    def stream(self, request: Request) -> Iterator[StreamedResponse]:
        """Send a request and return the response with its body unread, as raw chunks.

        Only the request is retried; the caller resumes an interrupted body with `Range`.

        Raises:
            Denied, Unavailable: as `fetch`; also while the body is read.

        """

        def ask(budget: Budget) -> StreamedResponse:
            return self._authenticate(
                request, self.base(request.host, request.settings), budget, None
            )

        with self._streamed(ask, request.attempts) as answer:
            yield answer

    @contextmanager
    def stream_elsewhere(self, request: Request, url: str) -> Iterator[StreamedResponse]:
        """Stream from a URL in a document of the registry, without credentials.

        The URL is checked like a redirect of that registry (docs/wire-protocol.md, "Foreign
        layers").

        Raises:
            RedirectRefused: the URL is not allowed.
            Unavailable: as `stream`.

        """
        base = self.base(request.host, request.settings)
        try:
            target = Url.parse(url)
        except BadUrl as error:
            raise RedirectRefused(f"{request.what} names a URL that is refused: {error}") from error
        if target.scheme == "http" and base.scheme == "https":
            place = target.authority
            raise RedirectRefused(f"{request.what} leads to plain http at `{place}`")
        headers = self._headers(request)

        def ask(budget: Budget) -> StreamedResponse:
            call = Call(Purpose.RESOURCE, request.method, target, base, headers)
            return self._follow(call, budget)

        with self._streamed(ask) as answer:
            yield answer

    @contextmanager
    def _streamed(
        self, ask: Callable[[Budget], StreamedResponse], attempts: int | None = None
    ) -> Iterator[StreamedResponse]:
        """Retry until there is a response, and yield it with its body unread."""

        def attempt(budget: Budget) -> StreamedResponse:
            answer = ask(budget)
            if answer.status >= _FIRST_ERROR:
                try:
                    self._refuse_busy(answer)
                    answer.read_some()
                except BaseException:
                    answer.close()
                    raise
            return answer

        with self._retry(attempt, attempts=attempts) as answer:
            try:
                yield answer
            except RetryableFailure as failure:
                raise failure.error from failure

    # --- retries ----------------------------------------------------------------------------

    def _retry(
        self,
        attempt: Callable[[Budget], T],
        within: Budget | None = None,
        attempts: int | None = None,
    ) -> T:
        """Retry until success or a permanent failure."""
        policy = self._retries if attempts is None else replace(self._retries, attempts=attempts)
        budget = Budget(policy, self._clock, within.stop if within else self._stop, within)
        # Not in a helper thread, which ends: see `pyreqwest_engine.import_permanently`.
        self._connection.prepare()
        while True:
            try:
                return interruptible(lambda: attempt(budget), self.close)
            except RetryableFailure as failure:
                if self._doubt_schemes() and not budget.stop.is_set():
                    continue
                wait = budget.wait_after(failure)
                if wait is None:
                    raise failure.error from failure
                self.observe(Noted(f"{failure.error}; trying again in {wait:.1f} s"))
                if isinstance(failure.error, RateLimited):
                    self._delay(failure.error.host, wait)
                self._clock.sleep(wait, budget.stop)
                if budget.stop.is_set():
                    raise failure.error from failure

    def _delay(self, host: str, seconds: float) -> None:
        """Delay all requests to a host, also those of processes that share its limits."""
        self._gate.shut(host, seconds)
        if self.options.shared is not None:
            self.options.shared.hold(host, seconds)

    def _refuse_busy(self, answer: StreamedResponse) -> None:
        """Raise for a status that may be temporary."""
        problem = read_error_body(answer.read_some(), answer.headers, self.redactor)
        too_many = answer.status == TOO_MANY or "TOOMANYREQUESTS" in problem.codes
        if not too_many and answer.status not in RETRIED:
            return
        host = answer.url.authority
        wait = parse_retry_after(answer.headers.get("retry-after"), self._clock.wall())
        # Docker Hub's quota lasts hours, its abuse limit a minute (docs/wire-protocol.md, "Docker
        # Hub rate limits").
        quota = too_many and "pull rate limit" in problem.text.lower()
        if wait and not quota and wait <= self.options.max_wait:
            self._delay(host, wait)
        if too_many:
            limited = RateLimited(host, wait, problem.text)
            raise RetryableFailure(limited, transient=not quota, retry_after=wait)
        said = f": {problem.text}" if problem.text else ""
        fault = ServerFault(f"`{host}` answered {answer.status}{said}", "try again later")
        raise RetryableFailure(fault, transient=True, retry_after=wait)

    # --- https or http ---------------------------------------------------------------------

    def base(self, host: str, settings: HostSettings = USUAL) -> Url:
        """Return the origin of a registry; a local registry is probed for TLS once."""
        try:
            secure, plain = Url.parse(f"https://{host}/"), Url.parse(f"http://{host}/")
        except BadUrl as error:
            raise InvalidReference(host, f"it is not a registry: {error}") from error
        if settings.scheme:
            return plain if settings.scheme == "http" else secure
        if self.options.plain_http:
            return plain
        if not is_loopback(secure.host) and not (
            settings.plain_too and self._connection.is_direct(plain)
        ):
            # Never plain http by default, not even for private addresses (docs/wire-protocol.md,
            # "Plain HTTP").
            return secure
        with self._lock:
            known = self._plain_here.get(host)
        if known is not None:
            return plain if known else secure
        schemes = self.options.schemes if self._may_recall and is_loopback(secure.host) else None
        recalled = schemes and schemes.recall_scheme(host, self._clock.wall())
        is_plain = recalled == "http" if recalled else _is_plain_here(secure, plain)
        with self._lock:
            base = plain if self._plain_here.setdefault(host, is_plain) else secure
            if is_loopback(base.host):
                self._unconfirmed[base.authority] = (host, base.scheme, bool(recalled))
        return base

    def _confirm_scheme(self, call: Call, answer: StreamedResponse) -> None:
        """Note that a registry on this machine has answered, so that its scheme is right.

        Raises:
            RetryableFailure: a recalled scheme is wrong. TLS servers answer 400 to plain http (Go's
                net/http and nginx).

        """
        with self._lock:
            host, scheme, recalled = self._unconfirmed.get(call.url.authority, ("", "", False))
            if scheme != call.url.scheme:
                return
            if not (recalled and answer.status == _BAD_REQUEST):
                del self._unconfirmed[call.url.authority]
                if not recalled:
                    self._to_remember[host] = scheme
                return
        answer.close()
        fault = ServerFault(f"`{host}` answered {_BAD_REQUEST}")
        raise RetryableFailure(fault, transient=True)

    def _doubt_schemes(self) -> bool:
        """After a failure, forget recalled schemes without an answer; return whether any was."""
        with self._lock:
            doubted = {key: one for key, one in self._unconfirmed.items() if one[2]}
            for authority, (host, _, _) in doubted.items():
                del self._unconfirmed[authority]
                self._plain_here.pop(host, None)
            self._may_recall = self._may_recall and not doubted
            return bool(doubted)

    def _headers(self, request: Request) -> tuple[tuple[str, str], ...]:
        return (
            ("User-Agent", self.options.user_agent),
            ("Accept-Encoding", "identity"),
            *((("Via", f"1.1 {self.options.via}"),) if self.options.via else ()),
            *request.headers,
        )

    # --- authentication and redirects
    # ---------------------------------------------------------------

    def _authenticate(
        self, request: Request, base: Url, budget: Budget, patience: float | None
    ) -> StreamedResponse:
        """Run the authentication flow for a request."""
        headers, url = self._headers(request), request.location or base.at(request.target)
        if request.stream is not None:
            headers = (*headers, ("Content-Length", str(request.length)))
            patience = None
        call = Call(
            Purpose.RESOURCE,
            request.method,
            url,
            base,
            headers,
            body=request.body,
            stream=request.stream,
            patience=patience,
            stays=request.stays,
        )
        if url.origin != base.origin:
            # Storage that takes uploads for a registry: its address is checked like that of a
            # redirect, and it never gets the registry's credentials.
            return self._follow(call, budget)
        options = self._connection.host_options(request.settings)
        flow = self._flow(request.scope, call)
        try:
            following = next(flow)
            while True:
                try:
                    # Tokens and pings too, if the registry itself serves them.
                    answer = self._perform(replace(following, options=options), budget)
                except Exception as error:  # noqa: BLE001 - the flow decides, as a caller would
                    following = flow.throw(error)
                    continue
                if answer.status >= _FIRST_ERROR:
                    # The flow may wait for another thread's token, and that thread for a slot of
                    # this host: release ours and keep the text.
                    answer.read_some()
                    answer.close()
                try:
                    following = flow.send(answer)
                except StopIteration:
                    return answer
                except BaseException:
                    answer.close()
                    raise
                answer.drain()
                answer.close()
        finally:
            flow.close()

    def _flow(self, scope: Scope, call: Call) -> Flow:
        """Return the authentication flow; its code is loaded when a registry requires it."""
        first = None
        if self._auth is None:
            first = yield call
            if first.status not in _CHALLENGES:
                return
        yield from self._authentication().flow(scope, call, first)

    def _authentication(self) -> RegistryAuth:
        """Return the authentication state, made on first use."""
        from resolver.sources.http.auth import RegistryAuth  # noqa: PLC0415 - if it is required

        with self._lock:
            if self._auth is None:
                self._auth = RegistryAuth(
                    self.credentials, self.redactor, self.observe, self._clock
                )
            return self._auth

    def _perform(self, call: Call, budget: Budget) -> StreamedResponse:
        if call.purpose is Purpose.TOKEN:
            return self._retry(lambda own: self._ask_for_token(call, own), budget)
        answer = self._follow(call, budget)
        if call.purpose is Purpose.PING:
            with answer:
                answer.read_some()
        return answer

    def _follow(self, call: Call, budget: Budget) -> StreamedResponse:
        """Send a call and follow redirects; credentials stay with their origin."""
        seen = {call.url}
        current = call
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._connection.send(current, budget)
            if self._unconfirmed:
                self._confirm_scheme(current, answer)
            answer.direct = current is call and call.url.origin == call.registry.origin
            if current is not call and answer.status >= _FIRST_ERROR:
                # A storage host may repeat the signed link in its error.
                for secret in current.url.signatures:
                    self.redactor.learn(secret)
            if not is_redirect(answer.status):
                return answer
            if call.stays and leads_away(current.url, answer.status, answer.headers, call.registry):
                return answer
            with answer:
                answer.drain()
                target = next_url(current.url, answer.status, answer.headers, call.registry)
            if target in seen:
                raise RedirectRefused(f"`{call.url.authority}` redirects in a circle")
            seen.add(target)
            kept, headers = call.authorization, call.headers
            if target.origin != call.url.origin:
                kept, headers = None, tuple(pair for pair in headers if pair[0] != "Via")
            current = replace(current, url=target, authorization=kept, headers=headers)
        raise RedirectRefused(
            f"`{call.url.authority}` redirects more than {MAX_REDIRECTS} times in a row"
        )

    def _ask_for_token(self, call: Call, budget: Budget) -> StreamedResponse:
        """Send a token request; redirects must stay on the server and never carry a body."""
        current = replace(call, patience=budget.remaining())
        place = f"the token server `{call.url.authority}`"
        for _ in range(MAX_REDIRECTS + 1):
            try:
                answer = self._connection.send(current, budget)
            except AddressRefused as error:
                raise UnsafeRealm(str(error), *error.hints()) from error
            with answer:
                if not is_redirect(answer.status):
                    if answer.status < _FIRST_ERROR:
                        from resolver.sources.http.tokens import MAX_TOKEN_ANSWER  # noqa: PLC0415

                        answer.read(MAX_TOKEN_ANSWER, f"the answer of {place}")
                    else:
                        self._refuse_busy(answer)
                    return answer
                answer.drain()
                current = replace(current, url=_next_token_url(current, answer, place))
        raise BadTokenAnswer(f"{place} redirects more than {MAX_REDIRECTS} times in a row")


def _is_plain_here(secure: Url, plain: Url) -> bool:
    """Whether a registry on this machine uses http (docs/wire-protocol.md, "Plain HTTP")."""
    if secure.port == plain.port:
        if secure.port in (_HTTP, _HTTPS):
            return secure.port == _HTTP
        return has_tls(secure.host, secure.port) is False
    # No port was named, so https means 443 and http 80.
    if has_tls(secure.host, secure.port):
        return False
    return has_tls(plain.host, plain.port) is False


def _next_token_url(call: Call, answer: StreamedResponse, place: str) -> Url:
    if call.body is not None:
        raise BadTokenAnswer(f"{place} redirects a request that carries a token")
    try:
        target = next_url(call.url, answer.status, answer.headers, call.registry)
    except RedirectRefused as error:
        raise UnsafeRealm(str(error), *error.hints()) from error
    if target.origin != call.url.origin:
        raise UnsafeRealm(
            f"{place} redirects to `{target.authority}`, which is refused: "
            "the registry did not name it"
        )
    return target
