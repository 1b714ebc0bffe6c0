"""`resolver login`: a login, checked and kept."""

from typing import Annotated

import typer

from resolver.cli import options


@options.command
def login(
    common: options.Common,
    registry: Annotated[
        str, typer.Argument(metavar="[REGISTRY]", show_default=False)
    ] = "docker.io",
) -> None:
    """Log in to a registry, by default Docker Hub.

    The registry is asked first; what it does not take is not kept. A login is kept where Docker
    keeps it: in the credential helper that ~/.docker/config.json names, else in that file. On a
    terminal, what is missing is asked for; a password is never an argument.

    \b
      resolver login ghcr.io --username me --password-stdin < token.txt
      resolver login registry.corp:5000 --ca-file corp.pem
    """
    from resolver.cli.asking import with_login
    from resolver.cli.work import work

    asked = with_login(common, registry)
    with work(asked) as (session, output):
        done = session.login(registry)
        if not done.verified:
            output.note(f"`{done.registry}` wants no login now, so this one is not checked")
        output.tell(done, common.form)
