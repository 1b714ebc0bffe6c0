"""Images in a store, as a pull leaves them; and what of them is there."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.platforms.platform import Platform
from resolver.core.results.pull import PulledImage, PulledName

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from resolver.store import LocalStore
    from tests.fakes.images import Image

HOUR = 3600.0


def blob_of(body: bytes) -> Descriptor:
    """Describe bytes of no special kind."""
    return Descriptor("application/octet-stream", Digest.of(body), len(body))


def put(store: LocalStore, body: bytes) -> Digest:
    """Take in bytes of no special kind."""
    store.add(blob_of(body), [body])
    return Digest.of(body)


def images_of(image: Image, platforms: Iterable[str] | None = None) -> list[Image]:
    """Give the images that a pull of these platforms means; all of them if None."""
    if not image.children:
        return [image]
    wanted = None if platforms is None else set(platforms)
    return [
        child
        for child in image.children
        if not child.attestation_of and (wanted is None or child.platform in wanted)
    ]


def fill(store: LocalStore, image: Image, platforms: Iterable[str] | None = None) -> None:
    """Take in the content of an image: its root, and the images of some platforms whole."""
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
    """Make what a pull would note."""
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
    """Do what a pull does, without anybody to pull from."""
    fill(store, image, platforms)
    return store.name(record_of(reference, image, platforms, at))


def place(store: LocalStore, digest: Digest | str) -> Path:
    """Where a blob is."""
    algorithm, _, name = str(digest).partition(":")
    return store.root / "blobs" / algorithm / name


def held(store: LocalStore) -> set[str]:
    """List every blob."""
    return {f"sha256:{path.name}" for path in (store.root / "blobs" / "sha256").iterdir()}


def everything(image: Image, platforms: Iterable[str] | None = None) -> set[str]:
    """List the digests that a pull brings."""
    digests = {image.digest}
    for child in images_of(image, platforms):
        digests |= {child.digest, *child.documents, *child.blobs}
    return digests


def age(store: LocalStore, seconds: float = 2 * HOUR, only: Iterable[str] | None = None) -> None:
    """Let what is there be older than it is."""
    then = time.time() - seconds
    wanted = None if only is None else {digest.partition(":")[2] for digest in only}
    for folder in ("blobs/sha256", "partial", "tmp", "leases"):
        for path in (store.root / folder).rglob("*"):
            if wanted is None or path.name in wanted:
                os.utime(path, (then, then), follow_symlinks=False)
