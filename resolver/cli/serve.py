"""`resolver serve`: the store, or a layout, as a registry to pull from."""

from typing import Annotated, Optional

import typer

from resolver.cli import options


@options.command
def serve(
    common: options.Common,
    place: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Argument(metavar="[oci:DIR]", show_default=False),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            envvar="RESOLVER_LISTEN",
            show_envvar=False,
            help="Where to listen; port 0 is any free one.",
        ),
    ] = "127.0.0.1:5000",
    names: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--name", metavar="HOST", help="Also answer to this name of the machine; repeat it."
        ),
    ] = None,
) -> None:
    """Serve the store as a read-only registry.

    Or an OCI layout. Plain HTTP without credentials, so on this machine only, unless told
    otherwise. Prints its address, then runs until interrupted. Images go by their repository,
    with their registry before it or without.

    \b
      resolver serve
      docker pull 127.0.0.1:5000/library/ubuntu:24.04
      skopeo inspect docker://127.0.0.1:5000/docker.io/library/ubuntu:24.04
      resolver serve oci:./layout --listen 127.0.0.1:0
    """
    from resolver.cli.serving import address
    from resolver.cli.work import work

    host, port = address(listen)
    with (
        work(common) as (session, output),
        session.serve(place, host, port, names=names or ()) as server,
    ):
        output.answer(f"{server.address}\n")
        output.note("serving, read-only; interrupt to stop")
        server.wait()
