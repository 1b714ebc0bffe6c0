"""The table of lint rules, and the results of `lint`.

To add a rule, write a `Rule` and a function in one of the modules below, add a row to its `ROWS`,
and samples to `tests/kit/lint_samples.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.lint import documents, entries, images, programs, spelling
from resolver.core.lint.findings import Severity
from resolver.core.results.resolve import Failure
from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.lint.findings import Finding, Rule
    from resolver.core.lint.subject import LintRow, Look, Subject
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.results.events import Warned


#: Every rule, with the function that applies it.
RULES: tuple[LintRow, ...] = (
    *images.ROWS,
    *programs.ROWS,
    *entries.ROWS,
    *spelling.ROWS,
    *documents.ROWS,
)

_WEIGHT = {severity: number for number, severity in enumerate(reversed(Severity))}
_PLACE = {row.rule.id: number for number, row in enumerate(RULES)}


def lint_subject(subject: Subject) -> tuple[Finding, ...]:
    """Apply every rule; sort findings by severity, independent of the order of the index."""
    found = {finding for row in RULES for finding in row.look(subject)}
    return tuple(sorted(found, key=_order))


def rule(identifier: str) -> Rule:
    """Return a rule by its id.

    Raises:
        Usage: unknown rule.
    """
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

    Attributes:
        reference: canonical text.
        root: the descriptor of the reference; None if that document is unusable.
        platforms: of the images, as written, in index order.
        findings: sorted by severity, then by rule.
        looks: the contents of the images; empty without `--deep`.
        ignored: number of findings ignored on request.
        warnings: notes that are not findings.
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
class Linted:
    """The result of `lint`.

    Attributes:
        images: in the order requested; a failure for each image that could not be read.
    """

    images: tuple[LintedImage | Failure, ...]

    @property
    def looked_at(self) -> tuple[LintedImage, ...]:
        """The images that could be read."""
        return tuple(image for image in self.images if not isinstance(image, Failure))

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The references that failed."""
        return tuple(image for image in self.images if isinstance(image, Failure))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, image by image."""
        return tuple(finding for image in self.looked_at for finding in image.findings)

    def reaches(self, severity: Severity) -> bool:
        """Return whether any finding has at least this severity."""
        return any(not finding.severity < severity for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Explained:
    """The result of `lint --rules`.

    Attributes:
        whole: whether to show explanations.
    """

    rules: tuple[Rule, ...]
    whole: bool
