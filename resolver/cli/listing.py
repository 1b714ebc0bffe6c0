"""Telling lists: what is in the store, and the tags of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.cli.output import page_width, presentable
from resolver.render import tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.cli.output import Output
    from resolver.core.listing import Listing


def tell_listing(
    output: Output, found: Listing, form: str, *, digests: bool, ids: bool, full: bool
) -> None:
    """Tell a listing; JSON lines have a line per image."""
    if form == "jsonl":
        for image in found.images:
            output.answer(tell(image, form, clean=presentable))
    elif ids:
        from resolver.render.report_store import identity

        for text in dict.fromkeys(identity(image, full=full) for image in found.images):
            output.answer(f"{text}\n")
    else:
        told = tell(found, form, explain=digests, full=full, width=page_width(), clean=presentable)
        output.answer(told)


def tell_tags(output: Output, repository: str, tags: Iterable[str], form: str) -> None:
    """Tell tags as they come, or as one value; those found before a failure are told too.

    Raises:
        ResolverError: what ended the list early; JSON and YAML then have no list.
    """
    from resolver.core.tagged import Tags
    from resolver.render import tell_values
    from resolver.render.escape import line

    if form in {"json", "yaml"}:
        output.tell(Tags(repository, tuple(tags)), form)
        return
    told = []
    try:
        for tag in tags:
            output.answer(tell_values({"tag": tag}, form) if form == "jsonl" else f"{line(tag)}\n")
            if output.hand is not None:
                told.append(tag)
    finally:
        output.keep(Tags(repository, tuple(told)))
