"""What the rules of lint look at: an image with all of its builds, and facts found beside it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from resolver.core.lint.findings import Finding, Rule
from resolver.core.oci.descriptor import EntryKind
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.layers.executable import Executable
    from resolver.core.lint.findings import Severity
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.image import ImageEntry
    from resolver.core.oci.manifest import Index
    from resolver.core.platforms.platform import PlatformTable
    from resolver.errors import ResolverError


@dataclass(frozen=True, slots=True, eq=False)
class PinnedTag:
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
        parts: every entry that is no readable index; see `resolver.core.oci.image`.
        refusal: why there is no `root`.
        pin: None unless the reference has a tag and a digest.
        looks: what is inside the images; none where nobody looked.
    """

    reference: str
    table: PlatformTable
    root: Descriptor | None = None
    index: Index | None = None
    parts: tuple[ImageEntry, ...] = ()
    refusal: ResolverError | None = None
    pin: PinnedTag | None = None
    looks: tuple[Look, ...] = ()

    @property
    def images(self) -> tuple[ImageEntry, ...]:
        """The entries that can be images; attestations and other content left out."""
        return tuple(part for part in self.parts if part.kind is EntryKind.IMAGE)

    @property
    def listed(self) -> tuple[ImageEntry, ...]:
        """The images that stand in an index; none where the name points at one image."""
        return self.images if self.index is not None else ()

    def finding(
        self,
        rule: Rule,
        message: str,
        part: ImageEntry | None = None,
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


class LintRow(NamedTuple):
    """One rule, and the function that looks for what it is about."""

    rule: Rule
    look: Callable[[Subject], Iterator[Finding]]


class SearchOutcome(Enum):
    """How looking for what an image starts ended."""

    FOUND = "found"
    #: All layers were read, and it is in none.
    NOT_THERE = "not-there"
    #: It was found, and is no program of a format that is known here.
    NO_PROGRAM = "no-program"
    #: Not found in what was read, and not all was.
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Program:
    """A program in an image.

    Attributes:
        path: from the root of the image, without a leading slash, links followed.
        layer: the one that holds it.
        verified: whether that layer was read to its end, and is what its digests say.
    """

    path: str
    executable: Executable
    layer: Digest
    verified: bool


@dataclass(frozen=True, slots=True)
class StartedProgram:
    """Something that an image starts, and what came of looking for it.

    Attributes:
        words: as the config writes it, or the script whose interpreter this is.
        program: None unless it was found.
        is_certain: the container itself starts it; else another program does, as it seems.
    """

    words: str
    outcome: SearchOutcome
    program: Program | None = None
    is_certain: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What looking into one image's layers found.

    Attributes:
        started: what it starts, then the interpreters that this needs; empty where nothing is
            named.
        sample: some other executables, from the start of the layers.
        failures: layers that could not be read, and why.
        bytes_read: of layers, as they are stored, for this image; shared ones count once.
    """

    part: ImageEntry
    started: tuple[StartedProgram, ...]
    sample: tuple[Program, ...]
    failures: tuple[tuple[Digest, ResolverError], ...]
    bytes_read: int
