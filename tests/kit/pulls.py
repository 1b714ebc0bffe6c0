"""One repository, one store and the recorded events, for the tests of pull."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from resolver.core.oci.reference import Reference
from resolver.core.platforms.platform import BUILTIN, Platform
from resolver.core.results.events import ignore
from resolver.store import LocalStore
from resolver.verbs.documents import DocumentReader, PlatformRequest, read_root
from resolver.verbs.plan import make_plan, plan_images
from resolver.verbs.pull import transfer_plan
from resolver.verbs.transfer import TransferOptions
from tests.kit.clients import FakeClock, source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from resolver.core.oci.digest import Digest
    from resolver.core.results.events import Event, Observer
    from resolver.core.results.plan import Plan, PlannedImage, Selected
    from resolver.core.results.pull import Pulled
    from resolver.sources.registry.repository import RegistrySource
    from resolver.verbs.fetch import ContentPlace
    from tests.kit.registry import FakeRegistry, Seen

REPOSITORY = "team/app"
#: Small, so that a few bytes make several ranges.
RANGE = 65_536


@dataclass
class Puller:
    """Pulls from one repository of a fake registry into one store."""

    host: str
    source: RegistrySource
    store: LocalStore
    clock: FakeClock
    events: list[Event] = field(default_factory=list)
    places: Sequence[ContentPlace] = ()
    watch: Observer = ignore

    def observe(self, event: Event) -> None:
        self.events.append(event)
        self.watch(event)

    def plan(self, *platforms: str, tag: str = "1", foreign: bool = False) -> Plan:
        """Plan for some platforms; linux/amd64 if none is named."""
        return make_plan(
            [self.selected(*platforms, tag=tag)], self.store, self.places, foreign=foreign
        )

    def images(self, *platforms: str, tag: str = "1") -> tuple[PlannedImage, ...]:
        return self.selected(*platforms, tag=tag).images

    def selected(self, *platforms: str, tag: str = "1") -> Selected:
        reader = DocumentReader(lambda: self.source, self.store, self.host, self.observe)
        asked = read_root(reader, Reference.parse(f"{self.host}/{REPOSITORY}:{tag}"))
        wishes = [
            PlatformRequest((Platform.parse(platform),), explicit=True)
            for platform in platforms or ("linux/amd64",)
        ]
        return plan_images(reader, asked, wishes, BUILTIN)

    def carry_out(self, plan: Plan, options: TransferOptions | None = None) -> Pulled:
        return transfer_plan(
            plan,
            lambda _image: self.source,
            self.store,
            options or TransferOptions(range_size=RANGE),
            self.observe,
            places=self.places,
            clock=self.clock,
        )

    def pull(
        self,
        *platforms: str,
        tag: str = "1",
        options: TransferOptions | None = None,
    ) -> Pulled:
        foreign = options.foreign if options is not None else False
        return self.carry_out(self.plan(*platforms, tag=tag, foreign=foreign), options)

    def held(self, digest: Digest) -> bytes:
        """Read a blob as the file system has it."""
        return (self.store.root / "blobs" / digest.algorithm / digest.hex).read_bytes()

    def events_of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@contextmanager
def puller(
    registry: FakeRegistry,
    folder: Path,
    *,
    store: LocalStore | None = None,
    clock: FakeClock | None = None,
    **how: object,
) -> Iterator[Puller]:
    """Return a puller; `how` goes to the transport."""
    chosen = clock or FakeClock(chance=0.0)
    with source(registry.host, REPOSITORY, clock=chosen, **how) as opened:  # type: ignore[arg-type]  # by name
        yield Puller(registry.host, opened, store or LocalStore(folder, fsync=False), chosen)


def noise(size: int, seed: int = 0) -> bytes:
    """Return reproducible pseudo-random bytes."""
    return random.Random(f"{seed} {size}").randbytes(size)


class Counter:
    """Counts the requests to a registry since the last call."""

    def __init__(self, registry: FakeRegistry) -> None:
        self._registry = registry
        self._told = 0

    def new(self) -> list[Seen]:
        """Return the requests since the last call."""
        log = self._registry.log
        fresh, self._told = log[self._told :], len(log)
        return fresh

    def lines(self) -> list[str]:
        """Return the same as `METHOD manifests/1`."""
        return [line(seen) for seen in self.new()]


def line(seen: Seen) -> str:
    return f"{seen.method} {seen.path.partition(f'/v2/{REPOSITORY}/')[2]}"


def blobs(requests: Iterable[Seen]) -> list[Seen]:
    return [seen for seen in requests if "/blobs/" in seen.path]


def ranges(requests: Iterable[Seen]) -> list[str]:
    """Return the requested ranges; empty for a request without one."""
    return [seen.headers.get("range", "") for seen in requests]
