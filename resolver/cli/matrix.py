"""`resolver matrix`: which jobs does an image fan out to?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from resolver.cli import options
from resolver.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.cli.options import Common


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
    tell_jobs(
        common,
        reference,
        platform or [],
        system,
        runner or [],
        require_runner=require_runner,
        index_only=index_only,
    )


_DEFAULT, _TABLE = "github", "table"


def tell_jobs(
    common: Common,
    reference: str,
    platforms: Sequence[str],
    system: str | None,
    runners: Sequence[str],
    *,
    require_runner: bool,
    index_only: bool,
) -> None:
    """Make the matrix and print it; `--format` is for people, `--for` for a CI system."""
    from resolver.cli.inputs import split_platforms
    from resolver.cli.run import work
    from resolver.render.answers.matrix import tell_matrix

    if system is not None and common.form != _TABLE:
        raise Usage(
            f"`--for {system}` and `--format {common.form}` are two forms of one answer",
            "give one of them",
        )
    wanted = [text for text in split_platforms(list(platforms)) if text != "all"]
    with work(common) as (session, output):
        found = session.matrix(
            reference,
            wanted,
            system=system or _DEFAULT,
            runners=runners,
            require_runner=require_runner,
            index_only=index_only,
        )
        output.warnings(found.warnings)
        if common.form != _TABLE:
            output.tell(found, common.form)
            return
        output.keep(found)
        output.answer(tell_matrix(found))
