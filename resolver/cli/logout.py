"""`resolver logout`: a login, forgotten."""

from typing import Annotated

import typer

from resolver.cli import options


@options.command
def logout(
    common: options.Common,
    registry: Annotated[
        str, typer.Argument(metavar="[REGISTRY]", show_default=False)
    ] = "docker.io",
) -> None:
    """Forget the login for a registry.

    By default Docker Hub's. In the credential helper and in ~/.docker/config.json. Nobody is asked.

    \b
      resolver logout ghcr.io
    """
    from resolver.cli.work import work

    with work(common) as (session, output):
        output.tell(session.logout(registry), common.form)
