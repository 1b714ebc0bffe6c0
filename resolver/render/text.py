"""Text: reports for people; tables fit a terminal, and are whole in a pipe or a file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resolver.render.report import Report, ReportTable


#: C0, DEL, C1, bidirectional controls, line and paragraph separators, surrogates; characters
#: without width, which a comparison may pass over; and the first `#` of `##[` and `##vso[`, which
#: GitHub and Azure take as commands wherever they stand in a line.
#: Source: reliability.md R50; Unicode 15, "Bidi_Control" and chapter 23.1; actions/runner,
#: ActionCommand.cs, TryParse; azure-pipelines-agent, Command.cs, TryParse.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028\u2029\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
    r"\ud800-\udfff]|#(?=#(?:vso)?\[)"
)


def escape(text: str) -> str:
    r"""Make text safe for a terminal and a log: controls become `\xNN` or `\uNNNN`, on one line."""
    return _UNSAFE.sub(_code, text)


def _code(match: re.Match[str]) -> str:
    number = ord(match.group())
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"  # noqa: PLR2004 - one byte


def line(text: str) -> str:
    """Escape a whole line; one that a CI system would take as a command does not begin with it.

    GitHub reads `::command::` at the start of a line, behind white space too; Azure, and GitHub of
    old, `##vso[…]` and `##[…]`. What we print begins with our own words; this is for lines that
    are all remote text. Source: actions/runner, ActionCommand.cs, TryParseV2.
    """
    safe = escape(text)
    rest = safe.lstrip()
    if not rest.startswith(("::", "##")):
        return safe
    return f"{safe[: len(safe) - len(rest)]}\\x{ord(rest[0]):02x}{rest[1:]}"


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


def _table(table: ReportTable, width: int | None) -> str:
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


def _fit(widths: list[int], table: ReportTable, width: int) -> list[int]:
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


def _is_name(column: str, table: ReportTable) -> bool:
    from resolver.render.report import NAMES  # noqa: PLC0415 - `escape` is needed without tables

    return column in NAMES or column in table.tail


def _row(row: tuple[str, ...], widths: list[int], table: ReportTable) -> list[str]:
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
