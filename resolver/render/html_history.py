"""Histories on a page, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.compare_words import cut
from resolver.render.html_bars import heat
from resolver.render.html_page import Cell, Grid, code, details, grid, text
from resolver.render.units import megabytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.history_alignment import History, Row, Step

#: Characters of an instruction that are shown folded.
_SHORT = 120


def history_grid(name: str, history: History, names: Sequence[str], base: int) -> str:
    """Draw histories: a row for each step, with the size that it has in each build.

    Args:
        name: unique on the page.
        history: aligned.
        names: of the builds, in their order.
        base: position of the build that the others are held against.
    """
    notes = "".join(
        f'<p class="note">{text(each)}: {text(reason)}, so layers stand without steps.</p>\n'
        for each, reason in zip(names, history.unmatched, strict=True)
        if reason
    )
    if not history.rows:
        return f'{notes}<p class="note">No build says how it was made.</p>'
    sizes = [step.layer.size for row in history.rows for step in row.steps if step and step.layer]
    most = max(sizes, default=0)
    rows = [
        [
            Cell(str(number)),
            Cell(_instruction(row, names, base), "step"),
            Cell(_MARK[row.is_same]),
            *(_cell(step, most) for step in row.steps),
        ]
        for number, row in enumerate(history.rows, 1)
    ]
    columns = ("#", "step", "differs", *names)
    caption = "Steps and the size of their layers; the stronger the colour, the larger"
    table = Grid(name, caption, columns, rows, frozenset(range(3, len(columns))))
    return notes + grid(table)


_MARK = {True: "", False: '<span class="differs">yes</span>'}


def _cell(step: Step | None, most: int) -> Cell:
    if step is None:
        return Cell('<span class="quiet">absent</span>', "right")
    if step.layer is None:
        return Cell('<span class="quiet">no layer</span>', "right")
    return Cell(megabytes(step.layer.size), f"right {heat(step.layer.size, most)}")


def _instruction(row: Row, names: Sequence[str], base: int) -> str:
    """Write a step as the base does, or who has it; other spellings and long ones unfold."""
    first = row.steps[base]
    written = cut(first.instruction if first is not None else row.instruction)
    spellings: dict[str, list[str]] = {}
    for name, step in zip(names, row.steps, strict=True):
        if step is not None:
            spellings.setdefault(cut(step.instruction), []).append(name)
    if len(written) <= _SHORT and len(spellings) == 1:
        return code(written)
    shown = written if len(written) <= _SHORT else f"{written[:_SHORT]}..."
    body = "".join(
        f"<p>{text(', '.join(who))}:<br>{code(each)}</p>" for each, who in spellings.items()
    )
    return details(code(shown), body)
