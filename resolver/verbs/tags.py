"""Finding tags: those that are offered for a platform, asked for no longer than needed."""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING

from resolver.errors import NotFound, RequestsSpent, ResolverError, Untrusted
from resolver.verbs.threads import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from resolver.core.oci.content import Document, Source
    from resolver.core.oci.descriptor import Descriptor


def find(
    tags: Iterable[str],
    is_offered: Callable[[str], bool],
    *,
    limit: int | None,
    jobs: Callable[[], int],
    skip: Callable[[str, ResolverError], None],
) -> Iterator[str]:
    """Give the tags that are offered, in their order, and stop at the last that is wanted.

    No more tags are looked at side by side than are still wanted, so that the question after the
    last hit is not asked.

    Args:
        tags: in the order to look at them.
        is_offered: asks for one tag.
        limit: how many are wanted; None for all.
        jobs: how many tags to look at at once, asked before each round.
        skip: told of a tag that is gone, is no image, or cannot be trusted; others go on.

    Raises:
        ResolverError: nobody can be asked, or no more may be.
    """
    source = iter(tags)
    left = limit
    while left is None or left > 0:
        most = jobs()
        window = list(islice(source, most if left is None else min(most, left)))
        if not window:
            return
        for outcome in each(is_offered, window, jobs=most):
            if isinstance(outcome.value, NotFound | Untrusted):
                skip(outcome.item, outcome.value)
            elif isinstance(outcome.value, ResolverError):
                raise outcome.value
            elif outcome.value:
                left = None if left is None else left - 1
                yield outcome.item


class RequestBudget:
    """How many questions may still be asked; shared by threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self.asked = 0

    @property
    def left(self) -> int:
        """How many more may be asked."""
        return self._most - self.asked

    def take(self) -> None:
        """Ask one more.

        Raises:
            RequestsSpent: that would be one too many.
        """
        with self._lock:
            if self.asked >= self._most:
                raise RequestsSpent(self._most)
            self.asked += 1


class CountedSource:
    """Asks another source, and counts every question about one document; lists are not counted."""

    def __init__(self, source: Source, allowance: RequestBudget) -> None:
        self._source = source
        self._allowance = allowance

    def has(self, descriptor: Descriptor) -> bool:
        """Say whether the content is there."""
        self._allowance.take()
        return self._source.has(descriptor)

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Stream the content."""
        self._allowance.take()
        return self._source.open(descriptor)

    def read(self, descriptor: Descriptor) -> bytes:
        """Read a document."""
        self._allowance.take()
        return self._source.read(descriptor)

    def resolve(self, name: str) -> Descriptor:
        """Ask where a name points."""
        self._allowance.take()
        return self._source.resolve(name)

    def document(self, name: str) -> Document:
        """Read what a name points at."""
        self._allowance.take()
        return self._source.document(name)

    def tags(self) -> Iterator[str]:
        """List the names there are."""
        return self._source.tags()

    def warnings(self) -> tuple[str, ...]:
        """Give what the place wants people to know."""
        return self._source.warnings()
