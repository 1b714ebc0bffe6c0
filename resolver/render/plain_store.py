"""Plain values of the store's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.listing import Listing
from resolver.core.stored import Collected, Removed, StoredImage, Usage, Verified
from resolver.render.plain import bare

if TYPE_CHECKING:
    from resolver.core.stored import Damage, ImageUsage, Item, Stay
    from resolver.render.plain import Plain


def plain(answer: object) -> Plain:
    """Turn an answer of the store into plain values."""
    match answer:
        case Listing():
            return {
                "images": [_image(image) for image in answer.pulled],
                "unpulled": [_image(image) for image in answer.unpulled],
            }
        case StoredImage():
            return _image(answer)
        case Removed():
            return {
                "untagged": list(answer.untagged),
                "deleted": [str(digest) for digest in answer.deleted],
                "freed": answer.freed,
                "trimmed": [
                    {
                        "reference": each.reference,
                        "removed": list(each.removed),
                        "left": list(each.left),
                    }
                    for each in answer.trimmed
                ],
            }
        case Collected():
            return _collected(answer)
        case Verified():
            return _verified(answer)
        case Usage():
            return _usage(answer)
        case _:
            raise AssertionError(f"no plain form of {type(answer).__name__}")


def pairs(answer: object) -> list[tuple[str, str]] | None:
    """Give digest and reference of each image; None for an answer that is about none."""
    match answer:
        case Listing():
            return [pair for image in answer.images for pair in pairs(image) or ()]
        case StoredImage():
            return [(str(answer.index.digest), answer.reference or str(answer.index.digest))]
        case _:
            return None


def _image(image: StoredImage) -> Plain:
    return {
        "reference": image.reference or None,
        "id": str(image.image_id) if image.image_id is not None else None,
        "root": bare(image.index),
        "platforms": list(image.platforms),
        "offered": list(image.offered),
        "attached": [
            {
                "kind": each.kind,
                "manifest": bare(each.manifest),
                "refersTo": str(each.about) if each.about is not None else None,
                "tag": each.tag or None,
            }
            for each in image.attached
        ],
        "created": image.created or None,
        "size": image.size,
        "sharedSize": image.shared_size,
        "dangling": image.dangling,
        "missing": [str(digest) for digest in image.missing],
        "readAs": list(image.read_as),
    }


def _collected(answer: Collected) -> Plain:
    return {
        "dryRun": answer.dry_run,
        "removed": [_item(item) for item in answer.removed],
        "freed": answer.freed,
        "kept": answer.kept,
        "keptSize": answer.kept_size,
        "missing": [str(digest) for digest in answer.missing],
        "stays": [_stay(stay) for stay in answer.stays],
        "total": answer.total,
        "limit": answer.limit,
        "partial": answer.is_partial,
        "unreadableLeases": [
            {"path": x.path, "pid": x.pid, "purpose": x.purpose or None, "reason": x.reason}
            for x in answer.unread
        ],
    }


def _stay(stay: Stay) -> Plain:
    return {
        "reason": stay.reason,
        "count": stay.count,
        "size": stay.size,
        "purpose": stay.purpose or None,
        "process": stay.process,
        "age": int(stay.age) or None,
    }


def _item(item: Item) -> Plain:
    return {"name": item.name, "kind": item.kind, "size": item.size}


def _verified(answer: Verified) -> Plain:
    return {
        "sound": answer.is_sound,
        "names": answer.names,
        "blobs": answer.blobs,
        "size": answer.size,
        "hashed": answer.hashed,
        "damaged": [_damage(damage) for damage in answer.damaged],
    }


def _damage(damage: Damage) -> Plain:
    return {
        "name": damage.name,
        "problem": damage.problem,
        "references": list(damage.references),
        "repaired": damage.repaired,
    }


def _usage(answer: Usage) -> Plain:
    return {
        "images": [_image_usage(image) for image in answer.images],
        "blobs": answer.blobs,
        "unused": answer.unused,
        "partial": answer.partial,
        "temporary": answer.temporary,
        "unpulled": answer.unpulled,
    }


def _image_usage(image: ImageUsage) -> Plain:
    return {
        "reference": image.reference or None,
        "digest": str(image.digest),
        "own": image.own,
        "shared": image.shared,
        "sharers": [{"reference": name or None, "size": size} for name, size in image.sharers],
        "sharing": image.sharing,
    }
