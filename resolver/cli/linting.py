"""Linting for a command line: options read, findings told, and the status they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from resolver.core.findings import Severity
from resolver.errors import Kind, ResolverError, Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.cli.options import Common
    from resolver.cli.output import Output
    from resolver.core.linted import Linted

_NEVER = "never"
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Depth:
    """How far to look; `most` is bytes of layers for each platform, None for the usual number."""

    deep: bool
    most: int | None

    @classmethod
    def read(cls, most: str | None, *, deep: bool) -> Depth:
        """Read the options, before anybody is asked.

        Raises:
            Usage: the size is none, or has nothing to limit.
        """
        from resolver.cli.amounts import size

        if most is None:
            return cls(deep, None)
        if not deep:
            raise Usage("`--max-bytes` limits what `--deep` reads", "add `--deep`, or leave it out")
        count = size(most, "--max-bytes")
        if not count:
            raise Usage("`--max-bytes 0` leaves nothing to look at", "leave out `--deep`")
        return cls(deep, count)


@dataclass(frozen=True, slots=True)
class Asked:
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
    ) -> Asked:
        """Read the options, before anybody is asked.

        Raises:
            Malformed: one of them cannot be understood.
        """
        from resolver.cli.resolving import gather
        from resolver.core.lint import rule

        weight = _weight(fail_on)
        left_out = tuple(rule(name).id for name in ignored or ())
        named = gather(references or [], file, "lint")
        return cls(tuple(dict.fromkeys(named)), weight, left_out)


def tell_rules(common: Common, name: str | None) -> None:
    """Print one rule, all of them, or their list."""
    from resolver.cli.output import Output
    from resolver.core.lint import RULES, rule
    from resolver.core.linted import Explained
    from resolver.render import prepare

    prepare(common.form)
    chosen = tuple(row.rule for row in RULES) if name in (None, _ALL) else (rule(name or ""),)
    Output().tell(Explained(chosen, whole=name is not None), common.form)


def tell_findings(common: Common, asked: Asked, depth: Depth) -> None:
    """Look at the images, print what was found, and end with the status that it comes to."""
    from resolver.cli.work import work
    from resolver.session_lint import MOST

    with work(common) as (session, output):
        found = session.lint(
            asked.references,
            deep=depth.deep,
            max_bytes=depth.most or MOST,
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
        statuses.append(Kind.NEGATIVE.status)
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
