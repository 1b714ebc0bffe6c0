"""`resolver export`: an image handed to whatever runs it."""

from typing import Annotated, Optional

import typer

from resolver.cli import options


@options.command
def export(
    common: options.Common,
    references: options.References,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="WHERE",
            help="A folder, FILE.tar, `-` (stdout), `docker`, `podman` or `containerd`.",
            show_default=False,
        ),
    ],
    platform: options.Platforms = None,
    exact: options.Exact = False,
    no_attestations: options.NoAttestations = False,
    namespace: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--namespace", metavar="NAME", help="Of containerd; by default `ctr` decides."
        ),
    ] = None,
    link: Annotated[
        bool,
        typer.Option(
            "--link",
            help="Hard links to the store instead of copies; do not change such files.",
            show_default=False,
        ),
    ] = False,
) -> None:
    """Hand images of the store to something else.

    A folder becomes an OCI layout, or gains in one; FILE.tar is what `docker load`, `podman load`,
    `ctr images import` and skopeo all read; docker, podman and containerd get that tar at once,
    and `-` writes it to standard output. A layout has files of its own: clones where the file
    system makes them, else copies. Without -p everything that is held goes: the original index
    where all of it is held, else an index of what is, with a digest of its own. `-p all` refuses to
    leave anything behind. A folder named like a tool is `./docker`.

    \b
      resolver export ubuntu:24.04 --to ./layout
      resolver export app:1 app:2 -p linux/arm64 --to images.tar
      resolver export app:1 --to docker
      resolver export app:1 --to - | ssh HOST docker load
    """
    from resolver.cli.inputs import split_platforms
    from resolver.cli.output import takes_stdout
    from resolver.cli.run import work
    from resolver.render.answers.plan import left_out_words

    platforms = split_platforms(platform or [])
    is_stream = takes_stdout(to, common.form)
    with work(common) as (session, output):
        found = session.export(
            references,
            to,
            platforms,
            exact=exact,
            namespace=namespace,
            attestations=not no_attestations,
            link=link,
            sink=output.raw if is_stream else None,
        )
        if is_stream:
            output.keep(found)
            left_out = [each for image in found.images for each in image.left_out]
            if left_out:
                output.note(f"left out: {left_out_words(left_out)}")
        else:
            output.tell(found, common.form)
