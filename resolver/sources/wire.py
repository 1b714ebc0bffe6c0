"""One request and one answer, with everything that surrounds them on this machine."""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING

from resolver.core.hosts import USUAL
from resolver.errors import ConnectionFailed
from resolver.sources.addresses import AddressPolicy
from resolver.sources.pace import paced
from resolver.sources.proxies import ProxySettings
from resolver.sources.trust import load_trust
from resolver.sources.ways import MOST_SILENT, Pacer, Place, Places, Way, way_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.events import Observer
    from resolver.core.hosts import HostSettings
    from resolver.sources.addresses import Lookup
    from resolver.sources.engine import Engine
    from resolver.sources.exchange import Answer, Call
    from resolver.sources.proxies import Proxy
    from resolver.sources.questions import TransportOptions
    from resolver.sources.redaction import Redactor
    from resolver.sources.retry import Budget, Clock, Gate
    from resolver.sources.urls import Url

_PROXY_LOGIN = 407
#: Names of headers whose value proves something.
_SECRET = re.compile(r"auth|cookie|token|key|secret|password", re.IGNORECASE)
_LOG = logging.getLogger(__name__)


class Wire:
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
        self._usual: Way | None = None
        self._ways: dict[HostSettings, Way] = {}

    def prepare(self) -> tuple[Engine, ProxySettings]:
        """Build what sends, once.

        Raises:
            InvalidConfiguration: a file of certificates or a proxy variable cannot be used.
        """
        with self._lock:
            if self._built is None:
                self._built = self._build()
            return self._built

    def way(self, settings: HostSettings) -> Way | None:
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

    def send(self, call: Call, budget: Budget) -> Answer:
        """Send one call, as soon as its host may be asked and one of its slots is free.

        Each attempt goes to another address where there is a choice.

        Raises:
            Trouble: there is no usable answer.
            AddressRefused: the call leads where its registry must not lead.
        """
        engine, proxies = self.prepare()
        from resolver.sources.engine import Route  # noqa: PLC0415 - loads httpx

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
        from resolver.sources.engine import Engine, Wiring  # noqa: PLC0415 - loads httpx

        options = self._options
        trust = load_trust(
            options.ca_file, options.environment, self._observe, skip=options.tls_skip_verify
        )
        proxies = ProxySettings.load(options.environment, self._observe)
        for proxy in (proxies.http, proxies.https):
            self._redactor.learn(proxy.password if proxy else None)
        self._usual = Way(trust, options.connect_timeout, options.read_timeout)
        wiring = Wiring(trust, options.connect_timeout, options.read_timeout, options.jobs_per_host)
        return Engine(options.engine, wiring, plain_http=options.plain_http), proxies


def _noted(chunks: Iterator[bytes], place: Place) -> Iterator[bytes]:
    """Pass chunks on, and note each with the place of their connection."""
    for chunk in chunks:
        place.moved()
        yield chunk
