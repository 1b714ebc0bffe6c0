"""`resolver serve`: the store, or a layout, as a registry to pull from; or a mirror of others."""

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
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror", help="Fetch what is not here, once, and keep it.", show_default=False
        ),
    ] = False,
    upstream: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--upstream",
            metavar="HOST",
            help="Meant where a client names none; by default `docker.io`.",
            show_default=False,
        ),
    ] = None,
    allow: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--allow", metavar="HOST", help="Ask this registry too; repeat it or use commas."
        ),
    ] = None,
    fresh: Annotated[
        str,
        typer.Option("--fresh", metavar="AGE", help="Ask again what a tag means after this."),
    ] = "60s",
) -> None:
    """Serve the store as a read-only registry.

    Or an OCI layout. Plain HTTP without credentials, so on this machine only, unless told
    otherwise. Prints its address, then runs until interrupted. Images go by their repository,
    with their registry before it or without. A tag of which a part is held is served as an index
    of that part; the digest of the original gives the original. With `--mirror` what is missing
    comes from upstream, with your credentials: see `resolver mirror-config` for what makes other
    tools ask here.

    \b
      resolver serve
      docker pull 127.0.0.1:5000/library/ubuntu:24.04
      resolver serve oci:./layout --listen 127.0.0.1:0
      resolver serve --mirror --allow ghcr.io,quay.io -v
    """
    from resolver.cli.serving import address, mirrored
    from resolver.cli.work import work

    host, port = address(listen)
    through = mirrored(place, upstream, allow, fresh, mirror=mirror)
    with work(common) as (session, output):
        if through is None:
            serving = session.serve(place, host, port, names=names or ())
        else:
            first, others, seconds = through
            serving = session.serve_mirror(
                host, port, upstream=first, allow=others, fresh=seconds, names=names or ()
            )
        with serving as server:
            output.answer(f"{server.address}\n")
            what = "read-only" if through is None else "and fetching what is missing"
            output.note(f"serving, {what}; interrupt to stop")
            server.wait()
