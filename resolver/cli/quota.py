"""`resolver quota`: how many pulls are left."""

from typing import Annotated

import typer

from resolver.cli import options


@options.command
def quota(
    common: options.Common,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="[REF]", show_default=False, autocompletion=options.offer_references
        ),
    ] = "docker.io/ratelimitpreview/test:latest",
) -> None:
    """Say how many pulls are left.

    Of Docker Hub, or of the registry that REF is in. Asked by a HEAD, which is not counted. Who
    logs in has a quota of their own.

    \b
      resolver quota
      resolver quota --anonymous --json
    """
    from resolver.cli.work import work

    with work(common) as (session, output):
        output.tell(session.quota(reference), common.form)
