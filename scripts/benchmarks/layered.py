"""Images with generated layers: an OCI layout of incompressible gzip."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_NAME = "org.opencontainers.image.ref.name"
_PIECE = 1 << 20
#: How tar files are padded. Source: POSIX.1-2017, pax, "ustar Interchange Format".
_BLOCK = 512
#: zlib's window bits for gzip, and its level for "store as it is". Source: zlib manual.
_GZIP, _STORED = 16 + zlib.MAX_WBITS, 0


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the layout; `content` is the digest of the tar file inside."""

    digest: str
    size: int
    content: str
    media_type: str = LAYER_TYPE
    annotations: Mapping[str, str] = field(default_factory=dict)


class Layout:
    """An OCI layout under construction."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs" / "sha256"
        self._index = folder / "index.json"
        self._named: list[dict[str, object]] = []
        self._blobs.mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', "utf-8")

    def layer(self, size: int) -> Layer:
        """Make a layer of about `size` bytes."""
        whole, content = hashlib.sha256(), hashlib.sha256()
        squeeze = zlib.compressobj(_STORED, wbits=_GZIP)
        new = self._blobs / "new"
        with new.open("wb") as file:
            for piece in _tar(size):
                content.update(piece)
                packed = squeeze.compress(piece)
                whole.update(packed)
                file.write(packed)
            rest = squeeze.flush()
            whole.update(rest)
            file.write(rest)
        length = new.stat().st_size
        new.rename(self._blobs / whole.hexdigest())
        return Layer(f"sha256:{whole.hexdigest()}", length, f"sha256:{content.hexdigest()}")

    def packed(self, blob: bytes, content: str) -> Layer:
        """Add an existing layer; `content` is the digest of the tar file inside."""
        digest = hashlib.sha256(blob).hexdigest()
        (self._blobs / digest).write_bytes(blob)
        return Layer(f"sha256:{digest}", len(blob), f"sha256:{content}")

    def image(self, tag: str, layers: Sequence[Layer], *, last: bool = True) -> None:
        """Make an index of an image with these layers for linux/amd64, and an alternative."""
        self.platforms(tag, dict.fromkeys(("amd64", "arm64"), layers), last=last)

    def platforms(
        self,
        tag: str,
        layers: Mapping[str, Sequence[Layer]],
        entrypoint: str = "",
        *,
        last: bool = True,
    ) -> None:
        """Make an index with one image, of separate layers, for each architecture.

        The layout names its images once the `last` one is there.
        """
        settings = {"config": {"Entrypoint": [entrypoint]}} if entrypoint else {}
        entries = [self._image(own, one, settings) for one, own in layers.items()]
        index = self._document(
            INDEX_TYPE, {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}
        )
        self._named.append({**index, "annotations": {_NAME: tag}})
        if last:
            whole = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": self._named}
            self._index.write_text(json.dumps(whole), "utf-8")

    def _image(
        self, layers: Iterable[Layer], architecture: str, settings: Mapping[str, object]
    ) -> dict[str, object]:
        platform = {"architecture": architecture, "os": "linux"}
        made = list(layers)
        rootfs = {"type": "layers", "diff_ids": [layer.content for layer in made]}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self._document(CONFIG_TYPE, {**platform, **settings, "rootfs": rootfs}),
            "layers": [
                {
                    "mediaType": layer.media_type,
                    "digest": layer.digest,
                    "size": layer.size,
                    **({"annotations": dict(layer.annotations)} if layer.annotations else {}),
                }
                for layer in made
            ],
        }
        return {**self._document(MANIFEST_TYPE, manifest), "platform": platform}

    def _document(self, media_type: str, document: object) -> dict[str, object]:
        body = json.dumps(document).encode()
        digest = hashlib.sha256(body).hexdigest()
        (self._blobs / digest).write_bytes(body)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(body)}


def _tar(size: int) -> Iterator[bytes]:
    """Return a tar file of about `size` bytes that contains one random file."""
    entry = tarfile.TarInfo("data")
    entry.size = max(0, size - 3 * _BLOCK) // _BLOCK * _BLOCK
    yield entry.tobuf(tarfile.USTAR_FORMAT)
    for start in range(0, entry.size, _PIECE):
        yield os.urandom(min(_PIECE, entry.size - start))
    yield bytes(2 * _BLOCK)
