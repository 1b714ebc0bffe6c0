"""`resolver matrix`: which jobs does an image fan out to?"""

from typing import Annotated, Optional

import typer

from resolver.cli import options


@options.command
def matrix(
    common: options.Common,
    reference: options.Reference,
    platform: options.Platforms = None,
    system: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option("--for", metavar="SYSTEM", help="github (the default), gitlab or json."),
    ] = None,
    runner: Annotated[
        Optional[list[str]],  # noqa: UP045 - as above
        typer.Option("--runner", metavar="PLATFORM=LABEL", help="The machine for it; repeatable."),
    ] = None,
    require_runner: Annotated[
        bool,
        typer.Option("--require-runner", help="Status 1 if a job has none.", show_default=False),
    ] = False,
    index_only: options.IndexOnly = False,
) -> None:
    """Print a job for each platform that REF is offered for.

    For GitHub one line of JSON, for `matrix: ${{ fromJSON(...) }}`. For
    GitLab a hidden job to include, then `extends: .resolver-matrix`. Each
    job has platform, os, arch, variant, os_version, digest, ref, runner.
    Runners are the system's own; where none runs a platform natively it is
    null: `runs-on: ${{ matrix.runner || 'ubuntu-24.04' }}`.
    The manifest of each job is read, one request each: an SBOM listed as
    an image makes none. --index-only does not see that.

    \b
      echo "matrix=$(resolver matrix ubuntu:24.04)" >> "$GITHUB_OUTPUT"
      resolver matrix app:2 --for gitlab --runner linux/s390x=big-iron
    """
    from resolver.cli.matrices import tell_jobs

    tell_jobs(
        common,
        reference,
        platform or [],
        system,
        runner or [],
        require_runner=require_runner,
        index_only=index_only,
    )
