"""`resolver tags`: list the tags of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from resolver.cli import options
from resolver.cli.run import open_session
from resolver.errors import Usage
from resolver.render import render_values, renderer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.cli.output import Output


@options.command
def tags(
    common: options.Common,
    repository: Annotated[
        str, options.argument("REPO", "Repository: `ubuntu`, `ghcr.io/owner/app`.")
    ],
    platform: Annotated[
        options.Text,
        options.option("--platform -p", "List only tags with this platform.", "PLATFORM"),
    ] = None,
    semver: Annotated[
        options.Text,
        options.option(
            "--semver", "List only versions in a range: `>=1.25`, `^1.2`, `1.x`, `>=1 <3`.", "RANGE"
        ),
    ] = None,
    suffix: Annotated[
        options.Text,
        options.option(
            "--suffix",
            "List only tags of a flavour and its builds: `-alpine`, `-debian-12`.",
            "TEXT",
        ),
    ] = None,
    include: Annotated[
        options.Texts,
        options.option("--include", "List only matching tags: `app-*`; repeatable.", "GLOB"),
    ] = None,
    exclude: Annotated[
        options.Texts,
        options.option("--exclude", "Leave out matching tags: `*-rc*`; repeatable.", "GLOB"),
    ] = None,
    newest: Annotated[
        bool, options.option("--newest", "Sort newest first: versions, then dates, then names.")
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
            help="Limit the documents read with --platform.",
        ),
    ] = 200,
    exact: options.Exact = False,
) -> None:
    """List the tags of a repository.

    Lists them page by page, in the order of the registry. With --platform, every tag costs a
    request, and a match another to check that it is an image, until N are found; results are
    cached. The status is 1 if --max-requests is reached.
    --semver matches builds by their version (`1.2.3-r2`, `1.2.3_1`), and flavours only with
    --suffix or --include. Filtered tags cost no request.

    \b
      resolver tags ubuntu --limit 20
      resolver tags nginx --suffix -alpine --semver '>=1.25' --newest --limit 1
      resolver tags nginx -p linux/riscv64 --semver '>=1.25' --newest --limit 5
    """
    row = renderer(common.form)
    if row.draws == "word" or (row.draws == "report" and not row.fits_width):
        raise Usage(
            f"`tags` does not support `--format {common.form}`", "choose table, json, jsonl or yaml"
        )
    with open_session(common) as (session, output):
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
        show_tags(output, repository, found, common.form)


def show_tags(output: Output, repository: str, tags: Iterable[str], form: str) -> None:
    """Print tags as they arrive, or as one document.

    After an error, the tags before it are printed, except in JSON and YAML.
    """
    from resolver.core.registry.tags import Tags
    from resolver.render.text import line

    row = renderer(form)
    if row.collects:
        output.show(Tags(repository, tuple(tags)), form)
        return
    recorded = []
    try:
        for tag in tags:
            output.answer(render_values({"tag": tag}, form) if row.is_lines else f"{line(tag)}\n")
            if output.recorder is not None:
                recorded.append(tag)
    finally:
        output.keep(Tags(repository, tuple(recorded)))
