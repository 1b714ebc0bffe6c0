"""HTML pages: one self-contained file without scripts; tables, bars and heat maps."""

from __future__ import annotations

import base64
import hashlib
import html as standard
from dataclasses import field
from typing import TYPE_CHECKING, NamedTuple

from resolver.core.compare.drift import DIMENSIONS, Unit
from resolver.render.answers.files import cut, value_words
from resolver.render.report import megabytes
from resolver.render.text import escape
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.core.compare.compare import CompareReason
    from resolver.core.compare.drift import Drift
    from resolver.core.compare.history import History, HistoryRow, Step


#: Steps of a heat map, from nothing to everything.
HEATS = 6

#: Every pair of text and background has a contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3); see
#: `tests/render/test_html.py`, which computes them from this text.
STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --text: #1b1f24; --quiet: #535c66; --line: #d3d9e0; --raised: #f5f7f9;
  --link: #0a58a3; --own: #0a66b8; --shared: #8a5a00; --alarm: #a8261c;
  --heat-0: #ffffff; --heat-1: #eaf3fb; --heat-2: #d2e6f7; --heat-3: #b5d5f0;
  --heat-4: #96c2e8; --heat-5: #78aede;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14181d; --text: #e6e9ec; --quiet: #a5aeb8; --line: #3a424b; --raised: #1d232a;
    --link: #7cbcf5; --own: #4c9fe0; --shared: #d9a441; --alarm: #ff9c92;
    --heat-0: #14181d; --heat-1: #172635; --heat-2: #19344e; --heat-3: #1b4266;
    --heat-4: #1c4f7e; --heat-5: #1d5b94;
  }
}
* { box-sizing: border-box; }
html { font: 16px/1.5 system-ui, sans-serif; background: var(--ground); color: var(--text); }
body { margin: 0 auto; max-width: 80rem; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px; border-radius: 2px;
}
.skip { position: absolute; left: -100rem; }
.skip:focus { position: static; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; }
nav a { display: inline-block; padding: .25rem 0; }
code, .number, td.right { font-variant-numeric: tabular-nums; }
code { font-family: ui-monospace, "Liberation Mono", monospace; font-size: .875em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 1rem 0; }
dt { color: var(--quiet); }
dd { margin: 0; grid-column: 2; }
p.note, .legend { color: var(--quiet); margin: .25rem 0 .75rem; }
ul.reasons { border-left: 4px solid var(--alarm); list-style: none; padding: 0 1rem; }
ul.reasons strong { color: var(--alarm); }
.scroll {
  position: relative; overflow-x: auto; margin: .75rem 0;
  border: 1px solid var(--line); border-radius: 6px;
}
table { border-collapse: collapse; min-width: 100%; font-size: .9rem; overflow-wrap: normal; }
caption { text-align: left; padding: .6rem .75rem; font-weight: 600; }
caption span {
  display: block; position: sticky; left: .75rem; width: max-content;
  max-width: calc(100vw - 4rem);
}
details > .scroll caption { position: absolute; clip-path: inset(50%); white-space: nowrap; }
th, td {
  text-align: left; vertical-align: top; padding: .4rem .75rem;
  border-top: 1px solid var(--line);
}
thead th { color: var(--quiet); font-weight: 600; background: var(--raised); min-width: 4rem; }
thead th.right { white-space: normal; min-width: 6.5rem; }
tbody th { font-weight: 500; position: sticky; left: 0; background: var(--ground); }
.right { text-align: right; white-space: nowrap; }
.nowrap { white-space: nowrap; }
.value { min-width: 12rem; overflow-wrap: anywhere; }
.step { min-width: 16rem; max-width: 40rem; overflow-wrap: anywhere; }
.quiet { color: var(--quiet); }
.differs { font-weight: 700; color: var(--alarm); }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; }
details .scroll { border: 0; margin: 0; border-radius: 0 0 6px 6px; }
details > p, details > h3 { margin: .75rem; }
summary { cursor: pointer; padding: .6rem .75rem; }
td details, th details { border: 0; margin: 0; }
td details summary, th details summary { padding: 0; }
.bars { list-style: none; padding: 0; margin: .75rem 0; }
.bars li {
  display: grid; grid-template-columns: minmax(8rem, 18rem) 1fr 6rem; gap: .75rem;
  align-items: center; padding: .2rem 0;
}
.bars .number { text-align: right; white-space: nowrap; }
svg.bar { display: block; width: 100%; height: 1.25rem; }
td svg.bar { min-width: 8rem; }
svg.key { width: 1.25rem; height: .8rem; margin-right: .3rem; }
.own { fill: var(--own); }
.shared { fill: url(#hatch); }
.hatch { stroke: var(--shared); stroke-width: 5; }
.hatched { fill: var(--ground); }
.cut { stroke: var(--ground); stroke-width: 2; }
.legend span { display: inline-block; margin-right: 1.25rem; }
.heat-0 { background: var(--heat-0); } .heat-1 { background: var(--heat-1); }
.heat-2 { background: var(--heat-2); } .heat-3 { background: var(--heat-3); }
.heat-4 { background: var(--heat-4); } .heat-5 { background: var(--heat-5); }
footer {
  margin-top: 3rem; padding-top: .75rem; color: var(--quiet);
  border-top: 1px solid var(--line);
}
.unseen { position: absolute; width: 0; height: 0; overflow: hidden; }
@media (max-width: 40rem) {
  .bars li { grid-template-columns: 1fr auto; gap: .1rem .75rem; padding: .4rem 0; }
  .bars svg.bar { grid-column: 1 / -1; grid-row: 2; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { grid-column: 1; margin-bottom: .5rem; }
  tbody th.nowrap, tbody th.key {
    white-space: normal; min-width: 8rem; max-width: 10rem; overflow-wrap: break-word;
  }
  .value, .step { min-width: 10rem; }
}
@media print { .scroll { overflow: visible; } nav { display: none; } }
"""

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


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a page with a heading; `body` is HTML."""

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


def page(title: str, sections: Iterable[Section], *, head: str = "") -> str:
    """Render a page; `head` is HTML below the title."""
    parts = tuple(sections)
    links = "".join(f'<li><a href="#{item.name}">{text(item.title)}</a></li>' for item in parts)
    nav = f'<nav aria-label="Sections"><ul>{links}</ul></nav>' if len(parts) > 1 else ""
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
        f"<header><h1>{text(title)}</h1>\n{head}{nav}</header>\n"
        f'<main id="main">\n{body}\n</main>\n'
        "<footer>Made by resolver; sizes are those of compressed layers, in decimal units."
        "</footer>\n</body>\n</html>\n"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Render labelled facts; one without a label continues the one before."""
    items = "".join(
        f"<dt>{text(label)}</dt><dd>{text(value)}</dd>" if label else f"<dd>{code(value)}</dd>"
        for label, value in pairs
    )
    return f"<dl>{items}</dl>\n"


def grid(table: Grid) -> str:
    """Render a table in a box that scrolls on a narrow page."""
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

    Args:
        name: unique on the page.
        history: aligned.
        names: of the builds, in their order.
        base: position of the build that the others are held against.
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
        f"<li><strong>{text(item.aspect)}</strong>: {text(item.message)}</li>" for item in found
    )
    return (
        f'<ul class="reasons" aria-label="Differences that count">{items}</ul>\n' if items else ""
    )
