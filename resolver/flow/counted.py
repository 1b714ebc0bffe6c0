"""A source that may only be asked so often."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from resolver.errors import RequestsSpent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from resolver.core.content import Document, Source
    from resolver.core.descriptor import Descriptor


class Allowance:
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

    def __init__(self, source: Source, allowance: Allowance) -> None:
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
