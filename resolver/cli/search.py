"""`resolver search`: images by words."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from resolver.cli import options


@options.command
def search(
    common: options.Common,
    term: Annotated[str, typer.Argument(metavar="TERM", show_default=False)],
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=100, help="Hits to ask for.")
    ] = 25,
    filters: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--filter",
            metavar="WHAT",
            help="`stars=10`, `is-official=true`; repeat it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Search Docker Hub, or another registry.

    TERM for Docker Hub, HOST/TERM for another one, HOST for all it has. A registry without a
    search is asked for the list of its repositories, if it gives that out. A TERM with `.` or `:`
    is a HOST; write `docker.io/TERM` to search Docker Hub for it.

    \b
      resolver search nginx --limit 5
      resolver search --filter is-official=true --filter stars=100 python
      resolver search registry.corp:5000/team
    """
    from resolver.cli.run import work
    from resolver.core.results.account import SearchFilters

    wanted = SearchFilters.parse(filters or [])
    with work(common) as (session, output):
        output.tell(session.search(term, limit=limit, filters=wanted), common.form)


@options.command
def quota(
    common: options.Common,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="[REF]", show_default=False, autocompletion=options.offer_references
        ),
    ] = "docker.io/ratelimitpreview/test:latest",
) -> None:
    """Say how many pulls are left.

    Of Docker Hub, or of the registry that REF is in. Asked by a HEAD, which is not counted. Who
    logs in has a quota of their own.

    \b
      resolver quota
      resolver quota --anonymous --json
    """
    from resolver.cli.run import work

    with work(common) as (session, output):
        output.tell(session.quota(reference), common.form)
