"""`resolver demo`: a tour that needs no network and no Docker."""

import typer


def demo() -> None:
    """Walk through all of it on sample images.

    Needs no network and no Docker, and leaves nothing behind.
    """
    from resolver.cli.tour import tour

    status = tour()
    if status:
        raise typer.Exit(status)
