"""Images whose layers are made of chunks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import OCI_CONFIG, OCI_MANIFEST
from tests.kit.images import Image, from_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA = Path(__file__).parents[1] / "data" / "chunked"
FACTS = json.loads((DATA / "facts.json").read_text("utf-8"))
#: The formats of the data folder whose chunks can be used.
FORMATS = ("zstd-chunked", "estargz", "estargz-zstd")
_TYPES = {"zstd": "application/vnd.oci.image.layer.v1.tar+zstd"}
_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class ChunkedLayer:
    """A layer and the annotations of its descriptor."""

    body: bytes
    annotations: Mapping[str, str]
    media_type: str = _GZIP
    diff_id: str = "sha256:" + "1" * 64

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"


def real_layer(version: str, form: str) -> ChunkedLayer:
    """Return a layer of the data folder, such as `v1` and `estargz`."""
    facts = FACTS[f"{version}.{form}"]
    media_type = _TYPES["zstd"] if "zstd" in form else _GZIP
    body = (DATA / f"{version}.{form}").read_bytes()
    return ChunkedLayer(body, facts["annotations"], media_type, facts["diff_id"])


def chunked_image(*layers: ChunkedLayer, platform: str = "linux/amd64") -> Image:
    """Make an image of these layers."""
    system, _, architecture = platform.partition("/")
    config = {
        "os": system,
        "architecture": architecture,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    packed = json.dumps(config).encode()
    blobs = {f"sha256:{hashlib.sha256(packed).hexdigest()}": packed}
    blobs |= {layer.digest: layer.body for layer in layers}
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": next(iter(blobs)), "size": len(packed)},
        "layers": [
            {
                "mediaType": layer.media_type,
                "digest": layer.digest,
                "size": len(layer.body),
                "annotations": dict(layer.annotations),
            }
            for layer in layers
        ],
    }
    return from_dict(manifest, blobs=blobs.values())
