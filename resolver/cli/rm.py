"""`resolver rm`: remove images from the store."""

from typing import Annotated

from resolver.cli import options
from resolver.cli.inputs import for_each
from resolver.cli.run import open_session


@options.command
def rm(
    common: options.Common,
    images: Annotated[
        list[str],
        options.argument("IMAGE...", "References or ids in the store.", options.offer_references),
    ],
    platform: Annotated[
        options.Text,
        options.option("--platform -p", "Remove only this platform of the image.", "PLATFORM"),
    ] = None,
    force: Annotated[
        bool, options.option("--force", "Also remove an image with several names or in use.")
    ] = False,
) -> None:
    """Remove images from the store.

    Removes the name, then deletes what no other image needs. IMAGE is a reference, with or without
    a digest, or an id from `resolver ls`, or its prefix. Refuses an id with several names, and an
    image that a pull, an export or a server is using, with status 1; an ambiguous prefix with
    status 2.

    \b
      resolver rm ubuntu:24.04
      resolver rm -p linux/arm64 ubuntu:24.04
      resolver rm --force 8d3661f10977
      resolver rm $(resolver ls -q --dangling)
    """
    with open_session(common) as (session, output):
        for_each(
            output, common.form, images, lambda image: session.remove(image, platform, force=force)
        )
