"""What a pull came to: values, for people and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.oci.attached import Attached, LeftOut
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Warned
    from resolver.core.results.plan import Piece, PlannedImage
    from resolver.core.results.resolve import Failure


@dataclass(frozen=True, slots=True)
class PulledOne:
    """One image, or something attached to it, that is in the store now, whole and under its name.

    Attributes:
        status: `downloaded`, or `up-to-date` where nothing had to be done.
        skipped: layers that are left out because registries may not hold them.

    """

    image: PlannedImage
    status: str
    skipped: tuple[Piece, ...]
    warnings: tuple[Warned, ...]


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull came to; sizes in bytes.

    Attributes:
        images: that are complete, in the order of the plan.
        failures: one per reference that is not, and why; it has no name then.
        fetched: what was brought over the network or from a place; each piece once.
        reused: what was there.
        attached: attestations, artifacts and referrers that are complete.
        left_out: entries of the indexes that were not asked for.

    """

    images: tuple[PulledOne, ...]
    failures: tuple[Failure, ...]
    fetched: tuple[Piece, ...]
    reused: tuple[Piece, ...]
    attached: tuple[PulledOne, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def entries(self) -> tuple[PulledOne, ...]:
        """The images, and what is attached to them."""
        return (*self.images, *self.attached)

    @property
    def bytes_fetched(self) -> int:
        """Bytes of what was fetched; those of an earlier run not counted."""
        return sum(piece.descriptor.size - piece.have for piece in self.fetched)


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
