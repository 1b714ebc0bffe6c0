"""The engine over pyreqwest: TLS, HTTP and bodies run in Rust, outside the GIL.

Small answers share HTTP/2 connections where the server offers them. Streams use HTTP/1.1 there:
ranges of a blob over one connection would share its congestion window, and one lost packet would
stop all of them.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final, cast

from resolver.errors import InvalidConfiguration
from resolver.sources.http.messages import Headers, StreamedResponse
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyreqwest.client import SyncClient
    from pyreqwest.response import SyncResponse

    from resolver.sources.http.engine import Engine, Route
    from resolver.sources.http.messages import Call, RetryableFailure

_LOG: Final = logging.getLogger(__name__)
#: The process that loaded the library. Its threads do not exist in a fork, which crashes (measured
#: with 0.15.1 and `ProcessPoolExecutor`).
LOADED_BY: Final = os.getpid()
#: Most clients bound to an address that are kept.
_MAX_PINNED: Final = 32
#: Most origins whose protocol is remembered.
_MAX_ORIGINS: Final = 4096
#: Hyper's error for a header with control characters.
_UNREADABLE: Final = "invalid HTTP header parsed"
#: Bytes of headers in an HTTP/2 response; a challenge alone may have 16 KiB.
_MAX_HEADERS: Final = 65_536


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
    loaded = threading.Event()
    failures: list[BaseException] = []

    def keep() -> None:
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)
        loaded.set()
        threading.Event().wait()

    threading.Thread(target=keep, name=f"keeper of {name}", daemon=True).start()
    loaded.wait()
    if failures:
        raise failures[0]


import_permanently("pyreqwest.client")
from pyreqwest.client import SyncClientBuilder  # noqa: E402 - after the line above
from pyreqwest.exceptions import (  # noqa: E402 - after the line above
    ConnectTimeoutError,
    PyreqwestError,
    RequestTimeoutError,
)
from pyreqwest.proxy import ProxyBuilder  # noqa: E402 - after the line above


def gather_entropy() -> None:
    """Begin a TLS handshake in the background with a port that never answers.

    For its first random bytes a process measures the jitter of the processor, which takes 22 ms
    outside the GIL: meanwhile Python goes on. Source: aws-lc, tree_drbg_jitter_entropy.c.
    """

    def begin() -> None:
        builder = SyncClientBuilder().no_proxy().danger_accept_invalid_certs(enable=True)
        with (
            suppress(PyreqwestError, OSError, RuntimeError),
            socket.create_server(("127.0.0.1", 0)) as silent,
            builder.timeout(timedelta(milliseconds=20)).build() as client,
        ):
            url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
            client.get(url).build_streamed().__enter__()

    if os.getpid() == LOADED_BY:
        # Not a daemon: a library call must not return into an interpreter that has ended.
        with suppress(RuntimeError):
            threading.Thread(target=begin, name="resolver-entropy").start()


@dataclass(frozen=True, slots=True)
class _Pool:
    """What a client is built for."""

    route: Route
    http2: bool
    tls: bool


class PyreqwestEngine:
    """Sends requests; safe to share between threads. Clients are built on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[_Pool, SyncClient] = {}
        #: Origins that answered with HTTP/1.1, whose connections serve everything.
        self._http1: set[tuple[str, str, int]] = set()
        self._spare: Engine | None = None

    def open(self, call: Call, route: Route, *, answered: bool) -> StreamedResponse:
        """Send one request; see `Engine.open`."""
        # pyreqwest reads a body in the thread of its event loop, where the source of an upload
        # cannot be read: it would wait for itself.
        answer = self._send(call, route, answered=answered) if call.stream is None else None
        return answer or self._httpx().open(call, route, answered=answered)

    def _send(self, call: Call, route: Route, *, answered: bool) -> StreamedResponse | None:
        """Send one request; return None if httpx has to serve it."""
        origin = call.url.origin
        is_stream = call.patience is None and call.url.scheme == "https"
        tls = call.url.scheme == "https" or route.proxy is not None
        pool = _Pool(route, http2=not is_stream or origin in self._http1, tls=tls)
        try:
            client, is_kept = self._client(pool)
        except (PyreqwestError, RuntimeError) as error:
            # It does not start without any certificate authority, and has no useful error when the
            # process is out of file descriptors; httpx starts and fails with a reason.
            _LOG.debug("pyreqwest cannot start: %s", type(error).__name__)
            return None
        begun = time.monotonic()
        builder = client.request(call.method, call.url.wire).headers(call.header_lines())
        if call.body is not None:
            builder = builder.body_bytes(call.body)
        if call.patience is None:
            # The read-ahead waits for 64 KiB before it returns a response, and drops them if the
            # connection breaks: an interrupted blob would lose its first bytes.
            builder = builder.streamed_read_buffer_limit(0)
        else:
            # Applies to the whole response, so a stream must not have one.
            builder = builder.timeout(timedelta(seconds=call.patience))
        try:
            request = builder.build_streamed()
            response = request.__enter__()
        except (PyreqwestError, OSError, RuntimeError) as error:
            if _UNREADABLE in str(error):
                return None
            raise _failure(error, call, route, begun, answered=answered) from error
        try:
            lines = tuple(response.headers.items())
        except ValueError:
            # A header that is not UTF-8: httpx returns it, and it is cleaned for display.
            request.__exit__(None, None, None)
            return None
        if pool.http2 and response.version != "HTTP/2.0" and len(self._http1) < _MAX_ORIGINS:
            self._http1.add(origin)
        answer = StreamedResponse(
            response.status, Headers(lines), call.url, _chunks(response, call, route)
        )
        if not is_kept:
            answer.on_close(client.close)

        def close() -> None:
            # The response is complete, or its error was raised already.
            with suppress(PyreqwestError, OSError, RuntimeError):
                request.__exit__(None, None, None)

        answer.on_close(close)
        return answer

    def close(self) -> None:
        """Close connections; active requests fail, and later ones open new connections."""
        with self._lock:
            clients = [*self._clients.values()]
            self._clients.clear()
            spare, self._spare = self._spare, None
        for client in clients:
            client.close()
        if spare is not None:
            spare.close()

    def _client(self, pool: _Pool) -> tuple[SyncClient, bool]:
        """Return a client, and whether it is kept."""
        with self._lock:
            client = self._clients.get(pool)
            if client is not None:
                return client, True
            client = _build(pool)
            is_kept = pool.route.pin is None or len(self._clients) < _MAX_PINNED
            if is_kept:
                self._clients[pool] = client
            return client, is_kept

    def _httpx(self) -> Engine:
        """Return the other engine, for the few cases that pyreqwest does not serve."""
        with self._lock:
            if self._spare is None:
                from resolver.sources.http.httpx_engine import HttpxEngine  # noqa: PLC0415 - rare

                self._spare = HttpxEngine()
            return self._spare


def _failure(
    error: Exception, call: Call, route: Route, begun: float | None, *, answered: bool
) -> RetryableFailure:
    from resolver.sources.http.failures import timed_out, translate  # noqa: PLC0415 - on failure alone

    if isinstance(error, RequestTimeoutError):
        seconds = None if begun is None else time.monotonic() - begun
        connecting = isinstance(error, ConnectTimeoutError)
        return timed_out(call, route.settings, seconds, connecting=connecting)
    plain_http = route.settings.plain_http
    return translate(error, call.url, answered=answered, plain_http=plain_http)


def _chunks(response: SyncResponse, call: Call, route: Route) -> Iterator[bytes]:
    """Yield the bytes of a body as they arrive."""
    read = response.body_reader.read_chunk
    while True:
        try:
            chunk = read()
        except (PyreqwestError, OSError, RuntimeError) as error:
            # RuntimeError: the response was closed by another thread.
            raise _failure(error, call, route, None, answered=True) from error
        if chunk is None:
            return
        # Copying the bytes of a pull takes 7 % of its user time.
        yield bytes(chunk) if call.patience is not None else cast("bytes", memoryview(chunk))


def _build(pool: _Pool) -> SyncClient:
    route, settings = pool.route, pool.route.settings
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
        .http2(enable=pool.http2)
        .min_tls_version("TLSv1.2")
        .connect_timeout(timedelta(seconds=settings.connect_timeout))
        .read_timeout(timedelta(seconds=settings.read_timeout))
        .pool_max_idle_per_host(settings.connections)
    )
    if pool.http2:
        builder = builder.http2_adaptive_window(enabled=True).http2_max_header_list_size(
            _MAX_HEADERS
        )
    if settings.trust.skip or not pool.tls:
        # Plain http needs no certificates, and loading the system's takes 5 ms.
        builder = builder.danger_accept_invalid_certs(enable=True)
    try:
        for pem in settings.trust.extra:
            builder = builder.add_root_certificate_pem(pem)
        if settings.trust.client is not None:
            from resolver.sources.http.tls import identity  # noqa: PLC0415 - rarely

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
    return builder.build()
