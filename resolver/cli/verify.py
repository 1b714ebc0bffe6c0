"""`resolver verify` and `resolver du`: check the store, and show its disk usage."""

from __future__ import annotations

from typing import Annotated

import typer

from resolver.cli import options
from resolver.cli.run import open_session, show_progress


@options.command
def verify(
    common: options.Common,
    full: Annotated[bool, options.option("--full", "Hash every byte, of layers too.")] = False,
    repair: Annotated[
        bool, options.option("--repair", "Fetch damaged and missing content again.")
    ] = False,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Verify the content of the store.

    Checks that the content of every name is present, complete and of the right size; hashes
    manifests and configs always, layers with --full. Moves damaged content aside. The status is 1
    if damage remains.

    \b
      resolver verify
      resolver verify --full --repair
    """
    with open_session(common) as (session, output):
        with show_progress(output, common):
            found = session.verify(full=full, repair=repair)
        output.show(found, common.form, full=no_trunc)
        if not found.is_sound:
            raise typer.Exit(1)


@options.command
def du(common: options.Common, no_trunc: options.NoTrunc = False) -> None:
    """Show the disk usage of each image.

    OWN is what removing the image would free; SHARED is also needed by other images.

    \b
      resolver du
      resolver du --json
    """
    with open_session(common) as (session, output):
        output.show(session.usage(), common.form, full=no_trunc)
