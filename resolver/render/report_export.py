"""Reports about exports: what was handed over, and how it is used there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.attached import counted
from resolver.render.report import SAID, Report, Table, short
from resolver.render.report_plan import left_out_words
from resolver.render.units import megabytes

if TYPE_CHECKING:
    from resolver.core.exported import Exported, ExportedImage


def report(answer: Exported, *, explain: bool = False, full: bool = False) -> Report:
    """Turn an export into a report."""
    del explain
    facts = [("to", str(answer.destination)), ("content", _content(answer))]
    facts += [("ran", " ".join(answer.command))] if answer.command else []
    facts += [(SAID, words) for words in answer.said.splitlines() if words.strip()]
    attached = [each.kind for image in answer.images for each in image.attached]
    facts += [("with", counted(attached))] if attached else []
    left_out = [each for image in answer.images for each in image.left_out]
    facts += [("left out", left_out_words(left_out))] if left_out else []
    rows = tuple(_row(image, full=full) for image in answer.images)
    columns = ("name", "platforms", "digest")
    table = Table(
        "images", columns, rows, whole=frozenset({"digest"}), tail=frozenset({"platforms"})
    )
    return Report("exported", tuple(facts), (table,))


def _content(answer: Exported) -> str:
    """Say how many pieces, how many bytes, and which of them took no room."""
    counted = (
        (answer.written, "written"),
        (answer.linked, "linked"),
        (answer.present, "present"),
    )
    parts = [f"{megabytes(count)} {word}" for count, word in counted if count]
    how = f" ({', '.join(parts)})" if parts else ""
    return f"{answer.blobs} pieces, {megabytes(answer.size)}{how}"


def _row(image: ExportedImage, *, full: bool) -> tuple[str, ...]:
    names = [str(platform) for platform in image.platforms if platform is not None]
    digest = short(image.root.digest, full=full)
    return (image.name, ", ".join(names) or "-", f"{digest} (new)" if image.is_filtered else digest)
