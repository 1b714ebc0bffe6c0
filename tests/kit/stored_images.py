"""Images in a store, as a pull leaves them, and the blobs of a store."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.platforms.platform import Platform
from resolver.core.results.pull import PulledImage, PulledName
from tests.kit.images import build_image, build_layer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from resolver.store import LocalStore
    from tests.kit.images import Image

HOUR = 3600.0

#: Two images that share a layer.
BASE = build_layer({"base": b"b" * 5000})
ONE = build_image("linux/amd64", [BASE, build_layer({"one": b"1" * 3000})])
TWO = build_image("linux/amd64", [BASE, build_layer({"two": b"2" * 3000})])


def blob_of(body: bytes) -> Descriptor:
    """Return a descriptor for arbitrary bytes."""
    return Descriptor("application/octet-stream", Digest.of(body), len(body))


def put(store: LocalStore, body: bytes) -> Digest:
    """Store arbitrary bytes and return their digest."""
    store.add(blob_of(body), [body])
    return Digest.of(body)


def images_of(image: Image, platforms: Iterable[str] | None = None) -> list[Image]:
    """Return the images that a pull of these platforms selects; None selects all."""
    if not image.children:
        return [image]
    wanted = None if platforms is None else set(platforms)
    return [
        child
        for child in image.children
        if not child.attestation_of and (wanted is None or child.platform in wanted)
    ]


def fill(store: LocalStore, image: Image, platforms: Iterable[str] | None = None) -> None:
    """Store the root of an image and the complete images of some platforms."""
    for child in images_of(image, platforms):
        for body in child.blobs.values():
            put(store, body)
        for digest, (media_type, body) in child.documents.items():
            described = Descriptor(media_type, Digest.parse(digest), len(body))
            store.add_document(Document(described, body))
    store.add_document(Document(image.descriptor, image.body))


def record_of(
    reference: str, image: Image, platforms: Iterable[str] | None = None, at: int = 0
) -> PulledName:
    """Return the record that a pull would write."""
    pulled = tuple(
        PulledImage(Platform.parse(child.platform) if child.platform else None, child.descriptor)
        for child in images_of(image, platforms)
    )
    return PulledName(reference, image.descriptor, pulled, at)


def pull(
    store: LocalStore,
    reference: str,
    image: Image,
    platforms: Iterable[str] | None = None,
    at: int = 0,
) -> PulledName:
    """Store and name an image as a pull does, without a registry."""
    fill(store, image, platforms)
    return store.name(record_of(reference, image, platforms, at))


def place(store: LocalStore, digest: Digest | str) -> Path:
    """Return the path of a blob."""
    algorithm, _, name = str(digest).partition(":")
    return store.root / "blobs" / algorithm / name


def held(store: LocalStore) -> set[str]:
    """Return the digests of all stored blobs."""
    return {f"sha256:{path.name}" for path in (store.root / "blobs" / "sha256").iterdir()}


def everything(image: Image, platforms: Iterable[str] | None = None) -> set[str]:
    """Return the digests that a pull of these platforms stores."""
    digests = {image.digest}
    for child in images_of(image, platforms):
        digests |= {child.digest, *child.documents, *child.blobs}
    return digests


def age(store: LocalStore, seconds: float = 2 * HOUR, only: Iterable[str] | None = None) -> None:
    """Make files of the store older by this many seconds; `only` selects digests."""
    then = time.time() - seconds
    wanted = None if only is None else {digest.partition(":")[2] for digest in only}
    for folder in ("blobs/sha256", "partial", "tmp", "leases"):
        for path in (store.root / folder).rglob("*"):
            if wanted is None or path.name in wanted:
                os.utime(path, (then, then), follow_symlinks=False)


def spoil(path: Path) -> None:
    """Change one bit of a stored file."""
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(body)
