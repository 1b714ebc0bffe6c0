"""Linting: the table of rules, and what they find about one image.

To add a rule, write a `Rule` and a function in one of the `lint_rules_*` modules, give them a row
in its `ROWS`, and samples in `tests/contract/lint_samples.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core import (
    lint_rules_documents,
    lint_rules_entries,
    lint_rules_images,
    lint_rules_platforms,
    lint_rules_programs,
)
from resolver.core.findings import Severity
from resolver.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.findings import Finding, Rule
    from resolver.core.lint_subject import Row, Subject

#: Every rule there is, with the function that looks for it.
RULES: tuple[Row, ...] = (
    *lint_rules_images.ROWS,
    *lint_rules_programs.ROWS,
    *lint_rules_entries.ROWS,
    *lint_rules_platforms.ROWS,
    *lint_rules_documents.ROWS,
)

_WEIGHT = {severity: number for number, severity in enumerate(reversed(Severity))}
_PLACE = {row.rule.id: number for number, row in enumerate(RULES)}


def lint(subject: Subject) -> tuple[Finding, ...]:
    """Apply every rule; the heaviest findings come first, whatever the order of the index."""
    found = {finding for row in RULES for finding in row.look(subject)}
    return tuple(sorted(found, key=_order))


def rule(identifier: str) -> Rule:
    """Look a rule up by its id.

    Raises:
        Usage: there is no such rule.
    """
    for row in RULES:
        if row.rule.id == identifier:
            return row.rule
    raise Usage(f"there is no rule `{identifier}`", "see what there is: `resolver lint --rules`")


def without(findings: Iterable[Finding], ignored: Iterable[str]) -> tuple[Finding, ...]:
    """Leave out what some rules found."""
    left_out = frozenset(ignored)
    return tuple(finding for finding in findings if finding.rule not in left_out)


def _order(finding: Finding) -> tuple[int, int, str, str, str]:
    return (
        _WEIGHT[finding.severity],
        _PLACE[finding.rule],
        finding.platform,
        finding.digest,
        finding.message,
    )
