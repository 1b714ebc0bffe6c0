"""Plain values of plans and pulls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.plan import Plan
from resolver.render.plain import bare, failure, platform, warnings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.attached import LeftOut
    from resolver.core.plan import Piece, PlannedImage
    from resolver.core.pulled import Pulled, PulledOne
    from resolver.render.plain import Plain


def plain(answer: Plan | Pulled) -> Plain:
    """Turn a plan or a pull into plain values."""
    return _plan(answer) if isinstance(answer, Plan) else _pulled(answer)


def _plan(answer: Plan) -> Plain:
    return {
        "images": [_image(image) for image in answer.images],
        "attached": [_attached(image) for image in answer.attached],
        "leftOut": left_out(answer.left_out),
        "bytesTotal": answer.bytes_total,
        "bytesHeld": answer.bytes_held,
        "bytesMissing": answer.bytes_missing,
        "bytesShared": answer.saved,
        "requests": answer.requests,
        "pieces": [piece(each) for each in answer.pieces],
    }


def _pulled(answer: Pulled) -> Plain:
    return {
        "images": [_one(one) for one in answer.images],
        "attached": [{**_attached(one.image), "status": one.status} for one in answer.attached],
        "leftOut": left_out(answer.left_out),
        "failures": [
            {"reference": each.reference, **failure(each.error)} for each in answer.failures
        ],
        "bytesFetched": answer.bytes_fetched,
        "fetched": [piece(each) for each in answer.fetched],
        "reused": [piece(each) for each in answer.reused],
    }


def _one(one: PulledOne) -> Plain:
    written = _image(one.image)
    del written["upToDate"]
    written["status"] = one.status
    written["skipped"] = [piece(each) for each in one.skipped]
    written["warnings"] = warnings(one.warnings)
    return written


def pairs(answer: Plan | Pulled) -> list[tuple[str, str]]:
    """Give digest and pinned name of each image."""
    if isinstance(answer, Plan):
        images = answer.images
    else:
        images = tuple(one.image for one in answer.images)
    return [(str(image.manifest.digest), image.pinned) for image in images]


def _image(image: PlannedImage) -> Plain:
    return {
        "reference": image.reference,
        "platform": platform(image.platform) if image.platform is not None else None,
        "root": bare(image.root),
        "manifest": bare(image.manifest),
        "pinned": image.pinned,
        "upToDate": image.up_to_date,
        "warnings": warnings(image.warnings),
    }


def _attached(image: PlannedImage) -> Plain:
    return {
        "reference": image.reference,
        "kind": image.kind,
        "manifest": bare(image.manifest),
        "refersTo": str(image.about) if image.about is not None else None,
        "tag": image.tag or None,
        "pinned": image.pinned,
    }


def left_out(entries: Iterable[LeftOut]) -> list[Plain]:
    """Write the entries of indexes that were not taken."""
    return [
        {
            "reference": each.reference,
            "kind": each.kind,
            "platform": platform(each.platform) if each.platform is not None else None,
            **bare(each.descriptor),
        }
        for each in entries
    ]


def piece(value: Piece) -> Plain:
    """Write a piece."""
    return {
        "role": value.role,
        **bare(value.descriptor),
        "state": value.state.value,
        "place": value.place,
        "have": value.have,
        "missing": value.missing,
    }
