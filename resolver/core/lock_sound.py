"""Soundness of locks: what one states in two ways that cannot both be true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.reference import Reference
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.digest import Digest
    from resolver.core.lock import Lock


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A fact that something else in the same lock speaks against.

    Attributes:
        field: path to the fact, as in the file.
        reason: what speaks against it, as the end of a sentence.
    """

    field: str
    reason: str


def contradiction(lock: Lock) -> Contradiction | None:
    """Find the first one: a reference by digest that leads to another, or two sizes of a digest.

    A digest stands for the same bytes wherever it stands, so it has one size.
    """
    sizes: dict[Digest, tuple[int, str]] = {}
    for image in lock.images:
        own = Reference.parse(image.reference).digest
        if own is not None and own != image.digest:
            field = f"images.{image.reference}.digest"
            return Contradiction(field, "the reference that it stands under has another digest")
    for field, digest, size in _sizes(lock):
        known, where = sizes.setdefault(digest, (size, field))
        if known != size:
            return Contradiction(field, f"`{where}` says {known} for the same digest")
    return None


def _sizes(lock: Lock) -> Iterator[tuple[str, Digest, int]]:
    for image in lock.images:
        path = f"images.{image.reference}"
        if image.size is not None:
            yield f"{path}.size", image.digest, image.size
        for one in image.platforms:
            if one.size is not None:
                yield f"{path}.platforms.{one.key}.size", one.digest, one.size
