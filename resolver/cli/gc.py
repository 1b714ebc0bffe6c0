"""`resolver gc`: room made in the store."""

from typing import Annotated, Optional

import typer

from resolver.cli import options


@options.command
def gc(
    common: options.Common,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go; touch nothing.")
    ] = False,
    keep_newer: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--keep-newer",
            metavar="AGE",
            help="Leave alone what is younger; `12h`, `7d`.",
            show_default=False,
        ),
    ] = None,
    max_size: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--max-size",
            metavar="SIZE",
            help="Drop names too, the longest unused first, down to this; else status 1.",
            show_default=False,
        ),
    ] = None,
    ci: Annotated[
        bool,
        typer.Option(
            "--ci", help="Drop what this job did not pull, for a small cache.", show_default=False
        ),
    ] = False,
    grace: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--grace",
            metavar="AGE",
            help="Nothing unused goes before this age; by default `1h`.",
            show_default=False,
        ),
    ] = None,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Delete what no pulled image needs.

    What a living pull, export or server uses stays, and what is younger than --grace; the answer
    says why. A store that ends above --max-size is status 1. If the lease of a living process
    cannot be read, only what dead processes left behind is deleted, and the status is 8. If
    anything else cannot be read, nothing is deleted at all.

    \b
      resolver gc --dry-run
      resolver gc --max-size 10GB
      resolver gc --ci --grace 0s
    """
    import os

    from resolver.cli.collecting import retention, too_large
    from resolver.cli.work import work
    from resolver.core.events import Warned
    from resolver.errors import Kind

    rules = retention(keep_newer, max_size, grace, ci=ci, environment=os.environ)
    with work(common) as (session, output):
        found = session.collect(rules, dry_run=dry_run)
        output.tell(found, common.form, full=no_trunc)
        for each in found.unread:
            words = f"the lease `{each.path}` keeps all images and blobs: {each}"
            output.observe(Warned("lease-unreadable", words))
        if found.is_partial:
            raise typer.Exit(Kind.STORE.status)
        if found.is_too_large:
            refusal = too_large(found)
            output.failed(refusal)
            raise typer.Exit(refusal.kind.status)
