"""Linting: the table of rules, and what they find about one image.

To add a rule, write a `Rule` and a function in one of the `lint_rules_*` modules, give them a row
in its `ROWS`, and samples in `tests/contract/lint_samples.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.lint import documents, entries, images, platforms, programs
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


#: Every rule there is, with the function that looks for it.
RULES: tuple[LintRow, ...] = (
    *images.ROWS,
    *programs.ROWS,
    *entries.ROWS,
    *platforms.ROWS,
    *documents.ROWS,
)

_WEIGHT = {severity: number for number, severity in enumerate(reversed(Severity))}
_PLACE = {row.rule.id: number for number, row in enumerate(RULES)}


def lint_subject(subject: Subject) -> tuple[Finding, ...]:
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


@dataclass(frozen=True, slots=True, eq=False)
class LintedImage:
    """What the rules found about one image.

    Attributes:
        reference: canonical text of what was asked.
        root: what the name points at; None where that document cannot be used.
        platforms: of the images looked at, as written, in index order.
        findings: the heaviest first, then by rule; the order of the index does not matter.
        looks: what is inside the images; none where nobody looked.
        ignored: how many findings were left out on request.
        warnings: what a person should know, and that is no finding.
    """

    reference: str
    root: Descriptor | None
    platforms: tuple[str, ...]
    findings: tuple[Finding, ...]
    looks: tuple[Look, ...] = ()
    ignored: int = 0
    warnings: tuple[Warned, ...] = ()

    def count(self, severity: Severity) -> int:
        """Count the findings of exactly this weight."""
        return sum(finding.severity is severity for finding in self.findings)


@dataclass(frozen=True, slots=True, eq=False)
class Linted:
    """What the rules found about all that was asked.

    Attributes:
        images: in the order asked; a failure where an image could not be looked at.
    """

    images: tuple[LintedImage | Failure, ...]

    @property
    def looked_at(self) -> tuple[LintedImage, ...]:
        """The images that could be looked at."""
        return tuple(image for image in self.images if not isinstance(image, Failure))

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The references that could not be answered for."""
        return tuple(image for image in self.images if isinstance(image, Failure))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, image by image."""
        return tuple(finding for image in self.looked_at for finding in image.findings)

    def reaches(self, severity: Severity) -> bool:
        """Return whether a finding weighs this much, or more."""
        return any(not finding.severity < severity for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Explained:
    """Rules, to be read.

    Attributes:
        whole: with their explanations.
    """

    rules: tuple[Rule, ...]
    whole: bool
