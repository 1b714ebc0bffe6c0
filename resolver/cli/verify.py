"""`resolver verify`: is everything in the store what it should be?"""

from __future__ import annotations

from typing import Annotated

import typer

from resolver.cli import options


@options.command
def verify(
    common: options.Common,
    full: Annotated[
        bool,
        typer.Option("--full", help="Read and hash every byte.", show_default=False),
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Fetch again what is damaged or missing."),
    ] = False,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Check the store, and mend it.

    Every name must lead to content that is here, whole and of the right size; documents are
    hashed always, layers with --full. What is damaged is set aside. Status 1 if anything is wrong
    and stays so.

    \b
      resolver verify
      resolver verify --full --repair
    """
    from resolver.cli.run import work

    with work(common) as (session, output):
        found = session.verify(full=full, repair=repair)
        output.tell(found, common.form, full=no_trunc)
        if not found.is_sound:
            raise typer.Exit(1)


@options.command
def du(common: options.Common, no_trunc: options.NoTrunc = False) -> None:
    """Say what the store takes, image by image.

    OWN is what would be free without the image; SHARED is needed by others too.

    \b
      resolver du
      resolver du --json
    """
    from resolver.cli.run import work

    with work(common) as (session, output):
        output.tell(session.usage(), common.form, full=no_trunc)
