"""Annotations and summaries: what CI systems show beside the code or for a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resolver.core.lint.findings import Severity, rules
from resolver.core.results.resolve import Batch, Failure, Resolution
from resolver.errors import ErrorKind
from resolver.render.markdown import cell, grid, markdown
from resolver.render.report import report
from resolver.render.text import escape

if TYPE_CHECKING:
    from resolver.core.lint.findings import Finding
    from resolver.core.results.run import Fault, RunResult


#: Levels of GitHub; Azure has no equivalent of the last.
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


class Annotation(NamedTuple):
    """One message.

    Attributes:
        level: `error`, `warning` or `notice`.
        code: of the rule, the error or the warning.
        text: the message and the hints, a line each, escaped.
        path: relative to the working folder; empty if no file is involved.
    """

    level: str
    code: str
    title: str
    text: str
    path: str = ""
    line: int = 0
    column: int = 0


def annotated(result: RunResult) -> tuple[Annotation, ...]:
    """Return failures, then findings, then warnings."""
    titles = {rule.id: rule.title for rule in rules(finding.rule for finding in result.findings)}
    found = [
        Annotation("error", fault.code, fault.code, _lines(failed(fault), fault.hints))
        for fault in result.faults
    ]
    found += [_of(finding, titles[finding.rule], result.folder) for finding in result.findings]
    found += [
        Annotation("warning", item.code, item.code, escape(item.message))
        for item in result.warnings
    ]
    return tuple(found)


def relative(path: str, folder: str) -> str:
    """Return a path relative to the working folder, with `/`."""
    slashed, start = path.replace("\\", "/"), folder.replace("\\", "/").rstrip("/") + "/"
    inside = slashed.removeprefix(start) if folder else slashed
    while inside.startswith("./"):
        inside = inside[2:].lstrip("/")
    return inside


def about(finding: Finding) -> str:
    """Return the subject of a finding: the reference or file, and the platform."""
    return f"{finding.subject} {finding.platform}".rstrip()


def failed(fault: Fault) -> str:
    """Return the message of a failure, with the reference unless it names it already."""
    name = fault.subject.rpartition("/")[2]
    return fault.message if name in fault.message else f"{fault.subject}: {fault.message}"


def _of(finding: Finding, title: str, folder: str) -> Annotation:
    hints = (finding.hint,) if finding.hint else ()
    text = _lines(f"{about(finding)}: {finding.message}", hints)
    annotation = Annotation(_LEVELS[finding.severity], finding.rule, title, text)
    place = finding.place
    if place is None:
        return annotation
    path = relative(place.path, folder)
    return annotation._replace(path=path, line=place.line, column=place.column)


def _lines(message: str, hints: tuple[str, ...]) -> str:
    """Return the message and the hints, a line each; line breaks inside them are escaped."""
    return "\n".join(escape(line) for line in (message, *(f"hint: {hint}" for hint in hints)))


#: Ends a summary that was cut.
CUT = "\n\n*Truncated: the size limit of this file is reached.*\n"


def summary(result: RunResult) -> str:
    """Return a Markdown summary: answers, findings, failures and warnings."""
    resolved = tuple(a for a in result.answers if isinstance(a, Resolution | Failure))
    several = len(resolved) > 1
    answers = [
        a for a in result.answers if not (isinstance(a, Failure) or (several and a in resolved))
    ]
    sections = [
        markdown(report(answer, full=True)).rstrip("\n")
        for answer in ([Batch(resolved)] if several else []) + answers
    ]
    parts = [f"**resolver {cell(result.command)}**: {_verdict(result)}", *sections]
    # Most reports of answers list their findings.
    missing = [f for f in result.findings if not any(cell(f.message) in text for text in sections)]
    if missing:
        rows = tuple(_row(finding, result.folder) for finding in missing)
        columns = ("image", "platform", "severity", "rule", "message", "where")
        parts.append(f"**findings**\n\n{grid(columns, rows)}")
    negative = result.status == ErrorKind.NEGATIVE.status
    for fault in result.faults:
        label = "result" if negative else "error"
        words = [f"**{label}**: {cell(failed(fault))}", *(f"hint: {cell(h)}" for h in fault.hints)]
        parts.append("\n\n".join(words))
    parts += [f"**warning**: {cell(warning.message)}" for warning in result.warnings]
    return "\n\n".join(parts) + "\n"


def cut(text: str, room: int) -> str:
    """Cut Markdown at a line to at most `room` bytes of UTF-8, and append `CUT`.

    Return an empty text if not even `CUT` fits.
    """
    body = text.encode()
    if len(body) <= room:
        return text
    kept = body[: max(0, room - len(CUT.encode()))]
    whole = kept[: kept.rfind(b"\n") + 1].rstrip(b"\n")
    return whole.decode() + CUT if room >= len(CUT.encode()) else ""


def _verdict(result: RunResult) -> str:
    """Return the outcome on one line: how many findings or errors, and the exit status."""
    ending = f", status {result.status}" if result.status else ""
    if result.status > ErrorKind.NEGATIVE.status:
        count = len(result.faults)
        return f"failed with {_count(count, 'error')}{ending}" if count else f"failed{ending}"
    severities = [finding.severity for finding in result.findings]
    if severities:
        counts = ", ".join(
            _count(severities.count(severity), severity.value)
            for severity in reversed(Severity)
            if severity in severities
        )
        return f"{counts}{ending}" if result.status else f"passed, {counts}"
    if result.faults:
        return f"{cell(failed(result.faults[0]))}{ending}"
    return f"the answer is no{ending}" if result.status else "passed"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _row(finding: Finding, folder: str) -> tuple[str, ...]:
    place = finding.place
    where = f"{relative(place.path, folder)}:{place.line}" if place is not None else ""
    hint = f" ({finding.hint})" if finding.hint else ""
    message = f"{finding.message}{hint}"
    return (
        finding.subject,
        finding.platform or "-",
        finding.severity.value,
        finding.rule,
        message,
        where or "-",
    )
