"""`resolver tags`: the names a repository has."""

from typing import Annotated, Optional

import typer

from resolver.cli import options


@options.command
def tags(
    common: options.Common,
    repository: Annotated[str, typer.Argument(metavar="REPO", show_default=False)],
    platform: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--platform",
            "-p",
            metavar="PLATFORM",
            help="Only tags that are offered for it.",
            show_default=False,
        ),
    ] = None,
    semver: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--semver",
            metavar="RANGE",
            help="Only versions in a range: `>=1.25`, `^1.2`, `1.x`, `>=1 <3`.",
            show_default=False,
        ),
    ] = None,
    suffix: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--suffix",
            metavar="TEXT",
            help="Only tags of a flavour: `-alpine`, `-debian-12`; builds of it count.",
            show_default=False,
        ),
    ] = None,
    include: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--include",
            metavar="GLOB",
            help="Only tags that match: `app-*`; repeat it.",
            show_default=False,
        ),
    ] = None,
    exclude: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--exclude",
            metavar="GLOB",
            help="No tags that match: `*-rc*`; repeat it.",
            show_default=False,
        ),
    ] = None,
    newest: Annotated[
        bool,
        typer.Option(
            "--newest", help="Newest first: versions, then dates, then names.", show_default=False
        ),
    ] = False,
    limit: Annotated[
        Optional[int],  # noqa: UP045 - Typer reads this at run time
        typer.Option("--limit", metavar="N", min=1, help="Stop after N tags.", show_default=False),
    ] = None,
    max_requests: Annotated[
        int,
        typer.Option(
            "--max-requests",
            metavar="N",
            min=1,
            envvar="RESOLVER_MAX_REQUESTS",
            show_envvar=False,
            help="Documents to ask for with --platform.",
        ),
    ] = 200,
    exact: options.Exact = False,
) -> None:
    """List the tags of REPO.

    In the registry's own order, page by page. With --platform every tag costs a request, and
    one that is offered another, which shows that it is an image, until N are found; what was looked
    at once is kept. Status 1 if --max-requests do not suffice.
    --semver counts builds as their version (`1.2.3-r2`, `1.2.3_1`), and flavours only if --suffix
    or --include asks for them. What these leave out costs no request.

    \b
      resolver tags ubuntu --limit 20
      resolver tags nginx --suffix -alpine --semver '>=1.25' --newest --limit 1
      resolver tags nginx -p linux/riscv64 --semver '>=1.25' --newest --limit 5
    """
    from resolver.cli.ls import tell_tags
    from resolver.cli.run import work
    from resolver.errors import Usage

    if common.form in {"digest", "ref", "markdown"}:
        raise Usage(f"tags have no `{common.form}` form", "choose table, json, jsonl or yaml")
    with work(common) as (session, output):
        found = session.tags(
            repository,
            platform=platform,
            exact=exact,
            semver=semver,
            suffix=suffix,
            include=include or (),
            exclude=exclude or (),
            newest=newest,
            limit=limit,
            max_requests=max_requests,
        )
        tell_tags(output, repository, found, common.form)
