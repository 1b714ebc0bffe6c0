"""Text: reports for people, 80 columns wide, and the same on a terminal and in a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.escape import escape, line

if TYPE_CHECKING:
    from resolver.render.report import Report, Table

#: The page. The default output never depends on the terminal, so the width does not either.
WIDTH = 80
#: "manifest " and a sha256 digest fill the page exactly.
LABEL = 9
_GAP = "  "


def text(report: Report, *, full: bool = False) -> str:
    """Draw a report; values that do not fit are wrapped, and with `full` never cut."""
    parts = []
    if report.lines:
        parts.append("\n".join(line(words) for words in report.lines))
    if report.facts:
        parts.append("\n".join(_fact(label, value) for label, value in report.facts))
    several = len(report.tables) > 1
    for table in report.tables:
        drawn = _table(table, full=full)
        parts.append(f"{table.title}\n{drawn}" if several and table.rows else drawn)
    return "\n\n".join(parts) + "\n"


def _fact(label: str, value: str) -> str:
    return f"{label:<{LABEL}}{escape(value)}"


def _table(table: Table, *, full: bool) -> str:
    """Line the columns up; the last one takes what is left of the page."""
    if not table.rows:
        return f"{table.title}: none"
    rows = [tuple(escape(cell) for cell in row) for row in table.rows]
    widths = [
        max(len(heading), *(len(row[column]) for row in rows))
        for column, heading in enumerate(table.columns)
    ]
    if not full and not table.is_wide:
        whole = [column for column, name in enumerate(table.columns) if name in table.whole]
        widths = _fit(widths, whole)
    lines = [_row(tuple(name.upper() for name in table.columns), widths, table)]
    lines += [_row(row, widths, table) for row in rows]
    return "\n".join(lines)


def _fit(widths: list[int], whole: list[int]) -> list[int]:
    """Narrow the widest columns until the table fits the page, those in `whole` last."""
    room = WIDTH - len(_GAP) * (len(widths) - 1)
    fitted = list(widths)
    for columns in ([n for n in range(len(widths)) if n not in whole], whole):
        while columns and sum(fitted) > room:
            widest = max(columns, key=lambda column: fitted[column])
            if fitted[widest] <= LABEL:
                break
            fitted[widest] -= 1
    return fitted


def _row(row: tuple[str, ...], widths: list[int], table: Table) -> str:
    cells = []
    for name, cell, width in zip(table.columns, row, widths, strict=True):
        shown = cell
        if len(cell) > width:
            shown = f"…{cell[1 - width :]}" if name in table.tail else f"{cell[: width - 1]}…"
        cells.append(f"{shown:>{width}}" if name in table.right else f"{shown:<{width}}")
    return line(_GAP.join(cells).rstrip())
