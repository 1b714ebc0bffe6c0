"""Markdown: reports for a merge request or a step summary."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.render.escape import escape

if TYPE_CHECKING:
    from resolver.render.report import Report, Table

#: What Markdown or HTML would take as markup inside a table cell.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~&@])")


def markdown(report: Report) -> str:
    """Draw a report as GitHub-flavoured Markdown; no line starts with `##` or `::`."""
    parts = [f"**{cell(report.title)}**"]
    if report.lines:
        parts.append("\n".join(f"- {cell(words)}" for words in report.lines))
    if report.facts:
        parts.append(grid(("", ""), tuple((label, value) for label, value in report.facts)))
    parts += [_table(table) for table in report.tables]
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    if not table.rows:
        return f"**{table.title}**: none"
    return f"**{table.title}**\n\n{grid(table.columns, table.rows)}"


def grid(columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    """Draw rows under headings; every cell is escaped, so no line begins with remote text."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Escape text for a cell, or for a place within a line."""
    return _MARKUP.sub(r"\\\1", escape(text))
