"""`resolver pin`: write digests into files that name images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.cli.inputs import split_platforms
from resolver.cli.run import open_session
from resolver.errors import ErrorKind, ResolverError, Usage
from resolver.render import DEFAULT_FORMAT, renderer

if TYPE_CHECKING:
    from resolver.cli.output import Output
    from resolver.core.pin.decide import Pinned, PinnedFile
    from resolver.session import Session


@options.command
def pin(
    common: options.Common,
    files: Annotated[list[str], options.argument("FILE...", "Files or folders.")],
    check: Annotated[
        bool,
        options.option("--check", "Write nothing; exit with status 1 if an image is not pinned."),
    ] = False,
    diff: Annotated[
        bool, options.option("--diff", "Write nothing; print the changes as a patch.")
    ] = False,
    update: Annotated[
        bool, options.option("--update", "Also resolve the tags of pinned references again.")
    ] = False,
    unpin: Annotated[
        bool, options.option("--unpin", "Remove digests from references that have a tag.")
    ] = False,
    platform: Annotated[
        options.Text,
        options.option(
            "--platform -p", "Pin the image for this platform only, not the index.", "PLATFORM"
        ),
    ] = None,
    require: Annotated[
        options.Texts,
        options.option(
            "--require", "Exit with status 1 if an image lacks a platform; repeatable.", "PLATFORM"
        ),
    ] = None,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Write digests into files that name images.

    Each `name:tag` becomes `name:tag@sha256:…`, the digest of its index; no other byte changes.
    Supports Dockerfiles, compose and bake files, Kubernetes manifests with custom resources,
    kustomizations, Helm values, `devcontainer.json`, and pipelines of GitHub, GitLab, Azure,
    CircleCI, Woodpecker, Drone, Bitbucket and Google Cloud Build. For a folder, pins all files of
    these kinds in it.

    Reports values under unknown keys that look like images, and fails --check for them. Skips
    references with `# resolver: ignore` on or above their line. With --update, --check also
    reports outdated digests.

    \b
      resolver pin Dockerfile compose.yaml
      resolver pin --check .
      resolver pin --update --diff Dockerfile | git apply
    """
    needed = split_platforms(require or [])
    if unpin:
        given = {"check": check, "update": update, "platform": platform, "require": needed}
        for name in (name for name, value in given.items() if value):
            raise Usage(f"`--unpin` and `--{name}` exclude each other", "leave out one of them")
    _refuse_format(common.form, diff=diff)
    if check and diff:
        raise Usage(
            "`--check` and `--diff` exclude each other",
            "`--check` reports what is not pinned, `--diff` shows the changes",
        )
    with open_session(common) as (session, output):
        found = session.pin(
            files, check=check, update=update, unpin=unpin, platform=platform, require=needed
        )
        output.warnings(found.warnings)
        if diff:
            from resolver.core.pin.decide import diff as unified_diff

            for file in found.files:
                output.raw(unified_diff(file.path, file.text, file.after).encode())
        else:
            if not check:
                found = replace(found, files=tuple(_written(session, file) for file in found.files))
            output.show(found, common.form, full=no_trunc)
        _exit(output, found, check=check)


#: Files or lines named in one message.
_NAMED = 3


def _refuse_format(form: str, *, diff: bool) -> None:
    if diff and form != DEFAULT_FORMAT:
        raise Usage(f"`--diff` and `--format {form}` exclude each other", "leave out one of them")
    if renderer(form).draws == "word":
        raise Usage(
            f"`pin` does not support `--format {form}`", "choose table, markdown, json or yaml"
        )


def _exit(output: Output, found: Pinned, *, check: bool) -> None:
    """Print failures, skipped files and hints; exit with the highest status unless it is 0."""
    for failure in found.failures:
        output.failed(failure, where=_where(found, failure))
    # Note which files were skipped, one line per reason.
    reasons: dict[str, list[str]] = {}
    for file in found.skipped:
        reasons.setdefault(file.reason, []).append(file.path)
    for reason, paths in reasons.items():
        output.note(f"skipped {_first(paths)}: {'each is' if len(paths) > 1 else 'it is'} {reason}")
    _print_hints(output, found)
    worst = max((failure.kind.status for failure in found.failures), default=0)
    if not worst and _is_negative(found, check=check):
        worst = ErrorKind.NEGATIVE.status
    if worst:
        raise typer.Exit(worst)


def _written(session: Session, file: PinnedFile) -> PinnedFile:
    """Write a file; on failure, return it with the error, so that the others are still written."""
    from resolver.core.pin.decide import Pinned, PinState

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
    """Name the lines of the references that failed."""
    places = [f"{place.path}:{place.line}" for place in found.places_of(failure)]
    return _first(places)


def _first(names: list[str]) -> str:
    named = ", ".join(f"`{name}`" for name in names[:_NAMED])
    more = len(names) - _NAMED
    return f"{named} and {more} more" if more > 0 else named


def _print_hints(output: Output, found: Pinned) -> None:
    """Print the hints of findings, each once; the answer lists the findings themselves."""
    printed = {hint for failure in found.failures for hint in failure.hints()}
    hints: dict[str, dict[str, None]] = {}
    for finding in found.findings:
        if finding.hint and finding.hint not in printed:
            hints.setdefault(finding.rule, {})[finding.hint] = None
    # A folder can have one for each file.
    shown = [hint for of_rule in hints.values() for hint in [*of_rule][:_NAMED]]
    for hint in dict.fromkeys(shown):
        output.hint(hint)
    more = len({hint for of_rule in hints.values() for hint in of_rule}) - len({*shown})
    if more > 0:
        output.hint(f"{more} more like these; `--json` lists all of them")


def _is_negative(found: Pinned, *, check: bool) -> bool:
    """Return whether `--check` or `--require` failed."""
    from resolver.core.pin.decide import PLATFORM_MISSING

    if check:
        return not found.is_sound
    return any(finding.rule == PLATFORM_MISSING.id for finding in found.findings)
