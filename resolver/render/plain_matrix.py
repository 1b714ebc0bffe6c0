"""Plain values of a matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.matrix import fields
from resolver.render.plain import bare, warnings

if TYPE_CHECKING:
    from resolver.core.matrix import Matrix
    from resolver.render.plain import Plain


def plain(answer: Matrix) -> Plain:
    """Turn a matrix into plain values."""
    return {
        "reference": answer.reference,
        "root": bare(answer.root),
        "include": [fields(job) for job in answer.jobs],
        "warnings": warnings(answer.warnings),
    }


def pairs(answer: Matrix) -> list[tuple[str, str]]:
    """Give the digest and the name of each job's image."""
    return [(str(job.digest), job.ref) for job in answer.jobs]
