"""`resolver rm`: names taken away, and what nothing else needs."""

from typing import Annotated, Optional

import typer

from resolver.cli import options


@options.command
def rm(
    common: options.Common,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", show_default=False, autocompletion=options.offer_references
        ),
    ],
    platform: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--platform",
            "-p",
            metavar="PLATFORM",
            help="Only this platform of it; the others stay.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also an id with several names, or what is in use right now.",
            show_default=False,
        ),
    ] = False,
) -> None:
    """Remove images from the store.

    Takes the name away, then deletes what no other image needs. IMAGE is a reference, also with a
    digest, or an id that `resolver ls` shows, or the start of one. An id with several names, and an
    image that a pull, an export or a server is using, are refused with status 1; the start of
    several ids with status 2.

    \b
      resolver rm ubuntu:24.04
      resolver rm -p linux/arm64 ubuntu:24.04
      resolver rm --force 8d3661f10977
      resolver rm $(resolver ls -q --dangling)
    """
    from resolver.cli.inputs import several
    from resolver.cli.run import work

    with work(common) as (session, output):
        several(
            output,
            common.form,
            images,
            lambda image: session.remove(image, platform, force=force),
        )
