"""Write one tar for all tools: an OCI layout, with Docker's `manifest.json` over the same blobs.

Read by `docker load`, `podman load`, `ctr images import`, `kind load image-archive`, and skopeo
as `oci-archive:` and as `docker-archive:`. The same images give the same bytes on any machine.
"""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING

from resolver.core.oci.digest import Verifier
from resolver.core.results.events import Warned
from resolver.verbs.export.bundle import MARKER, entry, index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from resolver.core.oci.content import Content
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.export import ExportedImage
    from resolver.verbs.export.bundle import ExportBundle, ExportedRoot, PackedImage

_BLOCK = 512
#: Source: POSIX.1-2017 pax, "ustar Interchange Format": an archive ends with two empty blocks.
_END = bytes(2 * _BLOCK)


def write_archive(
    bundle: ExportBundle,
    images: Sequence[ExportedImage],
    store: Content,
    sink: Callable[[bytes], object],
    *,
    listed: bytes,
    epoch: int = 0,
) -> int:
    """Write a bundle as one tar; return its size in bytes.

    `listed` is the body of `manifest.json`, see `docker_manifest`.
    `epoch` is the time of every member.
    """
    writer = _Writer(sink, epoch)
    small = {
        "index.json": json.dumps(index(map(entry, images)), separators=(",", ":")).encode(),
        "manifest.json": listed,
        "oci-layout": MARKER,
    }
    writer.folder("blobs")
    for algorithm in sorted({piece.digest.algorithm for piece in bundle.pieces}):
        writer.folder(f"blobs/{algorithm}")
        for piece in bundle.pieces:
            if piece.digest.algorithm == algorithm:
                _write_piece(writer, bundle, store, piece)
    # After all that they name: a reader that is cut off never sees a name without its content.
    for name, body in small.items():
        writer.file(name, len(body), (body,))
    return writer.end()


def docker_manifest(
    bundle: ExportBundle, preferred: Sequence[Platform], warn: Callable[[Warned], None]
) -> bytes:
    """Build Docker's `manifest.json`: one image for each name, since it has no platforms.

    Windows images are listed only where there is nothing else: Docker on Linux refuses an
    archive that lists one.

    `preferred` is the platform that a name means if there are several; else the first of its index.
    `warn` receives warnings about images that Docker ignores.

    Source: moby image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format".
    """
    chosen = [(each, _chosen(each, preferred, warn)) for each in bundle.packed]
    usable = [(each, image) for each, image in chosen if image is not None]
    others = [(each, image) for each, image in usable if not _is_windows(image)]
    if others and len(others) < len(usable):
        left = ", ".join(f"`{each.name}`" for each, image in usable if _is_windows(image))
        warn(
            Warned(
                "docker-windows",
                f"`docker load` does not load {left}: Windows and Linux images cannot share one "
                "`manifest.json`",
            )
        )
    tags: dict[Digest, list[str]] = {}
    first: dict[Digest, PackedImage] = {}
    for each, image in others or usable:
        config = image.manifest.config
        if config is None:
            continue
        first.setdefault(config.digest, image)
        tags.setdefault(config.digest, []).extend([each.name] if each.tag else [])
    entries = [
        {
            "Config": path_of(config),
            "RepoTags": sorted(tags[config]) or None,
            "Layers": [path_of(layer.digest) for layer in image.manifest.layers],
        }
        for config, image in first.items()
    ]
    return json.dumps(entries, separators=(",", ":")).encode()


def path_of(digest: Digest) -> str:
    """Return the path of a blob in a layout."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _chosen(
    each: ExportedRoot, preferred: Sequence[Platform], warn: Callable[[Warned], None]
) -> PackedImage | None:
    """Choose the one image that a name means to Docker, and warn of what it ignores."""
    image = chosen_image(each, preferred)
    if image is None:
        warn(
            Warned(
                "docker-none",
                f"`docker load` does not load `{each.name}`: it is not an image, or layers "
                "are missing",
            )
        )
    elif len(_usable(each)) > 1:
        warn(
            Warned(
                "docker-one-platform",
                f"`{each.name}` means {image.platform} to a Docker without the containerd "
                "image store, which keeps one platform per name",
            )
        )
    return image


def chosen_image(each: ExportedRoot, preferred: Sequence[Platform]) -> PackedImage | None:
    """Choose the image of an engine that keeps one platform per name; None if none is complete."""
    wanted = [platform.normalized() for platform in preferred]
    return min(_usable(each), key=lambda image: _rank(image.platform, wanted), default=None)


def _usable(each: ExportedRoot) -> list[PackedImage]:
    images = [image for image in each.images if image.manifest.is_image and image.is_whole]
    return [image for image in images if not _is_windows(image)] or images


def _rank(platform: Platform | None, wanted: Sequence[Platform]) -> int:
    """Rank an entry by the requested platforms; equal ones stay in index order."""
    normal = None if platform is None else platform.normalized()
    return wanted.index(normal) if normal in wanted else len(wanted)


def _is_windows(image: PackedImage) -> bool:
    return image.platform is not None and image.platform.os == "windows"


def _write_piece(writer: _Writer, bundle: ExportBundle, store: Content, piece: Descriptor) -> None:
    name = path_of(piece.digest)
    made = bundle.made.get(piece.digest)
    if made is not None:
        writer.file(name, len(made), (made,))
        return
    verifier = Verifier(piece.digest, piece.size, f"`{piece.digest}` in the store")
    with store.open(piece) as chunks:
        writer.file(name, piece.size, _verified(chunks, verifier))


def _verified(chunks: Iterable[bytes], verifier: Verifier) -> Iterable[bytes]:
    for chunk in chunks:
        verifier.update(chunk)
        yield chunk
    verifier.finish()


class _Writer:
    """Members of a tar, one after the other; nothing in them depends on who writes it."""

    def __init__(self, sink: Callable[[bytes], object], epoch: int) -> None:
        self._sink = sink
        self._epoch = epoch
        self._size = 0

    def folder(self, name: str) -> None:
        """Write a folder."""
        member = tarfile.TarInfo(name)
        member.type = tarfile.DIRTYPE
        self._begin(member, 0o755)

    def file(self, name: str, size: int, chunks: Iterable[bytes]) -> None:
        """Write a file of exactly `size` bytes."""
        member = tarfile.TarInfo(name)
        member.size = size
        self._begin(member, 0o644)
        for chunk in chunks:
            self._put(chunk)
        self._put(bytes(-size % _BLOCK))

    def end(self) -> int:
        """Write the end of the tar; return the size of all."""
        self._put(_END)
        return self._size

    def _begin(self, member: tarfile.TarInfo, mode: int) -> None:
        member.mtime = self._epoch
        member.mode = mode
        # PAX headers are written only where ustar has no room: long names, 8 GiB and more.
        self._put(member.tobuf(tarfile.PAX_FORMAT))

    def _put(self, data: bytes) -> None:
        self._size += len(data)
        self._sink(data)
