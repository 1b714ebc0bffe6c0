"""Attestations: a table of states by platform, and one row for each that was found."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.results.attestations import KINDS
from resolver.render.answers.check import finding
from resolver.render.report import Report, ReportTable, short
from resolver.render.to_dict import bare, platform, warnings

if TYPE_CHECKING:
    from resolver.core.results.attestations import Attestation, Attestations, Coverage
    from resolver.render.to_dict import Plain

#: A digest in a reason, and what tables show of it.
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
_TITLES = {"sbom": "SBOM"}
_NOT_VERIFIED = "not verified: no key or identity was given"


def report(answer: Attestations, *, explain: bool = False, full: bool = False) -> Report:
    """Turn attestations into a report."""
    del explain
    facts = (
        ("image", answer.reference),
        ("index" if answer.root.is_index else "manifest", str(answer.root.digest)),
        ("trust", answer.verified_with or _NOT_VERIFIED),
    )
    titles = tuple(_TITLES.get(kind, kind) for kind in KINDS)
    coverage = ReportTable(
        "coverage",
        ("platform", *titles),
        tuple((row.label, *(_cell(row, kind) for kind in KINDS)) for row in answer.rows),
        tail=frozenset(titles),
    )
    found = tuple(
        (row.label, _TITLES.get(kind, kind), *_details(each, full=full))
        for row in answer.rows
        for kind in KINDS
        for each in row.of(kind)
    )
    columns = ("platform", "kind", "format", "signer", "manifest", "state")
    details = ReportTable(
        "attestations", columns, found, tail=frozenset({"state", "format", "signer"})
    )
    return Report(answer.reference, facts, (coverage, details) if found else (coverage,))


def _cell(row: Coverage, kind: str) -> str:
    """Return the best state and where that was found, and how many others there are."""
    found = row.of(kind)
    if not found:
        return "absent"
    best = found[0]
    others = f" (+{len(found) - 1})" if len(found) > 1 else ""
    return f"{best.state.value}, {_where(best)}{others}"


def _where(found: Attestation) -> str:
    return " and ".join(place.value for place in found.found)


def _details(found: Attestation, *, full: bool) -> tuple[str, ...]:
    reason = found.reason if full else _DIGEST.sub(r"\1", found.reason)
    return (
        f"{found.format}, {_where(found)}",
        found.signer or "-",
        short(found.manifest.digest, full=full),
        f"{found.state.value}: {reason}" if reason else found.state.value,
    )


def plain(answer: Attestations) -> Plain:
    """Turn attestations into plain values."""
    return {
        "reference": answer.reference,
        "root": bare(answer.root),
        "pinned": answer.pinned or None,
        "verifiedWith": answer.verified_with or None,
        "coverage": [_row(row) for row in answer.rows],
        "findings": [finding(each) for each in answer.findings],
        "warnings": warnings(answer.warnings),
    }


def _row(row: Coverage) -> Plain:
    return {
        "name": row.label,
        "platform": platform(row.platform) if row.platform is not None else None,
        "digest": str(row.digest),
        "index": row.is_index,
        "states": {kind: row.state(kind).value for kind in KINDS},
        "attestations": [_attestation(each) for kind in KINDS for each in row.of(kind)],
    }


def _attestation(found: Attestation) -> Plain:
    return {
        "kind": found.kind,
        "state": found.state.value,
        "type": found.type,
        "format": found.format,
        "found": [place.value for place in found.found],
        "signer": found.signer or None,
        "reason": found.reason or None,
        "manifest": bare(found.manifest),
        "blob": bare(found.blob) if found.blob is not None else None,
    }


def pairs(answer: Attestations) -> list[tuple[str, str]]:
    """Return the digest and name of the image."""
    return [(str(answer.root.digest), answer.pinned or str(answer.root.digest))]
