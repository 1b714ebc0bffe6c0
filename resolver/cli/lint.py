"""`resolver lint`: find images whose metadata is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.cli.inputs import gather, size
from resolver.cli.output import Output
from resolver.cli.run import open_executor, open_session, select, show_progress
from resolver.errors import ErrorKind, Usage
from resolver.render import prepare
from resolver.settings import LINT_MAX_BYTES

if TYPE_CHECKING:
    from resolver.cli.options import Common
    from resolver.core.lint.findings import Severity
    from resolver.core.lint.lint import Linted


@options.batch_command
def lint(
    common: options.Common,
    references: options.ManyReferences = None,
    file: options.File = None,
    deep: Annotated[
        bool, options.option("--deep", "Also check programs, reading a few bytes of the layers.")
    ] = False,
    max_bytes: Annotated[
        options.Text,
        options.option(
            "--max-bytes",
            "Limit what --deep reads per platform  [default: 32MiB]",
            "SIZE",
            variable="RESOLVER_LINT_MAX_BYTES",
        ),
    ] = None,
    fail_on: Annotated[
        str,
        options.option(
            "--fail-on",
            "Exit with status 1 from this severity: error, warning, note; or never.",
            "SEVERITY",
            variable="RESOLVER_LINT_FAIL_ON",
            show_default=True,
        ),
    ] = "error",
    ignore: Annotated[
        options.Texts,
        options.option(
            "--ignore", "Ignore a rule; repeatable.", "RULE", variable="RESOLVER_LINT_IGNORE"
        ),
    ] = None,
    explain: Annotated[
        options.Text, options.option("--explain", "Explain a rule or `all`, then exit.", "RULE")
    ] = None,
    rules: Annotated[bool, options.option("--rules", "List the rules, then exit.")] = False,
) -> None:
    """Find problems in multi-platform images.

    Finds index entries whose image is for another platform, duplicate, missing and misspelt
    entries. Reads every manifest and config once; reads layers only with --deep, and then just
    enough bytes to see which machine the programs are built for.

    \b
      resolver lint ubuntu:24.04
      resolver lint --deep ghcr.io/owner/app:1.2
      resolver lint -f images.txt --fail-on warning
      resolver lint --explain identical-layers
    """
    if explain is not None or rules:
        show_rules(common, explain)
        return
    from resolver.core.lint.lint import rule

    most = _budget(max_bytes, deep=deep)
    severity = read_severity(fail_on)
    ignored = tuple(rule(name).id for name in ignore or ())
    given = gather(references or [], file, "lint")
    named = select(common, list(dict.fromkeys(given)))
    with open_session(common) as (session, output), open_executor(common) as executor:
        output.places = given.places
        with show_progress(output, common):
            found = session.lint(
                named, deep=deep, max_bytes=most, ignore=ignored, executor=executor
            )
        show_linted(output, common.form, found, severity)


def show_linted(output: Output, form: str, found: Linted, severity: Severity | None) -> None:
    """Print what was found; exit if it reaches a severity or an image could not be read."""
    for image in found.looked_at:
        output.warnings(image.warnings)
    status = output.failures(found.failures)
    if severity is not None and found.reaches(severity):
        status = max(status, ErrorKind.NEGATIVE.status)
    output.show(found, form)
    if status:
        raise typer.Exit(status)


_NEVER = "never"
_ALL = "all"


def _budget(most: str | None, *, deep: bool) -> int:
    """Parse `--max-bytes`, in bytes of layers per platform."""
    if most is None:
        return LINT_MAX_BYTES
    if not deep:
        raise Usage("`--max-bytes` limits what `--deep` reads", "add `--deep`, or leave it out")
    count = size(most, "--max-bytes")
    if not count:
        raise Usage("`--max-bytes 0` leaves nothing to read", "leave out `--deep`")
    return count


def show_rules(common: Common, name: str | None) -> None:
    """Print one rule, all rules, or their list."""
    from resolver.core.lint.lint import RULES, Explained, rule

    prepare(common.form)
    chosen = tuple(row.rule for row in RULES) if name in (None, _ALL) else (rule(name or ""),)
    Output().show(Explained(chosen, whole=name is not None), common.form)


def read_severity(text: str) -> Severity | None:
    """Parse `--fail-on`; None for `never`."""
    from resolver.core.lint.findings import Severity

    severities = [severity.value for severity in reversed(Severity)]
    if text == _NEVER:
        return None
    if text not in severities:
        raise Usage(
            f"`--fail-on {text}` is not a severity",
            f"choose one of {', '.join(severities)}, {_NEVER}",
        )
    return Severity(text)
