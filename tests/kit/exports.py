"""Helpers for tests of exports: a filled store, and readers of layouts and archives."""

from __future__ import annotations

import hashlib
import json
import tarfile
from typing import TYPE_CHECKING, Any

from resolver.core.oci.descriptor import DOCUMENT_TYPES
from resolver.core.oci.reference import Reference
from resolver.core.platforms.platform import Platform
from resolver.core.results.export import Exported, parse_destination
from resolver.store import LocalStore
from resolver.verbs.export.bundle import ExportSelection
from resolver.verbs.export.export import ExportOptions, export
from resolver.verbs.export.layout import LayoutOptions
from tests.kit.images import Image, build_image, build_index, build_layer
from tests.kit.stored_images import pull

if TYPE_CHECKING:
    from pathlib import Path

AMD64, ARM64, WINDOWS = "linux/amd64", "linux/arm64", "windows/amd64:10.0.20348.1"
#: Tests need no durability.
QUICK = LayoutOptions(sync=False)


def app(version: str = "1", *platforms: str, docker: bool = False) -> Image:
    """Make an image of two layers per platform, one of which all platforms share."""
    images = [
        build_image(
            platform,
            [
                build_layer({"etc/shared": b"shared" * 2000}),
                build_layer({"etc/own": f"{version} {platform}".encode()}),
            ],
            docker=docker,
        )
        for platform in platforms or (AMD64, ARM64)
    ]
    return build_index(images, docker=docker)


def stocked(folder: Path, **images: Image) -> LocalStore:
    """Make a store that holds images whole, `name` as `docker.io/library/name:1`."""
    store = LocalStore(folder / "store", fsync=False)
    for name, image in images.items():
        pull(store, str(Reference.parse(f"{name}:1")), image)
    return store


def exported(
    store: LocalStore, to: Path | str, *references: str, platforms: tuple[str, ...] = ()
) -> Exported:
    """Export from a store; arguments as on the command line."""
    selection = ExportSelection(tuple(Platform.parse(platform) for platform in platforms))
    return export(
        [Reference.parse(reference) for reference in references],
        store,
        parse_destination(str(to)),
        ExportOptions(selection=selection, layout=QUICK, host=Platform.parse(AMD64)),
    )


def index_of(layout: Path) -> list[dict[str, Any]]:
    """Return the entries of `index.json`."""
    document: dict[str, list[dict[str, Any]]] = json.loads((layout / "index.json").read_text())
    return document["manifests"]


def names_in(layout: Path) -> dict[str, str]:
    """Return full name and digest of every entry."""
    return {
        entry["annotations"]["io.containerd.image.name"]: entry["digest"]
        for entry in index_of(layout)
    }


def check_layout(layout: Path) -> set[str]:
    """Check that a layout is complete and holds nothing else; return its blobs.

    Source: OCI image-spec v1.1.1, image-layout.md.
    """
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert {path.name for path in layout.iterdir()} == {"blobs", "index.json", "oci-layout"}
    blobs = {}
    for path in (layout / "blobs").glob("*/*"):
        assert path.is_file()
        assert not path.is_symlink()
        body = path.read_bytes()
        digest = f"{path.parent.name}:{path.name}"
        assert hashlib.new(path.parent.name, body).hexdigest() == path.name
        blobs[digest] = body
    needed: set[str] = set()
    for entry in index_of(layout):
        _follow(entry, blobs, needed)
    assert needed <= set(blobs)
    return set(blobs)


def _follow(entry: dict[str, Any], blobs: dict[str, bytes], needed: set[str]) -> None:
    needed.add(entry["digest"])
    body = blobs[entry["digest"]]
    assert len(body) == entry["size"]
    if entry["mediaType"] not in DOCUMENT_TYPES:
        return
    document = json.loads(body)
    parts = [*document.get("manifests", []), *document.get("layers", [])]
    if "config" in document:
        parts.append(document["config"])
    for part in parts:
        _follow(part, blobs, needed)


def members(archive: Path) -> dict[str, tarfile.TarInfo]:
    """List a tar with the standard library's reader, which is not the one under test."""
    with tarfile.open(archive, "r:") as tar:
        return {member.name: member for member in tar}


def member(archive: Path, name: str) -> bytes:
    """Read a file of a tar."""
    with tarfile.open(archive, "r:") as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a tar."""
    folder.mkdir()
    with tarfile.open(archive, "r:") as tar:
        tar.extractall(folder, filter="data")
    return folder
