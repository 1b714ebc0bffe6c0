"""Plain values of pinned files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.escape import escape
from resolver.render.plain import failure, warnings

if TYPE_CHECKING:
    from resolver.core.findings import Finding
    from resolver.core.pinned import Pin, Pinned, PinnedFile
    from resolver.render.plain import Plain


def plain(answer: Pinned) -> Plain:
    """Turn pinned files into plain values."""
    return {
        "files": [_file(file) for file in answer.files],
        "skipped": [{"path": each.path, "reason": each.reason} for each in answer.skipped],
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
