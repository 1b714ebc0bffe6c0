"""`resolver export`: export images from the store."""

from typing import Annotated

from resolver.cli import options
from resolver.cli.inputs import expand_for_all, split_platforms
from resolver.cli.output import takes_stdout
from resolver.cli.run import open_session


@options.command
def export(
    common: options.Common,
    references: options.References,
    to: Annotated[
        str,
        options.option(
            "--to", "A folder, FILE.tar, `-` (stdout), docker, podman or containerd.", "WHERE"
        ),
    ],
    platform: options.Platforms = None,
    exact: options.Exact = False,
    no_attestations: options.NoAttestations = False,
    namespace: Annotated[
        options.Text, options.option("--namespace", "Set the containerd namespace.", "NAME")
    ] = None,
    link: Annotated[
        bool,
        options.option(
            "--link", "Hard-link files of the store instead of copying; do not modify them."
        ),
    ] = False,
) -> None:
    """Export images from the store.

    A folder becomes an OCI layout, or is added to if it is one. `docker load`, `podman load`,
    `ctr images import` and skopeo can read FILE.tar; docker, podman and containerd load that tar
    directly, and `-` writes it to standard output. Files of a layout are clones if the file system
    supports them, else copies. Without -p, exports all that is stored: the original index if it is
    complete, else a new index of the stored part. `-p all` fails if anything is missing. To export
    to a folder with the name of a tool, write `./docker`.

    \b
      resolver export ubuntu:24.04 --to ./layout
      resolver export app:1 app:2 -p linux/arm64 --to images.tar
      resolver export app:1 --to docker
      resolver export app:1 --to - | ssh HOST docker load
    """
    from resolver.render.answers.plan import left_out_words

    platforms = split_platforms(platform or [])
    is_stream = takes_stdout(to, common.form)
    with open_session(common) as (session, output):
        platforms = expand_for_all(session, references, platforms)
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
            left_out = [item for image in found.images for item in image.left_out]
            if left_out:
                output.note(f"left out: {left_out_words(left_out)}")
        else:
            output.show(found, common.form)
