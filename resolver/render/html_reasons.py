"""Why an answer is no, at the top of its page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.html_page import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.comparison import Reason


def reasons(found: Iterable[Reason]) -> str:
    """List the reasons; nothing where there are none."""
    items = "".join(
        f"<li><strong>{text(each.aspect)}</strong>: {text(each.message)}</li>" for each in found
    )
    return (
        f'<ul class="reasons" aria-label="Differences that count">{items}</ul>\n' if items else ""
    )
