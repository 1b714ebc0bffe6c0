"""`resolver ls`: the images that are here."""

from typing import Annotated, Optional

import typer

from resolver.cli import options


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
    from resolver.cli.listing import tell_listing
    from resolver.cli.work import work
    from resolver.core.listing import Filters

    wanted = Filters.parse([*(filters or []), *(["dangling=true"] * dangling)], patterns or [])
    source = context.get_parameter_source("quiet")
    with work(common) as (session, output):
        found = wanted.take(session.images())
        ids = source is not None and source.name == "COMMANDLINE" and common.form == "table"
        output.keep(found)
        tell_listing(output, found, common.form, digests=digests, ids=ids, full=no_trunc)
