"""Cutting what is missing of a blob into the stretches that one request each fetches."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: From the first byte to just behind the last one.
Span = tuple[int, int]


def gaps(size: int, have: Iterable[Span]) -> list[Span]:
    """List what is missing of `size` bytes, in order; `have` may overlap and be in any order."""
    missing: list[Span] = []
    reached = 0
    for start, end in sorted([*have, (size, size)]):
        upto = min(start, size)
        if reached < upto:
            missing.append((reached, upto))
        reached = max(reached, end)
    return missing


def cut(missing: Iterable[Span], longest: int) -> list[Span]:
    """Cut stretches into pieces of at most `longest` bytes, of about equal length.

    Equal, so that a last piece of a few bytes does not cost a round trip of its own.
    """
    pieces: list[Span] = []
    for start, end in missing:
        count = -(-(end - start) // longest)
        length = -(-(end - start) // count)
        pieces.extend((at, min(at + length, end)) for at in range(start, end, length))
    return pieces
