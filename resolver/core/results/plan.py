"""Plans: the content of images, which of it is held, and what is left to fetch.

Pure: the caller has already looked up what each place holds. A pull executes the same plan that a
dry run shows.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal

from resolver.errors import Negative, SizeMismatch, size_pair
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from resolver.core.layers.chunked import ChunkRun
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.manifest import AttachedKind, LeftOut
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Warned
    from resolver.core.results.resolve import Failure

Role = Literal["layer", "config", "manifest", "index"]
#: When layers are rebuilt from chunks: if that is faster; if that is fewer bytes; not at all.
ChunkMode = Literal["auto", "always", "never"]
#: The place of pieces that are in the tier of the session.
TIER = "tier"

#: Children before parents.
_ORDER: dict[Role, int] = {"layer": 0, "config": 1, "manifest": 2, "index": 3}

#: Least and most bytes of a range; larger blobs are fetched with several requests in parallel.
#: Source: docs/wire-protocol.md, "Parallel ranges" (measured).
LEAST_RANGE, RANGE_SIZE = 8 * 1024 * 1024, 48 * 1024 * 1024
#: Ranges fetched at the same time.
CONNECTIONS = 8


#: From the first byte to just behind the last one.
Span = tuple[int, int]


def range_length(missing: int, connections: int = CONNECTIONS, most: int = RANGE_SIZE) -> int:
    """Return the most bytes of a range: a blob is one for each connection, within the limits."""
    return min(most, max(-(-missing // connections), LEAST_RANGE))


def range_count(missing: int) -> int:
    """Count the requests for a blob far away: a short range first, then the rest in parallel."""
    if missing <= LEAST_RANGE:
        return 1
    rest = missing - -(-missing // -(-missing // LEAST_RANGE))
    return 1 + -(-rest // range_length(rest))


def gaps(size: int, have: Iterable[Span]) -> list[Span]:
    """List what is missing of `size` bytes, in order; `have` may overlap and be in any order."""
    missing: list[Span] = []
    reached = 0
    for start, end in sorted([*have, (size, size)]):
        upto = min(start, size)
        if reached < upto:
            missing.append((reached, upto))
        reached = max(reached, end)
    return missing


def cut(missing: Iterable[Span], longest: int) -> list[Span]:
    """Cut stretches into pieces of at most `longest` bytes, of about equal length.

    Equal, so that a last piece of a few bytes does not cost a round trip of its own.
    """
    pieces: list[Span] = []
    for start, end in missing:
        count = -(-(end - start) // longest)
        length = -(-(end - start) // count)
        pieces.extend((at, min(at + length, end)) for at in range(start, end, length))
    return pieces


class ContentState(Enum):
    """Whether a piece is held, in part or in full."""

    HELD = "held"
    PARTIAL = "partial"
    MISSING = "missing"
    #: Registries may not distribute it, and fetching it from elsewhere was not requested.
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Location:
    """How much of a piece one place holds, "" for the store; `have` is None if complete."""

    place: str = ""
    have: int | None = None


@dataclass(frozen=True, slots=True)
class ImageContent:
    """One document or blob of an image."""

    descriptor: Descriptor
    role: Role


@dataclass(frozen=True, slots=True)
class ChunkReuse:
    """How a missing layer is rebuilt from the chunks of held layers; sizes in bytes.

    Attributes:
        sources: the held layers.
        copied: consecutive bytes that a held layer has, in order; none if nothing can be reused.
        end: the last bytes of the layer, which planning has fetched.
        fetched: the ranges to request, in order.
        gap: held bytes between two ranges that are fetched along if they are fewer.
        toc_bytes: what planning has fetched to make this.
        toc_requests: the requests for that; 0 if an earlier plan sent them.
        index: the chunk index of the rebuilt layer.
        places: the place of each source; empty for the store.
    """

    sources: tuple[Descriptor, ...]
    copied: tuple[ChunkRun, ...]
    end: bytes
    fetched: tuple[Span, ...]
    gap: int
    toc_bytes: int
    toc_requests: int
    index: bytes = b""
    places: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """Bytes to fetch, those that planning has fetched included."""
        return self.toc_bytes + sum(end - start for start, end in self.fetched)

    @property
    def requests(self) -> int:
        """Requests for them."""
        return self.toc_requests + len(self.fetched)


@dataclass(frozen=True, slots=True)
class Piece:
    """One document or blob of a plan; `place` is "" for the store and None for nowhere."""

    descriptor: Descriptor
    role: Role
    state: ContentState
    place: str | None
    have: int
    reuse: ChunkReuse | None = None

    @property
    def missing(self) -> int:
        """Bytes to fetch."""
        if self.state in {ContentState.HELD, ContentState.FOREIGN}:
            return 0
        return self.reuse.missing if self.reuse is not None else self.descriptor.size - self.have

    @property
    def requests(self) -> int:
        """Requests needed, about; exact where chunks are copied. Embedded content needs none."""
        if self.rebuilt is not None:
            return self.rebuilt.requests
        if self.reuse is not None:
            return self.reuse.toc_requests + range_count(self.missing - self.reuse.toc_bytes)
        return range_count(self.missing) if self.descriptor.data is None else 0

    @property
    def rebuilt(self) -> ChunkReuse | None:
        """How the layer is rebuilt, if chunks are copied."""
        return self.reuse if self.reuse is not None and self.reuse.copied else None


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One image for one platform, or content attached to it, with everything below it.

    Attributes:
        pinned: the manifest as `registry/repository@digest`.
        root: what the reference points at: the index, or the manifest itself.
        platform: as written in the index or the config; None for content that is not an image.
        contents: children before parents, each digest once; includes embedded and empty ones.
        up_to_date: whether the store's record of `reference` already was this image.
        layers: bottom first, as in the manifest; may contain duplicates.
        kind: `image`, `attestation`, `artifact` or `referrer`.
        about: of attached content, the digest of what it refers to.
        tag: of a referrer that has a tag of its own in the repository.
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
    """The content of one reference for the requested platforms.

    `left_out`: the other entries of the index, in its order.
    """

    images: tuple[PlannedImage, ...]
    attached: tuple[PlannedImage, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineNeeds:
    """What a container engine would fetch of the images of a plan, by what it lists as its own.

    Attributes:
        engine: `docker`, `podman` or `containerd`.
        pieces: all that it would be given: of one platform for Docker and podman.
        lacking: what it would fetch of that.
    """

    engine: str
    pieces: frozenset[Digest]
    lacking: frozenset[Digest]


@dataclass(frozen=True, slots=True)
class Plan:
    """The content of some images, each piece once, children before parents.

    `pieces` is in the order of storing, so an interrupted pull never leaves a parent that looks
    like a complete image. `attached` and `left_out` are as in `Selected`; `failures` are the
    references that cannot be planned, among several. `engine` is set if the images are to be
    handed over to one.
    """

    images: tuple[PlannedImage, ...]
    pieces: tuple[Piece, ...]
    attached: tuple[PlannedImage, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    failures: tuple[Failure, ...] = ()
    engine: EngineNeeds | None = None

    @property
    def entries(self) -> tuple[PlannedImage, ...]:
        """The images, and the content attached to them."""
        return (*self.images, *self.attached)

    @property
    def bytes_total(self) -> int:
        """Bytes of all pieces except foreign ones."""
        return sum(
            piece.descriptor.size
            for piece in self.pieces
            if piece.state is not ContentState.FOREIGN
        )

    @property
    def bytes_held(self) -> int:
        """Bytes held in the store or another place, including those of partial pieces."""
        return self.bytes_total - self.bytes_missing

    @property
    def bytes_missing(self) -> int:
        """Bytes to fetch."""
        return sum(piece.missing for piece in self.pieces)

    @property
    def missing(self) -> tuple[Piece, ...]:
        """The pieces to fetch, whole or in part."""
        wanted = {ContentState.MISSING, ContentState.PARTIAL}
        return tuple(piece for piece in self.pieces if piece.state in wanted)

    @property
    def foreign(self) -> tuple[Piece, ...]:
        """The foreign pieces, which are skipped."""
        return tuple(piece for piece in self.pieces if piece.state is ContentState.FOREIGN)

    @property
    def requests(self) -> int:
        """Requests needed, about; embedded content needs none."""
        return sum(piece.requests for piece in self.missing)

    @property
    def saved(self) -> int:
        """Bytes that the images share, and that are held only once."""
        images = {(image.reference, image.manifest.digest): image for image in self.entries}
        alone = sum(
            content.descriptor.size
            for image in images.values()
            for content in image.contents
            # The index of attached content is that of its image.
            if image.kind == "image" or content.role != "index"
        )
        # Artifacts without an image are below an index that is not counted above.
        return max(0, alone - sum(piece.descriptor.size for piece in self.pieces))

    def pieces_of(self, image: PlannedImage) -> tuple[Piece, ...]:
        """Return the pieces of one image, children before parents."""
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
    """Split the content of images into held and missing pieces.

    Every piece is looked up by itself: after an interrupted pull, a manifest may be held without
    its layers.

    `held`: the best location per digest; absent means missing. `foreign`: include layers that
    registries may not distribute.

    Source:
        OCI image-spec v1.1.1, manifest.md, for layers and config; sizes are those of the
        descriptors, in bytes.
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
        first.values(),
        key=lambda content: (_ORDER[content.role], heights[content.descriptor.digest]),
    )
    pieces = tuple(_piece(content, held, foreign=foreign) for content in ordered)
    return Plan(tuple(images), pieces, tuple(attached), tuple(left_out))


def is_foreign(descriptor: Descriptor) -> bool:
    """Return whether a layer is distributed outside of registries.

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
    # An empty blob has no bytes to hold, and is still missing.
    if found is None or not found.have:
        return Piece(descriptor, content.role, ContentState.MISSING, None, 0)
    have = min(found.have, descriptor.size)
    return Piece(descriptor, content.role, ContentState.PARTIAL, found.place, have)


def _heights(images: Sequence[tuple[ImageContent, ...]]) -> dict[Digest, int]:
    """Return the height of each document, so that nested indexes sort before their parents."""
    chains = [
        [entry.descriptor.digest for entry in contents if entry.role == "index"]
        for contents in images
    ]
    heights: dict[Digest, int] = {}
    # Each round raises the parents of raised documents; no height exceeds the number of indexes.
    for _ in {digest for chain in chains for digest in chain}:
        before = dict(heights)
        for chain in chains:
            below = -1
            for digest in chain:
                below = max(heights.get(digest, 0), below + 1)
                heights[digest] = below
        if heights == before:
            break
    for contents in images:
        for content in contents:
            heights.setdefault(content.descriptor.digest, 0)
    return heights


def over_limit(missing: int, limit: int | None) -> Negative | None:
    """Return the refusal of a plan that fetches more bytes than allowed; None if it fits."""
    if limit is None or missing <= limit:
        return None
    return Negative(
        "{} must be fetched, but only {} are allowed".format(*size_pair(missing, limit)),
        "see what they are with `resolver plan`, or allow more with `--max-download`",
        code="plan-too-large",
        missing=missing,
        limit=limit,
    )
