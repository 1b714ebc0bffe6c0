"""One request and one answer, with everything that surrounds them on this machine."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from resolver.errors import ConnectionFailed
from resolver.sources.addresses import AddressPolicy
from resolver.sources.pace import paced
from resolver.sources.proxies import ProxySettings
from resolver.sources.trust import load_trust

if TYPE_CHECKING:
    from resolver.core.events import Observer
    from resolver.sources.addresses import Lookup
    from resolver.sources.engine import Engine
    from resolver.sources.exchange import Answer, Call
    from resolver.sources.proxies import Proxy
    from resolver.sources.questions import TransportOptions
    from resolver.sources.redaction import Redactor
    from resolver.sources.retry import Budget, Clock, Gate

_PROXY_LOGIN = 407
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
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._built: tuple[Engine, ProxySettings] | None = None

    def prepare(self) -> tuple[Engine, ProxySettings]:
        """Build what sends, once.

        Raises:
            InvalidConfiguration: a file of certificates or a proxy variable cannot be used.
        """
        with self._lock:
            if self._built is None:
                self._built = self._build()
            return self._built

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
        route = Route(proxy, self._pin(call, proxies, proxy, budget.tried))
        self._gate.wait(host, budget.stop)
        slot = self._slot(host)
        slot.acquire()
        try:
            answer = engine.open(call, route)
        except BaseException as error:
            slot.release()
            reason = getattr(error, "error", error)
            _LOG.debug("%s %s failed: %s", call.method, call.url, type(reason).__name__)
            raise
        answer.on_close(slot.release)
        _LOG.debug("%s %s answered %d", call.method, call.url, answer.status)
        if proxy is not None and answer.status == _PROXY_LOGIN:
            answer.close()
            raise ConnectionFailed(
                f"the proxy `{proxy.url.authority}` wants a login for `{host}`",
                "put it into the proxy's URL: `HTTPS_PROXY=http://USER:PASSWORD@PROXY:PORT`",
            )
        answer.watch(lambda chunks: paced(chunks, self._clock, host, call.patience))
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

    def _slot(self, host: str) -> threading.BoundedSemaphore:
        with self._lock:
            return self._slots.setdefault(
                host, threading.BoundedSemaphore(self._options.jobs_per_host)
            )

    def _build(self) -> tuple[Engine, ProxySettings]:
        from resolver.sources.engine import Engine, Wiring  # noqa: PLC0415 - loads httpx

        options = self._options
        trust = load_trust(
            options.ca_file, options.environment, self._observe, skip=options.tls_skip_verify
        )
        proxies = ProxySettings.load(options.environment, self._observe)
        for proxy in (proxies.http, proxies.https):
            self._redactor.learn(proxy.password if proxy else None)
        wiring = Wiring(trust, options.connect_timeout, options.read_timeout, options.jobs_per_host)
        return Engine(options.engine, wiring), proxies
