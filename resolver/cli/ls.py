"""`resolver ls`: list the images in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.cli.output import page, presentable
from resolver.cli.run import open_session
from resolver.render import DEFAULT_FORMAT, render, renderer

if TYPE_CHECKING:
    from resolver.cli.output import Output
    from resolver.core.results.store import ImageListing


@options.command
def ls(
    common: options.Common,
    context: typer.Context,
    patterns: Annotated[
        options.Texts, options.argument("[NAME]...", "List only these; may contain `*` and `?`.")
    ] = None,
    filters: Annotated[
        options.Texts,
        options.option(
            "--filter", "`reference=PATTERN`, `platform=linux/arm64`, `dangling=true`.", "KEY=VALUE"
        ),
    ] = None,
    dangling: Annotated[
        bool, options.option("--dangling", "List only images without a name.")
    ] = False,
    digests: Annotated[bool, options.option("--digests", "Also show digests.")] = False,
    no_trunc: options.NoTrunc = False,
) -> None:
    """List the images in the store.

    PLATFORMS counts the stored platforms of those offered; SHARED is the size that other images
    need as well. Content that only `compare --files` fetched is listed separately. NAME may contain
    `*` and `?`. With -q, prints only image ids.

    \b
      resolver ls
      resolver ls 'ghcr.io/*' --digests
      resolver rm $(resolver ls -q --dangling)
    """
    from resolver.verbs.store import ListFilters

    wanted = ListFilters.parse([*(filters or []), *(["dangling=true"] * dangling)], patterns or [])
    source = context.get_parameter_source("quiet")
    with open_session(common) as (session, output):
        found = wanted.take(session.images())
        ids = source is not None and source.name == "COMMANDLINE" and common.form == DEFAULT_FORMAT
        output.keep(found)
        show_listing(output, found, common.form, digests=digests, ids=ids, full=no_trunc)


def show_listing(
    output: Output, found: ImageListing, form: str, *, digests: bool, ids: bool, full: bool
) -> None:
    """Print a listing; with JSON lines, one line per image."""
    if renderer(form).is_lines:
        for image in found.images:
            output.answer(render(image, form, clean=presentable))
    elif ids:
        from resolver.render.answers.store import identity

        for image_id in dict.fromkeys(identity(image, full=full) for image in found.images):
            output.answer(f"{image_id}\n")
    else:
        text = render(found, form, explain=digests, full=full, page=page(), clean=presentable)
        output.answer(text)
