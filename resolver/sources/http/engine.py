"""The HTTP library: the one module that imports httpx and pyreqwest.

httpx's transport interface is the face; behind it, `ENGINES` names what moves the bytes: pyreqwest
(TLS and body outside the GIL, architecture.md section 5) or httpx's own. One exchange is one
request and one answer. There is no `httpx.Client` on purpose: it keeps cookies, logs whole URLs,
and fails on a `Location` it cannot read, even where it is told not to follow redirects.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from resolver.errors import InvalidConfiguration
from resolver.sources.http.failures import late, silent, translate
from resolver.sources.http.messages import Headers, StreamedResponse
from resolver.sources.http.native_imports import import_for_good
from resolver.sources.http.tls import identity, tls_context
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyreqwest.request import SyncRequestBuilder

    from resolver.sources.http.messages import Call
    from resolver.sources.http.proxies import Proxy
    from resolver.sources.http.tls import Trust


if "httpx" not in sys.modules:
    # httpx imports rich and pygments for its own command line, which nobody asks for here:
    # 137 against 84 ms. It takes a missing `_main` for "not installed".
    sys.modules["httpx._main"] = None  # type: ignore[assignment]  # how Python spells "not there"
    import httpx

    del sys.modules["httpx._main"]
else:
    import httpx

import_for_good("pyreqwest.client")

from pyreqwest.client import SyncClientBuilder  # noqa: E402 - after the line above
from pyreqwest.compatibility.httpx import SyncHttpxTransport  # noqa: E402 - after the line above
from pyreqwest.exceptions import PyreqwestError, RequestTimeoutError  # noqa: E402 - after the line above
from pyreqwest.proxy import ProxyBuilder  # noqa: E402 - after the line above
from pyreqwest.response import SyncResponse  # noqa: E402 - after the line above

#: Movers pinned to an address; a registry that sends every blob elsewhere gets no more.
_MAX_PINNED: Final = 32
#: Servers that are remembered as having answered; what is beyond only gets a hint too many.
_MAX_SPOKEN: Final = 4096
#: What hyper says of a header with control characters.
_UNREADABLE: Final = "invalid HTTP header parsed"
_LOG: Final = logging.getLogger(__name__)
_CHATTY: Final = ("httpcore.connection", "httpcore.http11", "httpcore.proxy")


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """What decides how an engine is built; times in seconds."""

    trust: Trust
    connect_timeout: float
    read_timeout: float
    connections: int


@dataclass(frozen=True, slots=True)
class Route:
    """How to get to a host: through a proxy, to a checked address, or as the system finds it.

    `own` is what holds for this host instead of the usual wiring.
    """

    proxy: Proxy | None = None
    pin: tuple[str, str, int] | None = None
    own: ConnectionSettings | None = None


@dataclass(frozen=True, slots=True)
class _Kind:
    """One way to move bytes; `pins` when the transport itself can be bound to an address."""

    build: Callable[[ConnectionSettings, Route], httpx.BaseTransport]
    timeouts: Callable[[ConnectionSettings, float | None], dict[str, float | None]]
    pins: bool


class _Muzzle(logging.Filter):
    """Drops what httpcore logs while it works for us: headers with signed URLs, among others.

    Only for threads inside an exchange of ours; what else uses it in this process may log.
    """

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - the signature of logging
        return not getattr(self.here, "quiet", False)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Keep quiet in this thread."""
        before = getattr(self.here, "quiet", False)
        self.here.quiet = True
        try:
            yield
        finally:
            self.here.quiet = before


_MUZZLE: Final = _Muzzle()
for _name in _CHATTY:
    logging.getLogger(_name).addFilter(_MUZZLE)


class Engine:
    """Sends requests; safe to share between threads. Movers are built when first needed.

    Args:
        name: of a row of `ENGINES`.
        wiring: the usual one.
        plain_http: http was chosen by `--plain-http`; for hints alone.

    """

    def __init__(self, name: str, wiring: ConnectionSettings, *, plain_http: bool = False) -> None:
        self._kind = ENGINES[name]
        self._wiring = wiring
        self._plain_http = plain_http
        #: Servers that have answered, and so speak the protocol they are asked in.
        self._spoken: set[tuple[str, str, int]] = set()
        self._lock = threading.Lock()
        self._movers: dict[Route, httpx.BaseTransport] = {}
        self._spares: dict[ConnectionSettings, httpx.BaseTransport] = {}

    def wiring_of(
        self, trust: Trust, connect_timeout: float, read_timeout: float
    ) -> ConnectionSettings:
        """Say how a host is reached that is not reached as the others are."""
        return ConnectionSettings(trust, connect_timeout, read_timeout, self._wiring.connections)

    def open(self, call: Call, route: Route) -> StreamedResponse:
        """Send one request and give its answer as soon as the headers are here.

        Raises:
            Trouble: there is no usable answer.

        """
        mover, lasting = self._mover(self._kind, route)
        try:
            return self._open(mover, call, route, self._kind, lasting=lasting)
        except _UnreadableHeaders:
            # pyreqwest gives out no header that is not UTF-8, and reads none with control
            # characters; httpx does, and what it gives is cleaned where it is shown.
            wiring = route.own or self._wiring
            with self._lock:
                spare = self._spares.get(wiring)
                if spare is None:
                    spare = ENGINES["httpx"].build(wiring, Route(route.proxy))
                    self._spares[wiring] = spare
            return self._open(spare, call, route, ENGINES["httpx"], lasting=True)

    def close(self) -> None:
        """Give connections back; requests under way end with an error."""
        with self._lock:
            movers = [*self._movers.values(), *self._spares.values()]
            self._movers.clear()
            self._spares.clear()
        with _MUZZLE.on():
            for mover in movers:
                mover.close()

    def _open(
        self, mover: httpx.BaseTransport, call: Call, route: Route, kind: _Kind, *, lasting: bool
    ) -> StreamedResponse:
        pin = None if kind.pins else route.pin
        wiring = route.own or self._wiring
        request = _request(call, pin, kind.timeouts(wiring, call.patience))
        origin = call.url.origin
        # `--plain-http` is about registries, not about where they redirect to.
        spoken = origin in self._spoken or origin != call.registry.origin
        with _MUZZLE.on(), _translated(call, wiring, spoken=spoken, plain_http=self._plain_http):
            response = mover.handle_request(request)
        if len(self._spoken) < _MAX_SPOKEN:
            self._spoken.add(origin)
        lines = tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in response.headers.raw
        )
        answer = StreamedResponse(
            response.status_code, Headers(lines), call.url, _chunks(response, call, wiring)
        )
        if not lasting:
            answer.on_close(mover.close)
        answer.on_close(lambda: _close(response))
        return answer

    def _mover(self, kind: _Kind, route: Route) -> tuple[httpx.BaseTransport, bool]:
        """Give what moves bytes on a route, and whether it is kept."""
        key = route if kind.pins else Route(route.proxy, None, route.own)
        with self._lock:
            mover = self._movers.get(key)
            if mover is not None:
                return mover, True
            mover = kind.build(key.own or self._wiring, key)
            lasting = key.pin is None or len(self._movers) < _MAX_PINNED
            if lasting:
                self._movers[key] = mover
            return mover, lasting


def _chunks(response: httpx.Response, call: Call, wiring: ConnectionSettings) -> Iterator[bytes]:
    with _translated(call, wiring, answered=True, spoken=True):
        read = _reader(response)
        while True:
            with _MUZZLE.on():
                chunk = read()
            if chunk is None:
                return
            yield chunk


@contextmanager
def _translated(
    call: Call,
    wiring: ConnectionSettings,
    *,
    answered: bool = False,
    spoken: bool = False,
    plain_http: bool = False,
) -> Iterator[None]:
    """Turn what the libraries raise into `Trouble`; `answered` once there is a status."""
    begun = time.monotonic()
    allowed = wiring.read_timeout
    if call.patience is not None:
        allowed = min(allowed, call.patience)
    try:
        yield
    except (httpx.TimeoutException, RequestTimeoutError) as error:
        if answered:
            raise silent(call.url, allowed, whole=call.patience is not None) from error
        # pyreqwest says "connection timeout" of every wait for the head of an answer: the
        # time that has passed tells which of the two limits was met.
        connecting = time.monotonic() - begun < allowed
        unconnected = connecting and isinstance(error, httpx.ConnectTimeout)
        seconds = wiring.connect_timeout if unconnected else allowed
        raise late(call.url, seconds, unconnected=unconnected) from error
    except (
        httpx.HTTPError,
        httpx.InvalidURL,
        httpx.StreamError,
        PyreqwestError,
        OSError,
        # What was closed by another thread cannot send.
        RuntimeError,
    ) as error:
        if _UNREADABLE in str(error.__cause__):
            raise _UnreadableHeaders from error
        raise translate(error, call.url, answered=spoken, plain_http=plain_http) from error
    except ValueError as error:
        if "header" in str(error):
            raise _UnreadableHeaders from error
        raise


class _UnreadableHeaders(Exception):
    """The answer has a header that this engine cannot give out."""


def _request(
    call: Call, pin: tuple[str, str, int] | None, timeouts: dict[str, float | None]
) -> httpx.Request:
    headers = list(call.headers)
    if call.own_way is not None:
        # What proves who asks comes from the conversation, if it comes at all.
        own = [(name, value.reveal()) for name, value in call.own_way.headers]
        proven = call.authorization is not None
        headers += [pair for pair in own if not (proven and pair[0].lower() == "authorization")]
    if call.authorization is not None:
        headers.append(("Authorization", call.authorization.reveal()))
    extensions: dict[str, object] = {"timeout": timeouts, "streamed": call.patience is None}
    url = call.url.wire
    if pin is not None:
        # httpx dials the host of the URL; the name still goes into Host, SNI and the check.
        headers.insert(0, ("Host", call.url.authority))
        extensions["sni_hostname"] = call.url.host
        address = f"[{pin[1]}]" if ":" in pin[1] else pin[1]
        url = f"{call.url.scheme}://{address}:{call.url.port}{call.url.target}"
    return httpx.Request(
        call.method, url, headers=headers, content=call.body, extensions=extensions
    )


def _reader(response: httpx.Response) -> Callable[[], bytes | None]:
    """Give what reads the next chunk of a body; None at its end.

    pyreqwest's own reader gives what has arrived; through httpx it would be cut to 64 KiB first
    (451 MB over loopback: 6,900 against 1,200 chunks, each with its turn of the interpreter), and
    what is less than that would be lost with a connection that breaks.
    """
    answer = response.extensions.get("pyreqwest_response")
    if isinstance(answer, SyncResponse):
        body = answer.body_reader

        def read() -> bytes | None:
            chunk = body.read_chunk()
            return None if chunk is None else bytes(chunk)

        return read
    # No chunk size: httpx would copy everything once more.
    chunks = response.iter_raw()
    return lambda: next(chunks, None)


def _close(response: httpx.Response) -> None:
    # The answer is in hand already, or its failure has been told.
    with _MUZZLE.on(), suppress(httpx.HTTPError, OSError, RuntimeError):
        response.close()


class _Mover(SyncHttpxTransport):
    """pyreqwest behind httpx's face, without its read-ahead for bodies that are streamed.

    It reads 64 KiB before it gives an answer out at all, and drops them when the connection breaks
    meanwhile: a blob that is cut would lose what had come of it, and a stalled one its status.
    """

    def _map_response(self, builder: SyncRequestBuilder, request: httpx.Request) -> httpx.Response:
        if request.extensions.get("streamed"):
            builder = builder.streamed_read_buffer_limit(0)
        return super()._map_response(builder, request)


def _build_pyreqwest(wiring: ConnectionSettings, route: Route) -> httpx.BaseTransport:
    builder = (
        SyncClientBuilder()
        .follow_redirects(enable=False)
        .referer(enable=False)
        .default_cookie_store(enable=False)
        .gzip(enable=False)
        .deflate(enable=False)
        .brotli(enable=False)
        .zstd(enable=False)
        .no_proxy()
        .http1_only()
        .min_tls_version("TLSv1.2")
        .connect_timeout(timedelta(seconds=wiring.connect_timeout))
        .read_timeout(timedelta(seconds=wiring.read_timeout))
        .pool_max_idle_per_host(wiring.connections)
    )
    if wiring.trust.skip:
        builder = builder.danger_accept_invalid_certs(enable=True)
    try:
        for pem in wiring.trust.extra:
            builder = builder.add_root_certificate_pem(pem)
        if wiring.trust.client is not None:
            builder = builder.identity_pem(identity(wiring.trust.client))
    except PyreqwestError as error:
        raise InvalidConfiguration(
            "the certificates", "", "one of them is not understood"
        ) from error
    if route.pin is not None:
        builder = builder.resolve(*route.pin)
    if route.proxy is not None:
        proxy = ProxyBuilder.all(route.proxy.url.wire)
        if route.proxy.password is not None:
            proxy = proxy.basic_auth(route.proxy.username, route.proxy.password.reveal())
        builder = builder.proxy(proxy)
    try:
        return _Mover(builder.build())
    except (PyreqwestError, RuntimeError) as error:
        # It refuses to start without any authority, also for plain http, and says nothing useful
        # when the process may open no more files; httpx starts, and then fails with a reason.
        _LOG.debug("pyreqwest cannot start: %s", type(error).__name__)
        return _build_httpx(wiring, route)


def _pyreqwest_timeouts(
    _wiring: ConnectionSettings, patience: float | None
) -> dict[str, float | None]:
    """Pyreqwest takes the sum of these for the whole answer, so a stream must not have any."""
    return {"read": patience}


def _build_httpx(wiring: ConnectionSettings, route: Route) -> httpx.BaseTransport:
    context = tls_context(wiring.trust)
    proxy = None
    if route.proxy is not None:
        auth = None
        if route.proxy.password is not None:
            auth = (route.proxy.username, route.proxy.password.reveal())
        # httpx refuses a context for a proxy that is spoken to in the open.
        own = context if route.proxy.url.scheme == "https" else None
        proxy = httpx.Proxy(route.proxy.url.wire, auth=auth, ssl_context=own)
    limits = httpx.Limits(max_keepalive_connections=4 * wiring.connections)
    return httpx.HTTPTransport(verify=context, trust_env=False, limits=limits, proxy=proxy)


def _httpx_timeouts(wiring: ConnectionSettings, patience: float | None) -> dict[str, float | None]:
    read = wiring.read_timeout if patience is None else min(wiring.read_timeout, patience)
    connect = wiring.connect_timeout
    return {"connect": connect, "read": read, "write": read, "pool": connect}


#: What can move the bytes. To add one, add a row.
ENGINES: Final = {
    "pyreqwest": _Kind(_build_pyreqwest, _pyreqwest_timeouts, pins=True),
    "httpx": _Kind(_build_httpx, _httpx_timeouts, pins=False),
}
