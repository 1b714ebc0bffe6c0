"""`resolver compare`: one image across its platforms, or two images."""

from typing import Annotated, Optional

import typer

from resolver.cli import options

_Texts = Optional[list[str]]  # noqa: UP045 - Typer reads this at run time
_Text = Optional[str]  # noqa: UP045 - Typer reads this at run time


@options.command
def compare(
    common: options.Common,
    reference: options.Reference,
    other: Annotated[
        _Text,
        typer.Argument(
            metavar="[REF]", show_default=False, autocompletion=options.offer_references
        ),
    ] = None,
    platform: options.Platforms = None,
    base: Annotated[
        _Text,
        typer.Option(
            "--base",
            metavar="PLATFORM",
            help="What the others are held against.",
            autocompletion=options.offer_platforms,
        ),
    ] = None,
    expect: Annotated[
        _Texts,
        typer.Option(
            "--expect",
            metavar="PLATFORMS",
            help="Must be offered, else status 1.",
            autocompletion=options.offer_platforms,
            show_default=False,
        ),
    ] = None,
    expect_as: Annotated[
        _Text,
        typer.Option(
            "--expect-as",
            metavar="REF",
            help="What that REF offers must be offered too.",
            autocompletion=options.offer_references,
        ),
    ] = None,
    ignore: Annotated[
        _Texts,
        typer.Option(
            "--ignore",
            metavar="RULE",
            help="No drift: `env.PATH`, `labels.com.*`, `files.owner`, `files.xattrs.user.*`; "
            "repeat it.",
            show_default=False,
        ),
    ] = None,
    ignore_file: Annotated[
        _Text, typer.Option("--ignore-file", metavar="FILE", help="Such rules, one a line.")
    ] = None,
    max_size_ratio: Annotated[
        _Text,
        typer.Option(
            "--max-size-ratio", metavar="N", help="Status 1 for a larger ratio, as `2.0`."
        ),
    ] = None,
    max_size_delta: Annotated[
        _Text,
        typer.Option(
            "--max-size-delta", metavar="SIZE", help="Status 1 for a larger difference, as `50MB`."
        ),
    ] = None,
    fail_on: Annotated[
        _Texts,
        typer.Option(
            "--fail-on",
            metavar="WHAT",
            help="Status 1 if size, layers, config, history, platforms, files or packages "
            "differ; use commas.",
            show_default=False,
        ),
    ] = None,
    files: Annotated[
        bool,
        typer.Option(
            "--files", help="Fetch layers too, and compare what is in them.", show_default=False
        ),
    ] = False,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Compare the platforms of REF, or REF with another.

    Sizes, shared layers, settings and history; files with --files. Of one REF this is a view:
    status 1 only for what --expect, --fail-on or a threshold asks. Of two it is diff: status 1
    if anything differs, or what these ask; growth alone counts in sizes.

    \b
      resolver compare python:3.12 -p linux/amd64,linux/arm64
      resolver compare app:1.2 --expect linux/amd64,linux/arm64 --max-size-ratio 2
      resolver compare app:1.1 app:1.2 --ignore labels.org.opencontainers.*
      resolver compare python:3.12 mirror.example.com/python:3.12
    """
    from resolver.cli.comparing import Question, tell_reasons
    from resolver.cli.showing import showing
    from resolver.cli.work import work

    question = Question.read(
        platform, base, expect, expect_as, ignore, ignore_file, files=files
    ).with_thresholds(max_size_ratio, max_size_delta, fail_on)
    with work(common) as (session, output):
        with showing(output, common, "auto" if files else "none"):
            found = question.ask(session, reference, other)
        output.warnings(found.warnings)
        output.tell(found, common.form, full=no_trunc)
        tell_reasons(output, found)
