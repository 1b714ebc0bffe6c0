"""`resolver merge`: join the results of several runs into one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.cli.inputs import gather
from resolver.cli.run import open_session
from resolver.core.check.check import Checked
from resolver.core.lint.lint import Linted
from resolver.core.lockfile.drift import LockCheck
from resolver.errors import ErrorKind

if TYPE_CHECKING:
    from resolver.cli.output import Output
    from resolver.core.lint.findings import Severity
    from resolver.verbs.merge import Merged


@options.command
def merge(
    common: options.Common,
    files: Annotated[
        list[str], options.argument("FILE...", "Files of --results, lock files, reports.")
    ],
    file: options.File = None,
    fail_on: Annotated[
        str,
        options.option(
            "--fail-on",
            "For lint: exit with status 1 from this severity.",
            "SEVERITY",
            variable="RESOLVER_LINT_FAIL_ON",
            show_default=True,
        ),
    ] = "error",
) -> None:
    """Join the results of several runs into one answer.

    FILEs are those of `--results`, one of each shard. Prints what one run over
    all references would have printed, with its exit status; `-f` restores their
    order. It is an error if a shard or an answer is missing. Lock files, and
    reports in SARIF, JUnit or Code Quality form, are joined too, with status 1
    if one of them has an error.

    \b
      resolver lint -f images.txt --shard 1/2 --results 1.jsonl
      resolver merge 1.jsonl 2.jsonl -f images.txt --report junit=report.xml
      resolver merge shard-*.lock > resolver.lock
    """
    from resolver.cli.lint import read_severity
    from resolver.verbs.merge import merge, merge_documents

    severity = read_severity(fail_on)
    order = gather([], file, "merge") if file is not None else []
    with open_session(common) as (_session, output):
        document = merge_documents(files)
        if document is None:
            merged = merge(files, order)
            output.warnings(merged.warnings)
            _show(output, common.form, merged, severity)
            return
        output.answer(document.text)
        if document.has_errors:
            raise typer.Exit(ErrorKind.NEGATIVE.status)


def _show(output: Output, form: str, merged: Merged, severity: Severity | None) -> None:
    """Print an answer, and exit, as its own command does."""
    from resolver.cli.check import show_checked
    from resolver.cli.lint import show_linted
    from resolver.cli.lock import show_check
    from resolver.cli.resolve import show_all

    match merged.answer:
        case Checked() as checked:
            show_checked(output, form, checked)
        case Linted() as linted:
            show_linted(output, form, linted, severity)
        case LockCheck() as check:
            show_check(output, form, check, full=False)
        case answers:
            show_all(output, form, iter(answers), explain=False, full=False)
