"""A fake clock, credentials and clients for tests of requests."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from resolver.core.results.events import ignore
from resolver.sources.credentials.chain import Credential, CredentialChain, Secret
from resolver.sources.http.client import Transport, TransportOptions
from resolver.sources.registry.repository import RegistrySource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from resolver.clock import Clock
    from resolver.core.results.events import Event, Observer
    from resolver.sources.http.addresses import Lookup

#: The engines that are installed, the default one first.
ENGINES = tuple(name for name in ("pyreqwest", "httpx") if find_spec(name) is not None)
USER, PASSWORD = "u5er", "S3cr3tPa55"
#: 2026-01-01 00:00:00 UTC.
NEW_YEAR = 1_767_225_600.0


class FakeClock:
    """A clock that moves only by sleeping; `slept` records each duration."""

    def __init__(self, chance: float = 1.0) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        self._chance = chance
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return NEW_YEAR + self.now - 1_000.0

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        assert not stop.is_set()
        with self._lock:
            self.slept.append(seconds)
            self.now += seconds

    def chance(self) -> float:
        return self._chance


class Names:
    """A name server in memory that records its requests."""

    def __init__(self, **known: str | tuple[str, ...]) -> None:
        self._known = known
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> tuple[str, ...]:
        assert port > 0
        self.asked.append(host)
        found = self._known.get(host.partition(".")[0])
        if found is None:
            raise OSError(f"no such name: {host}")
        return (found,) if isinstance(found, str) else found


def chain(
    credential: Credential | None = None,
    *hosts: str,
    environment: Mapping[str, str] | None = None,
    home: Path | None = None,
    observe: Observer = ignore,
) -> CredentialChain:
    """Return a chain with one credential, for some registries only."""
    return CredentialChain(
        environment or {},
        home,
        explicit=credential,
        explicit_hosts=frozenset(hosts),
        observe=observe,
    )


def login(*hosts: str) -> CredentialChain:
    """Return a chain with user and password for some registries."""
    return chain(Credential(USER, Secret(PASSWORD)), *hosts)


@contextmanager
def transport(
    engine: str = "",
    credentials: CredentialChain | None = None,
    *,
    options: Mapping[str, object] | None = None,
    clock: Clock | None = None,
    lookup: Lookup | None = None,
    events: list[Event] | None = None,
) -> Iterator[Transport]:
    """Return a client; plain HTTP unless `options` overrides it."""
    output = TransportOptions(**{"engine": engine, "plain_http": True, **(options or {})})  # type: ignore[arg-type]  # by name
    chosen = credentials or chain()
    seen = [] if events is None else events
    extra = {} if lookup is None else {"lookup": lookup}
    with Transport(output, chosen, seen.append, clock=clock or FakeClock(), **extra) as made:
        yield made


@contextmanager
def source(
    host: str,
    repository: str = "team/app",
    engine: str = "",
    credentials: CredentialChain | None = None,
    **how: object,
) -> Iterator[RegistrySource]:
    """Return one repository of a registry; `how` goes to `transport`."""
    with transport(engine, credentials, **how) as made:  # type: ignore[arg-type]  # handed through
        yield RegistrySource(made, host, repository)
