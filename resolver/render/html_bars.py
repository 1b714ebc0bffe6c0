"""Bars and heats: sizes as something to see, beside the numbers that say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resolver.render.html_page import text
from resolver.render.html_style import HEATS

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Says which fill means what.
LEGEND = (
    '<p class="legend"><span><svg class="key" aria-hidden="true"><rect class="own" width="100%" '
    'height="100%"/></svg>a layer of this platform alone</span><span><svg class="key" '
    'aria-hidden="true"><rect class="shared" width="100%" height="100%"/></svg>a layer that '
    "others have too</span></p>\n"
)


class Segment(NamedTuple):
    """A piece of a bar: its size in bytes, whether others have it too, and what it is."""

    size: int
    is_shared: bool
    words: str


def bar(segments: Sequence[Segment], most: int, label: str) -> str:
    """Draw a bar of pieces; `most` bytes fill the width.

    Each piece carries its words as a tooltip; `label` says all of it to who cannot see it.
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
    """Name the step of a heat map for a part of a whole; nothing at all has one of its own."""
    if part <= 0 or whole <= 0:
        return "heat-0"
    return f"heat-{max(1, min(HEATS - 1, (HEATS - 1) * part // whole))}"
