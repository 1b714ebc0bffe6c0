"""Images of the catalogue: img-a:1, img-a:2 that shares two layers with it, and a small one."""

from __future__ import annotations

import functools
import random
from typing import TYPE_CHECKING

from tests.kit.images import Image, build_image, build_index, build_layer

if TYPE_CHECKING:
    from collections.abc import Iterable

AMD64 = "linux/amd64"
KIB, MIB = 1 << 10, 1 << 20


@functools.cache
def layer(size: int, seed: int) -> bytes:
    """Make a layer of this many incompressible bytes."""
    return build_layer({f"data/{seed}": random.Random(seed).randbytes(size)})


@functools.cache
def layers() -> tuple[bytes, bytes, bytes]:
    """L1 of 8 KiB, L2 of 2 MiB, L3 of 64 KiB."""
    return layer(8 * KIB, 1), layer(2 * MIB, 2), layer(64 * KIB, 3)


@functools.cache
def img_a() -> Image:
    """img-a:1."""
    first = build_image(AMD64, layers())
    return build_index(
        [first, build_image("linux/arm64/v8", [layers()[0], layer(2 * MIB, 4), layer(64 * KIB, 5)])]
    )


@functools.cache
def img_a2() -> Image:
    """img-a:2, which shares L1 and L2."""
    return build_index([build_image(AMD64, [*layers()[:2], layer(32 * KIB, 6)])])


@functools.cache
def small(number: int = 0) -> Image:
    """Make an index of one image with one layer of 3 KiB."""
    return build_index([build_image(AMD64, [layer(3 * KIB, 100 + number)])])


def digest_of(image: Image, blob: bytes) -> str:
    """Return the digest of a layer."""
    return next(digest for digest, body in image.blobs.items() if body == blob)


def needed(image: Image, platforms: Iterable[str] = (AMD64,)) -> dict[str, int]:
    """Return what a pull of these platforms fetches: digests and sizes."""
    wanted = [image.child(each) for each in platforms] if image.children else [image]
    found = {image.digest: len(image.body)}
    for child in wanted:
        found |= {digest: len(body) for digest, (_, body) in child.documents.items()}
        found |= {digest: len(body) for digest, body in child.blobs.items()}
    return found
