"""The page of a comparison of two images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.compare_words import delta_words
from resolver.render.html_bars import Segment, bar
from resolver.render.html_drift import change_details
from resolver.render.html_files import files_body
from resolver.render.html_history import history_grid
from resolver.render.html_page import (
    Cell,
    Grid,
    Section,
    code,
    details,
    facts,
    grid,
    name,
    page,
    text,
)
from resolver.render.html_reasons import reasons
from resolver.render.report_images import facts_of
from resolver.render.units import megabytes

if TYPE_CHECKING:
    from resolver.core.builds import Build
    from resolver.core.comparison import ImageComparison, PlatformChange

_SIDES = ("from", "to")


def draw_images(answer: ImageComparison) -> str:
    """Draw a comparison of two images."""
    title = f"{answer.first} and {answer.second}"
    head = facts(facts_of(answer)) + reasons(answer.reasons)
    if answer.is_same:
        return page(title, (), head=f"<p>Both names point at the same bytes.</p>\n{head}")
    sections = [Section("platforms", "Platforms", _bars(answer) + _numbers(answer))]
    for number, change in enumerate(answer.changes, 1):
        if change.history is not None:
            name = f"change-{number}"
            sections.append(Section(name, change.name, _change(name, change)))
    return page(title, sections, head=head)


def _bars(answer: ImageComparison) -> str:
    sizes = [b.size for each in answer.changes for b in (each.before, each.after) if b is not None]
    most = max(sizes, default=0)
    items = "".join(
        _bar(change, side, build, most)
        for change in answer.changes
        for side, build in zip(_SIDES, (change.before, change.after), strict=True)
    )
    return (
        f'<ul class="bars">{items}</ul>\n<p class="legend">Hatched layers are in both images, so '
        "who has the first need not fetch them.</p>\n"
    )


def _bar(change: PlatformChange, side: str, build: Build | None, most: int) -> str:
    label = f"{change.name}, {side}"
    if build is None:
        return f'<li><span>{text(label)}</span><span class="quiet">not offered</span></li>'
    other = change.after if side == "from" else change.before
    both = other.layers if other is not None else {}
    segments = [
        Segment(size, digest in both, f"layer {number}: {megabytes(size)}, {digest}")
        for number, (digest, size) in enumerate(build.layers.items(), 1)
    ]
    size = megabytes(build.size)
    drawn = bar(segments, most, f"{label}: {size}")
    return f'<li><span>{text(label)}</span>{drawn}<span class="number">{size}</span></li>'


def _numbers(answer: ImageComparison) -> str:
    rows = []
    for change in answer.changes:
        before, after = change.before, change.after
        both = before is not None and after is not None
        rows.append(
            [
                Cell(name(change.name), "nowrap"),
                Cell(change.change.value),
                Cell(megabytes(before.size) if before else "-", "right"),
                Cell(megabytes(after.size) if after else "-", "right"),
                Cell(delta_words(change.delta) if both else "-", "right"),
                Cell(megabytes(change.fetch.bytes) if after else "-", "right"),
                Cell(str(change.fetch.layers) if after else "-", "right"),
                Cell(code(str(before.descriptor.digest)[:19]) if before else "-", "nowrap"),
                Cell(code(str(after.descriptor.digest)[:19]) if after else "-", "nowrap"),
            ]
        )
    columns = (
        "platform", "result", "from", "to", "delta", "to fetch", "layers to fetch",
        "manifest before", "manifest after",
    )  # fmt: skip
    caption = "Each platform in numbers; what to fetch is for who has the first on that platform"
    return grid(Grid("numbers", caption, columns, rows, frozenset(range(2, 7))))


def _change(name: str, change: PlatformChange) -> str:
    drift = change_details(change.drift, _SIDES, name)
    drift = drift or '<p class="note">Both say the same about themselves.</p>\n'
    assert change.history is not None  # noqa: S101 - the caller's condition
    history = history_grid(f"{name}-steps", change.history, _SIDES, 0)
    files = files_body(f"{name}-files", change.files, ("to",)) if change.files is not None else ""
    return drift + details("History", history) + files
