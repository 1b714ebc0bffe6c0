"""Versions of Python packages, as far as `doctor` compares them: numbers, and bounds of them."""

from __future__ import annotations

import re

from resolver.values import dataclass

#: `name>=1.2,<2`, with or without blanks, and a condition behind a semicolon.
#: Source: packaging.python.org, "Dependency specifiers".
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[ ]*\(?([^;()]*)\)?[ ]*(;.*)?")
_BOUND = re.compile(r"[ ]*(>=|<)[ ]*([0-9][0-9A-Za-z.]*)[ ]*")
_NUMBERS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})*")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A package that is needed; `bounds` as in `>=0.28,<1`, in no particular order."""

    name: str
    bounds: str


def read_requirement(text: str) -> Requirement | None:
    """Read one line of a distribution's requirements; None for one that only some need."""
    found = _REQUIREMENT.fullmatch(text)
    if found is None or found[3]:
        return None
    return Requirement(found[1], found[2].strip())


def is_outside(version: str, bounds: str) -> bool:
    """Whether a version is outside of bounds; what cannot be read is given the benefit of doubt."""
    here = _numbers(version)
    if here is None:
        return False
    for each in bounds.split(","):
        bound = _BOUND.fullmatch(each)
        limit = _numbers(bound[2]) if bound is not None else None
        if bound is None or limit is None:
            continue
        if (here < limit) is (bound[1] == ">="):
            return True
    return False


def _numbers(text: str) -> tuple[int, ...] | None:
    """Read the release of a version, without zeros at its end: `2.0` is `2`."""
    found = _NUMBERS.match(text)
    if found is None:
        return None
    numbers = [int(each) for each in found.group().split(".")]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
