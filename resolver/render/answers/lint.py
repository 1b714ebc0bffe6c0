"""Lint results: a line for each finding, then a line for each image."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from resolver.core.lint.findings import Severity
from resolver.core.lint.lint import Explained, Linted
from resolver.core.results.resolve import Failure
from resolver.render.answers.check import counted, finding, findings_report
from resolver.render.report import Report, ReportTable
from resolver.render.text import WIDTH
from resolver.render.to_dict import bare, failure, warnings

if TYPE_CHECKING:
    from resolver.core.lint.findings import Rule
    from resolver.core.lint.lint import LintedImage
    from resolver.core.lint.subject import Look, Program
    from resolver.render.to_dict import Plain


_GAP = "  "


def report(answer: Linted | Explained, *, explain: bool = False, full: bool = False) -> Report:
    """Turn findings or rules into a report."""
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
    found = ", ".join([*(counts or ["no findings"]), *ignored])
    return f"`{image.reference}`: {found} ({counted(len(image.platforms), 'platform')})"


def _explained(answer: Explained, *, full: bool) -> Report:
    if not answer.whole:
        rows = tuple((rule.id, rule.severity.value, rule.title) for rule in answer.rules)
        return Report("rules", (), (ReportTable("rules", ("rule", "severity", "finds"), rows),))
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


def plain(answer: Linted | Explained) -> Plain:
    """Turn findings or rules into plain values."""
    if isinstance(answer, Explained):
        return {
            "rules": [
                {
                    "id": rule.id,
                    "severity": rule.severity.value,
                    "title": rule.title,
                    "explanation": rule.explanation,
                }
                for rule in answer.rules
            ]
        }
    return {
        "findings": [finding(item) for item in answer.findings],
        "images": [_image(item) for item in answer.images],
    }


def _image(value: LintedImage | Failure) -> Plain:
    if isinstance(value, Failure):
        return {"reference": value.reference, **failure(value.error)}
    return {
        "reference": value.reference,
        "root": bare(value.root) if value.root is not None else None,
        "platforms": list(value.platforms),
        "counts": {severity.value: value.count(severity) for severity in reversed(Severity)},
        "ignored": value.ignored,
        "programs": [program for look in value.looks for program in _programs(look)],
        "layerBytesRead": sum(look.bytes_read for look in value.looks),
        "warnings": warnings(value.warnings),
    }


def _programs(look: Look) -> list[Plain]:
    """Return the program that an image starts, and the other programs found."""
    of = str(look.part.platform) if look.part.platform is not None else None
    written: list[Plain] = [
        {
            "platform": of,
            "role": "started",
            "words": one.words,
            "outcome": one.outcome.value,
            **(_program(one.program) if one.program is not None else {}),
        }
        for one in look.started
    ]
    written += [{"platform": of, "role": "sample", **_program(item)} for item in look.sample]
    return written


def _program(value: Program) -> Plain:
    return {
        "path": value.path,
        "format": value.executable.format,
        "machine": value.executable.machine,
        "layer": str(value.layer),
        "verified": value.verified,
    }
