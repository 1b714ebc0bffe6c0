"""Reports about linting: a line for each finding, then a line for each image."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from resolver.core.findings import Severity
from resolver.core.linted import Explained, Linted
from resolver.render.report import Report, Table
from resolver.render.report_check import counted, findings_report
from resolver.render.text import WIDTH

if TYPE_CHECKING:
    from resolver.core.findings import Rule
    from resolver.core.linted import LintedImage

_GAP = "  "


def report(answer: Linted | Explained, *, explain: bool = False, full: bool = False) -> Report:
    """Turn findings, or the rules behind them, into a report."""
    del explain
    if isinstance(answer, Linted):
        return findings_report("lint", answer.images, _summary, answer.findings, full=full)
    return _explained(answer, full=full)


def _summary(image: LintedImage) -> str:
    counts = [
        counted(image.count(severity), severity.value)
        for severity in reversed(Severity)
        if image.count(severity)
    ]
    ignored = [f"{image.ignored} ignored"] if image.ignored else []
    found = ", ".join([*(counts or ["nothing found"]), *ignored])
    return f"`{image.reference}`: {found} ({counted(len(image.platforms), 'platform')})"


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
