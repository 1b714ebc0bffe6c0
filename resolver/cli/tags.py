"""`resolver tags`: the names a repository has."""

from typing import Annotated, Optional

import typer

from resolver.cli import options


@options.command
def tags(
    common: options.Common,
    repository: Annotated[str, typer.Argument(metavar="REPO", show_default=False)],
    limit: Annotated[
        Optional[int],  # noqa: UP045 - Typer reads this at run time
        typer.Option("--limit", metavar="N", min=1, help="Stop after N tags.", show_default=False),
    ] = None,
) -> None:
    """List the tags of REPO.

    In the registry's own order, page by page.

    \b
      resolver tags ubuntu --limit 20
      resolver tags --json ghcr.io/owner/app
    """
    from itertools import islice

    from resolver.cli.tagging import tell_tags
    from resolver.cli.work import work
    from resolver.errors import Usage

    if common.form in {"digest", "ref", "markdown"}:
        raise Usage(f"tags have no `{common.form}` form", "choose table, json, jsonl or yaml")
    with work(common) as (session, output):
        found = islice(session.tags(repository), limit)
        tell_tags(output, repository, found, common.form)
