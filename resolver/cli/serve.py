"""`resolver serve`: the store, or a layout, as a registry to pull from; or a mirror of others."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from resolver.cli import options
from resolver.cli.inputs import span
from resolver.errors import Usage


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
    from resolver.cli.run import work

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


_MAX_PORT = 65_535


def address(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, `[HOST]:PORT` or `:PORT` (this machine).

    Raises:
        Usage: it is none of them.

    """
    host, colon, digits = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    usable = digits.isascii() and digits.isdecimal() and len(digits) <= len(str(_MAX_PORT))
    if not colon or not usable or int(digits) > _MAX_PORT or (":" in host and not bracketed):
        raise Usage(
            f"`--listen {text}` is no address", "write `127.0.0.1:5000`, `[::1]:5000` or `:5000`"
        )
    return (host[1:-1] if bracketed else host) or "127.0.0.1", int(digits)


def mirrored(
    place: str | None, upstream: str | None, allow: list[str] | None, fresh: str, *, mirror: bool
) -> tuple[str, tuple[str, ...], float] | None:
    """Read what a mirror asks: the usual registry, the others, and for how long a tag is fresh.

    None where there is to be no mirror.

    Raises:
        Usage: something does not fit together.

    """
    others = tuple(name for each in allow or () for name in each.split(",") if name)
    if not mirror:
        if upstream or others:
            raise Usage("`--upstream` and `--allow` are for a mirror", "add `--mirror`")
        return None
    if place is not None:
        raise Usage("a mirror keeps what it fetches in the store", f"leave out `{place}`")
    return upstream or "docker.io", others, span(fresh, "--fresh")


@options.command
def mirror_config(
    common: options.Common,
    tool: Annotated[str, typer.Argument(metavar="TOOL", show_default=False)],
    hosts: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Argument(metavar="[HOST]...", show_default=False),
    ] = None,
    mirror: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--mirror",
            metavar="URL",
            help="Somebody's mirror, instead of `resolver serve`.",
            show_default=False,
        ),
    ] = None,
    at: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--at",
            metavar="URL",
            help="Where `resolver serve` listens; by default `http://127.0.0.1:5000`.",
            show_default=False,
        ),
    ] = None,
    tags: Annotated[
        bool,
        typer.Option(
            "--tags", help="Somebody's mirror may also say what a tag means.", show_default=False
        ),
    ] = False,
) -> None:
    """Print what points another tool at a mirror.

    TOOL is containerd, docker, podman (also buildah and skopeo) or buildkit; each HOST is a
    registry to be asked for there, `docker.io` if none is named. Says where each file belongs, and
    writes none.

    \b
      resolver mirror-config docker
      resolver mirror-config containerd docker.io ghcr.io
      resolver mirror-config podman --at http://cache.lan:5000 docker.io quay.io
      resolver mirror-config buildkit --mirror https://mirror.example.com
    """
    from resolver.cli.output import Output
    from resolver.render import prepare, render_values
    from resolver.render.to_dict import SCHEMA
    from resolver.verbs.serve.tool_config import mirror_config as written

    prepare(common.form)
    output = Output(quiet=common.quiet, verbose=common.verbose)
    files = written(tool, hosts or (), mirror, at, tags=tags)
    if common.form in {"json", "jsonl", "yaml"}:
        listed: object = [{"path": each.path, "content": each.content} for each in files]
        value = {"schema": SCHEMA, "tool": tool, "files": listed}
        output.answer(render_values(value, common.form))
        return
    for position, each in enumerate(files):
        output.note(f"this is for `{each.path}`")
        # JSON has no comments; one file needs none.
        head = f"# {each.path}\n" if len(files) > 1 else ""
        output.answer(("\n" if position else "") + head + each.content)
    for advice in dict.fromkeys(line for each in files for line in each.advice):
        output.note(advice)
