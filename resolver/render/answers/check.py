"""Checks: a line for each finding, then a line for each image."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from resolver.core.lint.findings import Severity
from resolver.core.results.resolve import Failure
from resolver.render.report import Report, ReportTable
from resolver.render.to_dict import bare, failure, warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resolver.core.check.check import Checked, CheckedImage
    from resolver.core.lint.findings import Finding
    from resolver.core.lint.lint import LintedImage
    from resolver.render.to_dict import Plain


_GAP = "  "

Image = TypeVar("Image", bound="CheckedImage | LintedImage")


def report(answer: Checked, *, explain: bool = False, full: bool = False) -> Report:
    """Turn a check into a report."""
    del explain
    return findings_report("check", answer.images, _summary, answer.findings, full=full)


def findings_report(
    title: str,
    images: Sequence[Image | Failure],
    summary: Callable[[Image], str],
    findings: Sequence[Finding],
    *,
    full: bool,
) -> Report:
    """Report findings about images: as lines, or with `full` as a table.

    Every image has a summary line, also one that failed. With several images, each finding names
    its image.
    """
    if full:
        rows = tuple((item.subject, *_cells(item), item.message) for item in findings)
        columns = ("image", "severity", "rule", "platform", "finding")
        lines = tuple(_last_line(image, summary) for image in images)
        return Report(title, (), (ReportTable("findings", columns, rows),) if rows else (), lines)
    cells: dict[int, tuple[str, ...]] = {id(item): _cells(item) for item in findings}
    if len(images) > 1:
        cells = {id(item): (*cells[id(item)], item.subject) for item in findings}
    widths = [max(map(len, column)) for column in zip(*cells.values(), strict=True)]
    text_lines: list[str] = []
    for image in images:
        found: tuple[Finding, ...] = () if isinstance(image, Failure) else image.findings
        for item in found:
            row = zip(cells[id(item)], widths, strict=True)
            text_lines.append(
                _GAP.join([*(f"{cell:<{width}}" for cell, width in row), item.message])
            )
        text_lines.append(_last_line(image, summary))
    return Report(title, (), (), tuple(text_lines))


def _cells(finding: Finding) -> tuple[str, ...]:
    return finding.severity.value, finding.rule, finding.platform or "-"


def _last_line(image: Image | Failure, summary: Callable[[Image], str]) -> str:
    if isinstance(image, Failure):
        return f"`{image.reference}`: error: {image.error.code}"
    return summary(image)


def _summary(image: CheckedImage) -> str:
    counts = [
        counted(count, severity.value)
        for severity in reversed(Severity)
        if (count := sum(finding.severity is severity for finding in image.findings))
    ]
    ignored = [f"{image.ignored} ignored"] if image.ignored else []
    words = ", ".join(["passed" if image.passed else "failed", *counts, *ignored])
    return f"`{image.reference}`: {words} ({counted(len(image.platforms), 'platform')})"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def plain(answer: Checked) -> Plain:
    """Turn a check into plain values."""
    return {
        "passed": answer.passed,
        "findings": [finding(item) for item in answer.findings],
        "images": [_image(item) for item in answer.images],
    }


def pairs(answer: Checked) -> list[tuple[str, str]]:
    """Return the digest and name of each image, `-` for a failure."""
    return [
        ("-", "-")
        if isinstance(image, Failure)
        else (str(image.root.digest), image.pinned or str(image.root.digest))
        for image in answer.images
    ]


def _image(value: CheckedImage | Failure) -> Plain:
    if isinstance(value, Failure):
        return {"reference": value.reference, **failure(value.error)}
    return {
        "reference": value.reference,
        "root": bare(value.root),
        "pinned": value.pinned or None,
        "passed": value.passed,
        "platforms": list(value.platforms),
        "ignored": value.ignored,
        "warnings": warnings(value.warnings),
    }


def finding(value: Finding) -> Plain:
    """Return a finding as plain values; unknown ones are null."""
    return {
        "rule": value.rule,
        "severity": value.severity.value,
        "message": value.message,
        "reference": value.subject,
        "platform": value.platform or None,
        "digest": value.digest or None,
        "hint": value.hint or None,
    }
