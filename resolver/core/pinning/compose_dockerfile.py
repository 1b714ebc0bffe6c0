"""Dockerfiles inside of compose and bake files: `build.dockerfile_inline`, a block of text.

They are read as any other, and what is found is moved to where its line stands in the file.
Source: github.com/compose-spec/compose-spec, build.md, "dockerfile_inline".
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.pinning import dockerfile
from resolver.core.pinning.spots import Spot, Stray, Unparsable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pinning.tree import Scalar

_LITERAL = "|"


def find(text: str, scalar: Scalar, role: str, program: str = "compose") -> Iterator[Spot | Stray]:
    """Find the references in a Dockerfile that is a value."""
    moved = Moved.read(text, scalar)
    if moved is None:
        reason = "its Dockerfile is not written as a block of text"
        yield Stray(scalar.start, role, role, reason, f"begin it with `{_LITERAL}`")
        return
    try:
        held = dockerfile.find(scalar.value)
    except Unparsable as error:
        yield Stray(scalar.start, role, role, f"its Dockerfile cannot be read: {error}")
        return
    for stray in held.strays:
        yield replace(stray, start=moved.to(stray.start), role=f"{role} {stray.role}")
    for spot in held.spots:
        if spot.is_argument:
            # Variables are filled in before a builder sees them.
            words = text[moved.to(spot.start) : moved.to(spot.end)]
            reason = f"{program} fills in the variable that stands for it"
            yield Stray(moved.to(spot.start), words, f"{role} {spot.role}", reason, "write it out")
        else:
            yield moved.spot(spot, role)


class Moved:
    """Where each line of a block's value stands in the file."""

    def __init__(self, starts: list[int], places: list[int]) -> None:
        self._starts = starts
        self._places = places

    @classmethod
    def read(cls, text: str, scalar: Scalar) -> Moved | None:
        """Lay the lines of a value beside those of the file; None where they are others."""
        if scalar.style != _LITERAL:
            return None
        place = text.find("\n", scalar.start) + 1
        starts, places, start = [], [], 0
        for line in scalar.value.split("\n"):
            raw = text[place:].partition("\n")[0].removesuffix("\r")
            indent = len(raw) - len(line)
            if line and (indent < 0 or raw[:indent].strip(" ") or raw[indent:] != line):
                return None
            starts.append(start)
            places.append(place + max(indent, 0))
            start += len(line) + 1
            place = text.find("\n", place) + 1 or len(text)
        return cls(starts, places)

    def to(self, offset: int) -> int:
        """Give the offset in the file of one in the value."""
        line = bisect_right(self._starts, offset) - 1
        return self._places[line] + offset - self._starts[line]

    def spot(self, spot: Spot, role: str) -> Spot:
        """Move a reference; none goes over the end of a line."""
        slot = spot.slot
        cut = None if slot.cut is None else (self.to(slot.cut[0]), self.to(slot.cut[1]))
        return replace(
            spot,
            start=self.to(spot.start),
            end=self.to(spot.end),
            role=f"{role} {spot.role}",
            slot=replace(slot, start=self.to(slot.start), end=self.to(slot.end), cut=cut),
            before=None if spot.before is None else self.to(spot.before),
        )
