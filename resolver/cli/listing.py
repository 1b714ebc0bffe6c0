"""Telling what is in the store: a table, ids alone, or a value per image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render import tell

if TYPE_CHECKING:
    from resolver.cli.output import Output
    from resolver.core.listing import Listing


def tell_listing(
    output: Output, found: Listing, form: str, *, digests: bool, ids: bool, full: bool
) -> None:
    """Tell a listing; JSON lines have a line per image."""
    if form == "jsonl":
        for image in found.images:
            output.answer(tell(image, form))
    elif ids:
        from resolver.render.report_store import identity

        for text in dict.fromkeys(identity(image, full=full) for image in found.images):
            output.answer(f"{text}\n")
    else:
        output.answer(tell(found, form, explain=digests, full=full))
