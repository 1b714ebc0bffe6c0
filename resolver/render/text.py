"""Text: reports with tables that fit a terminal, or unshortened for a pipe or a file.

On a terminal, sentences wrap, digests and ids are shortened, and names are whole: a name that does
not fit its column continues the row on the next line. Narrow terminals get lists. Elsewhere a row
is one line, no cell is empty, and two blanks separate columns, so that `grep` and `awk -F '  +'`
work. Colours only repeat what the words say.
"""

from __future__ import annotations

import re
from textwrap import TextWrapper
from typing import TYPE_CHECKING, NamedTuple

from resolver.values import pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.core.results.resolve import Failure, Resolution
    from resolver.render.report import Report, ReportTable


class Page(NamedTuple):
    """What text is written to.

    Attributes:
        width: columns of the terminal; None for a pipe or a file, where nothing is shortened.
        colour: whether platforms, grades, states and severities have colours.
        command, date: of the run, for a document that is kept; empty if unknown.
    """

    width: int | None = None
    colour: bool = False
    command: str = ""
    date: str = ""


#: A pipe or a file.
PIPE = Page()

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
#: Terminals with fewer columns show a list instead of a table.
NARROW = 60
#: Minimum width of columns with sentences, and of columns with names.
_LEAST_PROSE = 16
_LEAST_NAME = 12
#: Indentation of a name that has a line of its own.
_INDENT = 4
#: Characters after which a long word can be broken.
_BREAKS = "/:@,-. "
#: A digest or an id, perhaps shortened, and the digits of it that a narrow table shows.
_ID = pattern(r"((?:[a-z0-9+._-]+:)?)[0-9a-f]{12,}|-|<none>")
_LEAST_HEX = 7

#: Colours of a terminal. Source: ECMA-48, 8.3.117 (SGR).
_BOLD_RED, _RED, _GREEN, _YELLOW, _CYAN = "1;31", "31", "32", "33", "36"
#: Colours of labels, grades, states and severities, by their first word.
_WORDS = {
    **dict.fromkeys(("error", "failed", "failure", "gone", "missing", "damaged", "wrong"), _RED),
    **dict.fromkeys(("removed", "unreadable", "difference"), _RED),
    **dict.fromkeys(("warning", "moved", "changed", "rewritten", "partial", "fallback"), _YELLOW),
    **dict.fromkeys(("compatible", "abi", "index", "foreign", "unknown", "!"), _YELLOW),
    **dict.fromkeys(("ok", "exact", "normalised", "held", "as", "unchanged", "added"), _GREEN),
    **dict.fromkeys(("pinned", "chosen", "passed", "current"), _GREEN),
    **dict.fromkeys(("note", "hint"), _CYAN),
}
#: Headings of columns with such words, of platforms, and of sizes that grew or shrank.
_STATES = frozenset(
    {"state", "grade", "result", "severity", "weight", "change", "why", "=", "error"}
)
_PLATFORMS = frozenset({"platform", "listed for", "base"})


def coloured(text: str, codes: str | None) -> str:
    """Colour text that is escaped already."""
    return f"\x1b[{codes}m{text}\x1b[0m" if codes and text else text


def label(word: str, *, colour: bool) -> str:
    """Return the label of a message: `error:`."""
    code = {"error": _BOLD_RED}.get(word, _WORDS.get(word))
    return coloured(f"{word}:", code if colour else None)


def _colour(column: str, cell: str) -> str | None:
    """Return the colour of a cell or a fact."""
    if column in _PLATFORMS:
        return _CYAN if cell not in {"-", "none"} else None
    if column == "delta":
        return {"+": _RED, "-": _GREEN}.get(cell[:1]) if len(cell) > 1 else None
    return _WORDS.get(re.split("[ ,:]", cell, maxsplit=1)[0]) if column in _STATES else None


def text(report: Report, page: Page) -> str:
    """Render a report."""
    width, colour = page.width, page.colour
    parts = []
    if report.lines:
        parts.append("\n".join(_line(words, width, colour=colour) for words in report.lines))
    if report.facts:
        parts.append("\n".join(_fact(*fact, colour=colour) for fact in report.facts))
    several = len(report.tables) > 1
    for table in report.tables:
        drawn = _table(table, width, colour=colour)
        parts.append(f"{table.title}\n{drawn}" if several and table.rows else drawn)
    return "\n\n".join(parts) + "\n"


def _line(words: str, width: int | None, *, colour: bool) -> str:
    """Render a line of text; the severity or state that it begins with is coloured.

    On a terminal it wraps at blanks, below its last column if that is in the left half. A name or
    a path is never broken, so that it can be copied.
    """
    safe = line(words)
    if width is not None and len(safe) > width:
        column = safe.rfind(_GAP) + len(_GAP)
        blanks = " " * (column if _INDENT < column <= width / 2 else _INDENT)
        wrapper = TextWrapper(
            width, subsequent_indent=blanks, break_long_words=False, break_on_hyphens=False
        )
        safe = "\n".join(map(line, wrapper.wrap(safe)))
    if not colour:
        return safe
    start = len(safe) - len(safe.lstrip())
    end = next((n for n in range(start, len(safe)) if safe[n] in " :,"), len(safe))
    return safe[:start] + coloured(safe[start:end], _WORDS.get(safe[start:end])) + safe[end:]


def _fact(name: str, value: str, *, colour: bool) -> str:
    safe = escape(value)
    if colour and name in _PLATFORMS:
        platform, gap, rest = safe.partition(" (")
        grade = re.match("[a-z]*", rest)
        end = grade.end() if grade else 0
        painted = coloured(rest[:end], _WORDS.get(rest[:end])) + rest[end:]
        safe = coloured(platform, _colour(name, platform)) + gap + painted
    elif colour:
        safe = coloured(safe, _RED if name == "error" else _colour(name, safe))
    return f"{name:<{LABEL}}{safe}"


def _batch_row(
    columns: Sequence[str], cells: Sequence[str], widths: Sequence[int], *, colour: bool
) -> str:
    """Render cells in columns of a fixed width; longer ones are whole."""
    safe = [escape(cell) for cell in cells]
    safe[0] = line(safe[0])
    codes = [
        _colour(name, cell) if colour else None for name, cell in zip(columns, safe, strict=True)
    ]
    codes[0] = _WORDS.get(safe[0].partition(":")[0]) if colour else None
    padded = [
        coloured(cell, code) + " " * (width - len(cell))
        for cell, code, width in zip(safe, codes, widths, strict=True)
    ]
    return _GAP.join(padded).rstrip()


#: Columns of the lines of a batch, which are printed before the next ones are known.
BATCH = ("digest", "platform", "grade", "reference")
#: Widths of the longest platform, `windows/amd64:10.0.20348.2700`, and grade.
_PLATFORM, _GRADE = 29, 10
#: Widths of a digest: whole, and on a narrow terminal, where an error code still fits.
_WHOLE, _SHORTENED = 71, 27


def batch_line(answer: Resolution | Failure, page: Page) -> str:
    """Return one of several resolutions, or a failure in its place, as a line.

    On a terminal the digest is shortened if the line does not fit, and the reference has a line of
    its own if it still does not.
    """
    from resolver.core.results.resolve import Failure  # noqa: PLC0415 - `escape` is needed without it

    if isinstance(answer, Failure):
        code = f"error: {answer.error.code}"
        cells = (code, ",".join(answer.wanted) or "-", "-", answer.reference)
    else:
        platform = str(answer.platform) if answer.platform is not None else "-"
        grade = answer.grade.value if answer.grade is not None else "-"
        cells = (str(answer.manifest.digest), platform, grade, answer.reference)
    rest = 2 * 3 + _PLATFORM + _GRADE + len(answer.reference)
    fits = page.width is None or _WHOLE + rest <= page.width
    widths = (_WHOLE if fits else _SHORTENED, _PLATFORM, _GRADE, 0)
    if not isinstance(answer, Failure):
        cells = (cells[0][: widths[0]], *cells[1:])
    if page.width is None or sum(widths) + 2 * 3 + len(answer.reference) <= page.width:
        return _batch_row(BATCH, cells, widths, colour=page.colour)
    first = _batch_row(BATCH[:-1], cells[:-1], widths[:-1], colour=page.colour)
    return f"{first}\n    {escape(answer.reference)}"


def _table(table: ReportTable, width: int | None, *, colour: bool) -> str:
    if not table.rows:
        return f"{table.title}: none"
    rows = [tuple(escape(cell) or "-" for cell in row) for row in table.rows]
    widths: list[int] | None = [
        max(len(heading), *(len(row[column]) for row in rows))
        for column, heading in enumerate(table.columns)
    ]
    if width is not None:
        widths = _fit(widths or [], table, rows, width) if width >= NARROW else None
    if widths is None:
        return _list(table, rows, width, colour=colour)
    lines = _row(tuple(name.upper() for name in table.columns), widths, table, width)
    for row in rows:
        lines += _row(row, widths, table, width, colour=colour)
    return "\n".join(lines)


def _list(
    table: ReportTable, rows: Sequence[Sequence[str]], width: int | None, *, colour: bool
) -> str:
    """Render each row as labelled lines; sentences wrap behind their label."""
    longest = max(map(len, table.columns))
    indent = longest + len(_GAP)

    def labelled(name: str, cell: str) -> str:
        parts = [cell]
        if width is not None and " " in cell:
            parts = _wrapped(cell, max(width - indent, _LEAST_PROSE))
        code = _colour(name, cell) if colour else None
        body = f"\n{' ' * indent}".join(coloured(part, code) for part in parts)
        return f"{name:<{longest}}{_GAP}{body}"

    return "\n\n".join(
        "\n".join(labelled(name, cell) for name, cell in zip(table.columns, row, strict=True))
        for row in rows
    )


def _fit(
    widths: list[int], table: ReportTable, rows: Sequence[Sequence[str]], width: int
) -> list[int] | None:
    """Narrow the widest columns until the table fits: sentences, then ids, then names.

    Return None if it cannot fit.
    """
    room = width - len(_GAP) * (len(widths) - 1)
    fitted = list(widths)
    heads = [len(name) for name in table.columns]
    ids = {
        n: max(least, head)
        for n, head in enumerate(heads)
        if (least := _least_id(row[n] for row in rows))
    }
    free = [
        n
        for n, name in enumerate(table.columns)
        if n not in ids and name not in table.right | table.whole
    ]
    names = [n for n in free if _is_name(table.columns[n], table)]
    prose = {n: max(heads[n], _LEAST_PROSE) for n in free if n not in names}
    for limits in (prose, ids, {n: max(heads[n], _LEAST_NAME) for n in names}):
        while sum(fitted) > room:
            wide = [n for n, limit in limits.items() if fitted[n] > limit]
            if not wide:
                break
            fitted[max(wide, key=lambda column: fitted[column])] -= 1
    return fitted if sum(fitted) <= room else None


def _least_id(cells: Iterable[str]) -> int:
    """Return the least width of a column of digests or ids; 0 for other columns."""
    found = [_ID.fullmatch(cell) for cell in cells]
    if not all(found) or not any(match and match[1] is not None for match in found):
        return 0
    return max(len(match[1] or "") for match in found if match) + _LEAST_HEX


def _is_name(column: str, table: ReportTable) -> bool:
    from resolver.render.report import NAMES  # noqa: PLC0415 - `escape` is needed without tables

    return column in NAMES or column in table.tail


def _row(
    row: tuple[str, ...],
    widths: list[int],
    table: ReportTable,
    width: int | None,
    *,
    colour: bool = False,
) -> list[str]:
    """Render a row: sentences wrap; after a name that is too long, the row continues below it."""
    placed: list[list[tuple[int, str, str]]] = [[]]
    top = at = 0
    for name, cell, column in zip(table.columns, row, widths, strict=True):
        code = _colour(name.lower(), cell) if colour else None
        is_name = _is_name(name, table)
        names = _packed(cell, column) if is_name else []
        if is_name and max(map(len, names)) > column:
            # Names that do not fit go on, and the row below them.
            indent = at
            if width is not None and at and at + max(map(len, names)) > width:
                top, indent = len(placed), min(_INDENT, max(0, width - max(map(len, names))))
                placed.append([])
            for piece in names:
                while len(placed) <= top:
                    placed.append([])
                placed[top].append((indent, piece, coloured(piece, code)))
                top += 1
        else:
            is_id = _ID.fullmatch(cell) is not None
            pieces = names or ([cell[:column]] if is_id else _wrapped(cell, column))
            for number, piece in enumerate(pieces, top):
                while len(placed) <= number:
                    placed.append([])
                start = at + column - len(piece) if name in table.right else at
                placed[number].append((start, piece, coloured(piece, code)))
        while len(placed) <= top:
            placed.append([])
        at += column + len(_GAP)
    return [_joined(parts) for parts in placed if parts]


def _packed(cell: str, width: int) -> list[str]:
    """Split a list of names between names, into lines of at most `width` characters if possible."""
    lines = [""]
    for name in cell.replace(", ", ",\0").split("\0"):
        joined = f"{lines[-1]} {name}" if lines[-1] else name
        if len(joined) <= width or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(name)
    return lines


def _joined(parts: list[tuple[int, str, str]]) -> str:
    """Join the cells of a line, each at its column."""
    drawn, end = "", 0
    for number, (start, plain, painted) in enumerate(sorted(parts)):
        safe = plain.rstrip() if number == len(parts) - 1 else plain
        if number == 0:
            safe = line(safe)
        drawn += " " * (start - end) + painted.replace(plain, safe)
        end = start + len(plain)
    return drawn


def _wrapped(cell: str, width: int) -> list[str]:
    """Split text into lines of at most `width` characters."""
    parts = []
    while len(cell) > width:
        at = cell.rfind(" ", 0, width + 1) + 1
        if at * 2 < width:
            at = max(cell.rfind(sign, 0, width) for sign in _BREAKS) + 1
        if at * 2 < width:
            # The line would be less than half full.
            at = width
        parts.append(cell[:at].rstrip())
        cell = cell[at:]
    return [*parts, cell]
