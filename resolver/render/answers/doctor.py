"""Checkups of this machine: groups of lines, or with `full` tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.results.doctor import GROUPS, CheckupState
from resolver.render.report import Report, ReportTable
from resolver.render.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.results.doctor import Checkup, CheckupRow, Fact
    from resolver.render.to_dict import Plain


#: "warning", with two spaces on each side.
_MARGIN = 11
_MARKS = {
    CheckupState.OK: "ok",
    CheckupState.NOTE: "note",
    CheckupState.WARNING: "warning",
    CheckupState.ERROR: "error",
}


def report(answer: Checkup, *, explain: bool, full: bool) -> Report:
    """Turn a checkup into a report; with `full`, one table per group."""
    del explain
    if full:
        tables = tuple(_table(answer, group) for group in _groups(answer))
        return Report("doctor", (("state", _summary(answer)),), tables)
    lines: list[str] = []
    for group in _groups(answer):
        lines += [group]
        for row in answer.rows:
            if row.group == group:
                lines += _lines(row)
        lines.append("")
    return Report("doctor", (), lines=(*lines, _summary(answer)))


def _groups(answer: Checkup) -> tuple[str, ...]:
    present = {row.group for row in answer.rows}
    return tuple(group for group, _title in GROUPS if group in present)


def _table(answer: Checkup, group: str) -> ReportTable:
    rows = tuple(
        (row.state.value, row.name, row.found, row.hint)
        for row in answer.rows
        if row.group == group
    )
    return ReportTable(group, ("state", "what", "found", "do"), rows)


def _lines(row: CheckupRow) -> Iterator[str]:
    """Return a row, with its hint below."""
    yield f"  {_MARKS[row.state]:<7}  {row.name}: {row.found}"
    if row.hint:
        yield f"{'':{_MARGIN}}hint: {row.hint}"


def _summary(answer: Checkup) -> str:
    errors, warnings = answer.count(CheckupState.ERROR), answer.count(CheckupState.WARNING)
    if not errors and not warnings:
        return "no problem found"
    parts = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((errors, "error"), (warnings, "warning"))
        if count
    ]
    return ", ".join(parts)


def plain(answer: Checkup) -> Plain:
    """Turn a checkup into plain values; a missing hint is null."""
    return {
        "version": answer.version,
        "state": answer.state.value,
        "rows": [_row(row) for row in answer.rows],
    }


def _row(row: CheckupRow) -> Plain:
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
        return [escape(item) for item in value]
    return escape(value) if isinstance(value, str) else value
