"""Lock entries: recording images, selecting platforms, and exporting to other tools."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.lockfile.lock import LockedImage, LockedPlatform
from resolver.core.oci.reference import DEFAULT_TAG, HUB, Reference
from resolver.core.platforms.platform import BUILTIN, PlatformTable
from resolver.core.platforms.select import select
from resolver.core.results.events import Warned
from resolver.errors import PlatformNotOffered
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from resolver.core.lockfile.lock import Lock
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.image import ImageDocuments
    from resolver.core.platforms.platform import Platform


@dataclass(frozen=True, slots=True)
class Platforms:
    """One requested platform, or several alternatives.

    `local`: whether they are this machine's, with the level of its processor; see `select`.
    """

    platforms: tuple[Platform, ...]
    local: bool = False

    def __str__(self) -> str:
        return " or ".join(str(platform) for platform in self.platforms)


def record(found: ImageDocuments, written: str) -> tuple[LockedImage, tuple[Warned, ...]]:
    """Record an image, each platform once; of duplicates the first, as `select` does."""
    kept: dict[str, LockedPlatform] = {}
    warned = []
    for entry, part in enumerate(found.images):
        if part.platform is None:
            continue
        descriptor = part.descriptor
        one = LockedPlatform(
            part.platform, descriptor.digest, descriptor.media_type, descriptor.size, entry
        )
        first = kept.setdefault(one.key, one)
        if first.digest != one.digest:
            message = f"`{found.reference}` lists `{one.key}` more than once; the first is used"
            warned.append(Warned("duplicate-platform", message))
    root = found.root
    platforms = tuple(kept[key] for key in sorted(kept))
    image = LockedImage(
        found.reference, written, root.digest, root.media_type, root.size, platforms
    )
    return image, tuple(dict.fromkeys(warned))


def narrowed(
    image: LockedImage, only: Iterable[Platforms], table: PlatformTable = BUILTIN
) -> LockedImage:
    """Restrict a record to some platforms, this machine's to the one selected for it."""
    kept: dict[str, LockedPlatform] = {}
    keys = set()
    for wanted in only:
        one = pick(image, wanted, table)
        if one is None:
            offered = [str(locked.platform) for locked in by_entry(image)]
            raise PlatformNotOffered(image.reference, str(wanted), offered)
        kept[one.key] = one
        keys.add(str((one.platform if wanted.local else wanted.platforms[0]).normalized()))
    platforms = tuple(kept[key] for key in sorted(kept))
    return replace(image, platforms=platforms, only=tuple(sorted(keys)))


def pick(
    image: LockedImage, wanted: Platforms, table: PlatformTable = BUILTIN, *, exact: bool = False
) -> LockedPlatform | None:
    """Select the build for a request from a record, as from the index."""
    entries = by_entry(image)
    platforms = [one.platform for one in entries]
    exact = exact or narrow(image, wanted.platforms)
    found = select(platforms, wanted.platforms, exact=exact, local=wanted.local, table=table)
    return entries[found.index] if found.index is not None else None


def narrow(image: LockedImage, wanted: Sequence[Platform]) -> bool:
    """Whether a restricted record must not satisfy a request with a fallback."""
    if not image.only:
        return False
    return not {str(platform.normalized()) for platform in wanted} & set(image.only)


def by_entry(image: LockedImage) -> tuple[LockedPlatform, ...]:
    """Return the platforms of a record in the order of the index."""
    return tuple(sorted(image.platforms, key=lambda one: one.entry))


_OTHER = re.compile(r"[^a-z0-9]+")
_LETTER = re.compile(r"[a-z]")
#: The name of Docker Hub in Docker's tools and those based on them.
#: Source: go-containerregistry, pkg/name/registry.go, `DefaultRegistry`.
_HUB_HOST = "index.docker.io"


@dataclass(frozen=True, slots=True)
class ExportedLockEntry:
    """One image to export for another tool.

    Attributes:
        name: short and unique: lower-case letters, digits and `_`.
        platforms: `os/arch[/variant]` as in the index; empty if `digest` is an image.
        services: names of its services in a compose file.
    """

    name: str
    written: str
    reference: Reference
    digest: Digest
    platforms: tuple[str, ...]
    services: tuple[str, ...] = ()

    @property
    def pinned(self) -> str:
        """Registry, repository and digest."""
        return f"{self.reference.identity}@{self.digest}"

    @property
    def hub_pinned(self) -> str:
        """The same, with Go tools' name for Docker Hub."""
        return f"{self.hub_identity}@{self.digest}"

    @property
    def hub_identity(self) -> str:
        """Registry and repository, with Go tools' name for Docker Hub."""
        host = _HUB_HOST if self.reference.registry == HUB else self.reference.registry
        return f"{host}/{self.reference.repository}"

    @property
    def tag(self) -> str:
        """The tag of the reference; empty if it has only a digest."""
        if self.reference.tag is None and self.reference.digest is not None:
            return ""
        return self.reference.tag or DEFAULT_TAG

    @property
    def bare_written(self) -> str:
        """The name as written, without tag and digest."""
        name = self.written.partition("@")[0]
        head, slash, last = name.rpartition("/")
        return head + slash + last.partition(":")[0]


def entries_of(
    lock: Lock,
    wanted: Platforms | None = None,
    services: Mapping[str, Sequence[str]] | None = None,
    table: PlatformTable = BUILTIN,
) -> tuple[tuple[ExportedLockEntry, ...], tuple[LockedImage, ...]]:
    """Return an entry for each image, and the images not locked for the requested platform.

    `wanted`: export the image for this platform instead of the index. `services`: services of a
    compose file by canonical reference.
    """
    chosen: list[tuple[LockedImage, Digest, tuple[str, ...]]] = []
    missing = []
    for image in lock.images:
        if wanted is None:
            platforms = [one.platform.format() for one in by_entry(image)]
            kept = tuple(dict.fromkeys(platforms)) if image.is_index else ()
            chosen.append((image, image.digest, kept))
            continue
        one = pick(image, wanted, table)
        if one is None:
            missing.append(image)
        else:
            chosen.append((image, one.digest, ()))
    references = [Reference.parse(image.reference) for image, _, _ in chosen]
    names = short_names(references)
    known = services or {}
    entries = tuple(
        ExportedLockEntry(
            names[at], image.written, references[at], digest, platforms,
            tuple(known.get(image.reference, ())),
        )
        for at, (image, digest, platforms) in enumerate(chosen)
    )  # fmt: skip
    return entries, tuple(missing)


def short_names(references: Sequence[Reference]) -> list[str]:
    """Return unique names: the last component, with the tag, all of it, or with a number."""
    forms = [_forms(reference) for reference in references]
    counts = [Counter(level) for level in zip(*forms, strict=True)]
    names: list[str] = []
    taken: set[str] = set()
    for own in forms:
        free = (name for count, name in zip(counts, own, strict=True) if count[name] == 1)
        name = next(free, own[-1])
        numbered = (f"{name}_{number}" for number in range(2, len(forms) + 2))
        name = next(candidate for candidate in (name, *numbered) if candidate not in taken)
        taken.add(name)
        names.append(name)
    return names


def _forms(reference: Reference) -> tuple[str, ...]:
    last = reference.repository.rpartition("/")[2]
    tag = reference.tag or (str(reference.digest.hex[:12]) if reference.digest else DEFAULT_TAG)
    return tuple(_word(text) for text in (last, f"{last}_{tag}", str(reference)))


def _word(text: str) -> str:
    word = _OTHER.sub("_", text.lower()).strip("_")
    return word if _LETTER.match(word) else f"image_{word}"
