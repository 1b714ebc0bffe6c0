"""Reports about checking: a line for each thing missing, then a line for each image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.findings import Severity
from resolver.render.report import Report, Table

if TYPE_CHECKING:
    from resolver.core.checked import Checked, CheckedImage
    from resolver.core.findings import Finding

_GAP = "  "


def report(answer: Checked, *, explain: bool = False, full: bool = False) -> Report:
    """Turn what was checked into a report."""
    del explain
    summaries = tuple(_summary(image) for image in answer.looked_at)
    if full:
        rows = tuple((*_cells(finding), finding.message) for finding in answer.findings)
        columns = ("weight", "rule", "platform", "finding")
        return Report("check", (), (Table("findings", columns, rows),) if rows else (), summaries)
    widths = [
        max((len(_cells(finding)[column]) for finding in answer.findings), default=0)
        for column in range(3)
    ]
    lines: list[str] = []
    for image, summary in zip(answer.looked_at, summaries, strict=True):
        lines += [_line(finding, widths) for finding in image.findings]
        lines.append(summary)
    return Report("check", (), (), tuple(lines))


def _cells(finding: Finding) -> tuple[str, str, str]:
    return finding.severity.value, finding.rule, finding.platform or "-"


def _line(finding: Finding, widths: list[int]) -> str:
    cells = [f"{cell:<{width}}" for cell, width in zip(_cells(finding), widths, strict=True)]
    return _GAP.join([*cells, finding.message])


def _summary(image: CheckedImage) -> str:
    counts = [
        _counted(count, severity.value)
        for severity in reversed(Severity)
        if (count := sum(finding.severity is severity for finding in image.findings))
    ]
    ignored = [f"{image.ignored} ignored"] if image.ignored else []
    words = ", ".join(["passed" if image.passed else "failed", *counts, *ignored])
    return f"`{image.reference}`: {words} ({_counted(len(image.platforms), 'platform')})"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
