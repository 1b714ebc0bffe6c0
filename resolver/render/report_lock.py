"""Reports of what was locked, and of what has moved since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.answer import Failure
from resolver.core.lock import Locked
from resolver.core.lock_check import Drift, LockCheck
from resolver.render.report import Report, Table, short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.digest import Digest
    from resolver.core.lock_check import Pair

_NOTHING = "-"


def report(answer: object, *, explain: bool = False, full: bool = False) -> Report:
    """Turn an answer about a lock into a report."""
    del explain  # there is nothing more to say
    match answer:
        case Locked():
            return _locked(answer, full=full)
        case LockCheck():
            return _check(answer, full=full)
        case _:
            raise AssertionError(f"no report for {type(answer).__name__}")


def _locked(answer: Locked, *, full: bool) -> Report:
    facts = [("lock", answer.path), ("holds", _count(len(answer.lock.images)))]
    if not answer.written:
        facts.append(("written", "no: a reference could not be looked up"))
    rows = tuple(
        (
            one.change,
            one.image.written,
            short(one.image.digest, full=full),
            str(len(one.image.platforms)),
        )
        for one in answer.changes
    )
    columns = ("change", "reference", "digest", "platforms")
    table = Table(
        "references",
        columns,
        rows,
        frozenset({"platforms"}),
        frozenset({"change", "digest", "platforms"}),
        frozenset({"reference"}),
    )
    return Report(answer.path, tuple(facts), (table,))


def _check(answer: LockCheck, *, full: bool) -> Report:
    same = sum(isinstance(one, Drift) and not one.drifted for one in answer.images)
    facts = [("lock", answer.path), ("same", f"{same} of {_count(len(answer.images))}")]
    if answer.wanted:
        facts.append(("platform", ", ".join(answer.wanted)))
    told = tuple(_told(one) for one in answer.images)
    tail = frozenset({"reference"})
    kept = frozenset({"state"})
    tables = [Table("references", ("state", "reference"), told, whole=kept, tail=tail)]
    moved = tuple(
        row
        for one in answer.images
        if isinstance(one, Drift) and one.findings
        for row in _moved(one, full=full)
    )
    if moved:
        columns = ("reference", "platform", "locked", "now")
        kept = frozenset({"platform", "locked", "now"})
        tables.append(Table("moved", columns, moved, whole=kept, tail=tail))
    return Report(answer.path, tuple(facts), tuple(tables))


def _told(one: Drift | Failure) -> tuple[str, str]:
    if isinstance(one, Failure):
        return f"error: {getattr(one.error, 'code', 'error')}", one.reference
    return one.state, one.image.written


def _moved(drift: Drift, *, full: bool) -> Iterator[tuple[str, ...]]:
    """Give a row for the whole, then one for each platform."""
    written = drift.image.written
    now = _digest(drift.current, full=full) if drift.current is not None else "gone"
    kind = "(index)" if drift.image.is_index else "(image)"
    yield written, kind, _digest(drift.image.digest, full=full), now
    if drift.image.is_index or len(drift.platforms) > 1:
        for pair in drift.platforms:
            yield written, pair.platform, *_sides(pair, full=full)


def _sides(pair: Pair, *, full: bool) -> tuple[str, str]:
    before, after = pair.before, pair.after
    locked = _digest(before.digest, full=full) if before is not None else _NOTHING
    if after is None:
        return locked, "removed"
    if before is not None and before.digest == after.digest:
        return locked, "same"
    return locked, _digest(after.digest, full=full)


def _digest(digest: Digest, *, full: bool) -> str:
    return short(digest, full=full)


def _count(number: int) -> str:
    return "1 reference" if number == 1 else f"{number} references"
