"""What everything that takes part in a pull shares."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from resolver.core.plan import RANGE_SIZE
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.events import Event, Observer
    from resolver.flow.workers import Workers
    from resolver.sources.retry import Clock
    from resolver.store import LocalStore


class Stopped(Exception):
    """Nobody wants this transfer any more; what has come is kept."""


@dataclass(frozen=True, slots=True)
class PullOptions:
    """How a pull goes about it.

    Attributes:
        jobs: blobs at once.
        range_size: bytes fetched by one request; what is longer is fetched in several at once.
        connections: stretches at once, over all blobs; the transport bounds them per host.
        foreign: fetch also what publishers do not let registries hold.

    """

    jobs: int = 4
    range_size: int = RANGE_SIZE
    connections: int = 8
    foreign: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Kit:
    """What all transfers of a pull share.

    Attributes:
        parts: fetches the further stretches of a blob; a transfer itself never runs in there.
        stop: set when the whole pull is called off.

    """

    store: LocalStore
    options: PullOptions
    tell: Observer
    clock: Clock
    parts: Workers
    stop: threading.Event


def one_at_a_time(observe: Observer) -> Observer:
    """Keep threads from telling things at the same time."""
    lock = threading.Lock()

    def tell(event: Event) -> None:
        with lock:
            observe(event)

    return tell
