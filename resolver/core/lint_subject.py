"""What the rules of lint look at: an image with all of its builds, and facts found beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resolver.core.descriptor import EntryKind
from resolver.core.findings import Finding, Rule
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.descriptor import Descriptor
    from resolver.core.digest import Digest
    from resolver.core.findings import Severity
    from resolver.core.gathered import Part
    from resolver.core.lint_programs import Look
    from resolver.core.manifest import Index
    from resolver.core.platform import PlatformTable
    from resolver.errors import ResolverError


@dataclass(frozen=True, slots=True, eq=False)
class Pin:
    """A tag with a digest beside it, and what that tag points at now.

    Attributes:
        current: None when there is no such tag any more.
        members: digests of everything below `current`.
    """

    tag: str
    digest: Digest
    current: Digest | None
    members: frozenset[Digest] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One image, as the rules see it.

    Attributes:
        reference: canonical text of what was asked.
        root: None where the document that the name points at cannot be used.
        index: None for a name that points at one image.
        parts: every entry that is no readable index; see `resolver.core.gathered`.
        refusal: why there is no `root`.
        pin: None unless the reference has a tag and a digest.
        looks: what is inside the images; none where nobody looked.
    """

    reference: str
    table: PlatformTable
    root: Descriptor | None = None
    index: Index | None = None
    parts: tuple[Part, ...] = ()
    refusal: ResolverError | None = None
    pin: Pin | None = None
    looks: tuple[Look, ...] = ()

    @property
    def images(self) -> tuple[Part, ...]:
        """The entries that can be images; attestations and other content left out."""
        return tuple(part for part in self.parts if part.kind is EntryKind.IMAGE)

    @property
    def listed(self) -> tuple[Part, ...]:
        """The images that stand in an index; none where the name points at one image."""
        return self.images if self.index is not None else ()

    def finding(
        self,
        rule: Rule,
        message: str,
        part: Part | None = None,
        *,
        severity: Severity | None = None,
        hint: str = "",
    ) -> Finding:
        """Put into words what a rule found; by default it weighs what the rule weighs."""
        platform = part.platform if part is not None else None
        digest = part.descriptor.digest if part is not None else ""
        return Finding(
            rule=rule.id,
            severity=severity or rule.severity,
            message=message,
            subject=self.reference,
            platform=str(platform) if platform is not None else "",
            digest=str(digest),
            hint=hint,
        )


class Row(NamedTuple):
    """One rule, and the function that looks for what it is about."""

    rule: Rule
    look: Callable[[Subject], Iterator[Finding]]
