"""`resolver matrix`: print a CI job matrix for the platforms of an image."""

from __future__ import annotations

from typing import Annotated

from resolver.cli import options
from resolver.cli.inputs import expand_for_all, split_platforms
from resolver.cli.run import open_session
from resolver.errors import Usage
from resolver.render import DEFAULT_FORMAT


@options.command
def matrix(
    common: options.Common,
    reference: options.Reference,
    platform: options.Platforms = None,
    system: Annotated[
        options.Text,
        options.option("--for", "Set the CI system: github (default), gitlab or json.", "SYSTEM"),
    ] = None,
    runner: Annotated[
        options.Texts,
        options.option("--runner", "Set the runner for a platform; repeatable.", "PLATFORM=LABEL"),
    ] = None,
    require_runner: Annotated[
        bool, options.option("--require-runner", "Exit with status 1 if a job has no runner.")
    ] = False,
    index_only: options.IndexOnly = False,
) -> None:
    """Print a CI job matrix for the platforms of an image.

    For GitHub, prints one line of JSON, for `matrix: ${{ fromJSON(...) }}`.
    For GitLab, prints a hidden job to include, then `extends:
    .resolver-matrix`. Each job has platform, os, arch, variant, os_version,
    digest, ref and runner. The runner is one that the CI system hosts, null
    if none runs the platform natively: `runs-on: ${{ matrix.runner ||
    'ubuntu-24.04' }}`. Reads the manifest of each job, one request each, to
    skip an SBOM listed as an image; --index-only does not.

    \b
      echo "matrix=$(resolver matrix ubuntu:24.04)" >> "$GITHUB_OUTPUT"
      resolver matrix app:2 --for gitlab --runner linux/s390x=big-iron
    """
    if system is not None and common.form != DEFAULT_FORMAT:
        raise Usage(
            f"`--for {system}` and `--format {common.form}` exclude each other",
            "leave out one of them",
        )
    wanted = [text for text in split_platforms(platform or []) if text != "all"]
    with open_session(common) as (session, output):
        found = session.matrix(
            reference,
            expand_for_all(session, [reference], wanted),
            system=system or "github",
            runners=runner or (),
            require_runner=require_runner,
            index_only=index_only,
        )
        output.warnings(found.warnings)
        if common.form != DEFAULT_FORMAT:
            output.show(found, common.form)
            return
        from resolver.render.answers.matrix import matrix_text

        output.keep(found)
        output.answer(matrix_text(found))
