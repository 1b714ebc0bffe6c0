"""`resolver lint`: find the images that lie about themselves."""

from typing import Annotated, Optional

import typer

from resolver.cli import options


@options.command
def lint(
    common: options.Common,
    references: options.ManyReferences = None,
    file: options.File = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Look at the programs too, in few bytes of layers.", show_default=False
        ),
    ] = False,
    max_bytes: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--max-bytes",
            metavar="SIZE",
            envvar="RESOLVER_LINT_MAX_BYTES",
            show_envvar=False,
            help="With --deep, for each platform  [default: 32MiB]",
        ),
    ] = None,
    fail_on: Annotated[
        str,
        typer.Option(
            "--fail-on",
            metavar="WEIGHT",
            envvar="RESOLVER_LINT_FAIL_ON",
            show_envvar=False,
            help="Status 1 from this weight on: error, warning, note; or never.",
        ),
    ] = "error",
    ignore: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--ignore",
            metavar="RULE",
            envvar="RESOLVER_LINT_IGNORE",
            show_envvar=False,
            help="Leave a rule out; repeat it for more.",
        ),
    ] = None,
    explain: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option("--explain", metavar="RULE", help="Explain a rule, or `all`, and stop."),
    ] = None,
    rules: Annotated[
        bool, typer.Option("--rules", help="List the rules and stop.", show_default=False)
    ] = False,
) -> None:
    """Find what is wrong with REF on some platform.

    Entries that say one platform and hold another, that are listed twice, missing, misspelt.
    Reads every manifest and config once, and no layer but with --deep: then as
    few bytes as tell what machine the programs inside are made for.

    \b
      resolver lint ubuntu:24.04
      resolver lint --deep ghcr.io/owner/app:1.2
      resolver lint -f images.txt --fail-on warning
      resolver lint --explain identical-layers
    """
    from resolver.cli.linting import Asked, Depth, tell_findings, tell_rules

    if explain is not None or rules:
        tell_rules(common, explain)
        return
    depth = Depth.read(max_bytes, deep=deep)
    asked = Asked.gather(references, file, fail_on, ignore)
    tell_findings(common, asked, depth)
