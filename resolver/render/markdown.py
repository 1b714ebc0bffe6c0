"""Markdown: reports for a merge request or a step summary."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.render.escape import escape

if TYPE_CHECKING:
    from resolver.render.report import Report, Table

#: What Markdown or HTML would take as markup inside a table cell.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~&@])")


def markdown(report: Report, *, full: bool = False) -> str:
    """Draw a report as GitHub-flavoured Markdown; no line starts with `##` or `::`."""
    del full  # nothing is ever cut here
    parts = [f"**{_cell(report.title)}**"]
    if report.lines:
        parts.append("\n".join(f"- {_cell(words)}" for words in report.lines))
    if report.facts:
        parts.append(_grid(("", ""), tuple((label, value) for label, value in report.facts)))
    parts += [_table(table) for table in report.tables]
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    if not table.rows:
        return f"**{table.title}**: none"
    return f"**{table.title}**\n\n{_grid(table.columns, table.rows)}"


def _grid(columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return _MARKUP.sub(r"\\\1", escape(text))
