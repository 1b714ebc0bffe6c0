"""The table of lint rules, and the results of `lint`.

To add a rule, write a `Rule` and a function in one of the modules below, add a row to its `ROWS`,
and samples to `tests/kit/lint_samples.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.lint import documents, entries, images, programs
from resolver.core.lint.findings import ImageResults, Severity
from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.lint.findings import Finding, Rule
    from resolver.core.lint.subject import LintRow, Look, Subject
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.results.events import Warned
    from resolver.core.results.resolve import Failure


#: Every rule, with the function that applies it.
RULES: tuple[LintRow, ...] = (
    *images.ROWS,
    *programs.ROWS,
    *entries.ROWS,
    *documents.ROWS,
)

_WEIGHT = {severity: number for number, severity in enumerate(reversed(Severity))}
_PLACE = {row.rule.id: number for number, row in enumerate(RULES)}


def lint_subject(subject: Subject) -> tuple[Finding, ...]:
    """Apply every rule; sort findings by severity, independent of the order of the index."""
    found = {finding for row in RULES for finding in row.look(subject)}
    return tuple(sorted(found, key=_order))


def rule(identifier: str) -> Rule:
    """Return a rule by its id."""
    for row in RULES:
        if row.rule.id == identifier:
            return row.rule
    raise Usage(f"there is no rule `{identifier}`", "list the rules with `resolver lint --rules`")


def without(findings: Iterable[Finding], ignored: Iterable[str]) -> tuple[Finding, ...]:
    """Remove the findings of some rules."""
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


@dataclass(frozen=True, slots=True, eq=False)
class LintedImage:
    """The findings for one image.

    `root`: the descriptor of the reference; None if that document is unusable. `findings`: sorted
    by severity, then by rule.
    """

    reference: str
    root: Descriptor | None
    platforms: tuple[str, ...]
    findings: tuple[Finding, ...]
    looks: tuple[Look, ...] = ()
    ignored: int = 0
    warnings: tuple[Warned, ...] = ()

    def count(self, severity: Severity) -> int:
        """Count the findings of exactly this severity."""
        return sum(finding.severity is severity for finding in self.findings)


@dataclass(frozen=True, slots=True, eq=False)
class Linted(ImageResults[LintedImage]):
    """The result of `lint`."""

    images: tuple[LintedImage | Failure, ...]

    def reaches(self, severity: Severity) -> bool:
        """Return whether any finding has at least this severity."""
        return any(not finding.severity < severity for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Explained:
    """The result of `lint --rules`; `whole` shows explanations."""

    rules: tuple[Rule, ...]
    whole: bool
