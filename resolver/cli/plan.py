"""`resolver plan`: what a pull would fetch, before it does."""

import typer

from resolver.cli import options
from resolver.settings import LOCK_FILE


@options.command
def plan(
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
    no_trunc: options.NoTrunc = False,
) -> None:
    """Say what pulling REF would cost.

    Every piece of the image, as held, partial, missing or foreign; bytes and requests to come. A
    piece that several images need counts once. No layer is fetched; `resolver pull` carries out
    this very plan.

    \b
      resolver plan ubuntu:24.04 -p linux/arm64
      resolver plan -f images.txt --max-download 500MB
      resolver plan app:2 --from oci:./mirror
    """
    from resolver.cli.locking import named
    from resolver.cli.pulling import Asked, limit, make_plan, tell_unpacked, too_large
    from resolver.cli.work import work

    most = limit(max_download)
    lock = (lock_file or LOCK_FILE) if locked else None
    names = named(references, file, "plan", lock)
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
        found = make_plan(session, output, asked, lock)
        tell_unpacked(session, output, found)
        output.tell(found, common.form, full=no_trunc)
        refusal = too_large(found, most)
        if refusal is not None:
            output.failed(refusal)
            raise typer.Exit(refusal.kind.status)
