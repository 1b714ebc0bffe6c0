"""Telling tags: one by one as they come, or all in one document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.tagged import Tags
from resolver.render import tell_values
from resolver.render.escape import line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.cli.output import Output


def tell_tags(output: Output, repository: str, found: Iterator[str], form: str) -> None:
    """Tell tags; a table and JSON lines do not wait for the last page."""
    if form not in {"table", "jsonl"}:
        output.tell(Tags(repository, tuple(found)), form)
        return
    names = []
    for tag in found:
        output.answer(f"{line(tag)}\n" if form == "table" else tell_values({"tag": tag}, form))
        if output.hand is not None:
            names.append(tag)
    output.keep(Tags(repository, tuple(names)))
