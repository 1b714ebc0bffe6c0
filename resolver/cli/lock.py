"""`resolver lock`: what references mean, written down and held to."""

from typing import Annotated, Optional

import typer

from resolver.cli import options
from resolver.settings import LOCK_FILE


@options.command
def lock(
    common: options.Common,
    references: options.ManyReferences = None,
    platform: options.Platforms = None,
    file: options.File = None,
    files: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--from",
            metavar="FILE",
            help="What Dockerfiles, compose files, ... name; REF are files then.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Say what moved; status 1 if it matters.", show_default=False),
    ] = False,
    update: Annotated[
        bool,
        typer.Option(
            "--update", help="Look these up again, by name; all without.", show_default=False
        ),
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take these out.", show_default=False)
    ] = False,
    lock_file: Annotated[
        str,
        typer.Option(
            "--lock-file",
            "-o",
            metavar="FILE",
            envvar="RESOLVER_LOCK_FILE",
            show_envvar=False,
            help="The lock file; resolver.lock by default.",
            show_default=False,
        ),
    ] = LOCK_FILE,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Write down what REF means, and hold it to that.

    The digest of the index and of each platform go into resolver.lock; what else is in it stays.
    `--check` asks one HEAD a reference; with `-p`, only these platforms count. `--locked` of
    resolve, plan and pull takes what is written. Forms of `export`: kbld, imgpkg, kustomize,
    compose, bazel, helm, env.

    \b
      resolver lock nginx:1.27 redis:7
      resolver lock --from Dockerfile compose.yaml
      resolver lock --check -p linux/amd64
      resolver lock --update nginx
      resolver lock export --format kustomize
    """
    from resolver.cli.inputs import split_platforms
    from resolver.cli.locking import Names, Task, run, tell_export

    words = references or []
    task = Task.of(words, check=check, update=update, remove=remove)
    words = words[1:] if task is Task.EXPORT else words
    asked = Names.read(words, file, files)
    asked.refuse_if_none(task)
    platforms = split_platforms(platform or [])
    if task is Task.EXPORT:
        tell_export(common, asked, platforms, lock_file)
    else:
        run(task, common, asked, platforms, lock_file, full=no_trunc)
