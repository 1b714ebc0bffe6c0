"""`resolver mirror-config`: what makes other tools ask `resolver serve`, or a mirror."""

from typing import Annotated, Optional

import typer

from resolver.cli import options


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
    from resolver.flow.mirror_config import mirror_config as written
    from resolver.render import prepare, tell_values
    from resolver.render.plain import SCHEMA

    prepare(common.form)
    output = Output(quiet=common.quiet, verbose=common.verbose)
    files = written(tool, hosts or (), mirror, at, tags=tags)
    if common.form in {"json", "jsonl", "yaml"}:
        listed: object = [{"path": each.path, "content": each.content} for each in files]
        value = {"schema": SCHEMA, "tool": tool, "files": listed}
        output.answer(tell_values(value, common.form))
        return
    for position, each in enumerate(files):
        output.note(f"this is for `{each.path}`")
        # JSON has no comments; one file needs none.
        head = f"# {each.path}\n" if len(files) > 1 else ""
        output.answer(("\n" if position else "") + head + each.content)
    for advice in dict.fromkeys(line for each in files for line in each.advice):
        output.note(advice)
