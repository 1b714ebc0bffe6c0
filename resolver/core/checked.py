"""What checking answers: for each image whether it has what was required, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.answer import Failure
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.descriptor import Descriptor
    from resolver.core.events import Warned
    from resolver.core.findings import Finding


@dataclass(frozen=True, slots=True, eq=False)
class CheckedImage:
    """One image, held against what was required of it.

    Attributes:
        reference: canonical text of what was asked.
        root: what the name points at.
        pinned: that as `registry/repository@digest`; empty for local places.
        platforms: offered, as written, in index order; attestations are none.
        passed: whether nothing was found that fails.
        findings: what is missing or too much, in the order of the rules; then those of lint.
        ignored: how many findings were left out on request.
        warnings: what a person should know, and that fails nothing.
    """

    reference: str
    root: Descriptor
    pinned: str
    platforms: tuple[str, ...]
    passed: bool
    findings: tuple[Finding, ...]
    ignored: int = 0
    warnings: tuple[Warned, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """All that was checked.

    Attributes:
        images: in the order asked; a failure where an image could not be looked at.
    """

    images: tuple[CheckedImage | Failure, ...]

    @property
    def looked_at(self) -> tuple[CheckedImage, ...]:
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

    @property
    def passed(self) -> bool:
        """Whether every image could be looked at, and has what was required."""
        return not self.failures and all(image.passed for image in self.looked_at)
