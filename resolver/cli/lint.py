"""`resolver lint`: find the images that lie about themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from resolver.cli import options
from resolver.core.lint.findings import Severity
from resolver.errors import ErrorKind, ResolverError, Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.cli.options import Common
    from resolver.cli.output import Output
    from resolver.core.lint.lint import Linted


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
    if explain is not None or rules:
        tell_rules(common, explain)
        return
    depth = LintDepth.read(max_bytes, deep=deep)
    asked = LintOptions.gather(references, file, fail_on, ignore)
    tell_findings(common, asked, depth)


_NEVER = "never"
_ALL = "all"


@dataclass(frozen=True, slots=True)
class LintDepth:
    """How far to look; `most` is bytes of layers for each platform, None for the usual number."""

    deep: bool
    most: int | None

    @classmethod
    def read(cls, most: str | None, *, deep: bool) -> LintDepth:
        """Read the options, before anybody is asked.

        Raises:
            Usage: the size is none, or has nothing to limit.
        """
        from resolver.cli.inputs import size

        if most is None:
            return cls(deep, None)
        if not deep:
            raise Usage("`--max-bytes` limits what `--deep` reads", "add `--deep`, or leave it out")
        count = size(most, "--max-bytes")
        if not count:
            raise Usage("`--max-bytes 0` leaves nothing to look at", "leave out `--deep`")
        return cls(deep, count)


@dataclass(frozen=True, slots=True)
class LintOptions:
    """What is to be looked at, and what to make of it.

    Attributes:
        fail_on: findings of this weight and more are a "no"; None for none.
    """

    references: tuple[str, ...]
    fail_on: Severity | None
    ignored: tuple[str, ...]

    @classmethod
    def gather(
        cls,
        references: list[str] | None,
        file: str | None,
        fail_on: str,
        ignored: list[str] | None,
    ) -> LintOptions:
        """Read the options, before anybody is asked.

        Raises:
            Malformed: one of them cannot be understood.
        """
        from resolver.cli.inputs import gather
        from resolver.core.lint.lint import rule

        weight = _weight(fail_on)
        left_out = tuple(rule(name).id for name in ignored or ())
        named = gather(references or [], file, "lint")
        return cls(tuple(dict.fromkeys(named)), weight, left_out)


def tell_rules(common: Common, name: str | None) -> None:
    """Print one rule, all of them, or their list."""
    from resolver.cli.output import Output
    from resolver.core.lint.lint import RULES, Explained, rule
    from resolver.render import prepare

    prepare(common.form)
    chosen = tuple(row.rule for row in RULES) if name in (None, _ALL) else (rule(name or ""),)
    Output().tell(Explained(chosen, whole=name is not None), common.form)


def tell_findings(common: Common, asked: LintOptions, depth: LintDepth) -> None:
    """Look at the images, print what was found, and end with the status that it comes to."""
    from resolver.cli.run import work
    from resolver.settings import LINT_MAX_BYTES

    with work(common) as (session, output):
        found = session.lint(
            asked.references,
            deep=depth.deep,
            max_bytes=depth.most or LINT_MAX_BYTES,
            ignore=asked.ignored,
        )
        for image in found.looked_at:
            output.warnings(image.warnings)
        status = _status(output, found, asked.fail_on)
        output.tell(found, common.form)
    if status:
        raise typer.Exit(status)


def _status(output: Output, found: Linted, fail_on: Severity | None) -> int:
    """Tell the failures; the worst status of all that happened is the end."""
    statuses = [0]
    for failure in found.failures:
        if not isinstance(failure.error, ResolverError):
            raise failure.error
        output.failed(failure.error)
        statuses.append(failure.error.kind.status)
    if fail_on is not None and found.reaches(fail_on):
        statuses.append(ErrorKind.NEGATIVE.status)
    return max(statuses)


def _weight(text: str) -> Severity | None:
    weights = [severity.value for severity in reversed(Severity)]
    if text == _NEVER:
        return None
    if text not in weights:
        raise Usage(
            f"`--fail-on {text}` is no weight", f"choose one of {', '.join(weights)}, {_NEVER}"
        )
    return Severity(text)
