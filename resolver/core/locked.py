"""Recording: an image as it was gathered, as a lock keeps it; and which build of it is meant."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.events import Warned
from resolver.core.lock import LockedImage, LockedPlatform
from resolver.core.platform import BUILTIN, PlatformTable
from resolver.core.select import select
from resolver.errors import PlatformNotOffered
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.core.gathered import Gathered
    from resolver.core.platform import Platform


@dataclass(frozen=True, slots=True)
class Wanted:
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


def record(found: Gathered, written: str) -> tuple[LockedImage, tuple[Warned, ...]]:
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
    image: LockedImage, only: Iterable[Wanted], table: PlatformTable = BUILTIN
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
    image: LockedImage, wanted: Wanted, table: PlatformTable = BUILTIN, *, exact: bool = False
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
    """Give the platforms of a record in the order of the index."""
    return tuple(sorted(image.platforms, key=lambda one: one.entry))
