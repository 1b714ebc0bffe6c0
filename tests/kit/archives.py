"""Archives for tests: written by hand where no program would write them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tests.kit.images import Image


#: A header and the data after it.
Part = tuple[tarfile.TarInfo, bytes]


def file_member(name: str, body: bytes) -> Part:
    """Make a regular member."""
    info = tarfile.TarInfo(name)
    info.size = len(body)
    return info, body


def link_member(
    name: str, target: str, kind: bytes = tarfile.SYMTYPE
) -> tuple[tarfile.TarInfo, bytes]:
    """Make a link."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info, b""


def tar(members: Iterable[Part], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Write members as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, body in members:
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


def tar_of(folder: Path, prefix: str = "") -> bytes:
    """Pack a folder's files, names relative to it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return tar(
        file_member(prefix + path.relative_to(folder).as_posix(), path.read_bytes())
        for path in files
    )


def saved(
    image: Image,
    names: Sequence[str] | None = ("app:1",),
    *,
    changes: Mapping[str, Any] | None = None,
    compressed: bool = False,
    shared: bool = False,
) -> list[Part]:
    """Write an image as `docker save` did up to version 24.

    Args:
        names: its `RepoTags`; None is written as null.
        changes: members of its entry that are different.
        compressed: keep the layers as gzip, as go-containerregistry does.
        shared: make every layer but the first a link to the first.
    """
    manifest = json.loads(image.body)
    config = image.blobs[manifest["config"]["digest"]]
    members = []
    layers = []
    for number, layer in enumerate(manifest["layers"]):
        body = image.blobs[layer["digest"]]
        if not compressed:
            body = gzip.decompress(body)
        name = f"{number:064x}/layer.tar"
        layers.append(name)
        if shared and number:
            members.append(link_member(name, f"../{0:064x}/layer.tar"))
        else:
            members.append(file_member(name, body))
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    entry = {"Config": config_name, "RepoTags": names, "Layers": layers, **(changes or {})}
    members.append(file_member(config_name, config))
    members.append(file_member("manifest.json", json.dumps([entry]).encode()))
    return members
