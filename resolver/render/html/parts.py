"""Bars and heats: sizes as something to see, beside the numbers that say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resolver.core.compare.drift import DIMENSIONS, Unit
from resolver.render.answers.files import cut, value_words
from resolver.render.html.page import HEATS, Cell, Grid, code, details, grid, text
from resolver.render.report import megabytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.core.compare.compare import CompareReason
    from resolver.core.compare.drift import Drift
    from resolver.core.compare.history import History, HistoryRow, Step


#: Says which fill means what.
LEGEND = (
    '<p class="legend"><span><svg class="key" aria-hidden="true"><rect class="own" width="100%" '
    'height="100%"/></svg>a layer of this platform alone</span><span><svg class="key" '
    'aria-hidden="true"><rect class="shared" width="100%" height="100%"/></svg>a layer that '
    "others have too</span></p>\n"
)


class Segment(NamedTuple):
    """A piece of a bar: its size in bytes, whether others have it too, and what it is."""

    size: int
    is_shared: bool
    words: str


def bar(segments: Sequence[Segment], most: int, label: str) -> str:
    """Draw a bar of pieces; `most` bytes fill the width.

    Each piece carries its words as a tooltip; `label` says all of it to who cannot see it.
    """
    drawn, at = [], 0
    for segment in segments:
        begin, at = at, at + segment.size
        kind = "shared" if segment.is_shared else "own"
        drawn.append(
            f'<rect class="{kind} cut" x="{_share(begin, most)}%" '
            f'width="{_share(segment.size, most)}%" height="100%">'
            f"<title>{text(segment.words)}</title></rect>"
        )
    return f'<svg class="bar" role="img" aria-label="{text(label)}">{"".join(drawn)}</svg>'


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3f}" if whole else "0"


def heat(part: int, whole: int) -> str:
    """Name the step of a heat map for a part of a whole; nothing at all has one of its own."""
    if part <= 0 or whole <= 0:
        return "heat-0"
    return f"heat-{max(1, min(HEATS - 1, (HEATS - 1) * part // whole))}"


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


def _instruction(row: HistoryRow, names: Sequence[str], base: int) -> str:
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


def reasons(found: Iterable[CompareReason]) -> str:
    """List the reasons; nothing where there are none."""
    items = "".join(
        f"<li><strong>{text(each.aspect)}</strong>: {text(each.message)}</li>" for each in found
    )
    return (
        f'<ul class="reasons" aria-label="Differences that count">{items}</ul>\n' if items else ""
    )
