"""Who fetches a blob when several want it: one, and the others wait or take over (R35, R38)."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from resolver.errors import StoreFault
from resolver.store.partials import STEP, Claim, Partials
from resolver.store.receiving import Receiving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.descriptor import Descriptor
    from resolver.store.home import Home


class Transfers:
    """Gives out the right to fetch a blob.

    Args:
        home: of the store.
        is_held: whether a blob is there, and may be used as it is.

    """

    def __init__(self, home: Home, is_held: Callable[[Descriptor], bool]) -> None:
        self._home = home
        self._is_held = is_held
        self._partials = Partials(home)
        self._lock = threading.Lock()
        self._under_way: set[Receiving] = set()

    def had(self, descriptor: Descriptor) -> int:
        """Count the bytes that a transfer could go on from."""
        return self._partials.had(descriptor)

    def record(self) -> None:
        """Note how far each transfer of this process has got: it is about to end."""
        with self._lock:
            for receiving in self._under_way:
                with suppress(StoreFault):
                    receiving.record()

    @contextmanager
    def receive(
        self, descriptor: Descriptor, waiting: Callable[[], None] | None
    ) -> Iterator[Receiving | None]:
        """Fetch a blob, or find that it is there; see `LocalStore.receive`."""
        descriptor.digest.require_verifiable(f"`{descriptor.digest}`")
        claim = self._claim(descriptor, waiting)
        if claim is None:
            yield None
            return
        try:
            # Another process may have published it just before we got the right to.
            if self._is_held(descriptor):
                with suppress(StoreFault):
                    claim.remove()
                yield None
                return
            receiving = Receiving(self._home, descriptor, claim)
            try:
                receiving.open()
                with self._lock:
                    self._under_way.add(receiving)
                yield receiving
            finally:
                with self._lock:
                    self._under_way.discard(receiving)
                receiving.leave()
        finally:
            claim.release()

    def _claim(self, descriptor: Descriptor, waiting: Callable[[], None] | None) -> Claim | None:
        """Get the right to fetch; None as soon as there is nothing to fetch.

        Raises:
            StoreFault: whoever has the right makes no progress.

        """
        patience = self._home.patience
        deadline, trace = 0.0, None
        while not self._is_held(descriptor):
            claim = self._partials.claim(descriptor.digest)
            if claim is not None:
                return claim
            current = self._partials.trace(descriptor.digest)
            if trace != current:
                deadline, trace = patience.clock() + patience.seconds, current
            elif patience.clock() >= deadline:
                where = self._partials.where(descriptor.digest)
                raise StoreFault(
                    where,
                    f"another process fetches it, without progress for {patience.seconds:.0f} s",
                    f"see who it is with `fuser {where}`, then wait for it or end it",
                )
            if waiting is not None:
                waiting()
            patience.sleep(STEP)
        return None
