"""Transport: from a question about a repository to one answer, whatever the network does.

Around one exchange (`engine`) come, from the inside out: the choice of proxy and address, redirects
by hand, proof of who asks, https or http, and trying again. Everything that is read has a limit.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self, TypeVar

from resolver.clock import SystemClock
from resolver.core.registry.endpoints import USUAL
from resolver.core.results.events import Noted
from resolver.core.results.pull_events import ignore
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
from resolver.sources.http.auth import RegistryAuth
from resolver.sources.http.connection import Connection, interruptible
from resolver.sources.http.messages import Call, Purpose, RetryableFailure
from resolver.sources.http.requests import Request, Response, Scope, TransportOptions
from resolver.sources.http.responses import read_complaint
from resolver.sources.http.retry import (
    RETRIED,
    TOO_MANY,
    Budget,
    Gate,
    RetryPolicy,
    parse_retry_after,
)
from resolver.sources.http.tokens import MAX_TOKEN_ANSWER
from resolver.sources.http.urls import PORTS, BadUrl, Url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from resolver.clock import Clock
    from resolver.core.oci.digest import Digest
    from resolver.core.registry.endpoints import Endpoint, HostSettings
    from resolver.core.results.pull_events import Observer
    from resolver.sources.credentials.chain import CredentialChain
    from resolver.sources.http.addresses import Lookup
    from resolver.sources.http.messages import Headers, StreamedResponse


#: Source: reliability.md section 5; containerd, regclient and distribution stop at 10.
MAX_REDIRECTS = 5
FOLLOWED = frozenset({301, 302, 303, 307, 308})
_FIRST, _LAST = 300, 399


def is_redirect(status: int) -> bool:
    """Whether a status is a 3xx, which is either followed or refused, never an answer."""
    return _FIRST <= status <= _LAST


def next_url(current: Url, status: int, headers: Headers, registry: Url) -> Url:
    """Find out where a redirect leads; addresses are not judged here.

    Only if the registry is plain http itself may other places be.

    Raises:
        ServerFault: the status is no redirect to follow.
        RedirectRefused: where it leads must not be gone to.

    """
    if status not in FOLLOWED:
        raise ServerFault(f"`{current.authority}` answered {status}, which is no answer to a GET")
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
            "what is asked for over https is not fetched in the open",
        )
    return target


def leads_away(current: Url, status: int, headers: Headers, registry: Url) -> bool:
    """Say whether a redirect leaves the origin it comes from, or leads nowhere."""
    try:
        return next_url(current, status, headers, registry).origin != current.origin
    except (RedirectRefused, ServerFault):
        return True


#: Seconds in which an endpoint that did not answer is not asked again. Source: protocol.md 13.
REST: Final = 60.0
#: Pieces of content that an endpoint may get wrong before it is not asked for any more.
MAX_LIES: Final = 3


class Health:
    """What is known of endpoints in this run; safe to share between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}
        self._lies: dict[str, set[Digest]] = {}

    def rest(self, endpoint: Endpoint, seconds: float = REST) -> bool:
        """Leave an endpoint alone for a while; False if it is already."""
        now = self._clock.monotonic()
        with self._lock:
            is_new = self._until.get(endpoint.url, now) <= now
            self._until[endpoint.url] = now + seconds
            return is_new

    def lied(self, endpoint: Endpoint, digest: Digest) -> bool:
        """Note that an endpoint gave other bytes for a digest; False if that is known."""
        with self._lock:
            lies = self._lies.setdefault(endpoint.url, set())
            is_new = digest not in lies
            lies.add(digest)
            return is_new

    def may_ask(self, endpoint: Endpoint, digest: Digest | None) -> bool:
        """Whether there is sense in asking an endpoint now, for this digest."""
        with self._lock:
            if self._until.get(endpoint.url, 0.0) > self._clock.monotonic():
                return False
            lies = self._lies.get(endpoint.url, set())
            return digest not in lies and len(lies) < MAX_LIES


#: Seconds; on this machine an answer takes far less than one.
PATIENCE: Final = 2.0
#: First bytes of every TLS record that can answer: alert, handshake. Source: RFC 5246, 6.2.1.
_ANSWERS: Final = (b"\x15", b"\x16")


def speaks_tls(host: str, port: int, patience: float = PATIENCE) -> bool | None:
    """Ask a port of this machine whether it speaks TLS.

    Returns:
        None when nobody listens there, or nobody answers.
    """
    try:
        with socket.create_connection((host, port), timeout=patience) as link:
            link.sendall(CLIENT_HELLO)
            first = link.recv(1)
    except ConnectionResetError:
        return False
    except OSError:
        return None
    return first in _ANSWERS


def _sized(content: bytes, width: int) -> bytes:
    """Put the length before it, in `width` bytes."""
    return len(content).to_bytes(width, "big") + content


def _extension(kind: int, content: bytes) -> bytes:
    return struct.pack(">H", kind) + _sized(content, 2)


def _client_hello() -> bytes:
    """Write a TLS 1.2 ClientHello; newer servers answer it too, if only with an alert.

    In the place of random bytes it has line ends: an HTTP server sees a request at once, and a
    wrong one, where it might wait for more of something random. Source: RFC 5246, 7.4.1.2.
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
_FIRST_ERROR = 400

T = TypeVar("T")


class Transport:
    """Asks registries; safe to share between threads. The HTTP library is loaded when needed.

    Attributes:
        credentials: what is known of logins; asked only after a refusal.
        redactor: knows every secret that was used, for whoever shows remote text.
        observe: is told of retries and of warnings.
        health: which mirrors are left alone.
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
        self._auth = RegistryAuth(credentials, self.redactor, observe, self._clock)
        self._gate = Gate(self._clock)
        self.health = Health(self._clock)
        self._wire = Connection(options, self.redactor, observe, self._clock, self._gate, lookup)
        self._retries = RetryPolicy(
            attempts=options.attempts, longest_wait=options.max_wait, deadline=options.deadline
        )
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._plain_here: dict[str, bool] = {}

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
        """End what is under way, and give connections back; a later request opens new ones.

        Requests of other threads fail, and nobody tries them again.
        """
        with self._lock:
            stop, self._stop = self._stop, threading.Event()
        stop.set()
        self._wire.close()

    def fetch(self, request: Request) -> Response:
        """Ask and read the whole answer, of any status below 500 that is not 401 or 429.

        Raises:
            Denied: there is no way in.
            Unavailable: nobody answered, or not usefully, however often it was tried.
            LimitExceeded: the answer is longer than `request.limit`.

        """

        def attempt(budget: Budget) -> Response:
            base = self._base(request.host, request.settings)
            with self._prove(request, base, budget, budget.remaining()) as answer:
                if answer.status >= _FIRST_ERROR:
                    self._refuse_busy(answer)
                    body = answer.read_some()
                else:
                    # HEAD announces a length that never comes.
                    whole = request.method != "HEAD"
                    body = answer.read(request.limit, request.what) if whole else answer.read_some()
                return Response(answer.status, answer.headers, body, answer.url, base)

        return self._persist(attempt, attempts=request.attempts)

    def knock(self, request: Request) -> Response:
        """Ask once and prove nothing: any answer will do, a refusal or a fault too.

        Raises:
            Unavailable: nobody answered.

        """

        def attempt(budget: Budget) -> Response:
            base = self._base(request.host, request.settings)
            call = Call(
                Purpose.RESOURCE,
                request.method,
                base.at(request.target),
                base,
                self._headers(request),
                patience=budget.remaining(),
                stays=True,
            )
            way = self._wire.way(request.settings)
            with self._follow(replace(call, way=way), budget) as answer:
                return Response(answer.status, answer.headers, answer.read_some(), answer.url, base)

        return self._persist(attempt, attempts=1)

    def has_shown_credentials(self, asker: Scope) -> bool:
        """Whether this repository was asked for with more than nothing."""
        return self._auth.has_shown_credentials(asker)

    @contextmanager
    def stream(self, request: Request) -> Iterator[StreamedResponse]:
        """Ask and give the answer with its body still to come, as raw chunks.

        Only asking is tried again; who reads resumes by `Range` where the body breaks off.

        Raises:
            Denied, Unavailable: as `fetch`; also while the body is read.

        """

        def ask(budget: Budget) -> StreamedResponse:
            return self._prove(request, self._base(request.host, request.settings), budget, None)

        with self._streamed(ask, request.attempts) as answer:
            yield answer

    @contextmanager
    def stream_elsewhere(self, request: Request, url: str) -> Iterator[StreamedResponse]:
        """Stream from a URL that a document of `request`'s registry names, and prove nothing there.

        Where it leads is judged as a redirect of that registry would be (R19, R22, R24).

        Raises:
            RedirectRefused: it is no URL to go to.
            Unavailable: as `stream`.

        """
        base = self._base(request.host, request.settings)
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
        """Ask until there is an answer, and hand it out with its body still to come."""

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

        with self._persist(attempt, attempts=attempts) as answer:
            try:
                yield answer
            except RetryableFailure as trouble:
                raise trouble.error from trouble

    # --- trying again ----------------------------------------------------------------------

    def _persist(
        self,
        attempt: Callable[[Budget], T],
        within: Budget | None = None,
        attempts: int | None = None,
    ) -> T:
        """Try until it works, or there is no sense in it."""
        policy = self._retries if attempts is None else replace(self._retries, attempts=attempts)
        budget = Budget(policy, self._clock, within.stop if within else self._stop, within)
        # Here, and not in a helper's thread, which ends: see `lasting`.
        self._wire.prepare()
        while True:
            try:
                return interruptible(lambda: attempt(budget), self.close)
            except RetryableFailure as trouble:
                wait = budget.wait_after(trouble)
                if wait is None:
                    raise trouble.error from trouble
                self.observe(Noted(f"{trouble.error}; trying again in {wait:.1f} s"))
                if isinstance(trouble.error, RateLimited):
                    self._gate.shut(trouble.error.host, wait)
                self._clock.sleep(wait, budget.stop)
                if budget.stop.is_set():
                    raise trouble.error from trouble

    def _refuse_busy(self, answer: StreamedResponse) -> None:
        """Raise for an answer that may be another one later."""
        complaint = read_complaint(answer.read_some(), answer.headers, self.redactor)
        too_many = answer.status == TOO_MANY or "TOOMANYREQUESTS" in complaint.codes
        if not too_many and answer.status not in RETRIED:
            return
        host = answer.url.authority
        wait = parse_retry_after(answer.headers.get("retry-after"), self._clock.wall())
        if too_many:
            # Docker Hub's quota lasts for hours; its limit on abuse, for a minute (quirk q-004).
            quota = "pull rate limit" in complaint.text.lower()
            limited = RateLimited(host, wait, complaint.text)
            raise RetryableFailure(limited, transient=not quota, retry_after=wait)
        said = f": {complaint.text}" if complaint.text else ""
        fault = ServerFault(f"`{host}` answered {answer.status}{said}", "try again later")
        raise RetryableFailure(fault, transient=True, retry_after=wait)

    # --- https or http ---------------------------------------------------------------------

    def _base(self, host: str, settings: HostSettings = USUAL) -> Url:
        """Give the origin of a registry; what speaks on this machine is found out once."""
        try:
            secure, plain = Url.parse(f"https://{host}/"), Url.parse(f"http://{host}/")
        except BadUrl as error:
            raise InvalidReference(host, f"there can be no such registry: {error}") from error
        if settings.scheme:
            return plain if settings.scheme == "http" else secure
        if self.options.plain_http:
            return plain
        if not is_loopback(secure.host) and not (
            settings.plain_too and self._wire.is_direct(plain)
        ):
            # Never by itself, not even for private addresses (R18).
            return secure
        with self._lock:
            known = self._plain_here.get(host)
        if known is None:
            known = _is_plain_here(secure, plain)
            with self._lock:
                known = self._plain_here.setdefault(host, known)
        return plain if known else secure

    def _headers(self, request: Request) -> tuple[tuple[str, str], ...]:
        return (
            ("User-Agent", self.options.user_agent),
            ("Accept-Encoding", "identity"),
            *((("Via", f"1.1 {self.options.via}"),) if self.options.via else ()),
            *request.headers,
        )

    # --- proof and redirects ---------------------------------------------------------------

    def _prove(
        self, request: Request, base: Url, budget: Budget, patience: float | None
    ) -> StreamedResponse:
        """Drive the conversation that proves who asks."""
        headers, url = self._headers(request), base.at(request.target)
        call = Call(
            Purpose.RESOURCE,
            request.method,
            url,
            base,
            headers,
            patience=patience,
            stays=request.stays,
        )
        way = self._wire.way(request.settings)
        flow = self._auth.flow(request.asker, call)
        try:
            following = next(flow)
            while True:
                try:
                    # Tokens and pings too, where the registry hands them out itself.
                    answer = self._perform(replace(following, way=way), budget)
                except Exception as error:  # noqa: BLE001 - the flow decides, as a caller would
                    following = flow.throw(error)
                    continue
                if answer.status >= _FIRST_ERROR:
                    # What follows may be waiting for another thread's token, and that thread for
                    # a slot of this host: so none is kept meanwhile. The words are kept.
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

    def _perform(self, call: Call, budget: Budget) -> StreamedResponse:
        if call.purpose is Purpose.TOKEN:
            return self._persist(lambda own: self._ask_for_token(call, own), budget)
        answer = self._follow(call, budget)
        if call.purpose is Purpose.PING:
            with answer:
                answer.read_some()
        return answer

    def _follow(self, call: Call, budget: Budget) -> StreamedResponse:
        """Ask, and go where the answer points; proof stays with the origin it was meant for."""
        seen = {call.url}
        current = call
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._wire.send(current, budget)
            answer.direct = current is call and call.url.origin == call.registry.origin
            if current is not call and answer.status >= _FIRST_ERROR:
                # A storage host may repeat the link it was asked by in its complaint.
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
        """Ask a token server; redirects stay on it, and never take a body along (R21)."""
        current = replace(call, patience=budget.remaining())
        place = f"the token server `{call.url.authority}`"
        for _ in range(MAX_REDIRECTS + 1):
            try:
                answer = self._wire.send(current, budget)
            except AddressRefused as error:
                raise UnsafeRealm(str(error), *error.hints()) from error
            with answer:
                if not is_redirect(answer.status):
                    if answer.status < _FIRST_ERROR:
                        answer.read(MAX_TOKEN_ANSWER, f"the answer of {place}")
                    else:
                        self._refuse_busy(answer)
                    return answer
                answer.drain()
                current = replace(current, url=_next_token_url(current, answer, place))
        raise BadTokenAnswer(f"{place} redirects more than {MAX_REDIRECTS} times in a row")


def _is_plain_here(secure: Url, plain: Url) -> bool:
    """Decide between https and http for a registry on this machine (protocol.md 14.2)."""
    if secure.port == plain.port:
        if secure.port in (_HTTP, _HTTPS):
            return secure.port == _HTTP
        return speaks_tls(secure.host, secure.port) is False
    # No port was named, so https means 443 and http 80.
    if speaks_tls(secure.host, secure.port):
        return False
    return speaks_tls(plain.host, plain.port) is False


def _next_token_url(call: Call, answer: StreamedResponse, place: str) -> Url:
    if call.body is not None:
        raise BadTokenAnswer(f"{place} redirects a request that carries a token")
    try:
        target = next_url(call.url, answer.status, answer.headers, call.registry)
    except RedirectRefused as error:
        raise UnsafeRealm(str(error), *error.hints()) from error
    if target.origin != call.url.origin:
        raise UnsafeRealm(
            f"{place} redirects to `{target.authority}`, which is not asked: "
            "the registry did not name it"
        )
    return target
