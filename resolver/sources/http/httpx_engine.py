"""The engine over httpx: where pyreqwest is not installed, or an `httpx.Client` is given.

`httpx.Client` is used only if one is given: it keeps cookies, logs whole URLs, and fails on an
invalid `Location` even without following redirects.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import httpx

from resolver.errors import RedirectRefused
from resolver.sources.http.failures import timed_out, translate
from resolver.sources.http.messages import Headers, StreamedResponse
from resolver.sources.http.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.sources.http.engine import Route
    from resolver.sources.http.messages import Call, RetryableFailure

_CHATTY: Final = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
)
#: Seconds that a registry may take to store an upload.
STORING: Final = 300.0
#: The connection was closed by another thread: OSError, RuntimeError.
_ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, RuntimeError)
#: httpx's message about a `Location` that it cannot parse.
_BAD_LOCATION: Final = "Invalid URL in location header"


class _QuietFilter(logging.Filter):
    """Drops log records about our requests: they have headers and signed URLs.

    Only for threads inside one of our exchanges; other users of httpx may log.
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


class HttpxEngine:
    """Sends requests; safe to share between threads. Transports are built on first use.

    Args:
        client: sends all requests but those to hosts with settings of their own. Its proxies, TLS
            settings and hooks apply, its cookies, timeouts and redirects do not. It is not closed.

    """

    def __init__(self, client: httpx.Client | None = None) -> None:
        self._given = client
        self._lock = threading.Lock()
        self._transports: dict[Route, httpx.BaseTransport] = {}

    def open(self, call: Call, route: Route, *, answered: bool) -> StreamedResponse:
        """Send one request; see `Engine.open`."""
        request = _request(call, route)
        begun = time.monotonic()
        try:
            with _QUIET.on():
                if self._given is not None and not route.settings.own:
                    response = self._given.send(
                        request, stream=True, auth=None, follow_redirects=False
                    )
                else:
                    response = self._transport(route).handle_request(request)
        except _ERRORS as error:
            if _BAD_LOCATION in str(error):
                raise RedirectRefused(
                    f"`{call.url.authority}` redirects to a URL that is refused"
                ) from error
            raise _failure(error, call, route, begun, answered=answered) from error
        lines = tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in response.headers.raw
        )
        answer = StreamedResponse(
            response.status_code, Headers(lines), call.url, _chunks(response, call, route)
        )

        def close() -> None:
            # The response is complete, or its error was raised already.
            with _QUIET.on(), suppress(*_ERRORS):
                response.close()

        answer.on_close(close)
        return answer

    def close(self) -> None:
        """Close connections; active requests fail, and later ones open new connections."""
        with self._lock:
            transports = [*self._transports.values()]
            self._transports.clear()
        with _QUIET.on():
            for transport in transports:
                transport.close()

    def _transport(self, route: Route) -> httpx.BaseTransport:
        # Not by address: `_request` dials it.
        key = type(route)(route.settings, route.proxy)
        with self._lock:
            transport = self._transports.get(key)
            if transport is None:
                transport = self._transports[key] = _build(key)
            return transport


def _failure(
    error: Exception, call: Call, route: Route, begun: float | None, *, answered: bool
) -> RetryableFailure:
    if isinstance(error, httpx.TimeoutException):
        seconds = None if begun is None else time.monotonic() - begun
        connecting = isinstance(error, httpx.ConnectTimeout)
        return timed_out(call, route.settings, seconds, connecting=connecting)
    plain_http = route.settings.plain_http
    return translate(error, call.url, answered=answered, plain_http=plain_http)


def _chunks(response: httpx.Response, call: Call, route: Route) -> Iterator[bytes]:
    """Yield the bytes of a body as they arrive."""
    # A transport of a given client may return a body that was read. No chunk size: httpx would copy
    # everything once more.
    chunks = iter([response.content]) if response.is_stream_consumed else response.iter_raw()
    while True:
        try:
            with _QUIET.on():
                chunk = next(chunks, None)
        except _ERRORS as error:
            raise _failure(error, call, route, None, answered=True) from error
        if chunk is None:
            return
        yield chunk


def _request(call: Call, route: Route) -> httpx.Request:
    headers = call.header_lines()
    settings = route.settings
    read = settings.read_timeout
    write = read
    if call.patience is not None:
        read = min(read, call.patience)
    if call.stream is not None:
        # The time to store what was sent; sending itself is limited by `write`.
        read = max(read, STORING)
    connect = settings.connect_timeout
    timeouts = {"connect": connect, "read": read, "write": write, "pool": connect}
    extensions: dict[str, object] = {"timeout": timeouts}
    url = call.url.wire
    if route.pin is not None:
        # httpx dials the host of the URL; the name is still used for Host, SNI and verification.
        _, address, port = route.pin
        headers.insert(0, ("Host", call.url.authority))
        extensions["sni_hostname"] = call.url.host
        address = f"[{address}]" if ":" in address else address
        url = f"{call.url.scheme}://{address}:{port}{call.url.target}"
    body = call.body if call.stream is None else call.stream()
    return httpx.Request(call.method, url, headers=headers, content=body, extensions=extensions)


def _build(route: Route) -> httpx.BaseTransport:
    context = tls_context(route.settings.trust)
    proxy = None
    if route.proxy is not None:
        auth = None
        if route.proxy.password is not None:
            auth = (route.proxy.username, route.proxy.password.reveal())
        # httpx refuses a context for a proxy without TLS.
        own = context if route.proxy.url.scheme == "https" else None
        proxy = httpx.Proxy(route.proxy.url.wire, auth=auth, ssl_context=own)
    limits = httpx.Limits(max_keepalive_connections=4 * route.settings.connections)
    return httpx.HTTPTransport(verify=context, trust_env=False, limits=limits, proxy=proxy)
