"""Results of `pull`, and the records of pulled references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.manifest import Attached, LeftOut
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Warned
    from resolver.core.results.plan import Piece, PlannedImage
    from resolver.core.results.resolve import Failure


@dataclass(frozen=True, slots=True)
class PulledOne:
    """One image, or attached content, complete in the store; `skipped` are foreign layers."""

    image: PlannedImage
    status: str
    skipped: tuple[Piece, ...]
    warnings: tuple[Warned, ...]


@dataclass(frozen=True, slots=True)
class Pulled:
    """The result of a pull; sizes in bytes.

    `failures`: one per reference that is incomplete and so has no record in the store. `fetched`:
    pieces from the network or another place, each once.
    """

    images: tuple[PulledOne, ...]
    failures: tuple[Failure, ...]
    fetched: tuple[Piece, ...]
    reused: tuple[Piece, ...]
    attached: tuple[PulledOne, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def entries(self) -> tuple[PulledOne, ...]:
        """The images, and the content attached to them."""
        return (*self.images, *self.attached)

    @property
    def bytes_fetched(self) -> int:
        """Bytes fetched by this run."""
        return sum(piece.descriptor.size - piece.have for piece in self.fetched)


@dataclass(frozen=True, slots=True)
class PulledImage:
    """One complete image; its platform is None if neither index nor config states one."""

    platform: Platform | None
    manifest: Descriptor


@dataclass(frozen=True, slots=True)
class PulledName:
    """A reference and what was pulled for it.

    Attributes:
        root: the index or manifest that the reference pointed at.
        images: below `root`, or `root` itself; sorted by platform, each manifest once.
        pulled_at: time of the last pull, in seconds since 1970.
        attached: content pulled with them; sorted by digest, each manifest once.
        expires: when `gc` may remove the name, in seconds since 1970; 0 for never.
    """

    reference: str
    root: Descriptor
    images: tuple[PulledImage, ...]
    pulled_at: int = 0
    attached: tuple[Attached, ...] = ()
    expires: int = 0
