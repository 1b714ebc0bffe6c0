"""`resolver platforms`: what is an image offered for?"""

from typing import Annotated

import typer

from resolver.cli import options


@options.command
def platforms(
    common: options.Common,
    reference: options.Reference,
    attestations: Annotated[
        bool,
        typer.Option("--attestations", help="List attestations too.", show_default=False),
    ] = False,
    index_only: Annotated[
        bool,
        typer.Option(
            "--index-only",
            help="One request: no sizes, no manifests read.",
            show_default=False,
        ),
    ] = False,
    no_trunc: options.NoTrunc = False,
) -> None:
    """List the platforms that REF is offered for.

    Digest, layers and compressed size of each. Attestations are no platforms, and left out unless
    asked for; artifacts are listed apart. Manifests are read once and kept in the store; on Docker
    Hub each counts as a pull the first time.

    \b
      resolver platforms ubuntu:24.04
      resolver platforms --format json --index-only ghcr.io/owner/app:1
    """
    from dataclasses import replace

    from resolver.cli.work import asking

    with asking(common) as (session, output):
        found = session.platforms(reference, sizes=not index_only)
        output.warnings(found.warnings)
        shown = found if attestations else replace(found, attestations=())
        output.tell(shown, common.form, full=no_trunc)
