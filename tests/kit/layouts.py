"""OCI image layouts on disk. Source: OCI image-spec v1.1.1, image-layout.md."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.kit.images import Image

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from resolver.demo.images import Sample


def image_of(sample: Sample) -> Image:
    """Convert a sample of the demo to an `Image`."""
    media_type, body = sample.documents[sample.root.digest]
    documents = {str(digest): held for digest, held in sample.documents.items()}
    blobs = {str(digest): blob for digest, blob in sample.blobs.items()}
    return Image(str(sample.root.digest), media_type, body, documents=documents, blobs=blobs)


def write_layout(folder: Path, images: Mapping[str, Image]) -> Path:
    """Write images as an OCI layout, each under its name."""
    named = []
    for name, image in images.items():
        for digest, (_, body) in image.documents.items():
            _write(folder, digest, body)
        for digest, blob in image.blobs.items():
            _write(folder, digest, blob)
        named.append(
            {
                "mediaType": image.media_type,
                "digest": image.digest,
                "size": image.size,
                "annotations": {"org.opencontainers.image.ref.name": name},
            }
        )
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": named}))
    (folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    return folder


def _write(folder: Path, digest: str, body: bytes) -> None:
    algorithm, _, digits = digest.partition(":")
    path = folder / "blobs" / algorithm / digits
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
