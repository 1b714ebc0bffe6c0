"""Pinning files from the command line: found out, written or shown, and told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from resolver.core.pinned import Pinned, PinnedFile, State
from resolver.core.pinning.diff import diff
from resolver.core.pinning.rules import PLATFORM_MISSING
from resolver.errors import Kind, ResolverError, Usage
from resolver.render import renderer
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.cli.output import Output
    from resolver.session import Session


#: Files and lines that one message names.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Asked:
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
    asked: Asked,
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
        worst = Kind.NEGATIVE.status
    if worst:
        raise typer.Exit(worst)


def _written(session: Session, file: PinnedFile) -> PinnedFile:
    """Write a file; one that cannot be written keeps the reason, and the others keep their turn."""
    try:
        session.write_pins(Pinned((file,)))
    except ResolverError as error:
        pins = tuple(
            replace(pin, state=State.FAILED, digest=pin.before) if pin.digest != pin.before else pin
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


def _is_negative(found: Pinned, asked: Asked) -> bool:
    """Whether the answer is no: something is not as it was checked or required to be."""
    if asked.check:
        return not found.is_sound
    return any(finding.rule == PLATFORM_MISSING.id for finding in found.findings)
