"""Tags as a report and as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.report import Report, ReportTable

if TYPE_CHECKING:
    from resolver.core.registry.tags import Tags
    from resolver.render.to_dict import Plain


def report(answer: Tags, *, explain: bool = False, full: bool = False) -> Report:
    """Turn tags into a report."""
    del explain, full
    table = ReportTable("tags", ("tag",), tuple((name,) for name in answer.names))
    return Report(answer.repository, (), (table,))


def plain(answer: Tags) -> Plain:
    """Turn tags into plain values."""
    return {"repository": answer.repository, "tags": list(answer.names)}
