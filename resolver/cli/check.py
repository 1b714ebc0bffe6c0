"""`resolver check`: does an image have what the pipeline needs?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from resolver.cli import options
from resolver.core.check.check import Requirements, parse_age, parse_attestation
from resolver.core.lint.findings import Severity
from resolver.core.platforms.platform import Platform
from resolver.errors import ErrorKind, ResolverError, Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.cli.options import Common
    from resolver.cli.output import Output
    from resolver.core.check.check import Checked
    from resolver.core.platforms.platform import PlatformTable


_Texts = Optional[list[str]]  # noqa: UP045 - Typer reads this at run time


@options.command
def check(
    common: options.Common,
    references: options.ManyReferences = None,
    file: options.File = None,
    policy: Annotated[
        Optional[str],  # noqa: UP045 - as above
        typer.Option("--policy", metavar="FILE", help="Images and what they must have, in YAML."),
    ] = None,
    require: Annotated[
        _Texts, typer.Option("--require", metavar="PLATFORMS", help="These must be offered.")
    ] = None,
    forbid: Annotated[
        _Texts, typer.Option("--forbid", metavar="PLATFORMS", help="These must not be.")
    ] = None,
    only: Annotated[
        _Texts, typer.Option("--only", metavar="PLATFORMS", help="Nothing but these may be.")
    ] = None,
    same_as: Annotated[
        Optional[str],  # noqa: UP045 - as above
        typer.Option("--same-platforms-as", metavar="REF", help="All that REF has, no more."),
    ] = None,
    compatible: Annotated[
        bool,
        typer.Option(
            "--compatible", help="What else runs there meets --require.", show_default=False
        ),
    ] = False,
    attestation: Annotated[
        _Texts,
        typer.Option(
            "--require-attestation", metavar="KINDS", help="Of each build: sbom, provenance."
        ),
    ] = None,
    max_age: Annotated[
        Optional[str],  # noqa: UP045 - as above
        typer.Option("--max-age", metavar="AGE", help="No build older: 12h, 90d, 8w, 1y."),
    ] = None,
    lint: Annotated[
        bool, typer.Option("--lint", help="Also whatever `lint` finds.", show_default=False)
    ] = False,
    fail_on: Annotated[
        Optional[str],  # noqa: UP045 - as above
        typer.Option("--fail-on", metavar="WEIGHT", help="For --lint: error, warning, note."),
    ] = None,
    ignore: Annotated[
        _Texts, typer.Option("--ignore", metavar="RULE", help="Leave a rule out; repeatable.")
    ] = None,
    index_only: options.IndexOnly = False,
) -> None:
    """Fail unless REF has what the pipeline needs.

    Status 1 and a line for each thing missing, with the nearest there is.
    Matching is exact; `windows/amd64:10.0.20348` is any revision of it.
    Age and attestations are asked of the builds that meet --require.
    Manifests of the entries that decide are read, one request each: an SBOM
    listed as an image meets nothing. --index-only does not see that.
    A policy has `version: 1`, `defaults:` and `images:`, all with the names
    of these options, an image with `image:` too; options here take the
    place of its defaults.

    \b
      resolver check app:2 --require linux/amd64,linux/arm64 --max-age 90d
      resolver check --policy policy.yaml
    """
    asked = CheckOptions(
        require=require or (),
        forbid=forbid or (),
        only=only or (),
        same_as=same_as,
        compatible=compatible,
        attestations=attestation or (),
        max_age=max_age,
        lint=lint,
        fail_on=fail_on,
        ignored=ignore or (),
    )
    tell_checked(common, asked, references or [], file, policy, index_only=index_only)


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What the options said, as typed; an option that nobody gave changes nothing."""

    require: Sequence[str] = ()
    forbid: Sequence[str] = ()
    only: Sequence[str] = ()
    same_as: str | None = None
    compatible: bool = False
    attestations: Sequence[str] = ()
    max_age: str | None = None
    lint: bool = False
    fail_on: str | None = None
    ignored: Sequence[str] = ()

    def over(self, base: Requirements, table: PlatformTable) -> Requirements:
        """Put the options in the place of what was required before.

        Raises:
            Malformed: one of them cannot be understood.
        """
        kinds = [kind for value in self.attestations for kind in value.split(",")]
        return replace(
            base,
            require=_platforms("--require", self.require, table) or base.require,
            forbid=_platforms("--forbid", self.forbid, table) or base.forbid,
            only=_platforms("--only", self.only, table) or base.only,
            same_as=self.same_as or base.same_as,
            compatible=self.compatible or base.compatible,
            attestations=tuple(map(parse_attestation, kinds)) or base.attestations,
            max_age=base.max_age if self.max_age is None else parse_age(self.max_age),
            lint=self._weight() or base.lint,
            ignore=tuple(map(_rule, self.ignored)) or base.ignore,
        )

    def _weight(self) -> Severity | None:
        """Say from which weight on a finding of lint fails; `--fail-on` alone means `--lint`."""
        if not self.lint and self.fail_on is None:
            return None
        text = self.fail_on or Severity.ERROR.value
        weights = [severity.value for severity in reversed(Severity)]
        if text not in weights:
            raise Usage(f"`--fail-on {text}` is no weight", f"choose one of {', '.join(weights)}")
        return Severity(text)


def tell_checked(
    common: Common,
    asked: CheckOptions,
    references: list[str],
    file: str | None,
    policy: str | None,
    *,
    index_only: bool = False,
) -> None:
    """Check the images, print what was found, and end with the status that it comes to."""
    from resolver.cli.inputs import gather
    from resolver.cli.run import work

    named: list[str] = []
    if not references and file is None and policy is None:
        raise Usage(
            "there is no reference to check",
            "name one: `resolver check ubuntu:24.04 --require linux/amd64,linux/arm64`",
        )
    if references or file is not None:
        named = list(dict.fromkeys(gather(references, file, "check")))
    with work(common) as (session, output):
        if policy is None:
            found = session.check(
                named, asked.over(Requirements(), session.table), index_only=index_only
            )
        else:
            rules = session.read_policy(policy, lambda base: asked.over(base, session.table))
            found = session.check_policy(rules, named, index_only=index_only)
        for image in found.looked_at:
            output.warnings(image.warnings)
        status = _status(output, found)
        output.tell(found, common.form)
    if status:
        raise typer.Exit(status)


def _status(output: Output, found: Checked) -> int:
    """Tell the failures; the worst status of all that happened is the end."""
    statuses = (
        [0] if all(image.passed for image in found.looked_at) else [ErrorKind.NEGATIVE.status]
    )
    for failure in found.failures:
        if not isinstance(failure.error, ResolverError):
            raise failure.error
        output.failed(failure.error)
        statuses.append(failure.error.kind.status)
    return max(statuses)


def _platforms(option: str, values: Sequence[str], table: PlatformTable) -> tuple[Platform, ...]:
    from resolver.cli.inputs import split_platforms

    texts = split_platforms(list(values), option)
    return tuple(Platform.parse(text, table=table) for text in texts)


def _rule(name: str) -> str:
    """Check the id of a rule whose findings a check can have."""
    from resolver.core.check.policy import known_rules
    from resolver.core.parse.document import similar

    known = known_rules()
    if name not in known:
        meant = similar(name, tuple(sorted(known)))
        hint = f"did you mean `{meant}`?" if meant else "see `resolver lint --rules`"
        raise Usage(f"there is no rule `{name}`", hint)
    return name
