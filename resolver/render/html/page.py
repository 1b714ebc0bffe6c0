"""HTML pages: one self-contained file without scripts; tables, bars and heat maps."""

from __future__ import annotations

import base64
import hashlib
import html as standard
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from resolver._version import __version__
from resolver.core.compare.drift import DIMENSIONS, Unit
from resolver.errors import megabytes
from resolver.render.answers.files import cut, value_words
from resolver.render.text import escape
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.core.compare.compare import CompareReason
    from resolver.core.compare.drift import Drift
    from resolver.core.compare.history import History, HistoryRow, Step
    from resolver.render import Page


#: Steps of a heat map, from nothing to everything.
HEATS = 6

#: Every pair of text and background has a contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3); see
#: `tests/render/test_html.py`, which computes them from this file.
STYLE = "\n" + Path(__file__).with_name("page.css").read_text("utf-8")

_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
#: Allow only this style and an empty icon. Source: W3C CSP 3, 2.3.1 (hashes) and
#: 8.4 (no `unsafe-inline`, so no `style` attributes: bars use attributes of SVG).
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)


#: Hatching of shared layers, visible without colour; every bar refers to it.
_DEFINITIONS = (
    '<svg class="unseen" aria-hidden="true"><defs><pattern id="hatch" width="8" height="8" '
    'patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="hatched" width="8" height="8"/>'
    '<line class="hatch" x1="0" y1="0" x2="0" y2="8"/></pattern></defs></svg>'
)


def text(words: str) -> str:
    """Escape remote text for a page or an attribute, and make control characters visible."""
    return standard.escape(escape(words))


def name(words: str) -> str:
    """Render a platform or a path, which can wrap after its separators."""
    return text(words).replace("/", "/<wbr>").replace(":", ":<wbr>")


def code(words: str) -> str:
    """Render remote text verbatim."""
    return f"<code>{text(words)}</code>"


def prose(words: str) -> str:
    """Render a sentence; what is in backticks becomes code."""
    parts = text(words).split("`")
    if len(parts) % 2 == 0:
        return text(words)
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a page with a heading; `body` is HTML."""

    name: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table."""

    body: str
    kind: str = ""
    rows: int = 1

    @property
    def attributes(self) -> str:
        """Return its class and height attributes."""
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


class Drawn(NamedTuple):
    """What a page shows; `head` is HTML below the title."""

    title: str
    sections: Sequence[Section]
    head: str = ""


def draw_page(drawn: Drawn, made: Page) -> str:
    """Render a page."""
    title, parts, head = drawn
    links = "".join(f'<li><a href="#{item.name}">{text(item.title)}</a></li>' for item in parts)
    nav = f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if len(parts) > 1 else ""
    body = "\n".join(
        f'<section id="{item.name}" aria-labelledby="{item.name}-title">'
        f'<h2 id="{item.name}-title">{text(item.title)}</h2>\n{item.body}\n</section>'
        for item in parts
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
        f"<header><h1>{text(title)}</h1>\n{_made(made)}{head}{nav}</header>\n"
        f'<main id="main">\n{body}\n</main>\n'
        "<footer>Made by resolver; sizes are those of compressed layers, in decimal units."
        "</footer>\n</body>\n</html>\n"
    )


def _made(made: Page) -> str:
    """Return when, with which version and by which command the page was made."""
    date = f" on <time>{text(made.date)}</time>" if made.date else ""
    command = f": {code(made.command)}" if made.command else ""
    return f'<p class="note">Made{date} by resolver {__version__}{command}</p>\n'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Render labelled facts; one without a label continues the one before."""
    items = "".join(
        f"<dt>{text(label)}</dt><dd>{prose(value)}</dd>" if label else f"<dd>{code(value)}</dd>"
        for label, value in pairs
    )
    return f"<dl>{items}</dl>\n"


def grid(table: Grid) -> str:
    """Render a table; on a narrow page each row becomes a block of labelled values."""
    caption = f"{table.name}-caption"
    heads = "".join(
        f'<th scope="col"{_right(position in table.right)}>{name(column)}</th>'
        for position, column in enumerate(table.columns)
    )
    rows = "\n".join(f"<tr>{_row(row, table)}</tr>" for row in table.rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{caption}">'
        f'<table><caption id="{caption}"><span>{text(table.caption)}</span></caption>'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>\n"
    )


def _row(row: Sequence[Cell | None], table: Grid) -> str:
    cells = []
    for position, cell in enumerate(row):
        if cell is None:
            continue
        if position == 0:
            scope = "rowgroup" if cell.rows > 1 else "row"
            cells.append(f'<th scope="{scope}"{cell.attributes}>{cell.body}</th>')
        else:
            kind = cell.kind or ("right" if position in table.right else "")
            label = f' data-label="{text(table.columns[position])}"'
            cells.append(f"<td{Cell('', kind).attributes}{label}>{cell.body}</td>")
    return "".join(cells)


def _right(is_right: bool) -> str:  # noqa: FBT001 - it is about nothing else
    return ' class="right"' if is_right else ""


def details(summary: str, body: str, *, is_open: bool = False) -> str:
    """Render a disclosure element; both arguments are HTML."""
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{summary}</summary>\n{body}</details>\n"


#: Explains the fills of a bar.
LEGEND = (
    '<p class="legend"><span><svg class="key" aria-hidden="true"><rect class="own" width="100%" '
    'height="100%"/></svg>a layer of this platform alone</span><span><svg class="key" '
    'aria-hidden="true"><rect class="shared" width="100%" height="100%"/></svg>a layer that '
    "others have too</span></p>\n"
)


class Segment(NamedTuple):
    """A segment of a bar: its size in bytes, whether it is shared, and its tooltip."""

    size: int
    is_shared: bool
    words: str


def bar(segments: Sequence[Segment], most: int, label: str) -> str:
    """Render a bar of segments; `most` bytes fill the width.

    `label` describes the whole bar for screen readers.
    """
    drawn, at = [], 0
    for segment in segments:
        begin, at = at, at + segment.size
        kind = "shared" if segment.is_shared else "own"
        drawn.append(
            f'<rect class="{kind} cut" x="{_share(begin, most)}%" '
            f'width="{_share(segment.size, most)}%" height="100%">'
            f"<title>{text(segment.words)}</title></rect>"
        )
    return f'<svg class="bar" role="img" aria-label="{text(label)}">{"".join(drawn)}</svg>'


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3f}" if whole else "0"


def heat(part: int, whole: int) -> str:
    """Return the class of a heat map step for a share; zero has its own."""
    if part <= 0 or whole <= 0:
        return "heat-0"
    return f"heat-{max(1, min(HEATS - 1, (HEATS - 1) * part // whole))}"


_DIMENSIONS = {item.name: item for item in DIMENSIONS}
_COLUMNS = ("key", "value", "platforms")


def drift_details(drifts: Sequence[Drift], names: Sequence[str]) -> str:
    """Render the differences between builds: each value, and the builds with it."""
    return "".join(
        _unfolding(title, len(found), Grid(name, title, _COLUMNS, _by_value(found, names)))
        for name, title, found in _grouped(drifts)
    )


def change_details(drifts: Sequence[Drift], sides: Sequence[str], prefix: str) -> str:
    """Render the differences between two builds side by side; `prefix` makes names unique."""
    return "".join(
        _unfolding(title, len(found), Grid(f"{prefix}-{name}", title, ("key", *sides), rows))
        for name, title, found in _grouped(drifts)
        for rows in [[[Cell(_key(item), "key"), *map(_value, item.values)] for item in found]]
    )


def _grouped(drifts: Sequence[Drift]) -> list[tuple[str, str, list[Drift]]]:
    """Group differences by title: dimensions with many keys have their own, others share one."""
    found: dict[tuple[str, str], list[Drift]] = {}
    for drift in drifts:
        dimension = _DIMENSIONS[drift.dimension]
        own = (f"drift-{dimension.name}", dimension.title.capitalize())
        group = own if dimension.unit is Unit.PAIRS else ("drift-settings", "Settings")
        found.setdefault(group, []).append(drift)
    return [(name, title, item) for (name, title), item in found.items()]


def _by_value(drifts: Sequence[Drift], names: Sequence[str]) -> list[list[Cell | None]]:
    rows: list[list[Cell | None]] = []
    for drift in drifts:
        for number, (value, holders) in enumerate(drift.groups):
            key = Cell(_key(drift), "key", len(drift.groups)) if number == 0 else None
            builds = ", ".join(names[position] for position in holders)
            rows.append([key, _value(value), Cell(text(builds))])
    return rows


def _key(drift: Drift) -> str:
    """Return the key of a difference, with its dimension if a title has several."""
    is_own = _DIMENSIONS[drift.dimension].unit is Unit.PAIRS
    return code(drift.key if is_own else drift.name)


def _value(value: str | tuple[str, ...] | None) -> Cell:
    if value is None:
        return Cell('<span class="quiet">not set</span>', "value")
    return Cell(code(value_words(value)), "value")


def _unfolding(title: str, count: int, table: Grid) -> str:
    words = "1 difference" if count == 1 else f"{count} differences"
    return details(f"{text(title)}: {words}", grid(table), is_open=True)


#: Characters of an instruction shown when collapsed.
_SHORT = 120


def history_grid(name: str, history: History, names: Sequence[str], base: int) -> str:
    """Render histories: a row for each step, with its size in each build.

    `base` is the position of the build to compare with.
    """
    notes = "".join(
        f'<p class="note">{text(item)}: {text(reason)}, so layers are shown without steps.</p>\n'
        for item, reason in zip(names, history.unmatched, strict=True)
        if reason
    )
    if not history.rows:
        return f'{notes}<p class="note">No build has a history.</p>'
    sizes = [step.layer.size for row in history.rows for step in row.steps if step and step.layer]
    most = max(sizes, default=0)
    rows = [
        [
            Cell(str(number)),
            Cell(_instruction(row, names, base), "step"),
            Cell(_MARK[row.is_same]),
            *(_cell(step, most) for step in row.steps),
        ]
        for number, row in enumerate(history.rows, 1)
    ]
    columns = ("#", "step", "differs", *names)
    caption = "Steps and the size of their layers; a stronger colour is a larger layer"
    table = Grid(name, caption, columns, rows, frozenset(range(3, len(columns))))
    return notes + grid(table)


_MARK = {True: "", False: '<span class="differs">yes</span>'}


def _cell(step: Step | None, most: int) -> Cell:
    if step is None:
        return Cell('<span class="quiet">absent</span>', "right")
    if step.layer is None:
        return Cell('<span class="quiet">no layer</span>', "right")
    return Cell(megabytes(step.layer.size), f"right {heat(step.layer.size, most)}")


def _instruction(row: HistoryRow, names: Sequence[str], base: int) -> str:
    """Render a step as in the base; long instructions and other spellings are collapsed."""
    first = row.steps[base]
    written = cut(first.instruction if first is not None else row.instruction)
    spellings: dict[str, list[str]] = {}
    for name, step in zip(names, row.steps, strict=True):
        if step is not None:
            spellings.setdefault(cut(step.instruction), []).append(name)
    if len(written) <= _SHORT and len(spellings) == 1:
        return code(written)
    shown = written if len(written) <= _SHORT else f"{written[:_SHORT]}..."
    body = "".join(
        f"<p>{text(', '.join(builds))}:<br>{code(item)}</p>" for item, builds in spellings.items()
    )
    return details(code(shown), body)


def reasons(found: Iterable[CompareReason]) -> str:
    """Render the reasons; empty if there are none."""
    items = "".join(
        f"<li><strong>{text(item.aspect)}</strong>: {prose(item.message)}</li>" for item in found
    )
    return (
        f'<ul class="reasons" aria-label="Differences that count">{items}</ul>\n' if items else ""
    )
