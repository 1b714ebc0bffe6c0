"""Reports about linting: a line for each finding, then a line for each image."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from resolver.core.findings import Severity
from resolver.core.linted import Explained, Linted
from resolver.render.report import Report, Table
from resolver.render.text import WIDTH

if TYPE_CHECKING:
    from resolver.core.findings import Finding, Rule
    from resolver.core.linted import LintedImage

_GAP = "  "


def report(answer: Linted | Explained, *, explain: bool = False, full: bool = False) -> Report:
    """Turn findings, or the rules behind them, into a report."""
    del explain
    if isinstance(answer, Linted):
        return _grid(answer) if full else _linted(answer)
    return _explained(answer, full=full)


def _linted(answer: Linted) -> Report:
    """Line the columns of all findings up; the message takes the room it needs."""
    widths = [
        max((len(cells[column]) for cells in map(_cells, answer.findings)), default=0)
        for column in range(3)
    ]
    lines: list[str] = []
    for image in answer.looked_at:
        lines += [_line(finding, widths) for finding in image.findings]
        lines.append(_summary(image))
    return Report("lint", (), (), tuple(lines))


def _grid(answer: Linted) -> Report:
    """Make a table of it, where nothing is ever cut (Markdown)."""
    rows = tuple((*_cells(finding), finding.message) for finding in answer.findings)
    columns = ("weight", "rule", "platform", "finding")
    tables = (Table("findings", columns, rows),) if rows else ()
    return Report("lint", (), tables, tuple(_summary(image) for image in answer.looked_at))


def _cells(finding: Finding) -> tuple[str, str, str]:
    return finding.severity.value, finding.rule, finding.platform or "-"


def _line(finding: Finding, widths: list[int]) -> str:
    cells = [f"{cell:<{width}}" for cell, width in zip(_cells(finding), widths, strict=True)]
    return _GAP.join([*cells, finding.message])


def _summary(image: LintedImage) -> str:
    counts = [
        _counted(image.count(severity), severity.value)
        for severity in reversed(Severity)
        if image.count(severity)
    ]
    ignored = [f"{image.ignored} ignored"] if image.ignored else []
    found = ", ".join([*(counts or ["nothing found"]), *ignored])
    return f"`{image.reference}`: {found} ({_counted(len(image.platforms), 'platform')})"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _explained(answer: Explained, *, full: bool) -> Report:
    if not answer.whole:
        rows = tuple((rule.id, rule.severity.value, rule.title) for rule in answer.rules)
        return Report("rules", (), (Table("rules", ("rule", "weight", "finds"), rows),))
    if full:
        lines = [f"{_head(rule)}. {rule.explanation}" for rule in answer.rules]
    else:
        lines = [line for rule in answer.rules for line in (*_paragraph(rule), "")][:-1]
    return Report("rules", (), (), tuple(lines))


def _head(rule: Rule) -> str:
    return f"{rule.id} ({rule.severity.value}): {rule.title}"


def _paragraph(rule: Rule) -> list[str]:
    words = textwrap.wrap(
        rule.explanation,
        WIDTH,
        initial_indent=_GAP,
        subsequent_indent=_GAP,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [_head(rule), "", *words]
