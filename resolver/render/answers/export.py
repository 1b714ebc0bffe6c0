"""Answers of `export`: destination and content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.oci.manifest import counted
from resolver.errors import megabytes
from resolver.render.answers.plan import left_out, left_out_words
from resolver.render.report import SAID, Report, ReportTable, short
from resolver.render.text import escape
from resolver.render.to_dict import bare, platform, warnings

if TYPE_CHECKING:
    from resolver.core.results.export import Exported, ExportedImage
    from resolver.render.to_dict import Plain


def report(answer: Exported, *, explain: bool = False, full: bool = False) -> Report:
    """Turn an export into a report."""
    del explain
    facts = [("to", str(answer.destination)), ("content", _content(answer))]
    facts += [("ran", " ".join(answer.command))] if answer.command else []
    facts += [(SAID, words) for words in answer.said.splitlines() if words.strip()]
    attached = [item.kind for image in answer.images for item in image.attached]
    facts += [("with", counted(attached))] if attached else []
    left_out = [item for image in answer.images for item in image.left_out]
    facts += [("left out", left_out_words(left_out))] if left_out else []
    rows = tuple(_row(image, full=full) for image in answer.images)
    columns = ("name", "platforms", "digest")
    table = ReportTable(
        "images", columns, rows, whole=frozenset({"digest"}), tail=frozenset({"platforms"})
    )
    return Report("exported", tuple(facts), (table,))


def _content(answer: Exported) -> str:
    counted = ((answer.written, "written"), (answer.linked, "linked"), (answer.present, "present"))
    parts = [f"{megabytes(count)} {word}" for count, word in counted if count]
    how = f" ({', '.join(parts)})" if parts else ""
    return f"{answer.blobs} pieces, {megabytes(answer.size)}{how}"


def _row(image: ExportedImage, *, full: bool) -> tuple[str, ...]:
    names = [str(platform) for platform in image.platforms if platform is not None]
    digest = short(image.root.digest, full=full)
    return (image.name, ", ".join(names) or "-", f"{digest} (new)" if image.is_filtered else digest)


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
    """Return the digest and full name of each image at its destination."""
    return [(str(image.root.digest), image.name) for image in answer.images]


def _image(image: ExportedImage) -> Plain:
    return {
        "reference": image.reference,
        "name": image.name,
        "short": image.short or None,
        "root": bare(image.root),
        "original": bare(image.original),
        "filtered": image.is_filtered,
        "platforms": [platform(item) if item is not None else None for item in image.platforms],
        "attached": [
            {
                "kind": item.kind,
                "manifest": bare(item.manifest),
                "refersTo": str(item.about) if item.about is not None else None,
                "tag": item.tag or None,
            }
            for item in image.attached
        ],
        "leftOut": left_out(image.left_out),
    }
