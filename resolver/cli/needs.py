"""`resolver needs`: print what the programs of an image need of the machine."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from resolver.cli import options


@options.command
def needs(
    common: options.Common,
    reference: options.Reference,
    platform: options.Platforms = None,
    all_programs: Annotated[
        bool,
        typer.Option(
            "--all-programs",
            help="Read every ELF file, not only what the image starts.",
            show_default=False,
        ),
    ] = False,
    max_bytes: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--max-bytes",
            metavar="SIZE",
            help="Limit what is read of the layers per platform  [default: 32MiB]",
        ),
    ] = None,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Show what the programs of an image need of the machine.

    For each platform: processor level, page size, kernel and libc, and which file in which layer
    states it. Reads the entrypoint, its loader and its libraries, from the layers in ranges;
    nothing is executed. `stated` is what a file declares, `seen` what its code uses, `possible`
    what it may use; what headers do not show is `unknown`.

    \b
      resolver needs postgres:17 -p linux/amd64
      resolver needs ghcr.io/owner/app:1.2 --json
    """
    from resolver.cli.inputs import expand_for_all, positive_size, split_platforms
    from resolver.cli.run import open_session
    from resolver.settings import LINT_MAX_BYTES

    most = positive_size(max_bytes, "--max-bytes") if max_bytes is not None else LINT_MAX_BYTES
    with open_session(common) as (session, output):
        platforms = expand_for_all(session, [reference], split_platforms(platform or []))
        found = session.needs(reference, platforms, every=all_programs, max_bytes=most)
        output.warnings(found.warnings)
        output.show(found, common.form, full=no_trunc)
