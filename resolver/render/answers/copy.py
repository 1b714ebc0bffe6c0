"""Copies, planned and done, syncs, and indexes that were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.oci.manifest import counted
from resolver.core.results.copy import (
    Copied,
    CopyPlan,
    CopyState,
    IndexWritten,
    Synced,
)
from resolver.errors import megabytes
from resolver.render.answers.plan import left_out, left_out_words
from resolver.render.report import Report, ReportTable, short
from resolver.render.to_dict import bare, descriptor, failure, platform, warnings

if TYPE_CHECKING:
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.results.copy import CopiedTarget, CopyEntry, CopyTarget
    from resolver.render.to_dict import Plain

Answer = CopyPlan | Copied | Synced | IndexWritten


def report(answer: Answer, *, explain: bool = False, full: bool = False) -> Report:
    """Turn a copy into a report."""
    del explain
    match answer:
        case CopyPlan():
            return Report(
                "copy",
                (*_facts(answer, full=full), ("to send", megabytes(answer.bytes_to_send))),
                (_planned(answer),),
            )
        case Copied():
            return Report("copied", _facts(answer.plan, full=full), (_done(answer, full=full),))
        case Synced():
            return _synced(answer, full=full)
        case IndexWritten():
            return _index(answer, full=full)


def _facts(plan: CopyPlan, *, full: bool) -> tuple[tuple[str, str], ...]:
    facts = [("from", plan.source), ("digest", short(plan.root.digest, full=full))]
    if plan.root.digest != plan.original.digest:
        facts.append(("original", short(plan.original.digest, full=full)))
    kinds = [entry.kind for entry in (*plan.entries, *plan.referrers)]
    facts += [("content", counted(kinds))] if kinds else []
    facts += [("left out", left_out_words(plan.left_out))] if plan.left_out else []
    facts += _uncovered(plan.uncovered, full=full)
    return tuple(facts)


def _uncovered(found: tuple[Descriptor, ...], *, full: bool) -> list[tuple[str, str]]:
    """Name what refers to the old index alone."""
    names = [
        f"{one.artifact_type or one.media_type} {short(one.digest, full=full)}" for one in found
    ]
    return [("detached", f"{', '.join(names)} (about the old index)")] if names else []


def _index(answer: IndexWritten, *, full: bool) -> Report:
    state = answer.done or ("not written (--dry-run)" if answer.is_dry else "written")
    facts = [("name", answer.name), ("digest", short(answer.root.digest, full=full))]
    if answer.before is not None and answer.before.digest != answer.root.digest:
        facts.append(("before", short(answer.before.digest, full=full)))
    facts += [("state", state), ("sent", megabytes(answer.bytes_sent))]
    facts += _uncovered(answer.uncovered, full=full)
    rows = tuple(
        (
            str(entry.descriptor.platform) if entry.descriptor.platform is not None else "-",
            entry.kind,
            short(entry.descriptor.digest, full=full),
            entry.source,
        )
        for entry in answer.entries
    )
    columns = ("platform", "kind", "digest", "where")
    return Report(
        "index", tuple(facts), (ReportTable("entries", columns, rows, whole=frozenset({"digest"})),)
    )


def _planned(plan: CopyPlan) -> ReportTable:
    rows = []
    for target in plan.targets:
        cells = [_amount(*target.count(state)) for state in CopyState]
        rows.append((target.name, target.done or "to copy", *cells, str(target.requests)))
    columns = ("name", "state", "present", "to mount", "to send", "requests")
    return ReportTable("destinations", columns, tuple(rows), right=frozenset({"requests"}))


def _amount(count: int, size: int) -> str:
    return f"{count} ({megabytes(size)})" if count else "0"


def _done(answer: Copied, *, full: bool) -> ReportTable:
    rows = tuple(_row(answer.plan, one, full=full) for one in answer.targets)
    columns = ("name", "digest", "state", "sent", "mounted", "present")
    right = frozenset({"mounted", "present"})
    return ReportTable("destinations", columns, rows, right=right, whole=frozenset({"digest"}))


def _row(plan: CopyPlan, one: CopiedTarget, *, full: bool, is_dry: bool = False) -> tuple[str, ...]:
    root = plan.root
    if one.target.done and one.target.before is not None:
        root = one.target.before
    return (
        one.target.name,
        short(root.digest, full=full),
        one.target.done or ("to copy" if is_dry else "copied"),
        _amount(one.sent, one.target.bytes_to_send if is_dry else one.bytes_sent),
        str(one.mounted),
        str(one.present),
    )


def _synced(answer: Synced, *, full: bool) -> Report:
    rows = tuple(
        (copied.plan.source, *_row(copied.plan, one, full=full, is_dry=answer.is_dry)[:4])
        for copied in answer.copies
        for one in copied.targets
    )
    table = ReportTable(
        "copies", ("image", "name", "digest", "state", "sent"), rows, whole=frozenset({"digest"})
    )
    done = sum(not one.target.done for copied in answer.copies for one in copied.targets)
    facts = (
        ("to copy" if answer.is_dry else "copied", str(done)),
        ("same", str(len(rows) - done)),
    )
    return Report("sync", facts, (table,))


def plain(answer: Answer) -> Plain:
    """Turn a copy into plain values."""
    match answer:
        case CopyPlan():
            return {**_plan(answer), "destinations": [_target(each) for each in answer.targets]}
        case Copied():
            return _copied(answer)
        case Synced():
            return {
                "copies": [_copied(each) for each in answer.copies],
                "failures": [
                    {"reference": each.reference, **failure(each.error)} for each in answer.failures
                ],
            }
        case IndexWritten():
            before = answer.before
            return {
                "name": answer.name,
                "root": bare(answer.root),
                "before": bare(before) if before is not None else None,
                "entries": [
                    {"kind": entry.kind, "from": entry.source, **descriptor(entry.descriptor)}
                    for entry in answer.entries
                ],
                "notCovered": [descriptor(each) for each in answer.uncovered],
                "bytesSent": answer.bytes_sent,
                "done": answer.done or None,
                "dryRun": answer.is_dry,
            }


def _copied(answer: Copied) -> Plain:
    return {
        **_plan(answer.plan),
        "destinations": [
            {
                **_target(one.target),
                "sent": one.sent,
                "mounted": one.mounted,
                "present": one.present,
                "bytesSent": one.bytes_sent,
            }
            for one in answer.targets
        ],
        "failures": [
            {"reference": each.reference, **failure(each.error)} for each in answer.failures
        ],
    }


def _plan(plan: CopyPlan) -> Plain:
    return {
        "from": plan.source,
        "root": bare(plan.root),
        "original": bare(plan.original),
        "filtered": plan.root.digest != plan.original.digest,
        "entries": [_entry(each) for each in plan.entries],
        "referrers": [_entry(each) for each in plan.referrers],
        "leftOut": left_out(plan.left_out),
        "notCovered": [descriptor(each) for each in plan.uncovered],
        "bytesToSend": plan.bytes_to_send,
        "warnings": warnings(plan.warnings),
    }


def _entry(entry: CopyEntry) -> Plain:
    return {
        "kind": entry.kind,
        "manifest": bare(entry.manifest),
        "platform": platform(entry.platform) if entry.platform is not None else None,
        "refersTo": str(entry.about) if entry.about is not None else None,
        "tag": entry.tag or None,
    }


def _target(target: CopyTarget) -> Plain:
    return {
        "name": target.name,
        "tag": target.tag or None,
        "before": bare(target.before) if target.before is not None else None,
        "done": target.done or None,
        "requests": target.requests,
        "pieces": [
            {
                **bare(piece.descriptor),
                "role": piece.role,
                "state": piece.state.value,
                "mountFrom": piece.mount or None,
            }
            for piece in target.pieces
        ],
    }


def pairs(answer: Answer) -> list[tuple[str, str]] | None:
    """Return the digest and name of each image at its destination."""
    match answer:
        case IndexWritten():
            return [(str(answer.root.digest), answer.name)]
        case Copied():
            return [_pair(answer, one) for one in answer.targets]
        case Synced():
            return [_pair(copied, one) for copied in answer.copies for one in copied.targets]
        case _:
            return None


def _pair(answer: Copied, one: CopiedTarget) -> tuple[str, str]:
    kept = one.target.before if one.target.done else None
    return str((kept or answer.plan.root).digest), one.target.name
