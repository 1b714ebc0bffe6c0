"""What was pulled under a name; apart from `stored`, since every question about a name reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.attached import Attached
    from resolver.core.descriptor import Descriptor
    from resolver.core.platform import Platform


@dataclass(frozen=True, slots=True)
class PulledImage:
    """One image that was fetched whole, for one platform.

    Attributes:
        platform: as its index lists it, or as its config says; None where neither says.
        manifest: type, digest and size only.

    """

    platform: Platform | None
    manifest: Descriptor


@dataclass(frozen=True, slots=True)
class PulledName:
    """A reference and what was pulled under it.

    Attributes:
        reference: canonical.
        root: the index, or the one manifest, that the reference pointed at.
        images: below `root`, or `root` itself; sorted by platform, each manifest once.
        pulled_at: when the last of them came, in seconds since 1970.
        attached: what came with them; sorted by digest, each manifest once.

    """

    reference: str
    root: Descriptor
    images: tuple[PulledImage, ...]
    pulled_at: int = 0
    attached: tuple[Attached, ...] = ()
