"""The store: listings, removals, garbage collection, verification and disk usage."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.oci.reference import Reference
from resolver.core.results.store import (
    Collected,
    DiskUsage,
    ImageListing,
    Removed,
    Stay,
    StoredImage,
    Verified,
)
from resolver.errors import megabytes
from resolver.render.report import SHORT_HEX, Report, ReportTable, short
from resolver.render.to_dict import bare

if TYPE_CHECKING:
    from resolver.core.results.store import Damage, ImageUsage
    from resolver.render.to_dict import Plain


#: What Docker shows for a missing name or tag.
NONE = "<none>"
#: Characters of the date in an RFC 3339 time.
_DAY = 10
#: Rows of an image in `du`, one for each image that it shares content with.
_SHARERS = 5
_PROBLEMS = {
    "missing": "missing",
    "size": "wrong size",
    "content": "wrong content",
    "not-a-file": "not a regular file",
    "bad-name": "unknown file",
    "unreadable": "unreadable",
}


def report(answer: object, *, explain: bool = False, full: bool = False) -> Report:
    """Turn an answer of the store into a report; `explain` adds digests to a listing."""
    match answer:
        case ImageListing():
            return _listing(answer, digests=explain, full=full)
        case StoredImage():
            return _listing(ImageListing((answer,)), digests=explain, full=full)
        case Removed():
            return _removed(answer)
        case Collected():
            return _collected(answer, full=full)
        case Verified():
            return _verified(answer, full=full)
        case DiskUsage():
            return _usage(answer, full=full)
        case _:
            raise AssertionError(f"no report for {type(answer).__name__}")


def identity(image: StoredImage, *, full: bool) -> str:
    """Return an image id as Docker shows it: the first digits of a digest, or with `full` all."""
    if image.image_id is None:
        return NONE
    return str(image.image_id) if full else image.image_id.hex[:SHORT_HEX]


def _listing(found: ImageListing, *, digests: bool, full: bool) -> Report:
    columns = ["repository", "tag", "image id", "platforms", "created", "size", "shared"]
    if digests:
        columns.insert(2, "digest")
    rows = tuple(
        _image(image, digests=digests, full=full) for image in found.images if not image.read_as
    )
    numbers = frozenset({"platforms", "size", "shared"})
    whole = numbers | {"image id"}
    table = ReportTable("images", tuple(columns), rows, numbers, whole, frozenset({"repository"}))
    unpulled = [image for image in found.images if image.read_as]
    if not unpulled:
        return Report("images", (), (table,))
    apart = ReportTable(
        "read and not pulled (`resolver gc` removes it)",
        ("read as", "image id", "created", "size", "shared"),
        tuple(_unpulled(image, full=full) for image in unpulled),
        frozenset({"size", "shared"}),
        frozenset({"image id", "created", "size", "shared"}),
        frozenset({"read as"}),
    )
    return Report("images", (), (table, apart))


def _unpulled(image: StoredImage, *, full: bool) -> tuple[str, ...]:
    names = [Reference.parse(text) for text in image.read_as]
    first, *others = dict.fromkeys(
        (replace(name, digest=None) if name.tag else name).familiar for name in names
    )
    name = f"{first} and {len(others)} more" if others else first
    size, shared = megabytes(image.size), megabytes(image.shared_size)
    return (name, identity(image, full=full), image.created[:_DAY] or "-", size, shared)


def _image(image: StoredImage, *, digests: bool, full: bool) -> tuple[str, ...]:
    repository, tag = _name(image.reference)
    row = [
        repository,
        tag,
        identity(image, full=full),
        _counts(image),
        image.created[:_DAY] or "-",
        megabytes(image.size),
        megabytes(image.shared_size),
    ]
    if digests:
        row.insert(2, short(image.index.digest, full=full))
    return tuple(row)


def _counts(image: StoredImage) -> str:
    """Return held and offered platforms, and the number of attached entries: `2/2 +2`."""
    counts = f"{len(image.platforms)}/{max(len(image.offered), len(image.platforms))}"
    return f"{counts} +{len(image.attached)}" if image.attached else counts


def _name(reference: str) -> tuple[str, str]:
    """Split a reference into repository and tag, as Docker shows them."""
    if not reference:
        return NONE, NONE
    parsed = Reference.parse(reference)
    tagless = Reference(parsed.registry, parsed.repository).familiar
    return tagless, parsed.tag or NONE


def _removed(answer: Removed) -> Report:
    lines = [f"Untagged: {name}" for name in answer.untagged]
    lines += [
        f"Removed {', '.join(item.removed)}: {item.reference} (stays for {', '.join(item.left)})"
        for item in answer.trimmed
    ]
    lines += [f"Deleted: {digest}" for digest in answer.deleted]
    return Report("removed", (), (), tuple(lines))


def _collected(answer: Collected, *, full: bool) -> Report:
    total = "Would reclaim" if answer.dry_run else "Total reclaimed space"
    lines = [f"{total}: {megabytes(answer.freed)}"]
    lines.append(f"Kept: {answer.kept} blobs, {megabytes(answer.kept_size)}")
    lines += [f"Missing: {digest}" for digest in answer.missing]
    lines += [f"Kept because of {item.path}: {item}" for item in answer.unread]
    rows = tuple(
        (_name_of(item.name, full=full), item.kind, megabytes(item.size)) for item in answer.removed
    )
    title = "would be deleted" if answer.dry_run else "deleted"
    size, names = frozenset({"size"}), frozenset({"what"})
    tables = [ReportTable(title, ("what", "kind", "size"), rows, size, tail=names)] if rows else []
    if answer.stays:
        numbers = frozenset({"pieces", "size"})
        stays = tuple((str(item.count), megabytes(item.size), why(item)) for item in answer.stays)
        tables.append(
            ReportTable("stays", ("pieces", "size", "stays because"), stays, numbers, numbers)
        )
    return Report("collected", (), tuple(tables), tuple(lines))


def why(stay: Stay) -> str:
    """Return why content stays: `younger than 1h (--grace)`, `in use by ...`."""
    user = f"`{stay.purpose}`" if stay.purpose else "another process"
    if stay.process is not None:
        user += f" (process {stay.process})"
    age = _span(stay.age)
    return {
        "lease": f"in use by {user}",
        "since": f"added since {user} began",
        "noted": "resolved by name, not pulled",
        "grace": f"younger than {age} (`--grace`)",
        "keep-newer": f"younger than {age} (`--keep-newer`)",
        "transfer": "being fetched right now",
        "image-lease": f"an image in use by {user}",
        "image-keep-newer": f"an image pulled within {age} (`--keep-newer`)",
    }[stay.reason]


def _span(seconds: float) -> str:
    """Format a duration like the options, in the largest unit without a fraction."""
    whole = round(seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if whole and whole % length == 0:
            return f"{whole // length}{unit}"
    return f"{whole}s"


def _name_of(name: str, *, full: bool) -> str:
    return short(name, full=full) if "/" not in name and ":" in name else name


def _verified(answer: Verified, *, full: bool) -> Report:
    facts = (
        ("names", str(answer.names)),
        ("blobs", f"{answer.blobs}, {megabytes(answer.size)}"),
        ("hashed", megabytes(answer.hashed)),
        ("result", _result(answer)),
    )
    columns = ("what", "problem", "needed by", "now")
    rows = tuple(_damage(damage, full=full) for damage in answer.damaged)
    table = ReportTable("damaged", columns, rows, tail=frozenset({"what", "needed by"}))
    return Report("verified", facts, (table,) if rows else ())


def _result(answer: Verified) -> str:
    if not answer.damaged:
        return "no problem found"
    wrong = sum(not damage.repaired for damage in answer.damaged)
    repaired = len(answer.damaged) - wrong
    return f"{wrong} damaged, {repaired} repaired"


def _damage(damage: Damage, *, full: bool) -> tuple[str, ...]:
    name = _name_of(damage.name, full=full)
    needed = ", ".join(damage.references) or "-"
    problem = _PROBLEMS.get(damage.problem, damage.problem)
    return (name, problem, needed, "repaired" if damage.repaired else "damaged")


def _usage(answer: DiskUsage, *, full: bool) -> Report:
    total = answer.blobs + answer.partial + answer.temporary
    facts = [("store", megabytes(total)), ("images", megabytes(answer.blobs - answer.unused))]
    unpulled = f", {megabytes(answer.unpulled)} of it read and not pulled"
    facts.append(("unused", megabytes(answer.unused) + (unpulled if answer.unpulled else "")))
    facts.append(("partial", megabytes(answer.partial)))
    if answer.temporary:
        facts.append(("aside", megabytes(answer.temporary)))
    rows = tuple(row for image in answer.images for row in _shares(image, full=full))
    columns = ("image", "own", "shared", "with", "common")
    numbers = frozenset({"own", "shared", "common"})
    table = ReportTable("images", columns, rows, numbers, numbers, frozenset({"image", "with"}))
    return Report("usage", tuple(facts), (table,))


def _shares(image: ImageUsage, *, full: bool) -> list[tuple[str, ...]]:
    """Return the row of an image, and a row for each further image that it shares content with.

    The number is limited: a thousand names of a few images would otherwise make a million rows.
    """
    name = _short_name(image.reference) or short(image.digest, full=full)
    others = [(_short_name(other) or NONE, megabytes(size)) for other, size in image.sharers]
    total = max(image.sharing, len(others))
    if not full and total > _SHARERS:
        more = total - _SHARERS + 1
        others = [*others[: _SHARERS - 1], (f"and {more} more (`--no-trunc`)", "")]
    elif total > len(others):
        others.append((f"and {total - len(others)} more", ""))
    first, *rest = others or [("-", "-")]
    rows: list[tuple[str, ...]] = [(name, megabytes(image.own), megabytes(image.shared), *first)]
    return rows + [(name, "-", "-", *other) for other in rest]


def _short_name(reference: str) -> str:
    return Reference.parse(reference).familiar if reference else ""


def plain(answer: object) -> Plain:
    """Turn an answer of the store into plain values."""
    match answer:
        case ImageListing():
            return {
                "images": [_image_values(image) for image in answer.images if not image.read_as],
                "unpulled": [_image_values(image) for image in answer.images if image.read_as],
            }
        case StoredImage():
            return _image_values(answer)
        case Removed():
            return {
                "untagged": list(answer.untagged),
                "deleted": [str(digest) for digest in answer.deleted],
                "freed": answer.freed,
                "trimmed": [
                    {
                        "reference": item.reference,
                        "removed": list(item.removed),
                        "left": list(item.left),
                    }
                    for item in answer.trimmed
                ],
            }
        case Collected():
            return _collected_values(answer)
        case Verified():
            return _verified_values(answer)
        case DiskUsage():
            return _usage_values(answer)
        case _:
            raise AssertionError(f"no plain form of {type(answer).__name__}")


def pairs(answer: object) -> list[tuple[str, str]] | None:
    """Return the digest and reference of each image; None for an answer without images."""
    match answer:
        case ImageListing():
            return [pair for image in answer.images for pair in pairs(image) or ()]
        case StoredImage():
            return [(str(answer.index.digest), answer.reference or str(answer.index.digest))]
        case _:
            return None


def _image_values(image: StoredImage) -> Plain:
    return {
        "reference": image.reference or None,
        "id": str(image.image_id) if image.image_id is not None else None,
        "root": bare(image.index),
        "platforms": list(image.platforms),
        "offered": list(image.offered),
        "attached": [
            {
                "kind": item.kind,
                "manifest": bare(item.manifest),
                "refersTo": str(item.about) if item.about is not None else None,
                "tag": item.tag or None,
            }
            for item in image.attached
        ],
        "created": image.created or None,
        "size": image.size,
        "sharedSize": image.shared_size,
        "dangling": image.dangling,
        "missing": [str(digest) for digest in image.missing],
        "readAs": list(image.read_as),
    }


def _collected_values(answer: Collected) -> Plain:
    return {
        "dryRun": answer.dry_run,
        "removed": [
            {"name": item.name, "kind": item.kind, "size": item.size} for item in answer.removed
        ],
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


def _verified_values(answer: Verified) -> Plain:
    return {
        "sound": answer.is_sound,
        "names": answer.names,
        "blobs": answer.blobs,
        "size": answer.size,
        "hashed": answer.hashed,
        "damaged": [_damage_values(damage) for damage in answer.damaged],
    }


def _damage_values(damage: Damage) -> Plain:
    return {
        "name": damage.name,
        "problem": damage.problem,
        "references": list(damage.references),
        "repaired": damage.repaired,
    }


def _usage_values(answer: DiskUsage) -> Plain:
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
