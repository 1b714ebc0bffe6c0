"""`resolver pin`: digests written into the files that name images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from resolver.cli import options
from resolver.core.pin.decide import PLATFORM_MISSING
from resolver.core.pin.result import Pinned, PinnedFile, PinState, diff
from resolver.errors import ErrorKind, ResolverError, Usage
from resolver.render import renderer
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.cli.output import Output
    from resolver.session import Session


@options.command
def pin(
    common: options.Common,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", show_default=False)],
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; status 1 if anything is unpinned."),
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Write nothing; show what would change as a patch.")
    ] = False,
    update: Annotated[
        bool,
        typer.Option("--update", help="Look the tags of pinned references up again too."),
    ] = False,
    unpin: Annotated[
        bool, typer.Option("--unpin", help="Take digests away where a tag remains.")
    ] = False,
    platform: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--platform",
            "-p",
            metavar="PLATFORM",
            help="Pin this platform's image; the file is then for it only.",
            show_default=False,
        ),
    ] = None,
    require: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--require",
            metavar="PLATFORM",
            help="Status 1 if an image lacks it; repeat it or use commas.",
            show_default=False,
        ),
    ] = None,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Write digests into files that name images.

    Each `name:tag` becomes `name:tag@sha256:…`, the digest of its index; no other byte changes.
    Reads Dockerfiles, compose and bake files, Kubernetes manifests with custom resources,
    kustomizations, Helm values, `devcontainer.json`, and the pipelines of GitHub, GitLab, Azure,
    CircleCI, Woodpecker, Drone, Bitbucket and Google Cloud Build. A folder means the files of
    these kinds in it; others are skipped.

    What looks like an image under a key that is not known is listed, and fails --check.
    What has `# resolver: ignore` on its line, or above it, stays. With --update, --check also
    says which digests are out of date.

    \b
      resolver pin Dockerfile compose.yaml
      resolver pin --check .
      resolver pin --update --diff Dockerfile | git apply
    """
    from resolver.cli.inputs import split_platforms
    from resolver.cli.run import work

    needed = split_platforms(require or [])
    asked = PinOptions(check, diff, update, unpin, platform, tuple(needed))
    asked.check_options(common.form)
    with work(common) as (session, output):
        run(session, output, files, asked, common.form, full=no_trunc)


#: Files and lines that one message names.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class PinOptions:
    """What was asked for; see `Session.pin`."""

    check: bool
    diff: bool
    update: bool
    unpin: bool
    platform: str | None
    require: tuple[str, ...]

    def check_options(self, form: str) -> None:
        """Refuse what does not fit together, before anything is read.

        Raises:
            Usage: options exclude each other.
        """
        for name in ("check", "update", "platform", "require"):
            if self.unpin and getattr(self, name):
                raise Usage(f"`--unpin` and `--{name}` exclude each other", "leave out one of them")
        if self.diff and form != "table":
            raise Usage("a diff is a form of its own", f"leave out `--diff`, or `{form}`")
        if renderer(form).draws == "word":
            raise Usage(f"files have no form `{form}`", "choose table, markdown, json or yaml")
        if self.check and self.diff:
            raise Usage(
                "`--check` and `--diff` exclude each other",
                "`--check` says what is wrong, `--diff` what would be written",
            )


def run(
    session: Session,
    output: Output,
    files: Sequence[str],
    asked: PinOptions,
    form: str,
    *,
    full: bool,
) -> None:
    """Pin files, tell what became of them, and end with the worst status met."""
    found = session.pin(
        files,
        check=asked.check,
        update=asked.update,
        unpin=asked.unpin,
        platform=asked.platform,
        require=asked.require,
    )
    output.warnings(found.warnings)
    if asked.diff:
        for file in found.files:
            output.raw(diff(file.path, file.text, file.after).encode())
    else:
        if not asked.check:
            found = replace(found, files=tuple(_written(session, file) for file in found.files))
        output.tell(found, form, full=full)
    for failure in found.failures:
        output.failed(failure, where=_where(found, failure))
    _tell_skipped(output, found)
    _tell_findings(output, found)
    worst = max((failure.kind.status for failure in found.failures), default=0)
    if not worst and _is_negative(found, asked):
        worst = ErrorKind.NEGATIVE.status
    if worst:
        raise typer.Exit(worst)


def _written(session: Session, file: PinnedFile) -> PinnedFile:
    """Write a file; one that cannot be written keeps the reason, and the others keep their turn."""
    try:
        session.write_pins(Pinned((file,)))
    except ResolverError as error:
        pins = tuple(
            replace(pin, state=PinState.FAILED, digest=pin.before)
            if pin.digest != pin.before
            else pin
            for pin in file.pins
        )
        return replace(file, pins=pins, edits=(), failure=error)
    return file


def _where(found: Pinned, failure: ResolverError) -> str:
    """Name the lines whose references could not be looked up."""
    places = [f"{place.path}:{place.line}" for place in found.places_of(failure)]
    named = ", ".join(f"`{place}`" for place in places[:_NAMED])
    more = len(places) - _NAMED
    return f"{named} and {more} more" if more > 0 else named


def _tell_skipped(output: Output, found: Pinned) -> None:
    """Say which files were skipped, on one line for each reason."""
    reasons: dict[str, list[str]] = {}
    for each in found.skipped:
        reasons.setdefault(each.reason, []).append(each.path)
    for reason, paths in reasons.items():
        named = ", ".join(f"`{path}`" for path in paths[:_NAMED])
        more = len(paths) - _NAMED
        words = f"{named} and {more} more" if more > 0 else named
        output.note(f"skipped {words}: {'each is' if len(paths) > 1 else 'it is'} {reason}")


def _tell_findings(output: Output, found: Pinned) -> None:
    """Say what to do about findings, each thing once; the findings themselves are the answer."""
    said = {hint for failure in found.failures for hint in failure.hints()}
    hints: dict[str, dict[str, None]] = {}
    for finding in found.findings:
        if finding.hint and finding.hint not in said:
            hints.setdefault(finding.rule, {})[finding.hint] = None
    # In a folder there can be one for each file.
    told = [hint for each in hints.values() for hint in [*each][:_NAMED]]
    for hint in dict.fromkeys(told):
        output.hint(hint)
    more = len({hint for each in hints.values() for hint in each}) - len({*told})
    if more > 0:
        output.hint(f"{more} more are like these, `--json` has all of them")


def _is_negative(found: Pinned, asked: PinOptions) -> bool:
    """Whether the answer is no: something is not as it was checked or required to be."""
    if asked.check:
        return not found.is_sound
    return any(finding.rule == PLATFORM_MISSING.id for finding in found.findings)
