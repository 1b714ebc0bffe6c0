"""Entries: what a lock says of its images, in the words that other tools have for it."""

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
    """One wish.

    Attributes:
        platforms: acceptable ones, best first; at least one.
        local: they are this machine's, with the level of its processor; see `select`.
    """

    platforms: tuple[Platform, ...]
    local: bool = False

    def __str__(self) -> str:
        """Name the platforms, for messages."""
        return " or ".join(str(platform) for platform in self.platforms)


def record(found: ImageDocuments, written: str) -> tuple[LockedImage, tuple[Warned, ...]]:
    """Note what a name means, each platform once: of duplicates the first, as `select` takes it."""
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
            message = f"`{found.reference}` lists `{one.key}` more than once; the first is taken"
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
    """Keep what some platforms mean, and remember that the others were left out.

    This machine is remembered as the platform that was taken for it, so that a lock does not depend
    on the processor of the machine that wrote it.

    Raises:
        PlatformNotOffered: one of them is not offered.

    """
    kept: dict[str, LockedPlatform] = {}
    keys = set()
    for wanted in only:
        one = pick(image, wanted, table)
        if one is None:
            offered = [str(each.platform) for each in by_entry(image)]
            raise PlatformNotOffered(image.reference, str(wanted), offered)
        kept[one.key] = one
        keys.add(str((one.platform if wanted.local else wanted.platforms[0]).normalized()))
    platforms = tuple(kept[key] for key in sorted(kept))
    return replace(image, platforms=platforms, only=tuple(sorted(keys)))


def pick(
    image: LockedImage, wanted: Platforms, table: PlatformTable = BUILTIN, *, exact: bool = False
) -> LockedPlatform | None:
    """Find the build that a wish means in a record, as it would be found in the index."""
    entries = by_entry(image)
    platforms = [one.platform for one in entries]
    exact = exact or narrow(image, wanted.platforms)
    found = select(platforms, wanted.platforms, exact=exact, local=wanted.local, table=table)
    return entries[found.index] if found.index is not None else None


def narrow(image: LockedImage, wanted: Sequence[Platform]) -> bool:
    """Whether a record must not answer a wish with a fallback.

    In a restricted record, what else the image offers is not known; a fallback there counts only
    for a platform that it was restricted to.
    """
    if not image.only:
        return False
    return not {str(platform.normalized()) for platform in wanted} & set(image.only)


def by_entry(image: LockedImage) -> tuple[LockedPlatform, ...]:
    """Return the platforms of a record in the order of the index."""
    return tuple(sorted(image.platforms, key=lambda one: one.entry))


_OTHER = re.compile(r"[^a-z0-9]+")
_LETTER = re.compile(r"[a-z]")
#: What Docker's own tools, and those built upon them, call Docker Hub.
#: Source: go-containerregistry, pkg/name/registry.go, `DefaultRegistry`.
_HUB_HOST = "index.docker.io"


@dataclass(frozen=True, slots=True)
class ExportedLockEntry:
    """One image to be written down for another tool.

    Attributes:
        name: short, lower case, letters, digits and `_`; of no other entry.
        written: the reference as it stands in somebody's files.
        digest: of the index, or of the one platform that was asked for.
        platforms: `os/arch[/variant]` as the index writes them; empty where `digest` is an image.
        services: names under which a compose file has it.
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
        """The same, with the name that Go tools have for Docker Hub."""
        return f"{self.hub_identity}@{self.digest}"

    @property
    def hub_identity(self) -> str:
        """Registry and repository, with the name that Go tools have for Docker Hub."""
        host = _HUB_HOST if self.reference.registry == HUB else self.reference.registry
        return f"{host}/{self.reference.repository}"

    @property
    def tag(self) -> str:
        """The tag it was locked by; empty where it was locked by digest alone."""
        if self.reference.tag is None and self.reference.digest is not None:
            return ""
        return self.reference.tag or DEFAULT_TAG

    @property
    def bare_written(self) -> str:
        """The name as it was written, without tag and digest."""
        name = self.written.partition("@")[0]
        head, slash, last = name.rpartition("/")
        return head + slash + last.partition(":")[0]


def entries_of(
    lock: Lock,
    wanted: Platforms | None = None,
    services: Mapping[str, Sequence[str]] | None = None,
    table: PlatformTable = BUILTIN,
) -> tuple[tuple[ExportedLockEntry, ...], tuple[LockedImage, ...]]:
    """Return an entry for each image, and the images that were not locked for a platform.

    Args:
        lock: everything in it.
        wanted: write down the image for this platform instead of the index.
        services: canonical references to the services of a compose file.
        table: to choose by.

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
    """Name each reference by as little as tells it from the others.

    The last part of its repository; if others have that too, with its tag; then all of it. What
    is the same even then is numbered.
    """
    forms = [_forms(reference) for reference in references]
    counts = [Counter(level) for level in zip(*forms, strict=True)]
    names: list[str] = []
    taken: set[str] = set()
    for own in forms:
        free = (name for count, name in zip(counts, own, strict=True) if count[name] == 1)
        name = next(free, own[-1])
        numbered = (f"{name}_{number}" for number in range(2, len(forms) + 2))
        name = next(each for each in (name, *numbered) if each not in taken)
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
