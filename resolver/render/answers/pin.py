"""Pinned files: findings, then the state of each reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.lint.findings import Severity
from resolver.render.report import Report, ReportTable, short
from resolver.render.text import escape
from resolver.render.to_dict import failure, warnings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.lint.findings import Finding
    from resolver.core.pin.decide import Pin, Pinned, PinnedFile
    from resolver.render.to_dict import Plain


_GAP = "  "


def report(answer: Pinned, *, explain: bool = False, full: bool = False) -> Report:
    """Turn pinned files into a report; a check lists references only with `full`."""
    del explain
    images = [pin for file in answer.files for pin in file.pins]
    if not images and not answer.findings and not answer.is_check:
        words = "no file could be read" if answer.failures else "no images found"
        return Report("pinned", (), (), (words,))
    tables = []
    if full and answer.findings:
        columns: tuple[str, ...] = ("where", "severity", "rule", "finding")
        rows: tuple[tuple[str, ...], ...] = tuple(
            (*_cells(finding), finding.message) for finding in answer.findings
        )
        tables.append(ReportTable("findings", columns, rows))
    if images and (full or not answer.is_check):
        columns = ("where", "image", "state", "digest")
        rows = tuple(_row(pin, full=full) for pin in images)
        # Paths end in the line, and names in the tag, so keep their ends.
        tail = frozenset({"where", "image"})
        tables.append(ReportTable("images", columns, rows, whole=frozenset({"digest"}), tail=tail))
    return Report("pinned", (), tuple(tables), tuple(_lines(answer, full=full)))


def _lines(answer: Pinned, *, full: bool) -> Iterator[str]:
    """Align the columns of findings; messages are not shortened."""
    cells = [_cells(finding) for finding in answer.findings]
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(3)]
    for finding, row in zip(answer.findings, cells, strict=True):
        if not full:
            words = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
            yield _GAP.join([*words, finding.message])
    if answer.is_check:
        for file in answer.files:
            if file.failure is None:
                yield _summary(file, answer.findings)


def _cells(finding: Finding) -> tuple[str, str, str]:
    place = finding.place
    where = f"{place.path}:{place.line}" if place is not None else "-"
    return where, finding.severity.value, finding.rule


def _summary(file: PinnedFile, findings: tuple[Finding, ...]) -> str:
    own = [finding for finding in findings if finding.place and finding.place.path == file.path]
    counts = [
        _counted(sum(finding.severity is severity for finding in own), severity.value)
        for severity in reversed(Severity)
        if any(finding.severity is severity for finding in own)
    ]
    found = ", ".join(counts) or "no findings"
    return f"`{file.path}`: {found} ({_counted(len(file.pins), 'image')})"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _row(pin: Pin, *, full: bool) -> tuple[str, ...]:
    digest = short(pin.digest, full=full) if pin.digest is not None else "-"
    return (f"{pin.place.path}:{pin.place.line}", pin.name, pin.state.value, digest)


def plain(answer: Pinned) -> Plain:
    """Turn pinned files into plain values."""
    return {
        "files": [_file(file) for file in answer.files],
        "skipped": [{"path": item.path, "reason": item.reason} for item in answer.skipped],
        "findings": [_finding(finding) for finding in answer.findings],
        "warnings": warnings(answer.warnings),
    }


def _file(file: PinnedFile) -> Plain:
    written: Plain = {
        "path": file.path,
        "kind": file.kind or None,
        "changed": file.is_changed,
        "images": [_pin(pin) for pin in file.pins],
        "passed": [
            {"line": place.line, "column": place.column, "reason": reason}
            for place, reason in file.passed
        ],
    }
    if file.failure is not None:
        written |= failure(file.failure)
    return written


def _pin(pin: Pin) -> Plain:
    written: Plain = {
        "line": pin.place.line,
        "column": pin.place.column,
        "role": pin.role,
        "reference": pin.written,
        "state": pin.state.value,
        "digest": str(pin.digest) if pin.digest else None,
        "before": str(pin.before) if pin.before else None,
    }
    if pin.failure is not None:
        written |= failure(pin.failure)
    return written


def _finding(finding: Finding) -> Plain:
    place = finding.place
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "message": escape(finding.message),
        "subject": finding.subject,
        "platform": finding.platform or None,
        "digest": finding.digest or None,
        "hint": escape(finding.hint) or None,
        "path": place.path if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
    }
