"""Plans: what an image needs, what of it is held, and so what is left to fetch.

Pure: whoever asks for a plan has already asked every place what it holds. A dry run is a plan
that nobody carries out, and a pull carries out the very plan that a dry run would show.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal

from resolver.errors import Negative, SizeMismatch
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolver.core.oci.attached import AttachedKind, LeftOut
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Warned

Role = Literal["layer", "config", "manifest", "index"]

#: Children before parents.
_ORDER: dict[Role, int] = {"layer": 0, "config": 1, "manifest": 2, "index": 3}

#: Bytes fetched by one request; what is longer is fetched in several at once.
#: Source: architecture.md section 5, point 5 (measured).
RANGE_SIZE = 16 * 1024 * 1024


class ContentState(Enum):
    """How much of a piece is held."""

    HELD = "held"
    PARTIAL = "partial"
    MISSING = "missing"
    #: Its publisher does not let registries hold it, and nobody asked to fetch it elsewhere.
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Location:
    """What one place has of a piece.

    Attributes:
        place: empty for the store itself.
        have: bytes of an unfinished transfer; None when all of it is held.

    """

    place: str = ""
    have: int | None = None


@dataclass(frozen=True, slots=True)
class ImageContent:
    """One thing that an image is made of."""

    descriptor: Descriptor
    role: Role


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing to be held in the end, and how far that is so.

    Attributes:
        place: who holds it; "" for the store, None where nobody does.
        have: bytes that need not be fetched.

    """

    descriptor: Descriptor
    role: Role
    state: ContentState
    place: str | None
    have: int

    @property
    def missing(self) -> int:
        """Bytes to fetch."""
        if self.state in {ContentState.HELD, ContentState.FOREIGN}:
            return 0
        return self.descriptor.size - self.have


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One image for one platform, or something attached to it, with everything below it.

    Attributes:
        reference: canonical text of what was asked.
        pinned: the manifest as `registry/repository@digest`.
        root: what the reference points at: the index, or the manifest itself.
        platform: as the index or the config writes it; None for content that is no image.
        contents: children before parents, each digest once; embedded and empty ones too.
        up_to_date: whether the store's own name for `reference` already was this image.
        warnings: what a person should know, and that changes no answer.
        layers: bottom first, as the manifest lists them; one may be there twice.
        kind: `image`, or what is attached: `attestation`, `artifact` or `referrer`.
        about: of something attached, the digest of what it refers to.
        tag: of a referrer that its repository keeps under a tag of its own.

    """

    reference: str
    pinned: str
    root: Descriptor
    manifest: Descriptor
    platform: Platform | None
    contents: tuple[ImageContent, ...]
    up_to_date: bool
    warnings: tuple[Warned, ...]
    layers: tuple[Descriptor, ...] = ()
    kind: AttachedKind = "image"
    about: Digest | None = None
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Selected:
    """What one reference means for the platforms that were asked for.

    Attributes:
        images: each manifest once.
        attached: attestations and artifacts of the index, and referrers, that come along.
        left_out: the other entries of the index, in its order.

    """

    images: tuple[PlannedImage, ...]
    attached: tuple[PlannedImage, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is needed for some images, each piece once, children before parents.

    `pieces` is in the order in which content becomes part of the store, so that stopping part-way
    never leaves a parent that somebody could mistake for a complete image. `attached` and
    `left_out` are as in `Selected`.
    """

    images: tuple[PlannedImage, ...]
    pieces: tuple[Piece, ...]
    attached: tuple[PlannedImage, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def entries(self) -> tuple[PlannedImage, ...]:
        """The images, and what is attached to them."""
        return (*self.images, *self.attached)

    @property
    def bytes_total(self) -> int:
        """Bytes of all pieces; foreign ones are not counted."""
        return sum(
            each.descriptor.size for each in self.pieces if each.state is not ContentState.FOREIGN
        )

    @property
    def bytes_held(self) -> int:
        """Bytes that are here, or at a place that was named; parts of pieces included."""
        return self.bytes_total - self.bytes_missing

    @property
    def bytes_missing(self) -> int:
        """Bytes to fetch."""
        return sum(piece.missing for piece in self.pieces)

    @property
    def missing(self) -> tuple[Piece, ...]:
        """The pieces that are to be fetched, whole or in part."""
        wanted = {ContentState.MISSING, ContentState.PARTIAL}
        return tuple(piece for piece in self.pieces if piece.state in wanted)

    @property
    def foreign(self) -> tuple[Piece, ...]:
        """The pieces that are left out."""
        return tuple(piece for piece in self.pieces if piece.state is ContentState.FOREIGN)

    @property
    def requests(self) -> int:
        """Requests that fetching costs when nothing goes wrong; what is embedded costs none."""
        return sum(
            max(1, -(-piece.missing // RANGE_SIZE))
            for piece in self.missing
            if piece.descriptor.data is None
        )

    @property
    def saved(self) -> int:
        """Bytes that the images share, and that are therefore held once instead of many times."""
        images = {(image.reference, image.manifest.digest): image for image in self.entries}
        alone = sum(
            content.descriptor.size
            for image in images.values()
            for content in image.contents
            # What is attached to an image has its index.
            if image.kind == "image" or content.role != "index"
        )
        # Artifacts without an image are below an index that no image counts.
        return max(0, alone - sum(piece.descriptor.size for piece in self.pieces))

    def pieces_of(self, image: PlannedImage) -> tuple[Piece, ...]:
        """Give the pieces of one image, children before parents."""
        wanted = {content.descriptor.digest for content in image.contents}
        return tuple(piece for piece in self.pieces if piece.descriptor.digest in wanted)


def plan_pieces(
    images: Sequence[PlannedImage],
    held: Mapping[Digest, Location],
    *,
    foreign: bool = False,
    attached: Sequence[PlannedImage] = (),
    left_out: Sequence[LeftOut] = (),
) -> Plan:
    """Split what images are made of into what is held and what is missing.

    Every piece is looked up by itself; holding a manifest is no evidence of holding its layers,
    because an interrupted pull may leave the one without the other.

    Args:
        images: what is wanted. A digest that several of them need is moved once.
        held: digest to what the best place has of it; absent means missing.
        foreign: fetch also what its publisher does not let registries hold (R24).
        attached: what comes along with the images.
        left_out: entries that are not wanted, to be reported.

    Raises:
        SizeMismatch: two documents state two sizes of one digest (R9).

    Source:
        OCI image-spec v1.1.1, manifest.md, for layers and config; sizes are the descriptors'
        own `size`, in bytes, and nothing is measured here.
    """
    first: dict[Digest, ImageContent] = {}
    entries = (*images, *attached)
    for image in entries:
        for content in image.contents:
            digest, size = content.descriptor.digest, content.descriptor.size
            known = first.setdefault(digest, content).descriptor.size
            if known != size:
                raise SizeMismatch(f"`{digest}`, as two documents state it,", known, size)
    heights = _heights([image.contents for image in entries])
    ordered = sorted(
        first.values(), key=lambda each: (_ORDER[each.role], heights[each.descriptor.digest])
    )
    pieces = tuple(_piece(each, held, foreign=foreign) for each in ordered)
    return Plan(tuple(images), pieces, tuple(attached), tuple(left_out))


def is_foreign(descriptor: Descriptor) -> bool:
    """Whether a layer is kept elsewhere than in registries (protocol.md 7.4).

    Source: OCI image-spec v1.1.1, layer.md, "Non-distributable layers"; the Docker type is that
    of Windows base layers. `urls` on any other type are only further places.
    """
    return bool(descriptor.urls) and (
        ".foreign." in descriptor.media_type or ".nondistributable." in descriptor.media_type
    )


def _piece(content: ImageContent, held: Mapping[Digest, Location], *, foreign: bool) -> Piece:
    descriptor = content.descriptor
    found = held.get(descriptor.digest)
    if found is not None and found.have is None:
        return Piece(descriptor, content.role, ContentState.HELD, found.place, descriptor.size)
    if is_foreign(descriptor) and not foreign:
        return Piece(descriptor, content.role, ContentState.FOREIGN, None, 0)
    # An empty blob has no bytes to have, and is missing all the same.
    if found is None or not found.have:
        return Piece(descriptor, content.role, ContentState.MISSING, None, 0)
    have = min(found.have, descriptor.size)
    return Piece(descriptor, content.role, ContentState.PARTIAL, found.place, have)


def _heights(images: Sequence[tuple[ImageContent, ...]]) -> dict[Digest, int]:
    """Say how many documents are below each one; indexes inside indexes come out inside first."""
    chains = [
        [each.descriptor.digest for each in contents if each.role == "index"] for contents in images
    ]
    heights: dict[Digest, int] = {}
    # Each round lifts whoever is above something that was lifted; nothing has more below it than
    # there are indexes.
    for _ in {digest for chain in chains for digest in chain}:
        for chain in chains:
            below = -1
            for digest in chain:
                below = max(heights.get(digest, 0), below + 1)
                heights[digest] = below
    for contents in images:
        for each in contents:
            heights.setdefault(each.descriptor.digest, 0)
    return heights


def over_limit(missing: int, limit: int | None) -> Negative | None:
    """Return the refusal of a plan that fetches more bytes than allowed; None if it fits."""
    if limit is None or missing <= limit:
        return None
    return Negative(
        f"{missing} bytes are to be fetched, and {limit} are allowed",
        "see what they are with `resolver plan`, or allow more with `--max-download`",
        code="plan-too-large",
        missing=missing,
        limit=limit,
    )
