"""Text: reports with tables that fit a terminal, or unshortened for a pipe or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.values import pattern

if TYPE_CHECKING:
    import re

    from resolver.render.report import Report, ReportTable


#: C0, DEL, C1, bidirectional controls, line and paragraph separators, surrogates; characters
#: without width, which readers can overlook; and the first `#` of `##[` and `##vso[`, which
#: GitHub and Azure recognise as commands anywhere in a line.
#: Source: Unicode 15, "Bidi_Control" and chapter 23.1; actions/runner,
#: ActionCommand.cs, TryParse; azure-pipelines-agent, Command.cs, TryParse.
_UNSAFE = pattern(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028\u2029\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
    r"\ud800-\udfff]|#(?=#(?:vso)?\[)"
)


def escape(text: str) -> str:
    r"""Make text safe for a terminal and a log, on one line: controls become `\xNN` or `\uNNNN`."""
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


#: Columns of running text, as in `lint --explain`.
WIDTH = 80
#: "manifest " and a sha256 digest fill 80 columns exactly.
LABEL = 9
_GAP = "  "
#: Minimum width of columns that are cut, and of columns that wrap.
_LEAST_CUT = 10
_LEAST_NAME = 10
#: Characters after which a name can be broken.
_BREAKS = "/:@,-. "


def text(report: Report, *, width: int | None = None) -> str:
    """Render a report; tables are fitted to `width` columns, None does not shorten them."""
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
    """Narrow the widest columns until the table fits: first those that are cut, then names.

    Numbers and `whole` columns keep their width, so the table can still be too wide.
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
    """Split a name into lines of at most `width` characters."""
    parts = []
    while len(cell) > width:
        at = max(cell.rfind(sign, 0, width) for sign in _BREAKS) + 1
        if at * 2 < width:
            # The line would be less than half full.
            at = width
        parts.append(cell[:at])
        cell = cell[at:]
    return [*parts, cell]
