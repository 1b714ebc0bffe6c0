"""Markdown: reports for merge requests and step summaries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.render.text import escape

if TYPE_CHECKING:
    from resolver.render.report import Report, ReportTable

#: Characters that are markup in Markdown or HTML inside a table cell; parentheses and `!` are so
#: only beside brackets.
_MARKUP = re.compile(r"([\\`*_\[\]<>#+|~&@])")
#: Characters of platforms, digests, references and paths; none ends a code span, cell or line.
_PLAIN = r"[A-Za-z0-9._:/@%+()=~-]"
#: Text worth copying: it has a letter and a separator of such names.
_LITERAL = re.compile(rf"(?=[^A-Za-z]*[A-Za-z])(?=[^/:@]*[/:@])[A-Za-z0-9./]{_PLAIN}*", re.ASCII)
#: Tokens of a text: a literal in backticks, a word with its punctuation, other markup.
_PARTS = re.compile(
    r"(?<!`)`(?P<quoted>[^`|]+)`(?!`)"
    rf"|(?<!\S)(?P<word>{_PLAIN}+?)(?P<after>[,;:.]?)(?!\S)"
    r"|[\\`*_\[\]<>#+|~&@]",
    re.ASCII,
)


def markdown(report: Report) -> str:
    """Render a report as GitHub-flavoured Markdown; no line starts with `##` or `::`."""
    parts = [f"**{cell(report.title)}**"]
    if report.lines:
        parts.append("\n".join(f"- {cell(words)}" for words in report.lines))
    if report.facts:
        parts.append("\n".join(map(_fact, report.facts)))
    parts += [_table(table) for table in report.tables]
    return "\n\n".join(parts) + "\n"


def _fact(fact: tuple[str, str]) -> str:
    label, value = fact
    return f"- {cell(label)}: {cell(value)}" if label else f"  {cell(value)}"


def _table(table: ReportTable) -> str:
    if not table.rows:
        return f"**{table.title}**: none"
    return f"**{table.title}**\n\n{grid(table.columns, table.rows)}"


def grid(columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    """Render a table; every cell is escaped, so no line begins with remote text."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Escape text for a cell or the inside of a line.

    Platforms, digests and references, and what a message has in backticks, become code spans, in
    which nothing is escaped, so that they can be copied from the source. Code spans contain no
    character that ends a span or a cell, also in remote text; other backticks become entities.
    """
    words = escape(text).split(", ")
    if all(map(_LITERAL.fullmatch, words)):
        return ", ".join(f"`{word}`" for word in words)
    return _PARTS.sub(_part, escape(text))


def _part(found: re.Match[str]) -> str:
    whole: str = found[0]
    if found["quoted"]:
        # A span that begins and ends with a blank loses both.
        return whole if found["quoted"].strip() else _escaped(whole)
    word = found["word"]
    if word and _MARKUP.search(word) and _LITERAL.fullmatch(word):
        return f"`{word}`{found['after']}"
    return _escaped(whole)


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text).replace("\\`", "&#96;")
