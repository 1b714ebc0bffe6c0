"""`resolver check`: check images against requirements."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.cli.inputs import References, gather, split_platforms
from resolver.cli.run import open_executor, open_session, select, shard_of, show_progress
from resolver.core.results.attestations import TrustOptions
from resolver.errors import ErrorKind, Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.cli.output import Output
    from resolver.core.check.check import Checked, Requirements
    from resolver.core.lint.findings import Severity
    from resolver.core.platforms.platform import Platform, PlatformTable


@options.batch_command
def check(
    common: options.Common,
    references: options.ManyReferences = None,
    file: options.File = None,
    policy: Annotated[
        options.Text,
        options.option("--policy", "Read images and their requirements from YAML.", "FILE"),
    ] = None,
    require: Annotated[
        options.Texts, options.option("--require", "Require these platforms.", "PLATFORMS")
    ] = None,
    forbid: Annotated[
        options.Texts, options.option("--forbid", "Forbid these platforms.", "PLATFORMS")
    ] = None,
    only: Annotated[
        options.Texts, options.option("--only", "Allow only these platforms.", "PLATFORMS")
    ] = None,
    same_as: Annotated[
        options.Text,
        options.option("--same-platforms-as", "Require the same platforms as REF.", "REF"),
    ] = None,
    compatible: Annotated[
        bool, options.option("--compatible", "Let a compatible platform meet --require.")
    ] = False,
    attestation: Annotated[
        options.Texts,
        options.option("--require-attestation", "Require sbom, provenance, signature.", "KINDS"),
    ] = None,
    cover: Annotated[
        options.Text,
        options.option("--cover", "Of `each-platform` (default) or the `index`.", "WHAT"),
    ] = None,
    key: options.SigningKey = None,
    identity: options.Identity = None,
    issuer: options.Issuer = None,
    trusted_root: options.TrustedRoot = None,
    max_age: Annotated[
        options.Text, options.option("--max-age", "Forbid older builds: 12h, 90d, 8w, 1y.", "AGE")
    ] = None,
    runs_on: Annotated[
        options.Texts,
        options.option("--runs-on", "Require that these machines can run it.", "PLATFORMS"),
    ] = None,
    page_size: Annotated[
        options.Text,
        options.option("--page-size", "Set the page size there: 4k, 16k, 64k.", "SIZE"),
    ] = None,
    kernel: Annotated[
        options.Text, options.option("--kernel", "Set the kernel there: 5.10.", "VERSION")
    ] = None,
    nodes: Annotated[
        options.Text,
        options.option("--nodes", "The same, from `kubectl get nodes -o json`.", "FILE"),
    ] = None,
    strict: Annotated[
        bool, options.option("--strict", "Fail if it is unknown whether they can run it.")
    ] = False,
    lint: Annotated[bool, options.option("--lint", "Also run `lint`.")] = False,
    fail_on: Annotated[
        options.Text,
        options.option("--fail-on", "With --lint: error, warning or note.", "SEVERITY"),
    ] = None,
    ignore: Annotated[
        options.Texts, options.option("--ignore", "Ignore a rule; repeatable.", "RULE")
    ] = None,
    index_only: options.IndexOnly = False,
) -> None:
    """Check that an image meets requirements.

    Prints a line for each problem and exits with status 1. Platforms match
    exactly; `windows/amd64:10.0.20348` matches any revision of it. --max-age
    and --require-attestation apply to the builds that meet --require. Policy:
    `version: 1`, `defaults:` and `images:`, whose keys are the names of these
    options, and `image:`. Options replace the defaults.

    \b
      resolver check app:2 --require linux/amd64,linux/arm64 --max-age 90d
      resolver check app:2 --runs-on linux/amd64/v2,linux/arm64
      resolver check --policy policy.yaml
    """
    from resolver.core.check.check import Requirements

    request = CheckOptions(
        require=require or (),
        forbid=forbid or (),
        only=only or (),
        same_as=same_as,
        compatible=compatible,
        attestations=attestation or (),
        cover=cover,
        trust=options.trust(key, identity, issuer, trusted_root),
        max_age=max_age,
        lint=lint,
        fail_on=fail_on,
        ignored=ignore or (),
        runs_on=runs_on or (),
        page_size=page_size,
        kernel=kernel,
        strict=strict,
    )
    given = References(())
    if not references and file is None and policy is None:
        raise Usage(
            "no reference to check",
            "name one: `resolver check ubuntu:24.04 --require linux/amd64,linux/arm64`",
        )
    if references or file is not None:
        given = gather(references or [], file, "check")
    named = select(common, list(dict.fromkeys(given))) if given else []
    with open_session(common) as (session, output), open_executor(common) as executor:
        output.places = given.places
        machines = session.read_nodes(nodes) if nodes is not None else ()

        def over(base: Requirements) -> Requirements:
            return replace(request.over(base, session.table), nodes=machines)

        with show_progress(output, common):
            if policy is None:
                wanted = over(Requirements())
                found = session.check(named, wanted, index_only=index_only, executor=executor)
            else:
                rules = session.read_policy(policy, over)
                shard = shard_of(common)
                if shard is not None:
                    chosen = set(select(common, [image.reference for image in rules.images]))
                    images = tuple(image for image in rules.images if image.reference in chosen)
                    rules = replace(rules, images=images)
                found = session.check_policy(rules, named, index_only=index_only, executor=executor)
        show_checked(output, common.form, found)


def show_checked(output: Output, form: str, found: Checked) -> None:
    """Print what was checked; exit if a check failed or an image could not be read."""
    for image in found.looked_at:
        output.warnings(image.warnings)
    passed = all(image.passed for image in found.looked_at)
    status = max(output.failures(found.failures), 0 if passed else ErrorKind.NEGATIVE.status)
    output.show(found, form)
    if status:
        raise typer.Exit(status)


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """The options as typed; one that is not given changes nothing."""

    require: Sequence[str] = ()
    forbid: Sequence[str] = ()
    only: Sequence[str] = ()
    same_as: str | None = None
    compatible: bool = False
    attestations: Sequence[str] = ()
    cover: str | None = None
    trust: TrustOptions = TrustOptions()
    max_age: str | None = None
    lint: bool = False
    fail_on: str | None = None
    ignored: Sequence[str] = ()
    runs_on: Sequence[str] = ()
    page_size: str | None = None
    kernel: str | None = None
    strict: bool = False

    def over(self, base: Requirements, table: PlatformTable) -> Requirements:
        """Return the requirements with the options applied."""
        from resolver.core.check.check import parse_age, parse_attestation, parse_cover
        from resolver.core.results.needs import parse_kernel, parse_page_size

        kinds = [kind for value in self.attestations for kind in value.split(",")]
        return replace(
            base,
            require=_platforms("--require", self.require, table) or base.require,
            forbid=_platforms("--forbid", self.forbid, table) or base.forbid,
            only=_platforms("--only", self.only, table) or base.only,
            same_as=self.same_as or base.same_as,
            compatible=self.compatible or base.compatible,
            attestations=tuple(map(parse_attestation, kinds)) or base.attestations,
            cover=base.cover if self.cover is None else parse_cover(self.cover),
            trust=base.trust if self.trust.is_empty else self.trust,
            max_age=base.max_age if self.max_age is None else parse_age(self.max_age),
            lint=self._severity() or base.lint,
            ignore=tuple(map(_rule, self.ignored)) or base.ignore,
            runs_on=_platforms("--runs-on", self.runs_on, table) or base.runs_on,
            page_size=parse_page_size(self.page_size) if self.page_size else base.page_size,
            kernel=parse_kernel(self.kernel) if self.kernel else base.kernel,
            strict=self.strict or base.strict,
        )

    def _severity(self) -> Severity | None:
        """Return the lowest severity that fails; `--fail-on` alone implies `--lint`."""
        from resolver.core.lint.findings import Severity

        if not self.lint and self.fail_on is None:
            return None
        text = self.fail_on or Severity.ERROR.value
        severities = [severity.value for severity in reversed(Severity)]
        if text not in severities:
            raise Usage(
                f"`--fail-on {text}` is not a severity", f"choose one of {', '.join(severities)}"
            )
        return Severity(text)


def _platforms(option: str, values: Sequence[str], table: PlatformTable) -> tuple[Platform, ...]:
    from resolver.core.platforms.platform import Platform

    texts = split_platforms(list(values), option)
    return tuple(Platform.parse(text, table=table) for text in texts)


def _rule(name: str) -> str:
    """Check that a rule can occur in the findings of `check`."""
    from resolver.core.check.policy import known_rules
    from resolver.core.parse.document import similar

    known = known_rules()
    if name not in known:
        meant = similar(name, tuple(sorted(known)))
        hint = f"did you mean `{meant}`?" if meant else "see `resolver lint --rules`"
        raise Usage(f"unknown rule `{name}`", hint)
    return name
