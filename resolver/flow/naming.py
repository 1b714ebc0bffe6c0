"""Names inside exports: the full one, and the short one of OCI layouts.

Two images may have the same tag, and an OCI layout knows its images by little more: whoever comes
second keeps the full name as the short one too, so that nobody's name is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.descriptor import OCI_INDEX
from resolver.core.exported import ExportedImage
from resolver.sources.layout import IMAGE_NAME, REF_NAME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from resolver.core.descriptor import Descriptor
    from resolver.core.platform import Platform
    from resolver.flow.bundle import Packed

#: The whole of `oci-layout`. Source: OCI image-spec v1.1.1, image-layout.md, "oci-layout file".
MARKER = b'{"imageLayoutVersion":"1.0.0"}'


def named(packed: Iterable[Packed], taken: Collection[str]) -> tuple[ExportedImage, ...]:
    """Give images their names in a layout.

    Args:
        packed: sorted by name.
        taken: short names of what is in the layout already and stays there.

    """
    used = set(taken)
    images = []
    for each in packed:
        short = each.tag if each.tag and each.tag not in used else each.name
        short = short if each.tag else ""
        used.add(short)
        images.append(
            ExportedImage(
                str(each.reference),
                each.name,
                short,
                each.root,
                each.original,
                tuple(image.platform for image in each.images),
                each.attached,
                each.left_out,
            )
        )
    return tuple(images)


def entry(image: ExportedImage) -> dict[str, object]:
    """Write what `index.json` says about an image, the way Docker and containerd write it.

    Source: OCI image-spec v1.1.1, annotations.md; containerd images/annotations.go.
    """
    annotations = {IMAGE_NAME: image.name}
    if image.short:
        annotations[REF_NAME] = image.short
    written: dict[str, object] = {**described(image.root), "annotations": annotations}
    if image.root.platform is not None and not image.root.is_index:
        written["platform"] = _platform(image.root.platform)
    return written


def referrers(packed: Iterable[Packed]) -> dict[str, dict[str, object]]:
    """Write the entries of what refers to images from outside their indexes, by full name.

    Each is listed by itself: that is where `oras` and servers of a layout look for referrers. What
    cosign keeps under a tag has that tag here too.
    """
    written: dict[str, dict[str, object]] = {}
    for each in packed:
        for one in each.attached:
            if one.kind != "referrer":
                continue
            identity = each.reference.identity
            name = f"{identity}:{one.tag}" if one.tag else f"{identity}@{one.manifest.digest}"
            annotations = {IMAGE_NAME: name, **({REF_NAME: one.tag} if one.tag else {})}
            written[name] = {**described(one.manifest), "annotations": annotations}
    return written


def index(entries: Iterable[dict[str, object]]) -> dict[str, object]:
    """Write an `index.json`."""
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}


def described(descriptor: Descriptor) -> dict[str, object]:
    """Write the three members that every descriptor has."""
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def _platform(platform: Platform) -> dict[str, object]:
    """Source: OCI image-spec v1.1.1, image-index.md; members that say nothing are left out."""
    said: dict[str, object] = {
        "architecture": platform.architecture,
        "os": platform.os,
        "os.version": platform.os_version,
        "os.features": list(platform.os_features),
        "variant": platform.variant,
    }
    return {name: value for name, value in said.items() if value}
