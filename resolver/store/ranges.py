"""Which bytes of a file are there: pieces that never touch each other, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: From the first byte to just behind the last one.
Range = tuple[int, int]


class Ranges:
    """A set of byte positions; few pieces, since neighbours grow together."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ranges: list[Range] = []
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int) -> bool:
        """Add `start` to just before `end`; True if some of it was there already."""
        if start >= end:
            return False
        overlaps = False
        rest: list[Range] = []
        for low, high in self._ranges:
            if high < start or low > end:
                rest.append((low, high))
                continue
            overlaps = overlaps or (low < end and start < high)
            start, end = min(start, low), max(end, high)
        rest.append((start, end))
        self._ranges = sorted(rest)
        return overlaps

    @property
    def prefix(self) -> int:
        """How many bytes there are from the very first one on, without a gap."""
        if not self._ranges or self._ranges[0][0] > 0:
            return 0
        return self._ranges[0][1]

    @property
    def total(self) -> int:
        """How many bytes there are."""
        return sum(end - start for start, end in self._ranges)

    def pieces(self) -> tuple[Range, ...]:
        """List them in order."""
        return tuple(self._ranges)
