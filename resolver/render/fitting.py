"""Fitting: as many values as a system takes, and a word about those it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from resolver.render.escape import escape
from resolver.render.handing import Remark

if TYPE_CHECKING:
    from resolver.render.values import Value

#: What one value costs of a system's room; None: it cannot be given at all.
Cost = Callable[["Value"], int | None]


def fit(
    values: Iterable[Value], room: int, cost: Cost, system: str
) -> tuple[tuple[Value, ...], tuple[Remark, ...]]:
    """Take values in order while there is room; a small one may still follow a large one."""
    taken, left = [], []
    for value in values:
        price = cost(value)
        if price is None or price > room:
            left.append(value.name)
        else:
            room -= price
            taken.append(value)
    if not left:
        return tuple(taken), ()
    names = ", ".join(f"`{name}`" for name in left)
    return tuple(taken), (
        Remark(f"{system} does not take {names}: too large for it, or not one line"),
    )


def lines(text: str) -> str:
    """Escape a text of several lines; line breaks are all that stays of its controls."""
    return "\n".join(escape(line) for line in text.split("\n"))
