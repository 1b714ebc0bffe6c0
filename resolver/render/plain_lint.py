"""Plain values of linting: findings, images and rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.answer import Failure
from resolver.core.findings import Severity
from resolver.core.linted import Explained, Linted
from resolver.render.plain import bare, failure, warnings

if TYPE_CHECKING:
    from resolver.core.findings import Finding
    from resolver.core.lint_programs import Look, Program
    from resolver.core.linted import LintedImage
    from resolver.render.plain import Plain


def plain(answer: Linted | Explained) -> Plain:
    """Turn findings, or the rules behind them, into plain values."""
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
        "findings": [finding(each) for each in answer.findings],
        "images": [_image(each) for each in answer.images],
    }


def pairs(answer: Linted | Explained) -> None:
    """Say that findings are no images, so that they have no digests of their own to print."""
    del answer


def finding(value: Finding) -> Plain:
    """Write one finding; what is not known is null."""
    return {
        "rule": value.rule,
        "severity": value.severity.value,
        "message": value.message,
        "reference": value.subject,
        "platform": value.platform or None,
        "digest": value.digest or None,
        "hint": value.hint or None,
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
    """Write what an image starts, and what else was seen in it."""
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
    written += [{"platform": of, "role": "sample", **_program(each)} for each in look.sample]
    return written


def _program(value: Program) -> Plain:
    return {
        "path": value.path,
        "format": value.executable.format,
        "machine": value.executable.machine,
        "layer": str(value.layer),
        "verified": value.verified,
    }
