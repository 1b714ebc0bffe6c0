"""`resolver ls`: the images that are here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from resolver.cli import options
from resolver.cli.output import page_width, presentable
from resolver.render import render

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.cli.output import Output
    from resolver.core.results.store import ImageListing


@options.command
def ls(
    common: options.Common,
    context: typer.Context,
    patterns: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Argument(metavar="[NAME]...", show_default=False),
    ] = None,
    filters: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--filter",
            metavar="KEY=VALUE",
            help="`reference=PATTERN`, `platform=linux/arm64`, `dangling=true`.",
            show_default=False,
        ),
    ] = None,
    dangling: Annotated[
        bool,
        typer.Option("--dangling", help="Only what no pulled name leads to.", show_default=False),
    ] = False,
    digests: Annotated[
        bool, typer.Option("--digests", help="Show digests too.", show_default=False)
    ] = False,
    no_trunc: options.NoTrunc = False,
) -> None:
    """List the images that were pulled.

    PLATFORMS is how many of the offered ones are held; SHARED is what other images need as well.
    What `compare --files` fetched and nobody pulled is listed apart. A NAME may have `*` and `?`.
    With -q, image ids alone.

    \b
      resolver ls
      resolver ls 'ghcr.io/*' --digests
      resolver rm $(resolver ls -q --dangling)
    """
    from resolver.cli.run import work
    from resolver.core.results.store import ListFilters

    wanted = ListFilters.parse([*(filters or []), *(["dangling=true"] * dangling)], patterns or [])
    source = context.get_parameter_source("quiet")
    with work(common) as (session, output):
        found = wanted.take(session.images())
        ids = source is not None and source.name == "COMMANDLINE" and common.form == "table"
        output.keep(found)
        tell_listing(output, found, common.form, digests=digests, ids=ids, full=no_trunc)


def tell_listing(
    output: Output, found: ImageListing, form: str, *, digests: bool, ids: bool, full: bool
) -> None:
    """Tell a listing; JSON lines have a line per image."""
    if form == "jsonl":
        for image in found.images:
            output.answer(render(image, form, clean=presentable))
    elif ids:
        from resolver.render.answers.store import identity

        for text in dict.fromkeys(identity(image, full=full) for image in found.images):
            output.answer(f"{text}\n")
    else:
        told = render(
            found, form, explain=digests, full=full, width=page_width(), clean=presentable
        )
        output.answer(told)


def tell_tags(output: Output, repository: str, tags: Iterable[str], form: str) -> None:
    """Tell tags as they come, or as one value; those found before a failure are told too.

    Raises:
        ResolverError: what ended the list early; JSON and YAML then have no list.
    """
    from resolver.core.registry.tags import Tags
    from resolver.render import render_values
    from resolver.render.text import line

    if form in {"json", "yaml"}:
        output.tell(Tags(repository, tuple(tags)), form)
        return
    told = []
    try:
        for tag in tags:
            output.answer(
                render_values({"tag": tag}, form) if form == "jsonl" else f"{line(tag)}\n"
            )
            if output.hand is not None:
                told.append(tag)
    finally:
        output.keep(Tags(repository, tuple(told)))
