"""`resolver lock`: what references mean, written down and held to."""

from typing import Annotated

import typer

from resolver.cli import options
from resolver.settings import LOCK_FILE


@options.command
def lock(
    common: options.Common,
    references: options.ManyReferences = None,
    platform: options.Platforms = None,
    file: options.File = None,
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
    `--check` asks one HEAD a reference: with `-p`, only these platforms count. `--locked` of
    resolve, plan and pull takes what is written.

    \b
      resolver lock nginx:1.27 redis:7
      resolver lock --check -p linux/amd64
      resolver lock --update nginx
    """
    from resolver.cli.inputs import split_platforms
    from resolver.cli.locking import Task, tell_check, tell_locked
    from resolver.cli.resolving import gather
    from resolver.cli.work import work

    task = Task.of(check=check, update=update, remove=remove)
    names = gather(references or [], file, "lock") if references or file else []
    task.refuse_without(names)
    platforms = split_platforms(platform or [])
    with work(common) as (session, output):
        match task:
            case Task.CHECK:
                tell_check(
                    output,
                    common.form,
                    session.check_lock(names, platforms, file=lock_file),
                    full=no_trunc,
                )
            case Task.REMOVE:
                tell_locked(
                    output, common.form, session.unlock(names, file=lock_file), full=no_trunc
                )
            case Task.UPDATE:
                done = session.lock((), platforms, update=names, file=lock_file)
                tell_locked(output, common.form, done, full=no_trunc)
            case Task.ADD:
                done = session.lock(names, platforms, file=lock_file)
                tell_locked(output, common.form, done, full=no_trunc)
