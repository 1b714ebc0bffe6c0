"""`resolver pin`: digests written into the files that name images."""

from typing import Annotated, Optional

import typer

from resolver.cli import options


@options.command
def pin(
    common: options.Common,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", show_default=False)],
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; status 1 if anything is unpinned."),
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Write nothing; show what would change as a patch.")
    ] = False,
    update: Annotated[
        bool,
        typer.Option("--update", help="Look the tags of pinned references up again too."),
    ] = False,
    unpin: Annotated[
        bool, typer.Option("--unpin", help="Take digests away where a tag remains.")
    ] = False,
    platform: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--platform",
            "-p",
            metavar="PLATFORM",
            help="Pin this platform's image; the file is then for it only.",
            show_default=False,
        ),
    ] = None,
    require: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--require",
            metavar="PLATFORM",
            help="Status 1 if an image lacks it; repeat it or use commas.",
            show_default=False,
        ),
    ] = None,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Write digests into files that name images.

    Each `name:tag` becomes `name:tag@sha256:…`, the digest of its index; no other byte changes.
    Reads Dockerfiles, compose and bake files, Kubernetes manifests with custom resources,
    kustomizations, Helm values, `devcontainer.json`, and the pipelines of GitHub, GitLab, Azure,
    CircleCI, Woodpecker, Drone, Bitbucket and Google Cloud Build. A folder means the files of
    these kinds in it; others are skipped.

    What looks like an image under a key that is not known is listed, and fails --check.
    What has `# resolver: ignore` on its line, or above it, stays. With --update, --check also
    says which digests are out of date.

    \b
      resolver pin Dockerfile compose.yaml
      resolver pin --check .
      resolver pin --update --diff Dockerfile | git apply
    """
    from resolver.cli.inputs import split_platforms
    from resolver.cli.pinning import Asked, run
    from resolver.cli.work import work

    needed = split_platforms(require or [])
    asked = Asked(check, diff, update, unpin, platform, tuple(needed))
    asked.check_options(common.form)
    with work(common) as (session, output):
        run(session, output, files, asked, common.form, full=no_trunc)
