"""Builds to compare, made in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resolver.core.compare.builds import Build
from resolver.core.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.image import ImageDocuments, ImageEntry
from resolver.core.oci.manifest import HistoryEntry, ImageConfig, Manifest
from resolver.core.platforms.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
NOTHING = ImageConfig(
    os="linux",
    architecture="amd64",
    variant="",
    os_version="",
    os_features=(),
    platform=None,
    created="",
    author="",
    diff_ids=(),
    history=(),
    user="",
    working_dir="",
    stop_signal="",
    env=(),
    entrypoint=(),
    cmd=(),
    exposed_ports=(),
    volumes=(),
    labels=(),
    healthcheck="",
)


def layer(name: str, size: int) -> Descriptor:
    """Name a layer; the same name and size are the same layer."""
    return Descriptor(LAYER, Digest.of(f"{name} {size}".encode()), size)


def step(command: str, *, empty: bool = False) -> HistoryEntry:
    """Return a history step."""
    return HistoryEntry(created_by=command, empty_layer=empty)


def build(
    platform: str = "linux/amd64",
    layers: Sequence[Descriptor] = (),
    *,
    history: Sequence[HistoryEntry] = (),
    annotations: Mapping[str, str] | None = None,
    salt: str = "",
    needs: Sequence[tuple[str, str]] = (),
    **fields: Any,
) -> Build:
    """Make a build; `fields` are those of its config, `salt` makes another manifest of it."""
    from dataclasses import replace

    parsed = Platform.parse(platform) if platform else None
    config = replace(NOTHING, history=tuple(history), platform=parsed, **fields)
    body = f"{platform} {config}".encode()
    described = Descriptor(OCI_CONFIG, Digest.of(body), len(body))
    manifest = Manifest(OCI_MANIFEST, described, tuple(layers))
    name = f"{salt} {platform} {config} {[str(each.digest) for each in layers]}".encode()
    entry = Descriptor(
        OCI_MANIFEST,
        Digest.of(name),
        500,
        parsed,
        annotations=tuple(sorted((annotations or {}).items())),
    )
    normal = parsed.normalized() if parsed is not None else None
    return Build(platform or "no platform", parsed, normal, entry, manifest, config, tuple(needs))


def gathered(*builds: Build, reference: str = "example.com/app:1") -> ImageDocuments:
    """Put builds under one name."""
    body = " ".join(str(each.descriptor.digest) for each in builds).encode()
    root = Descriptor(OCI_INDEX, Digest.of(body), len(body))
    parts = tuple(
        ImageEntry(each.descriptor, (at,), each.platform, each.manifest, each.config)
        for at, each in enumerate(builds)
    )
    return ImageDocuments(reference, "example.com/app@", root, None, parts)
