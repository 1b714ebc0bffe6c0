"""What linting answers: the findings about images, and the rules there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.answer import Failure
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.descriptor import Descriptor
    from resolver.core.events import Warned
    from resolver.core.findings import Finding, Rule, Severity
    from resolver.core.lint_programs import Look


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
        """Say whether a finding weighs this much, or more."""
        return any(not finding.severity < severity for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Explained:
    """Rules, to be read.

    Attributes:
        whole: with their explanations.
    """

    rules: tuple[Rule, ...]
    whole: bool
