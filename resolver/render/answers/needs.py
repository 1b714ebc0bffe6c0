"""Needs: a line for each platform, then the facts file by file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.results.needs import NeedKind, in_words
from resolver.render.report import Report, ReportTable, short
from resolver.render.to_dict import bare, warnings

if TYPE_CHECKING:
    from resolver.core.platforms.platform import PlatformTable
    from resolver.core.results.needs import ImageNeeds, NeedFact, Needs
    from resolver.render.to_dict import Plain

_UNKNOWN = "unknown"


def report(answer: Needs, *, explain: bool = False, full: bool = False) -> Report:
    """Turn needs into a report."""
    del explain
    summary = tuple(
        (_name(image), *(in_words(image, kind, answer.table) for kind in NeedKind))
        for image in answer.images
    )
    files = tuple(
        (
            _name(image),
            need.kind.value,
            need.text,
            need.sure.value,
            need.file,
            short(need.layer, full=full),
            need.evidence,
        )
        for image in answer.images
        for need in image.facts
    )
    unread = tuple((_name(image), name) for image in answer.images for name in image.unread)
    failed = tuple(
        (_name(image), f"{digest}: {error}")
        for image in answer.images
        for digest, error in image.failures
    )
    columns = ("platform", "processor", "page size", "kernel", "libc")
    evidence = ("platform", "need", "value", "sure", "path", "layer", "evidence")
    tables = [ReportTable("needs", columns, summary)]
    tables += [ReportTable("files", evidence, files)] if files else []
    tables += [ReportTable("not found or not read", ("platform", "name"), unread)] if unread else []
    tables += [ReportTable("unreadable layers", ("platform", "layer"), failed)] if failed else []
    return Report("needs", (("image", answer.reference),), tuple(tables))


def _name(image: ImageNeeds) -> str:
    return str(image.platform) if image.platform is not None else "-"


def plain(answer: Needs) -> Plain:
    """Turn needs into plain values."""
    return {
        "reference": answer.reference,
        "root": bare(answer.root),
        "platforms": [_image(image, answer.table) for image in answer.images],
        "warnings": warnings(answer.warnings),
    }


def _image(image: ImageNeeds, table: PlatformTable) -> Plain:
    decided = {kind: image.highest(kind, table) for kind in NeedKind}
    cpu, page = decided[NeedKind.CPU], decided[NeedKind.PAGE_SIZE]
    return {
        "platform": _name(image) if image.platform is not None else None,
        "digest": image.digest,
        "level": cpu.value if cpu is not None else None,
        "sure": cpu.sure.value if cpu is not None else _UNKNOWN,
        "complete": image.is_complete(NeedKind.CPU),
        "pageSize": int(page.value) if page is not None else None,
        "kernel": _text(decided[NeedKind.KERNEL]),
        "libc": _text(decided[NeedKind.LIBC]),
        "facts": [
            {
                "need": need.kind.value,
                "value": need.value or None,
                "sure": need.sure.value,
                "file": need.file,
                "layer": need.layer,
                "evidence": need.evidence,
            }
            for need in image.facts
        ],
        "unread": list(image.unread),
        "failures": [
            {"layer": str(digest), "message": str(error)} for digest, error in image.failures
        ],
        "layerBytesRead": image.bytes_read,
    }


def _text(need: NeedFact | None) -> str | None:
    return need.value if need is not None else None


def pairs(answer: Needs) -> list[tuple[str, str]]:
    """Return the digest and platform of each image."""
    return [(image.digest, _name(image)) for image in answer.images]
