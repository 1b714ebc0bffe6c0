"""`resolver resolve`: which manifest does a reference mean on a platform, and why?"""

from typing import Annotated

import typer

from resolver.cli import options
from resolver.settings import LOCK_FILE


@options.command
def resolve(
    common: options.Common,
    references: options.ManyReferences = None,
    platform: options.Platforms = None,
    file: options.File = None,
    exact: options.Exact = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Every entry, and why it lost.", show_default=False),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            envvar="RESOLVER_VERIFY",
            show_envvar=False,
            help="Read manifest and config too, and compare them with the index.",
            show_default=False,
        ),
    ] = False,
    strict: options.Strict = False,
    verify_tag: Annotated[
        bool,
        typer.Option(
            "--verify-tag",
            envvar="RESOLVER_VERIFY_TAG",
            show_envvar=False,
            help="For name:tag@digest: fail if the tag has moved.",
            show_default=False,
        ),
    ] = False,
    locked: options.Locked = False,
    lock_file: options.LockFile = None,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Print the manifest that REF means on a platform.

    One REF on one platform gives a few labelled lines; more give one line each, in order. A
    failure among several is a line too, and the status is the worst kind met.

    \b
      resolver resolve ubuntu:24.04 -p linux/arm64
      resolver resolve --format digest -p windows/amd64:ltsc2022 app:1.2
    """
    from resolver.cli.resolving import Asked, Question, gather, tell_question
    from resolver.cli.work import asking, work

    flags = Asked(exact=exact, verify=verify, strict=strict, verify_tag=verify_tag)
    lock = (lock_file or LOCK_FILE) if locked else None
    if lock is None:
        names = gather(references or [], file)
        asked = Question(names, platform or [], flags, (explain, no_trunc), listed=file is not None)
        with asking(common) as (session, output):
            tell_question(session, session.settings.platform, output, common.form, asked)
        return
    from resolver.cli.locking import by_lock, named

    names = named(references, file, "resolve", lock)
    asked = Question(names, platform or [], flags, (explain, no_trunc), listed=file is not None)
    with work(common) as (locker, output):
        asker = by_lock(locker, lock, flags)
        tell_question(asker, locker.settings.platform, output, common.form, asked)
