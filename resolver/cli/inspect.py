"""`resolver inspect`: the documents behind a reference."""

from typing import Annotated, Optional

import typer

from resolver.cli import options


@options.command
def inspect(
    common: options.Common,
    reference: options.Reference,
    platform: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--platform",
            "-p",
            metavar="PLATFORM",
            help="Show this platform's image; without it an index is shown as it is.",
            show_default=False,
        ),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="The exact bytes of the document.", show_default=False),
    ] = False,
    config: Annotated[
        bool,
        typer.Option("--config", help="The exact bytes of the image's config.", show_default=False),
    ] = False,
    exact: options.Exact = False,
    strict: options.Strict = False,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Show an index, or one image.

    Manifest, config, layers with their sizes, history and annotations.

    \b
      resolver inspect ubuntu:24.04
      resolver inspect ubuntu:24.04 -p linux/arm64
      resolver inspect --raw ubuntu:24.04 | sha256sum
      resolver inspect --config -p linux/arm64 ubuntu:24.04
    """
    from resolver.cli.inspecting import check, exact_bytes
    from resolver.cli.work import asking

    check(platform, common.form, raw=raw, config=config)
    with asking(common) as (session, output):
        found = session.inspect(
            reference, platform, config=not raw, choose=config, exact=exact, strict=strict
        )
        output.warnings(found.warnings)
        if raw or config:
            output.keep(found)
            output.raw(exact_bytes(found, config=config))
        else:
            output.tell(found, common.form, full=no_trunc)
