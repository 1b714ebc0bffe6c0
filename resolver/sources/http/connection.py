"""Send one request: proxies, address checks, limits and timeouts around the HTTP engine."""

from __future__ import annotations

import logging
import os
import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from resolver.core.registry.endpoints import USUAL
from resolver.errors import ConnectionFailed, InvalidConfiguration, TimedOut
from resolver.sources.credentials.secrets import Secret
from resolver.sources.http.addresses import AddressPolicy, ProxySettings
from resolver.sources.http.engine import ConnectionSettings, Route
from resolver.sources.http.messages import (
    CA_VARIABLES,
    HostOptions,
    Purpose,
    RetryableFailure,
    Trust,
)
from resolver.sources.http.retry import HostLimiter, Pacer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.clock import Clock
    from resolver.core.registry.endpoints import HostSettings
    from resolver.core.results.events import Observer
    from resolver.sources.credentials.secrets import Redactor
    from resolver.sources.http.addresses import Lookup, Proxy
    from resolver.sources.http.engine import Engine
    from resolver.sources.http.messages import Call, StreamedResponse, TransportOptions
    from resolver.sources.http.retry import Budget, Gate, RequestSlot
    from resolver.sources.http.urls import Url


#: Fewest bytes of a stream in each window, and the window in seconds (docs/wire-protocol.md,
#: "Timeouts and throughput").
LEAST_BYTES, WINDOW = 30 * 1024, 30.0
#: Seconds to wait for an aborted request to end.
_GRACE = 1.0

T = TypeVar("T")


def paced(
    chunks: Iterator[bytes], clock: Clock, host: str, patience: float | None
) -> Iterator[bytes]:
    """Yield chunks while they arrive fast enough.

    A read timeout is not enough: an occasional byte resets it.

    Raises:
        RetryableFailure: the body took longer than `patience` seconds, or a window had too few
            bytes.

    """
    begin = window = clock.monotonic()
    count = 0
    for chunk in chunks:
        now = clock.monotonic()
        if patience is not None and now - begin > patience:
            late = TimedOut(f"`{host}` did not finish its answer within {patience:.0f} s")
            raise RetryableFailure(late, transient=True)
        count += len(chunk)
        if now - window > WINDOW:
            if count < LEAST_BYTES:
                slow = TimedOut(f"`{host}` sends less than 1 KiB/s")
                raise RetryableFailure(slow, transient=True)
            window, count = now, 0
        yield chunk


def interruptible(work: Callable[[], T], abort: Callable[[], None]) -> T:
    """Run blocking native code so that Ctrl-C can still interrupt it.

    Python runs signal handlers in its main thread between bytecode instructions, and none run while
    a library waits for the network (measured: Ctrl-C after 1 s ended a stalled request after 10 s,
    at its read timeout). In the main thread the work is therefore done by a helper thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    done = threading.Event()
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)
        finally:
            done.set()

    try:
        # A daemon, so that exit does not wait for it.
        threading.Thread(target=run, name="resolver-request", daemon=True).start()
    except (RuntimeError, MemoryError):
        # No thread available: run it here, without interruption before its timeout.
        return work()
    try:
        done.wait()
    except BaseException:
        abort()
        done.wait(_GRACE)
        raise
    if failures:
        raise failures[0]
    return results[0]


_PROXY_LOGIN = 407
#: Methods of requests that change nothing at the registry.
_READING = ("GET", "HEAD")
#: Most servers remembered as having answered; others only get an additional hint.
_MAX_ANSWERED = 4096
#: Names of headers with secret values.
_SECRET = re.compile(r"auth|cookie|token|key|secret|password", re.IGNORECASE)
_LOG = logging.getLogger(__name__)


class Connection:
    """Sends calls; safe to share between threads.

    The first call loads the HTTP library and reads certificates and proxies.
    """

    def __init__(
        self,
        options: TransportOptions,
        redactor: Redactor,
        observe: Observer,
        clock: Clock,
        gate: Gate,
        lookup: Lookup,
    ) -> None:
        self._options = options
        self._redactor = redactor
        self._observe = observe
        self._clock = clock
        self._gate = gate
        self._addresses = AddressPolicy(lookup)
        self._lock = threading.Lock()
        self._limiters: dict[tuple[str, bool], HostLimiter] = {}
        self._pacer = Pacer(clock)
        self._built: tuple[Engine, ProxySettings, HostOptions] | None = None
        self._host_options: dict[HostSettings, HostOptions] = {}
        #: Servers that have answered, so their scheme is right.
        self._answered: set[tuple[str, str, int]] = set()

    def prepare(self) -> tuple[Engine, ProxySettings, HostOptions]:
        """Build the engine, the proxy settings and the usual options once.

        Raises:
            InvalidConfiguration: a file of certificates or a proxy variable cannot be used.
        """
        with self._lock:
            if self._built is None:
                self._built = self._build()
            return self._built

    def host_options(self, settings: HostSettings) -> HostOptions | None:
        """Return the options of a host, read once; None for the defaults.

        Raises:
            InvalidConfiguration: a file that its settings name cannot be used.
        """
        if settings == USUAL:
            return None
        usual = self.prepare()[2]
        with self._lock:
            found = self._host_options.get(settings)
            if found is None:
                found = read_host_options(settings, usual)
                self._host_options[settings] = found
                for name, value in found.headers:
                    if _SECRET.search(name):
                        self._redactor.learn(value)
            return found

    def is_direct(self, url: Url) -> bool:
        """Whether a host is reached without a proxy."""
        return self.prepare()[1].find(url) is None

    def close(self) -> None:
        """Close connections; the next call opens new ones."""
        built = self._built
        if built is not None:
            built[0].close()

    def send(self, call: Call, budget: Budget) -> StreamedResponse:
        """Send one call once its host's limits allow it.

        Each attempt uses another address of the host if it has several.

        Raises:
            RetryableFailure: there is no usable response.
            AddressRefused: the call's address is not allowed for its registry.
        """
        engine, proxies, usual = self.prepare()
        host = call.url.authority
        proxy = proxies.find(call.url)
        options = call.own_options
        pin = self._pin(call, proxies, proxy, budget.tried)
        chosen = options or usual
        settings = ConnectionSettings(
            chosen.trust,
            chosen.connect_timeout,
            chosen.read_timeout,
            self._options.jobs_per_host,
            own=options is not None,
            plain_http=self._options.plain_http,
        )
        route = Route(settings, proxy, pin)
        slot = self._slot(call, options, budget)
        begun = self._clock.monotonic()
        # `--plain-http` applies to registries, not to redirect targets.
        answered = call.url.origin in self._answered or call.url.origin != call.registry.origin
        if call.stream is not None:
            body = call.stream
            call = replace(call, stream=lambda: _noted(body(), slot))
        try:
            answer = engine.open(call, route, answered=answered)
        except BaseException as error:
            reason = getattr(error, "error", error)
            if isinstance(reason, TimedOut):
                slot.timed_out()
            slot.release()
            _LOG.debug("%s %s failed: %s", call.method, call.url, type(reason).__name__)
            raise
        slot.answered(answer.status, self._clock.monotonic() - begun)
        answer.on_close(slot.release)
        if len(self._answered) < _MAX_ANSWERED:
            self._answered.add(call.url.origin)
        _LOG.debug("%s %s answered %d", call.method, call.url, answer.status)
        if proxy is not None and answer.status == _PROXY_LOGIN:
            answer.close()
            raise ConnectionFailed(
                f"the proxy `{proxy.url.authority}` requires a login for `{host}`",
                "put it into the proxy's URL: `HTTPS_PROXY=http://USER:PASSWORD@PROXY:PORT`",
            )
        answer.watch(lambda chunks: paced(_noted(chunks, slot), self._clock, host, call.patience))
        return answer

    def _pin(
        self, call: Call, proxies: ProxySettings, proxy: Proxy | None, attempt: int
    ) -> tuple[str, str, int] | None:
        """Check the address of a call to another origin; return the address to dial."""
        if call.url.origin == call.registry.origin:
            return None
        addresses = self._addresses.check(
            call.url,
            call.registry,
            proxied=proxy is not None,
            registry_proxied=proxies.find(call.registry) is not None,
        )
        if not addresses:
            return None
        return call.url.host, addresses[attempt % len(addresses)], call.url.port

    def _slot(self, call: Call, options: HostOptions | None, budget: Budget) -> RequestSlot:
        """Wait until the limits of the call's host allow it."""
        host = call.url.authority
        # What a host takes of uploads says nothing about downloads.
        writes = call.purpose is Purpose.RESOURCE and call.method not in _READING
        cap = options.jobs if options is not None else None
        with self._lock:
            limiter = self._limiters.get((host, writes))
            if limiter is None:
                limiter = HostLimiter(self._options.jobs_per_host, self._clock)
                self._limiters[host, writes] = limiter
            if cap is not None:
                limiter.cap(cap)
        shared = self._options.shared
        if options is not None and options.rate is not None:
            part = 1.0 if shared is None else shared.share(host)
            self._pacer.wait(host, options.rate * part, budget.stop)
        while True:
            self._gate.wait(host, budget.stop)
            slot = limiter.take()
            if shared is not None:
                try:
                    slot.give_back_shared = shared.take(host, cap, budget.stop)
                except BaseException:
                    slot.release()
                    raise
                slot.moved()
            # The host may have asked for a delay while this call waited for its turn.
            if budget.stop.is_set() or not self._gate.left(host):
                return slot
            slot.release()

    def _build(self) -> tuple[Engine, ProxySettings, HostOptions]:
        options = self._options
        trust = Trust(skip=options.tls_skip_verify)
        named = any(options.environment.get(name) for name in CA_VARIABLES)
        if named or options.ca_file is not None:
            from resolver.sources.http.tls import load_trust  # noqa: PLC0415 - rarely

            trust = load_trust(
                options.ca_file, options.environment, self._observe, skip=options.tls_skip_verify
            )
        proxies = ProxySettings.load(options.environment, self._observe)
        for proxy in (proxies.http, proxies.https):
            self._redactor.learn(proxy.password if proxy else None)
        usual = HostOptions(trust, options.connect_timeout, options.read_timeout)
        return _engine(options), proxies, usual


def _engine(options: TransportOptions) -> Engine:
    """Return the engine that was chosen, or the best one that is installed."""
    if options.client is None and options.engine != "httpx":
        try:
            from resolver.sources.http import pyreqwest_engine  # noqa: PLC0415

            if os.getpid() == pyreqwest_engine.LOADED_BY:
                return pyreqwest_engine.PyreqwestEngine()
            _LOG.debug("httpx is used: a fork does not copy the threads of pyreqwest")
        except ImportError as error:
            if options.engine:
                raise InvalidConfiguration(
                    "RESOLVER_HTTP", "", f"pyreqwest cannot be loaded: {error}"
                ) from error
            _LOG.debug("httpx is used: %s", error)
    from resolver.sources.http.httpx_engine import HttpxEngine  # noqa: PLC0415 - not if unused

    return HttpxEngine(options.client)


def _noted(chunks: Iterator[bytes], slot: RequestSlot) -> Iterator[bytes]:
    """Yield chunks, and record activity and timeouts on their slot."""
    try:
        for chunk in chunks:
            slot.moved()
            yield chunk
    except RetryableFailure as failure:
        if isinstance(failure.error, TimedOut):
            slot.timed_out()
        raise


def read_host_options(settings: HostSettings, usual: HostOptions) -> HostOptions:
    """Return the options for a host's settings.

    Raises:
        InvalidConfiguration: a file that they name cannot be used.

    """
    from resolver.sources.http.tls import trust_of_host  # noqa: PLC0415 - rarely

    return HostOptions(
        trust_of_host(usual.trust, settings),
        settings.connect_timeout or usual.connect_timeout,
        settings.read_timeout or usual.read_timeout,
        tuple((name, Secret(value)) for name, value in settings.headers),
        settings.rate,
        settings.jobs,
    )
