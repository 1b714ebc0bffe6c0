"""GitLab's Code Quality report: findings beside the changed lines of a merge request.

Source: docs.gitlab.com, "Code Quality", "Code Quality report format".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from resolver.core.lint.findings import Severity
from resolver.render.ci.sarif import ReportPosition, fingerprints, hashed, spot
from resolver.render.ci.summary import about, failed
from resolver.render.text import escape

if TYPE_CHECKING:
    from resolver.core.results.run import RunResult
    from resolver.render.to_dict import Plain

_SEVERITIES = {Severity.NOTE: "info", Severity.WARNING: "minor", Severity.ERROR: "major"}
#: Severity of a failure to get an answer.
_FAILED = "critical"


def codequality(result: RunResult) -> str:
    """Return a list of issues; an empty one is a pass."""
    issues = []
    for fault in result.faults:
        where = spot(fault, result)
        name = hashed(fault.code, fault.subject, fault.platform, where.path, fault.message)
        issues.append(_issue(failed(fault), fault.code, _FAILED, name, where))
    names = fingerprints(result.findings, result)
    for finding, name in zip(result.findings, names, strict=True):
        text = f"{about(finding)}: {finding.message}"
        severity = _SEVERITIES[finding.severity]
        issues.append(_issue(text, finding.rule, severity, name, spot(finding, result)))
    return json.dumps(issues, indent=2, ensure_ascii=True) + "\n"


def _issue(text: str, rule: str, severity: str, fingerprint: str, where: ReportPosition) -> Plain:
    return {
        "description": escape(text),
        "check_name": rule,
        "fingerprint": fingerprint,
        "severity": severity,
        "location": {"path": escape(where.path), "lines": {"begin": max(where.line, 1)}},
    }
