"""`resolver search`, `repositories` and `quota`: what a registry has, and its pull quota."""

from __future__ import annotations

from typing import Annotated

import typer

from resolver.cli import options
from resolver.cli.run import open_session


@options.command
def search(
    common: options.Common,
    term: Annotated[str, options.argument("TERM", "Words, HOST/TERM or HOST.")],
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=100, help="Set the number of results.")
    ] = 25,
    filters: Annotated[
        options.Texts,
        options.option(
            "--filter", "Filter by `stars=10` or `is-official=true`; repeatable.", "WHAT"
        ),
    ] = None,
) -> None:
    """Search Docker Hub or another registry.

    Use TERM for Docker Hub, HOST/TERM for another registry, HOST for all its repositories. If a
    registry has no search, uses its repository catalog. A TERM with `.` or `:` is a HOST; write
    `docker.io/TERM` to search Docker Hub for it.

    \b
      resolver search nginx --limit 5
      resolver search --filter is-official=true --filter stars=100 python
      resolver search registry.corp:5000/team
    """
    from resolver.core.results.account import SearchFilters

    wanted = SearchFilters.parse(filters or [])
    with open_session(common) as (session, output):
        output.show(session.search(term, limit=limit, filters=wanted), common.form)


@options.command
def repositories(
    common: options.Common,
    place: Annotated[
        str,
        options.argument("HOST[/PREFIX]", "A registry, and how the names of repositories begin."),
    ],
) -> None:
    """List the repositories of a registry.

    Uses the catalog of the registry, which Docker Hub, GHCR and others do not offer. A PREFIX keeps
    only names that begin with it.

    \b
      resolver repositories registry.corp:5000
      resolver repositories registry.corp:5000/team/ --json
    """
    from resolver.cli.run import open_session

    with open_session(common) as (session, output):
        output.show(session.repositories(place), common.form)


@options.command
def quota(
    common: options.Common,
    reference: Annotated[
        str,
        options.argument("[REF]", "Image of the registry to ask.", options.offer_references),
    ] = "docker.io/ratelimitpreview/test:latest",
) -> None:
    """Show how many pulls are left.

    Shows the quota of Docker Hub, or of the registry of REF, with a HEAD request, which does not
    count as a pull. Each login has its own quota.

    \b
      resolver quota
      resolver quota --anonymous --json
    """
    with open_session(common) as (session, output):
        output.show(session.quota(reference), common.form)
