"""Drift: what builds say about themselves and do not agree on, aligned by key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.dimensions import DIMENSIONS, Dimension, Unit
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolver.core.builds import Build
    from resolver.core.ignoring import Ignoring


@dataclass(frozen=True, slots=True)
class Drift:
    """One thing that builds do not agree on.

    Attributes:
        dimension: its name in `DIMENSIONS`.
        key: of an environment variable, label, …; empty for what has no keys.
        values: one for each build, in their order; None where a build does not say.
    """

    dimension: str
    key: str
    values: tuple[str | tuple[str, ...] | None, ...]

    @property
    def name(self) -> str:
        """What `--ignore` calls it: `env.PATH`."""
        return f"{self.dimension}.{self.key}" if self.key else self.dimension

    @property
    def groups(self) -> tuple[tuple[str | tuple[str, ...] | None, tuple[int, ...]], ...]:
        """The different values, each with the positions of the builds that have it."""
        found: dict[str | tuple[str, ...] | None, list[int]] = {}
        for position, value in enumerate(self.values):
            found.setdefault(value, []).append(position)
        return tuple((value, tuple(positions)) for value, positions in found.items())


def drift_of(builds: Sequence[Build], ignoring: Ignoring) -> tuple[Drift, ...]:
    """Find what builds do not agree on; in the order of `DIMENSIONS`, keys in theirs.

    What is ignored is not in it.
    """
    found = (
        drift for dimension in DIMENSIONS if dimension.drifts for drift in _drift(dimension, builds)
    )
    return tuple(drift for drift in found if not ignoring.ignores(drift.dimension, drift.key))


def _drift(dimension: Dimension, builds: Sequence[Build]) -> Iterator[Drift]:
    looks = [dimension.look(build) for build in builds]
    if dimension.unit in {Unit.PAIRS, Unit.NAMES}:
        maps = [_mapping(look) for look in looks]
        for key in sorted({key for values in maps for key in values}):
            values = tuple(each.get(key) for each in maps)
            if len(set(values)) > 1:
                yield Drift(dimension.name, key, values)
        return
    whole = tuple(_said(look) for look in looks)
    if len(set(whole)) > 1:
        yield Drift(dimension.name, "", whole)


def _said(look: object) -> str | tuple[str, ...] | None:
    """Take a text or words; what is empty is not said."""
    if isinstance(look, tuple):
        return tuple(str(word) for word in look) or None
    return str(look) or None


def _mapping(look: object) -> dict[str, str]:
    """Take pairs as they are, and names as keys that are there."""
    pairs: dict[str, str] = {}
    for each in look if isinstance(look, tuple) else ():
        key, value = each if isinstance(each, tuple) else (each, "yes")
        pairs[key] = value
    return pairs
