"""Pages: one file, without scripts, that holds all it needs."""

from __future__ import annotations

import html as standard
from dataclasses import field
from typing import TYPE_CHECKING

from resolver.render.escape import escape
from resolver.render.html_style import POLICY, STYLE
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Hatching that tells shared layers from others without colour; every bar refers to it.
_DEFINITIONS = (
    '<svg class="unseen" aria-hidden="true"><defs><pattern id="hatch" width="8" height="8" '
    'patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="hatched" width="8" height="8"/>'
    '<line class="hatch" x1="0" y1="0" x2="0" y2="8"/></pattern></defs></svg>'
)


def text(words: str) -> str:
    """Make text from elsewhere safe to stand in a page, in an attribute too, and visible."""
    return standard.escape(escape(words))


def name(words: str) -> str:
    """Write a platform or a path, which may be broken where its parts end."""
    return text(words).replace("/", "/<wbr>").replace(":", ":<wbr>")


def code(words: str) -> str:
    """Write text from elsewhere as it was written."""
    return f"<code>{text(words)}</code>"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page under a heading of its own; `body` is HTML."""

    name: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        body: HTML.
        kind: its class.
        rows: how many rows it stands in.
    """

    body: str
    kind: str = ""
    rows: int = 1

    @property
    def attributes(self) -> str:
        """Its class and height, where they are not the usual ones."""
        spans = f' rowspan="{self.rows}"' if self.rows > 1 else ""
        return f' class="{self.kind}"{spans}' if self.kind else spans


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of HTML.

    Attributes:
        name: unique on the page.
        caption, columns: plain words, to be escaped.
        rows: cells; the first of each row is its heading, None where that above goes on.
        right: positions of columns that hold numbers.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | None]]
    right: frozenset[int] = field(default_factory=frozenset)


def page(title: str, sections: Iterable[Section], *, head: str = "") -> str:
    """Write a whole page; `head` is HTML that stands below the title."""
    parts = tuple(sections)
    links = "".join(f'<li><a href="#{each.name}">{text(each.title)}</a></li>' for each in parts)
    nav = f'<nav aria-label="Sections"><ul>{links}</ul></nav>' if len(parts) > 1 else ""
    body = "\n".join(
        f'<section id="{each.name}" aria-labelledby="{each.name}-title">'
        f'<h2 id="{each.name}-title">{text(each.title)}</h2>\n{each.body}\n</section>'
        for each in parts
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{standard.escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f'<link rel="icon" href="data:,">\n<title>{text(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the content</a>\n'
        f"{_DEFINITIONS}\n"
        f"<header><h1>{text(title)}</h1>\n{head}{nav}</header>\n"
        f'<main id="main">\n{body}\n</main>\n'
        "<footer>Made by resolver; sizes are those of compressed layers, in decimal units."
        "</footer>\n</body>\n</html>\n"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Write labelled facts; those without a label go on where the one before ends."""
    items = "".join(
        f"<dt>{text(label)}</dt><dd>{text(value)}</dd>" if label else f"<dd>{code(value)}</dd>"
        for label, value in pairs
    )
    return f"<dl>{items}</dl>\n"


def grid(table: Grid) -> str:
    """Write a table in a box of its own, which scrolls where the page is too narrow."""
    caption = f"{table.name}-caption"
    heads = "".join(
        f'<th scope="col"{_right(position in table.right)}>{name(column)}</th>'
        for position, column in enumerate(table.columns)
    )
    rows = "\n".join(f"<tr>{_row(row, table.right)}</tr>" for row in table.rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{caption}">'
        f'<table><caption id="{caption}"><span>{text(table.caption)}</span></caption>'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n"
    )


def _row(row: Sequence[Cell | None], right: frozenset[int]) -> str:
    cells = []
    for position, cell in enumerate(row):
        if cell is None:
            continue
        if position == 0:
            scope = "rowgroup" if cell.rows > 1 else "row"
            cells.append(f'<th scope="{scope}"{cell.attributes}>{cell.body}</th>')
        else:
            kind = cell.kind or ("right" if position in right else "")
            cells.append(f"<td{Cell('', kind).attributes}>{cell.body}</td>")
    return "".join(cells)


def _right(is_right: bool) -> str:  # noqa: FBT001 - it is about nothing else
    return ' class="right"' if is_right else ""


def details(summary: str, body: str, *, is_open: bool = False) -> str:
    """Write something to unfold; both are HTML."""
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{summary}</summary>\n{body}</details>\n"
