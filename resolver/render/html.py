"""HTML: any answer as one page that needs nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from resolver.render.html_page import Cell, Grid, Section, facts, grid, page, text
from resolver.render.report import Report, report

if TYPE_CHECKING:
    from resolver.render.report import Table

#: Answers that have a page of their own, by the module that defines them; the others are drawn
#: from their report.
PAGES = {"resolver.core.comparison": "resolver.render.html_compare"}


def html(answer: object, *, explain: bool = False, full: bool = True) -> str:
    """Draw an answer as a page; nothing is ever cut here."""
    del full
    place = PAGES.get(type(answer).__module__)
    if place is None:
        return _generic(report(answer, explain=explain, full=True))
    made: str = import_module(place).draw(answer)
    return made


def _generic(answer: Report) -> str:
    lines = "".join(f"<p>{text(words)}</p>\n" for words in answer.lines)
    head = lines + (facts(answer.facts) if answer.facts else "")
    sections = [
        Section(f"table-{number}", table.title, _table(f"table-{number}", table))
        for number, table in enumerate(answer.tables, 1)
    ]
    return page(answer.title, sections, head=head)


def _table(name: str, table: Table) -> str:
    if not table.rows:
        return '<p class="note">none</p>'
    right = frozenset(n for n, column in enumerate(table.columns) if column in table.right)
    rows = [[Cell(text(cell)) for cell in row] for row in table.rows]
    return grid(Grid(name, table.title, table.columns, rows, right))
