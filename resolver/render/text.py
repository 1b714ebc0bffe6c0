"""Text: reports for people; tables fit a terminal, and are whole in a pipe or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.escape import escape, line
from resolver.render.report import NAMES

if TYPE_CHECKING:
    from resolver.render.report import Report, Table

#: Columns of prose on a page of its own: `lint --explain`.
WIDTH = 80
#: "manifest " and a sha256 digest fill 80 columns exactly.
LABEL = 9
_GAP = "  "
#: Columns that are cut, and columns that wrap, are not made narrower than this.
_LEAST_CUT = 10
_LEAST_NAME = 10
#: A name is broken behind one of these where it can be.
_BREAKS = "/:@,-. "


def text(report: Report, *, width: int | None = None) -> str:
    """Draw a report; tables fit `width` columns as far as they can, None cuts nothing."""
    parts = []
    if report.lines:
        parts.append("\n".join(line(words) for words in report.lines))
    if report.facts:
        parts.append("\n".join(_fact(label, value) for label, value in report.facts))
    several = len(report.tables) > 1
    for table in report.tables:
        drawn = _table(table, width)
        parts.append(f"{table.title}\n{drawn}" if several and table.rows else drawn)
    return "\n\n".join(parts) + "\n"


def _fact(label: str, value: str) -> str:
    return f"{label:<{LABEL}}{escape(value)}"


def _table(table: Table, width: int | None) -> str:
    """Line the columns up."""
    if not table.rows:
        return f"{table.title}: none"
    rows = [tuple(escape(cell) for cell in row) for row in table.rows]
    widths = [
        max(len(heading), *(len(row[column]) for row in rows))
        for column, heading in enumerate(table.columns)
    ]
    if width is not None and not table.is_wide:
        widths = _fit(widths, table, width)
    lines = _row(tuple(name.upper() for name in table.columns), widths, table)
    for row in rows:
        lines += _row(row, widths, table)
    return "\n".join(lines)


def _fit(widths: list[int], table: Table, width: int) -> list[int]:
    """Narrow the widest columns until the table fits: those that are cut, then names.

    Numbers and what is useless in part stay as they are: then the table is wider than the room.
    """
    room = width - len(_GAP) * (len(widths) - 1)
    fitted = list(widths)
    free = [n for n, name in enumerate(table.columns) if name not in table.right | table.whole]
    names = [n for n in free if _is_name(table.columns[n], table)]
    others = [n for n in free if n not in names]
    for columns, least in ((others, _LEAST_CUT), (names, _LEAST_NAME)):
        while columns and sum(fitted) > room:
            widest = max(columns, key=lambda column: fitted[column])
            if fitted[widest] <= least:
                break
            fitted[widest] -= 1
    return fitted


def _is_name(column: str, table: Table) -> bool:
    return column in NAMES or column in table.tail


def _row(row: tuple[str, ...], widths: list[int], table: Table) -> list[str]:
    """Draw a row: a line, and one more for each further part of its longest name."""
    cells = []
    for name, cell, width in zip(table.columns, row, widths, strict=True):
        if _is_name(name, table):
            cells.append(_wrapped(cell, width))
        else:
            cells.append([cell if len(cell) <= width else f"{cell[: width - 1]}…"])
    lines = []
    for number in range(max(map(len, cells))):
        parts = [parts[number] if number < len(parts) else "" for parts in cells]
        placed = [
            f"{part:>{width}}" if name in table.right else f"{part:<{width}}"
            for name, part, width in zip(table.columns, parts, widths, strict=True)
        ]
        lines.append(line(_GAP.join(placed).rstrip()))
    return lines


def _wrapped(cell: str, width: int) -> list[str]:
    """Break a name into parts of at most `width` characters; joined they are the name."""
    parts = []
    while len(cell) > width:
        at = max(cell.rfind(sign, 0, width) for sign in _BREAKS) + 1
        if at * 2 < width:
            # Too little would stand on this line.
            at = width
        parts.append(cell[:at])
        cell = cell[at:]
    return [*parts, cell]
