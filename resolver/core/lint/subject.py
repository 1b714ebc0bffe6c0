"""The input of lint rules: an image with all of its builds, and further facts about it."""

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
    from resolver.core.results.needs import ImageNeeds
    from resolver.errors import ResolverError


@dataclass(frozen=True, slots=True, eq=False)
class PinnedTag:
    """A tag of a reference with a digest; `current` is its digest now, `members` all below that."""

    tag: str
    digest: Digest
    current: Digest | None
    members: frozenset[Digest] = frozenset()


@dataclass(frozen=True, slots=True)
class IndexSbom:
    """An SBOM that is attached to the index: the manifests and architectures it is about."""

    digest: Digest
    subjects: frozenset[str]
    architectures: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One image, for the rules.

    Attributes:
        root: None if the root document is unusable.
        index: None if the reference points at a single image.
        parts: every entry except readable indexes; see `resolver.core.oci.image`.
        pin: None unless the reference has a tag and a digest.
        looks: the contents of the images; empty without `--deep`.
        sboms: attached to the index itself; empty if they were not looked up.
    """

    reference: str
    table: PlatformTable
    root: Descriptor | None = None
    index: Index | None = None
    parts: tuple[ImageEntry, ...] = ()
    refusal: ResolverError | None = None
    pin: PinnedTag | None = None
    looks: tuple[Look, ...] = ()
    sboms: tuple[IndexSbom, ...] = ()

    @property
    def images(self) -> tuple[ImageEntry, ...]:
        """The entries that may be images, without attestations and artifacts."""
        return tuple(part for part in self.parts if part.kind is EntryKind.IMAGE)

    @property
    def listed(self) -> tuple[ImageEntry, ...]:
        """The images of the index; empty if the reference points at a single image."""
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
        """Create a finding of a rule, by default with the rule's severity."""
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
    """One rule, and the function that applies it."""

    rule: Rule
    look: Callable[[Subject], Iterator[Finding]]


class SearchOutcome(Enum):
    """The outcome of the search for a program that an image starts."""

    FOUND = "found"
    #: All layers were read, and none contains it.
    NOT_THERE = "not-there"
    #: It was found, and is not a program of a supported format.
    NO_PROGRAM = "no-program"
    #: It was not found, and not all layers were read.
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Program:
    """A program in an image.

    `path`: from the root of the image, without a leading slash, links followed. `verified`: whether
    that layer was read completely and matches its digests.
    """

    path: str
    executable: Executable
    layer: Digest
    verified: bool


@dataclass(frozen=True, slots=True)
class StartedProgram:
    """A program that an image starts, and the outcome of the search for it.

    `words`: as written in the config, or the script whose interpreter this is. `is_certain`:
    whether the container itself starts it; False if another program seems to.
    """

    words: str
    outcome: SearchOutcome
    program: Program | None = None
    is_certain: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """The programs found in one image's layers.

    Attributes:
        started: the programs it starts, then their interpreters; empty if the config names none.
        sample: some other executables, from the start of the layers.
        bytes_read: compressed bytes of layers read for this image; shared layers count once.
        needs: what the programs it starts need, with their loaders and libraries.
    """

    part: ImageEntry
    started: tuple[StartedProgram, ...]
    sample: tuple[Program, ...]
    failures: tuple[tuple[Digest, ResolverError], ...]
    bytes_read: int
    needs: ImageNeeds
