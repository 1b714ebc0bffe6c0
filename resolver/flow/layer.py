"""Reading one layer: in a single pass, and believed only at its end (reliability.md R43)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from resolver.core.decompress import inflate
from resolver.core.digest import Digest, Verifier
from resolver.core.layer_listing import Listing, read_listing
from resolver.core.layer_types import START, decide
from resolver.core.tar_reader import DEFAULT_LIMITS, TarLimits
from resolver.core.tree_room import TreeRoom
from resolver.errors import BadDocument, ChecksumMismatch, UnsupportedDocument
from resolver.flow.kit import Stopped
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from typing import Protocol

    from resolver.core.descriptor import Descriptor

    class LayerContent(Protocol):
        """Where the bytes of layers come from: a store, a layout, an archive, or `Fetching`."""

        def open(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
            """Stream a layer; whoever reads it verifies."""
            ...


@dataclass(frozen=True, slots=True, eq=False)
class ReadLayer:
    """A layer that was read to its end and is what its descriptor says.

    Attributes:
        diff_ids: digests of the uncompressed bytes by algorithm; whoever has a config compares.
    """

    listing: Listing
    diff_ids: Mapping[str, Digest]


def read_layer(  # noqa: PLR0913 - each is one thing that a caller decides
    content: LayerContent,
    descriptor: Descriptor,
    what: str,
    wanted: Callable[[str], int],
    limits: TarLimits = DEFAULT_LIMITS,
    *,
    algorithms: Collection[str] = ("sha256",),
    is_wanted: Callable[[], bool] = lambda: True,
    room: TreeRoom | None = None,
) -> ReadLayer:
    """Read a layer from its first byte to its last.

    Args:
        content: has it.
        descriptor: what it must be.
        what: the layer, for messages.
        wanted: see `read_listing`.
        limits: of the archive.
        algorithms: of the diff_ids that are wanted.
        is_wanted: asked at every chunk; False ends it.
        room: what all layers and trees may take.

    Raises:
        DigestMismatch, SizeMismatch: other bytes came than the descriptor says.
        Untrusted: what is in it is damaged, goes past a limit, or is not read here.
        NotFound, Unavailable, StoreFault: it cannot be had.
        Stopped: nobody wants it any more.
    """
    verifier = Verifier(descriptor.digest, descriptor.size, what)
    with content.open(descriptor) as chunks:
        verified = _verified(chunks, verifier, is_wanted)
        try:
            hashers = {name: hashlib.new(name) for name in algorithms}
            listing = _read(
                verified, hashers, descriptor.media_type, what, wanted, limits, room or TreeRoom()
            )
        except (BadDocument, ChecksumMismatch, UnsupportedDocument):
            # Other bytes than were asked for are the better reason.
            for _ in verified:
                pass
            verifier.finish()
            raise
        for _ in verified:
            pass
    verifier.finish()
    return ReadLayer(
        listing, {name: Digest(name, hasher.hexdigest()) for name, hasher in hashers.items()}
    )


def _read(  # noqa: PLR0913, PLR0917 - as above
    chunks: Iterator[bytes],
    hashers: Mapping[str, hashlib._Hash],
    media_type: str,
    what: str,
    wanted: Callable[[str], int],
    limits: TarLimits,
    room: TreeRoom,
) -> Listing:
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= START:
            break
    compression, warning = decide(media_type, start, what)
    inflated = _hashed(inflate(chain((start,), chunks), compression, what), tuple(hashers.values()))
    listing = read_listing(inflated, what, wanted, limits, room)
    if warning:
        listing = replace(listing, warnings=(warning, *listing.warnings))
    return listing


def _verified(
    chunks: Iterable[bytes], verifier: Verifier, is_wanted: Callable[[], bool]
) -> Iterator[bytes]:
    for chunk in chunks:
        if not is_wanted():
            raise Stopped
        verifier.update(chunk)
        yield chunk


def _hashed(pieces: Iterable[bytes], hashers: Collection[hashlib._Hash]) -> Iterator[bytes]:
    for piece in pieces:
        for hasher in hashers:
            hasher.update(piece)
        yield piece
