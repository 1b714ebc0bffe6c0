"""The summary of a command in Markdown: for a step summary, an annotation, a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.answer import Failure
from resolver.render.annotations import about, failed, relative
from resolver.render.markdown import cell, grid, markdown
from resolver.render.report import report

if TYPE_CHECKING:
    from resolver.core.ending import Ending
    from resolver.core.findings import Finding

#: Why a summary ends early; stands where it was cut.
CUT = "\n\n*The rest is left out: this file may not be larger.*\n"


def summary(ending: Ending) -> str:
    """Tell everything: each answer, what rules found, what failed, what a person should know."""
    told = [
        markdown(report(answer, full=True)).rstrip("\n")
        for answer in ending.answers
        if not isinstance(answer, Failure)
    ]
    parts = [f"**resolver {cell(ending.command)}**: {_verdict(ending)}", *told]
    # Most answers with findings tell them themselves.
    untold = [f for f in ending.findings if not any(cell(f.message) in text for text in told)]
    if untold:
        rows = tuple(_row(finding, ending.folder) for finding in untold)
        columns = ("severity", "rule", "about", "message", "where")
        parts.append(f"**findings**\n\n{grid(columns, rows)}")
    for fault in ending.faults:
        words = [f"**error**: {cell(failed(fault))}", *(f"hint: {cell(h)}" for h in fault.hints)]
        parts.append("\n\n".join(words))
    parts += [f"**warning**: {cell(warning.message)}" for warning in ending.warnings]
    return "\n\n".join(parts) + "\n"


def cut(text: str, room: int) -> str:
    """Cut Markdown to so many bytes of UTF-8, at the end of a line, and say so there.

    Where not even that fits there is nothing.
    """
    body = text.encode()
    if len(body) <= room:
        return text
    kept = body[: max(0, room - len(CUT.encode()))]
    whole = kept[: kept.rfind(b"\n") + 1].rstrip(b"\n")
    return whole.decode() + CUT if room >= len(CUT.encode()) else ""


def _verdict(ending: Ending) -> str:
    count = len(ending.findings)
    if ending.faults or ending.status > 1:
        return f"failed, status {ending.status}"
    if count or ending.status:
        return f"{count} {'finding' if count == 1 else 'findings'}, status {ending.status}"
    return "passed"


def _row(finding: Finding, folder: str) -> tuple[str, ...]:
    place = finding.place
    where = f"{relative(place.path, folder)}:{place.line}" if place is not None else ""
    hint = f" ({finding.hint})" if finding.hint else ""
    message = f"{finding.message}{hint}"
    return (finding.severity.value, finding.rule, about(finding), message, where)
