"""Drift on a page: what differs, to be folded away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.dimensions import DIMENSIONS, Unit
from resolver.render.compare_words import value_words
from resolver.render.html_page import Cell, Grid, code, details, grid, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.drift import Drift


_DIMENSIONS = {each.name: each for each in DIMENSIONS}
_COLUMNS = ("key", "value", "platforms")


def drift_details(drifts: Sequence[Drift], names: Sequence[str]) -> str:
    """Draw what builds do not agree on: for each value, who has it."""
    return "".join(
        _unfolding(title, len(found), Grid(name, title, _COLUMNS, _by_value(found, names)))
        for name, title, found in _grouped(drifts)
    )


def change_details(drifts: Sequence[Drift], sides: Sequence[str], prefix: str) -> str:
    """Draw what two builds do not agree on, side by side; `prefix` makes names unique."""
    return "".join(
        _unfolding(title, len(found), Grid(f"{prefix}-{name}", title, ("key", *sides), rows))
        for name, title, found in _grouped(drifts)
        for rows in [[[Cell(_key(each), "key"), *map(_value, each.values)] for each in found]]
    )


def _grouped(drifts: Sequence[Drift]) -> list[tuple[str, str, list[Drift]]]:
    """Put drift under titles: that with many keys under its own, the rest under one."""
    found: dict[tuple[str, str], list[Drift]] = {}
    for drift in drifts:
        dimension = _DIMENSIONS[drift.dimension]
        own = (f"drift-{dimension.name}", dimension.title.capitalize())
        group = own if dimension.unit is Unit.PAIRS else ("drift-settings", "Settings")
        found.setdefault(group, []).append(drift)
    return [(name, title, each) for (name, title), each in found.items()]


def _by_value(drifts: Sequence[Drift], names: Sequence[str]) -> list[list[Cell | None]]:
    rows: list[list[Cell | None]] = []
    for drift in drifts:
        for number, (value, holders) in enumerate(drift.groups):
            key = Cell(_key(drift), "key", len(drift.groups)) if number == 0 else None
            who = ", ".join(names[position] for position in holders)
            rows.append([key, _value(value), Cell(text(who))])
    return rows


def _key(drift: Drift) -> str:
    """Name what differs; its dimension too where several stand under one title."""
    is_own = _DIMENSIONS[drift.dimension].unit is Unit.PAIRS
    return code(drift.key if is_own else drift.name)


def _value(value: str | tuple[str, ...] | None) -> Cell:
    if value is None:
        return Cell('<span class="quiet">not set</span>', "value")
    return Cell(code(value_words(value)), "value")


def _unfolding(title: str, count: int, table: Grid) -> str:
    words = "1 difference" if count == 1 else f"{count} differences"
    return details(f"{text(title)}: {words}", grid(table), is_open=True)
