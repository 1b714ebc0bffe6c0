"""One request and one answer, with everything that surrounds them on this machine."""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from resolver.core.registry.endpoints import USUAL
from resolver.errors import ConnectionFailed, TimedOut
from resolver.sources.http.addresses import AddressPolicy
from resolver.sources.http.host_options import (
    MOST_SILENT,
    HostOptions,
    Pacer,
    Place,
    Places,
    way_of,
)
from resolver.sources.http.messages import RetryableFailure
from resolver.sources.http.proxies import ProxySettings
from resolver.sources.http.tls import load_trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.clock import Clock
    from resolver.core.registry.endpoints import HostSettings
    from resolver.core.results.pull_events import Observer
    from resolver.sources.credentials.secrets import Redactor
    from resolver.sources.http.addresses import Lookup
    from resolver.sources.http.engine import Engine
    from resolver.sources.http.messages import Call, StreamedResponse
    from resolver.sources.http.proxies import Proxy
    from resolver.sources.http.requests import TransportOptions
    from resolver.sources.http.retry import Budget, Gate
    from resolver.sources.http.urls import Url


#: Bytes a stream must bring in each window, and the window in seconds.
#: Source: reliability.md section 5, 1 KiB/s over 30 s.
LEAST_BYTES, WINDOW = 30 * 1024, 30.0
#: Seconds that an aborted request is given to end.
_GRACE = 1.0

T = TypeVar("T")


def paced(
    chunks: Iterator[bytes], clock: Clock, host: str, patience: float | None
) -> Iterator[bytes]:
    """Pass chunks on while they come fast enough.

    A read timeout alone does not do: one byte now and then keeps it from running out.

    Raises:
        Trouble: the whole took longer than `patience` seconds, or a window brought too little.

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
    """Do something that waits outside Python, so that Ctrl-C still ends it.

    Python runs signal handlers in its main thread, between two of its own instructions; there are
    none while a library waits for the network (measured: Ctrl-C after 1 s ended a stalled request
    after 10 s, at its read timeout). In the main thread the work is therefore done by a helper.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    helper = _Helper(work)
    try:
        helper.start()
    except RuntimeError:
        # No thread is to be had: it can be done all the same, and waits for its time to run out.
        return work()
    try:
        helper.done.wait()
    except BaseException:
        abort()
        helper.done.wait(_GRACE)
        raise
    return helper.result()


class _Helper(threading.Thread, Generic[T]):
    """A thread for one piece of work; a daemon, so that nothing waits for it at exit."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(name="resolver-request", daemon=True)
        self._work = work
        self._results: list[T] = []
        self._error: BaseException | None = None
        self.done = threading.Event()

    def run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised again where it belongs
            self._error = error
        finally:
            self.done.set()

    def result(self) -> T:
        """Give what came of it, or raise what went wrong."""
        if self._error is not None:
            raise self._error
        return self._results[0]


_PROXY_LOGIN = 407
#: Names of headers whose value proves something.
_SECRET = re.compile(r"auth|cookie|token|key|secret|password", re.IGNORECASE)
_LOG = logging.getLogger(__name__)


class Connection:
    """Sends calls; safe to share between threads.

    The HTTP library is loaded, and certificates and proxies are read, when the first call needs
    them.
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
        self._places: dict[tuple[str, int | None], Places] = {}
        self._pacer = Pacer(clock)
        self._built: tuple[Engine, ProxySettings] | None = None
        self._usual: HostOptions | None = None
        self._ways: dict[HostSettings, HostOptions] = {}

    def prepare(self) -> tuple[Engine, ProxySettings]:
        """Build what sends, once.

        Raises:
            InvalidConfiguration: a file of certificates or a proxy variable cannot be used.
        """
        with self._lock:
            if self._built is None:
                self._built = self._build()
            return self._built

    def way(self, settings: HostSettings) -> HostOptions | None:
        """Read what is particular about a host, once; None where nothing is.

        Raises:
            InvalidConfiguration: a file that its settings name cannot be used.
        """
        if settings == USUAL:
            return None
        self.prepare()
        with self._lock:
            usual, found = self._usual, self._ways.get(settings)
            if found is None and usual is not None:
                found = way_of(settings, usual)
                self._ways[settings] = found
                for name, value in found.headers:
                    if _SECRET.search(name):
                        self._redactor.learn(value)
            return found

    def is_direct(self, url: Url) -> bool:
        """Whether no proxy stands between us and a host."""
        return self.prepare()[1].find(url) is None

    def close(self) -> None:
        """Give connections back; the next call opens new ones."""
        built = self._built
        if built is not None:
            built[0].close()

    def send(self, call: Call, budget: Budget) -> StreamedResponse:
        """Send one call, as soon as its host may be asked and one of its slots is free.

        Each attempt goes to another address where there is a choice.

        Raises:
            Trouble: there is no usable answer.
            AddressRefused: the call leads where its registry must not lead.
        """
        engine, proxies = self.prepare()
        from resolver.sources.http.engine import Route  # noqa: PLC0415 - loads httpx

        host = call.url.authority
        proxy = proxies.find(call.url)
        way = call.own_way
        own = engine.wiring_of(way.trust, way.connect_timeout, way.read_timeout) if way else None
        route = Route(proxy, self._pin(call, proxies, proxy, budget.tried), own)
        self._gate.wait(host, budget.stop)
        if way is not None and way.rate is not None:
            self._pacer.wait(host, way.rate, budget.stop)
        place = self._places_of(host, way.jobs if way else None).take()
        try:
            answer = engine.open(call, route)
        except BaseException as error:
            place.release()
            reason = getattr(error, "error", error)
            _LOG.debug("%s %s failed: %s", call.method, call.url, type(reason).__name__)
            raise
        place.moved()
        answer.on_close(place.release)
        _LOG.debug("%s %s answered %d", call.method, call.url, answer.status)
        if proxy is not None and answer.status == _PROXY_LOGIN:
            answer.close()
            raise ConnectionFailed(
                f"the proxy `{proxy.url.authority}` wants a login for `{host}`",
                "put it into the proxy's URL: `HTTPS_PROXY=http://USER:PASSWORD@PROXY:PORT`",
            )
        answer.watch(lambda chunks: paced(_noted(chunks, place), self._clock, host, call.patience))
        return answer

    def _pin(
        self, call: Call, proxies: ProxySettings, proxy: Proxy | None, attempt: int
    ) -> tuple[str, str, int] | None:
        """Check where a call leads that does not go to its registry; give the address to dial."""
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

    def _places_of(self, host: str, jobs: int | None) -> Places:
        """Give the places of a host; a number that its settings name is never exceeded."""
        usual = self._options.jobs_per_host
        with self._lock:
            places = self._places.get((host, jobs))
            if places is None:
                places = Places(jobs or usual, jobs or MOST_SILENT * usual, self._clock)
                self._places[host, jobs] = places
            return places

    def _build(self) -> tuple[Engine, ProxySettings]:
        from resolver.sources.http.engine import ConnectionSettings, Engine  # noqa: PLC0415 - loads httpx

        options = self._options
        trust = load_trust(
            options.ca_file, options.environment, self._observe, skip=options.tls_skip_verify
        )
        proxies = ProxySettings.load(options.environment, self._observe)
        for proxy in (proxies.http, proxies.https):
            self._redactor.learn(proxy.password if proxy else None)
        self._usual = HostOptions(trust, options.connect_timeout, options.read_timeout)
        wiring = ConnectionSettings(
            trust, options.connect_timeout, options.read_timeout, options.jobs_per_host
        )
        return Engine(options.engine, wiring, plain_http=options.plain_http), proxies


def _noted(chunks: Iterator[bytes], place: Place) -> Iterator[bytes]:
    """Pass chunks on, and note each with the place of their connection."""
    for chunk in chunks:
        place.moved()
        yield chunk
