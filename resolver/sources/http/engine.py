"""The HTTP library: the one module that imports httpx and pyreqwest.

The interface is httpx's transport; `ENGINES` lists the implementations: pyreqwest (TLS and body
outside the GIL) or httpx's own. One exchange is one request and one response. `httpx.Client` is not
used: it keeps cookies, logs whole URLs, and fails on an invalid `Location` even without following
redirects. See docs/wire-protocol.md, "HTTP client".
"""

from __future__ import annotations

import importlib
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
from resolver.sources.http.tls import identity, tls_context
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyreqwest.request import SyncRequestBuilder

    from resolver.sources.http.addresses import Proxy
    from resolver.sources.http.messages import Call
    from resolver.sources.http.tls import Trust


def import_permanently(name: str) -> None:
    """Import a module in a thread that never ends.

    pyreqwest's allocator belongs to the thread that loads it. After that thread ends, the next new
    thread that allocates memory crashes the process (measured with 0.15.1: import in a pool's
    worker, let the pool end, send from another thread). Outside the main thread a daemon thread is
    started for the import.
    """
    if name in sys.modules:
        return
    if threading.current_thread() is threading.main_thread():
        importlib.import_module(name)
        return
    keeper = _Keeper(name)
    keeper.start()
    keeper.loaded.wait()
    if keeper.failure is not None:
        raise keeper.failure


class _Keeper(threading.Thread):
    """Imports one module and then waits until the process ends."""

    def __init__(self, name: str) -> None:
        super().__init__(name=f"keeper of {name}", daemon=True)
        self._module = name
        self.loaded = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            importlib.import_module(self._module)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            self.failure = error
        self.loaded.set()
        threading.Event().wait()


if "httpx" not in sys.modules:
    # httpx imports rich and pygments for its command line, which is not used here: 137 ms instead
    # of 84. It treats a missing `_main` as "not installed".
    sys.modules["httpx._main"] = None  # type: ignore[assignment]  # marks the module as missing
    import httpx

    del sys.modules["httpx._main"]
else:
    import httpx

import_permanently("pyreqwest.client")
from pyreqwest.client import SyncClientBuilder  # noqa: E402 - after the line above
from pyreqwest.compatibility.httpx import SyncHttpxTransport  # noqa: E402 - after the line above
from pyreqwest.exceptions import PyreqwestError, RequestTimeoutError  # noqa: E402 - after the line above
from pyreqwest.proxy import ProxyBuilder  # noqa: E402 - after the line above
from pyreqwest.response import SyncResponse  # noqa: E402 - after the line above

#: Most transports pinned to an address.
_MAX_PINNED: Final = 32
#: Most servers remembered as having answered; others only get an additional hint.
_MAX_ANSWERED: Final = 4096
#: Seconds that a registry may take to store an upload.
STORING: Final = 300.0
#: Hyper's error for a header with control characters.
_UNREADABLE: Final = "invalid HTTP header parsed"
_LOG: Final = logging.getLogger(__name__)
_CHATTY: Final = ("httpcore.connection", "httpcore.http11", "httpcore.proxy")


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Settings of an engine; times in seconds."""

    trust: Trust
    connect_timeout: float
    read_timeout: float
    connections: int


@dataclass(frozen=True, slots=True)
class Route:
    """Route to a host: through a proxy, to a checked address, or by the system's resolver.

    `own` overrides the general settings for this host.
    """

    proxy: Proxy | None = None
    pin: tuple[str, str, int] | None = None
    own: ConnectionSettings | None = None


@dataclass(frozen=True, slots=True)
class _Kind:
    """One engine; `pins` if its transport can be bound to an address."""

    build: Callable[[ConnectionSettings, Route], httpx.BaseTransport]
    timeouts: Callable[[ConnectionSettings, float | None], dict[str, float | None]]
    pins: bool


class _QuietFilter(logging.Filter):
    """Drops httpcore's log records for our requests: headers with signed URLs, among others.

    Only for threads inside one of our exchanges; other users of httpcore may log.
    """

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - the signature of logging
        return not getattr(self.here, "quiet", False)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Drop log records in this thread."""
        before = getattr(self.here, "quiet", False)
        self.here.quiet = True
        try:
            yield
        finally:
            self.here.quiet = before


_QUIET: Final = _QuietFilter()
for _name in _CHATTY:
    logging.getLogger(_name).addFilter(_QUIET)


class Engine:
    """Sends requests; safe to share between threads. Transports are built on first use.

    Args:
        name: of a row of `ENGINES`.
        settings: the defaults.
        plain_http: http was chosen by `--plain-http`; for hints only.

    """

    def __init__(
        self, name: str, settings: ConnectionSettings, *, plain_http: bool = False
    ) -> None:
        self._kind = ENGINES[name]
        self._settings = settings
        self._plain_http = plain_http
        #: Servers that have answered, so their scheme is right.
        self._answered: set[tuple[str, str, int]] = set()
        self._lock = threading.Lock()
        self._transports: dict[Route, httpx.BaseTransport] = {}
        self._spares: dict[Route, httpx.BaseTransport] = {}

    def settings_of(
        self, trust: Trust, connect_timeout: float, read_timeout: float
    ) -> ConnectionSettings:
        """Return the settings of a host with options of its own."""
        return ConnectionSettings(trust, connect_timeout, read_timeout, self._settings.connections)

    def open(self, call: Call, route: Route) -> StreamedResponse:
        """Send one request and return its response once the headers have arrived.

        Raises:
            RetryableFailure: there is no usable response.

        """
        if call.stream is not None:
            # pyreqwest reads a body in the thread of its event loop, where the source of an upload
            # cannot be read: it would wait for itself.
            return self._open(self._spare(route), call, route, ENGINES["httpx"], is_kept=True)
        transport, is_kept = self._transport(self._kind, route)
        try:
            return self._open(transport, call, route, self._kind, is_kept=is_kept)
        except _UnreadableHeaders:
            # pyreqwest rejects headers that are not UTF-8 or have control characters; httpx returns
            # them, and they are cleaned for display.
            return self._open(self._spare(route), call, route, ENGINES["httpx"], is_kept=True)

    def _spare(self, route: Route) -> httpx.BaseTransport:
        """Return httpx's own transport, for what pyreqwest cannot do."""
        key = Route(route.proxy, None, route.own)
        with self._lock:
            spare = self._spares.get(key)
            if spare is None:
                spare = ENGINES["httpx"].build(route.own or self._settings, key)
                self._spares[key] = spare
            return spare

    def close(self) -> None:
        """Close connections; active requests fail."""
        with self._lock:
            transports = [*self._transports.values(), *self._spares.values()]
            self._transports.clear()
            self._spares.clear()
        with _QUIET.on():
            for transport in transports:
                transport.close()

    def _open(
        self,
        transport: httpx.BaseTransport,
        call: Call,
        route: Route,
        kind: _Kind,
        *,
        is_kept: bool,
    ) -> StreamedResponse:
        pin = None if kind.pins else route.pin
        settings = route.own or self._settings
        timeouts = kind.timeouts(settings, call.patience)
        if call.stream is not None:
            # The time to store what was sent; sending itself is limited by `write`.
            timeouts["read"] = max(settings.read_timeout, STORING)
        request = _request(call, pin, timeouts)
        origin = call.url.origin
        # `--plain-http` applies to registries, not to redirect targets.
        has_answered = origin in self._answered or origin != call.registry.origin
        with (
            _QUIET.on(),
            _translated(call, settings, has_answered=has_answered, plain_http=self._plain_http),
        ):
            response = transport.handle_request(request)
        if len(self._answered) < _MAX_ANSWERED:
            self._answered.add(origin)
        lines = tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in response.headers.raw
        )
        answer = StreamedResponse(
            response.status_code, Headers(lines), call.url, _chunks(response, call, settings)
        )
        if not is_kept:
            answer.on_close(transport.close)
        answer.on_close(lambda: _close(response))
        return answer

    def _transport(self, kind: _Kind, route: Route) -> tuple[httpx.BaseTransport, bool]:
        """Return the transport of a route, and whether it is kept."""
        key = route if kind.pins else Route(route.proxy, None, route.own)
        with self._lock:
            transport = self._transports.get(key)
            if transport is not None:
                return transport, True
            transport = kind.build(key.own or self._settings, key)
            is_kept = key.pin is None or len(self._transports) < _MAX_PINNED
            if is_kept:
                self._transports[key] = transport
            return transport, is_kept


def _chunks(response: httpx.Response, call: Call, settings: ConnectionSettings) -> Iterator[bytes]:
    with _translated(call, settings, answered=True, has_answered=True):
        read = _reader(response)
        while True:
            with _QUIET.on():
                chunk = read()
            if chunk is None:
                return
            yield chunk


@contextmanager
def _translated(
    call: Call,
    settings: ConnectionSettings,
    *,
    answered: bool = False,
    has_answered: bool = False,
    plain_http: bool = False,
) -> Iterator[None]:
    """Translate library errors into `RetryableFailure`; `answered` once there is a status."""
    begun = time.monotonic()
    allowed = settings.read_timeout
    if call.patience is not None:
        allowed = min(allowed, call.patience)
    try:
        yield
    except (httpx.TimeoutException, RequestTimeoutError) as error:
        if answered:
            raise silent(call.url, allowed, whole=call.patience is not None) from error
        # pyreqwest reports "connection timeout" for every wait for response headers: the elapsed
        # time shows which limit was reached.
        connecting = time.monotonic() - begun < allowed
        unconnected = connecting and isinstance(error, httpx.ConnectTimeout)
        seconds = settings.connect_timeout if unconnected else allowed
        raise late(call.url, seconds, unconnected=unconnected) from error
    except (
        httpx.HTTPError,
        httpx.InvalidURL,
        httpx.StreamError,
        PyreqwestError,
        OSError,
        # The transport was closed by another thread.
        RuntimeError,
    ) as error:
        if _UNREADABLE in str(error.__cause__):
            raise _UnreadableHeaders from error
        raise translate(error, call.url, answered=has_answered, plain_http=plain_http) from error
    except ValueError as error:
        if "header" in str(error):
            raise _UnreadableHeaders from error
        raise


class _UnreadableHeaders(Exception):
    """The response has a header that this engine cannot return."""


def _request(
    call: Call, pin: tuple[str, str, int] | None, timeouts: dict[str, float | None]
) -> httpx.Request:
    headers = list(call.headers)
    if call.own_options is not None:
        # `Authorization` comes from the authentication flow, if there is one.
        own = [(name, value.reveal()) for name, value in call.own_options.headers]
        proven = call.authorization is not None
        headers += [pair for pair in own if not (proven and pair[0].lower() == "authorization")]
    if call.authorization is not None:
        headers.append(("Authorization", call.authorization.reveal()))
    extensions: dict[str, object] = {"timeout": timeouts, "streamed": call.patience is None}
    url = call.url.wire
    if pin is not None:
        # httpx dials the host of the URL; the name is still used for Host, SNI and verification.
        headers.insert(0, ("Host", call.url.authority))
        extensions["sni_hostname"] = call.url.host
        address = f"[{pin[1]}]" if ":" in pin[1] else pin[1]
        url = f"{call.url.scheme}://{address}:{call.url.port}{call.url.target}"
    body = call.body if call.stream is None else call.stream()
    return httpx.Request(call.method, url, headers=headers, content=body, extensions=extensions)


def _reader(response: httpx.Response) -> Callable[[], bytes | None]:
    """Return a function that reads the next chunk of a body; None at its end.

    pyreqwest's own reader returns the bytes that have arrived; httpx would cut them to 64 KiB (451
    MB over loopback: 6,900 instead of 1,200 chunks) and lose a shorter rest of a broken connection.
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
    # The response is complete, or its error was raised already.
    with _QUIET.on(), suppress(httpx.HTTPError, OSError, RuntimeError):
        response.close()


class _PyreqwestTransport(SyncHttpxTransport):
    """pyreqwest's httpx transport without read-ahead for streamed bodies.

    The read-ahead waits for 64 KiB before it returns a response, and drops them if the connection
    breaks: an interrupted blob would lose its first bytes, and a stalled one its status.
    """

    def _map_response(self, builder: SyncRequestBuilder, request: httpx.Request) -> httpx.Response:
        if request.extensions.get("streamed"):
            builder = builder.streamed_read_buffer_limit(0)
        return super()._map_response(builder, request)


def _build_pyreqwest(settings: ConnectionSettings, route: Route) -> httpx.BaseTransport:
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
        .connect_timeout(timedelta(seconds=settings.connect_timeout))
        .read_timeout(timedelta(seconds=settings.read_timeout))
        .pool_max_idle_per_host(settings.connections)
    )
    if settings.trust.skip:
        builder = builder.danger_accept_invalid_certs(enable=True)
    try:
        for pem in settings.trust.extra:
            builder = builder.add_root_certificate_pem(pem)
        if settings.trust.client is not None:
            builder = builder.identity_pem(identity(settings.trust.client))
    except PyreqwestError as error:
        raise InvalidConfiguration(
            "the certificates", "", "one of them cannot be parsed"
        ) from error
    if route.pin is not None:
        builder = builder.resolve(*route.pin)
    if route.proxy is not None:
        proxy = ProxyBuilder.all(route.proxy.url.wire)
        if route.proxy.password is not None:
            proxy = proxy.basic_auth(route.proxy.username, route.proxy.password.reveal())
        builder = builder.proxy(proxy)
    try:
        return _PyreqwestTransport(builder.build())
    except (PyreqwestError, RuntimeError) as error:
        # It does not start without any certificate authority, even for plain http, and has no
        # useful error when the process is out of file descriptors; httpx starts and fails with a
        # reason.
        _LOG.debug("pyreqwest cannot start: %s", type(error).__name__)
        return _build_httpx(settings, route)


def _pyreqwest_timeouts(
    _settings: ConnectionSettings, patience: float | None
) -> dict[str, float | None]:
    """Pyreqwest applies their sum to the whole response, so a stream must not have any."""
    return {"read": patience}


def _build_httpx(settings: ConnectionSettings, route: Route) -> httpx.BaseTransport:
    context = tls_context(settings.trust)
    proxy = None
    if route.proxy is not None:
        auth = None
        if route.proxy.password is not None:
            auth = (route.proxy.username, route.proxy.password.reveal())
        # httpx refuses a context for a proxy without TLS.
        own = context if route.proxy.url.scheme == "https" else None
        proxy = httpx.Proxy(route.proxy.url.wire, auth=auth, ssl_context=own)
    limits = httpx.Limits(max_keepalive_connections=4 * settings.connections)
    return httpx.HTTPTransport(verify=context, trust_env=False, limits=limits, proxy=proxy)


def _httpx_timeouts(
    settings: ConnectionSettings, patience: float | None
) -> dict[str, float | None]:
    read = settings.read_timeout if patience is None else min(settings.read_timeout, patience)
    connect = settings.connect_timeout
    return {"connect": connect, "read": read, "write": read, "pool": connect}


#: The engines. To add one, add a row.
ENGINES: Final = {
    "pyreqwest": _Kind(_build_pyreqwest, _pyreqwest_timeouts, pins=True),
    "httpx": _Kind(_build_httpx, _httpx_timeouts, pins=False),
}
