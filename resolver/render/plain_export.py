"""Plain values of exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.escape import escape
from resolver.render.plain import bare, platform, warnings
from resolver.render.plain_plan import left_out

if TYPE_CHECKING:
    from resolver.core.exported import Exported, ExportedImage
    from resolver.render.plain import Plain


def plain(answer: Exported) -> Plain:
    """Turn an export into plain values."""
    written: Plain = {
        "to": {"kind": answer.destination.kind, "path": answer.destination.path or None},
        "images": [_image(image) for image in answer.images],
        "blobs": answer.blobs,
        "size": answer.size,
        "present": answer.present,
        "linked": answer.linked,
        "written": answer.written,
    }
    if answer.command:
        written["command"] = list(answer.command)
        written["said"] = escape(answer.said)
    written["warnings"] = warnings(answer.warnings)
    return written


def pairs(answer: Exported) -> list[tuple[str, str]]:
    """Give the digest and the full name of each image, as they are where it was handed to."""
    return [(str(image.root.digest), image.name) for image in answer.images]


def _image(image: ExportedImage) -> Plain:
    return {
        "reference": image.reference,
        "name": image.name,
        "short": image.short or None,
        "root": bare(image.root),
        "original": bare(image.original),
        "filtered": image.is_filtered,
        "platforms": [platform(each) if each is not None else None for each in image.platforms],
        "attached": [
            {
                "kind": each.kind,
                "manifest": bare(each.manifest),
                "refersTo": str(each.about) if each.about is not None else None,
                "tag": each.tag or None,
            }
            for each in image.attached
        ],
        "leftOut": left_out(image.left_out),
    }
