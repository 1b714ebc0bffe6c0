"""Reports about a matrix, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.report import Report, Table, short

if TYPE_CHECKING:
    from resolver.core.matrix import Matrix


def report(answer: Matrix, *, explain: bool = False, full: bool = False) -> Report:
    """Turn a matrix into a report."""
    del explain
    facts = (("image", answer.reference), ("digest", str(answer.root.digest)))
    rows = tuple(
        (str(job.platform), short(job.digest, full=full), job.runner or "-") for job in answer.jobs
    )
    return Report(answer.reference, facts, (Table("jobs", ("platform", "digest", "runner"), rows),))
