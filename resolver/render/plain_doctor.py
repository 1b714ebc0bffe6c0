"""Plain values of a checkup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.escape import escape

if TYPE_CHECKING:
    from resolver.core.checkup import Checkup, Fact, Row
    from resolver.render.plain import Plain


def plain(answer: Checkup) -> Plain:
    """Turn a checkup into plain values; a row without a hint has null there."""
    return {
        "version": answer.version,
        "state": answer.state.value,
        "rows": [_row(row) for row in answer.rows],
    }


def _row(row: Row) -> Plain:
    return {
        "group": row.group,
        "name": escape(row.name),
        "state": row.state.value,
        "found": escape(row.found),
        "hint": escape(row.hint) if row.hint else None,
        "facts": {name: _fact(value) for name, value in row.facts},
    }


def _fact(value: Fact) -> object:
    if isinstance(value, tuple):
        return [escape(each) for each in value]
    return escape(value) if isinstance(value, str) else value


def pairs(answer: object) -> None:
    """Say that a checkup names no images."""
    del answer
