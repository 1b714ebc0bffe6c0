"""Reports about pinned files: what became of each reference, and what the rules say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.report import Report, Table, short

if TYPE_CHECKING:
    from resolver.core.findings import Finding
    from resolver.core.pinned import Pin, Pinned


def report(answer: Pinned, *, explain: bool = False, full: bool = False) -> Report:
    """Turn pinned files into a report."""
    del explain
    rows = tuple(_row(pin, full=full) for file in answer.files for pin in file.pins)
    columns = ("where", "image", "state", "digest")
    tables = [Table("images", columns, rows, whole=frozenset({"digest"}))] if rows else []
    if answer.findings:
        found = tuple(_finding(finding) for finding in answer.findings)
        tables.append(Table("findings", ("where", "rule", "message"), found))
    lines = () if tables else ("no file names an image",)
    return Report("pinned", (), tuple(tables), lines)


def _row(pin: Pin, *, full: bool) -> tuple[str, ...]:
    name = pin.written.partition("@")[0] or pin.written
    digest = short(pin.digest, full=full) if pin.digest is not None else "-"
    return (f"{pin.place.path}:{pin.place.line}", name, pin.state.value, digest)


def _finding(finding: Finding) -> tuple[str, ...]:
    place = finding.place
    where = f"{place.path}:{place.line}" if place is not None else "-"
    return (where, finding.rule, finding.message)
