"""Lock files: what was locked, and what has changed since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.lockfile.drift import LockCheck, LockDrift
from resolver.core.lockfile.lock import Locked
from resolver.core.results.resolve import Failure
from resolver.render.report import Report, ReportTable, short
from resolver.render.text import escape
from resolver.render.to_dict import failure, platform, warnings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.lint.findings import Finding
    from resolver.core.lockfile.drift import PlatformPair
    from resolver.core.lockfile.lock import LockedImage
    from resolver.core.oci.digest import Digest
    from resolver.render.to_dict import Plain


_NOTHING = "-"


def report(answer: object, *, explain: bool = False, full: bool = False) -> Report:
    """Turn an answer about a lock file into a report."""
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
        facts.append(("written", "no: a reference could not be resolved"))
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
    table = ReportTable(
        "references",
        columns,
        rows,
        frozenset({"platforms"}),
        frozenset({"change", "digest", "platforms"}),
        frozenset({"reference"}),
    )
    return Report(answer.path, tuple(facts), (table,))


def _check(answer: LockCheck, *, full: bool) -> Report:
    same = sum(isinstance(one, LockDrift) and not one.drifted for one in answer.images)
    facts = [("lock", answer.path), ("same", f"{same} of {_count(len(answer.images))}")]
    if answer.wanted:
        facts.append(("platform", ", ".join(answer.wanted)))
    rows = tuple(_state_row(one) for one in answer.images)
    tail = frozenset({"reference"})
    kept = frozenset({"state"})
    tables = [ReportTable("references", ("state", "reference"), rows, whole=kept, tail=tail)]
    moved = tuple(
        row
        for one in answer.images
        if isinstance(one, LockDrift) and one.findings
        for row in _moved(one, full=full)
    )
    if moved:
        columns = ("reference", "platform", "locked", "now")
        kept = frozenset({"platform", "locked", "now"})
        tables.append(ReportTable("moved", columns, moved, whole=kept, tail=tail))
    return Report(answer.path, tuple(facts), tuple(tables))


def _state_row(one: LockDrift | Failure) -> tuple[str, str]:
    if isinstance(one, Failure):
        return f"error: {getattr(one.error, 'code', 'error')}", one.reference
    return one.state, one.image.written


def _moved(drift: LockDrift, *, full: bool) -> Iterator[tuple[str, ...]]:
    """Return a row for the image, then one for each platform."""
    written = drift.image.written
    now = _digest(drift.current, full=full) if drift.current is not None else "gone"
    kind = "(index)" if drift.image.is_index else "(image)"
    yield written, kind, _digest(drift.image.digest, full=full), now
    if drift.image.is_index or len(drift.platforms) > 1:
        for pair in drift.platforms:
            yield written, pair.platform, *_sides(pair, full=full)


def _sides(pair: PlatformPair, *, full: bool) -> tuple[str, str]:
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


def plain(answer: object) -> Plain:
    """Turn an answer about a lock file into plain values."""
    match answer:
        case Locked():
            return _lock_values(answer)
        case LockCheck():
            return _lock_check_values(answer)
        case _:
            raise AssertionError(f"no plain form of {type(answer).__name__}")


def pairs(answer: object) -> list[tuple[str, str]] | None:
    """Return the digest and pinned reference of each image; for a check, as locked."""
    match answer:
        case Locked():
            images = [one.image for one in answer.changes]
        case LockCheck():
            images = [one.image for one in answer.images if isinstance(one, LockDrift)]
        case _:
            return None
    return [(str(image.digest), image.pinned) for image in images]


def _lock_values(answer: Locked) -> Plain:
    return {
        "file": answer.path,
        "written": answer.written,
        "references": len(answer.lock.images),
        "changes": [{"change": one.change, **_image(one.image)} for one in answer.changes],
        "failures": [_failure(one) for one in answer.failures],
        "warnings": warnings(answer.warnings),
    }


def _image(image: LockedImage) -> Plain:
    return {
        "reference": image.reference,
        "written": image.written,
        "digest": str(image.digest),
        "mediaType": image.media_type or None,
        "size": image.size,
        "pinned": image.pinned,
        "only": list(image.only),
        "platforms": [
            {
                "name": one.key,
                "platform": platform(one.platform),
                "digest": str(one.digest),
                "mediaType": one.media_type or None,
                "size": one.size,
            }
            for one in image.platforms
        ],
    }


def _lock_check_values(answer: LockCheck) -> Plain:
    return {
        "file": answer.path,
        "wanted": list(answer.wanted),
        "drifted": answer.drifted,
        "references": [
            _failure(one) if isinstance(one, Failure) else _drift(one) for one in answer.images
        ],
        "findings": [_finding(one) for one in answer.findings],
        "warnings": warnings(answer.warnings),
    }


def _drift(drift: LockDrift) -> Plain:
    return {
        "reference": drift.image.reference,
        "state": drift.state,
        "drifted": drift.drifted,
        "locked": str(drift.image.digest),
        "current": str(drift.current) if drift.current is not None else None,
        "platforms": [
            {
                "name": pair.platform,
                "locked": str(pair.before.digest) if pair.before is not None else None,
                "current": str(pair.after.digest) if pair.after is not None else None,
            }
            for pair in drift.platforms
        ],
    }


def _failure(one: Failure) -> Plain:
    return {"reference": one.reference, **failure(one.error)}


def _finding(finding: Finding) -> Plain:
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "message": escape(finding.message),
        "subject": finding.subject,
        "platform": finding.platform or None,
        "digest": finding.digest or None,
        "hint": finding.hint or None,
    }
