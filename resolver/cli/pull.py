"""`resolver pull`: an image brought here, by what is missing of it."""

from typing import Annotated

import typer

from resolver.cli import options
from resolver.settings import LOCK_FILE


@options.command
def pull(
    common: options.Common,
    references: options.ManyReferences = None,
    platform: options.Platforms = None,
    file: options.File = None,
    places: options.From = None,
    max_download: options.MaxDownload = None,
    foreign: options.Foreign = False,
    no_attestations: options.NoAttestations = False,
    referrers: options.Referrers = False,
    exact: options.Exact = False,
    locked: options.Locked = False,
    lock_file: options.LockFile = None,
    progress: Annotated[
        str,
        typer.Option(
            "--progress",
            metavar="FORM",
            envvar="RESOLVER_PROGRESS",
            show_envvar=False,
            help="auto, tty, plain, json or none; plain where CI is set.",
        ),
    ] = "auto",
) -> None:
    """Fetch what is missing of REF into the store.

    Nothing is visible before it is verified, and the name comes last. Whatever ends a pull early,
    the next one fetches the rest alone. `-p all` is every entry of the index; a platform comes
    with the attestations that the index lists about it. Progress goes to stderr.

    \b
      resolver pull ubuntu:24.04 -p linux/arm64
      resolver pull -p all ghcr.io/owner/app:1
      IMAGE=$(resolver pull app:1 --format ref)
    """
    from resolver.cli.locking import named
    from resolver.cli.pulling import Asked, limit, make_plan, tell_failures, too_large
    from resolver.cli.showing import showing
    from resolver.cli.work import work

    most = limit(max_download)
    lock = (lock_file or LOCK_FILE) if locked else None
    names = named(references, file, "pull", lock)
    asked = Asked.of(
        names,
        platform,
        places,
        exact=exact,
        foreign=foreign,
        attestations=not no_attestations,
        referrers=referrers,
    )
    with work(common) as (session, output):
        with showing(output, common, progress):
            found = make_plan(session, output, asked, lock)
            refusal = too_large(found, most)
            if refusal is not None:
                raise refusal
            done = session.pull(found, foreign=foreign)
        output.tell(done, common.form)
        tell_failures(output, done)
