"""Annotations: what a CI system shows beside the code, or at the top of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resolver.core.findings import Severity
from resolver.core.rule_book import rules
from resolver.render.escape import escape

if TYPE_CHECKING:
    from resolver.core.ending import Ending, Fault
    from resolver.core.findings import Finding

#: What a finding weighs, in the words of GitHub; Azure has no word for the last.
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


class Annotation(NamedTuple):
    """One message.

    Attributes:
        level: `error`, `warning` or `notice`.
        code: of the rule, the error or the warning.
        text: escaped; its lines are the message and the hints.
        path: as seen from where the command ran; empty where no file has to do with it.

    """

    level: str
    code: str
    title: str
    text: str
    path: str = ""
    line: int = 0
    column: int = 0


def annotated(ending: Ending) -> tuple[Annotation, ...]:
    """Give what went wrong, then what rules found, then what a person should know."""
    titles = {rule.id: rule.title for rule in rules(finding.rule for finding in ending.findings)}
    found = [
        Annotation("error", fault.code, fault.code, _lines(failed(fault), fault.hints))
        for fault in ending.faults
    ]
    found += [_of(finding, titles[finding.rule], ending.folder) for finding in ending.findings]
    found += [
        Annotation("warning", each.code, each.code, escape(each.message))
        for each in ending.warnings
    ]
    return tuple(found)


def relative(path: str, folder: str) -> str:
    """Tell a path from where the command ran, with `/`, as every one of these systems wants it."""
    slashed, start = path.replace("\\", "/"), folder.replace("\\", "/").rstrip("/") + "/"
    inside = slashed.removeprefix(start) if folder else slashed
    while inside.startswith("./"):
        inside = inside[2:].lstrip("/")
    return inside


def about(finding: Finding) -> str:
    """Say what a finding is about: the reference or file, and the platform."""
    return f"{finding.subject} {finding.platform}".rstrip()


def failed(fault: Fault) -> str:
    """Say what failed; where the message does not name the reference, it stands before it."""
    name = fault.subject.rpartition("/")[2]
    return fault.message if name in fault.message else f"{fault.subject}: {fault.message}"


def _of(finding: Finding, title: str, folder: str) -> Annotation:
    hints = (finding.hint,) if finding.hint else ()
    text = _lines(f"{about(finding)}: {finding.message}", hints)
    told = Annotation(_LEVELS[finding.severity], finding.rule, title, text)
    place = finding.place
    if place is None:
        return told
    path = relative(place.path, folder)
    return told._replace(path=path, line=place.line, column=place.column)


def _lines(message: str, hints: tuple[str, ...]) -> str:
    """Put hints on lines of their own; what would break a line inside them is left to escaping."""
    return "\n".join(escape(line) for line in (message, *(f"hint: {hint}" for hint in hints)))
