"""Plain values of what was locked, and of what has moved since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.answer import Failure
from resolver.core.lock import Locked
from resolver.core.lock_check import Drift, LockCheck
from resolver.render.escape import escape
from resolver.render.plain import failure, platform, warnings

if TYPE_CHECKING:
    from resolver.core.findings import Finding
    from resolver.core.lock import LockedImage
    from resolver.render.plain import Plain


def plain(answer: object) -> Plain:
    """Turn an answer about a lock into plain values."""
    match answer:
        case Locked():
            return _locked(answer)
        case LockCheck():
            return _check(answer)
        case _:
            raise AssertionError(f"no plain form of {type(answer).__name__}")


def pairs(answer: object) -> list[tuple[str, str]] | None:
    """Give digest and pinned name of each reference; for a check, as they were locked."""
    match answer:
        case Locked():
            images = [one.image for one in answer.changes]
        case LockCheck():
            images = [one.image for one in answer.images if isinstance(one, Drift)]
        case _:
            return None
    return [(str(image.digest), image.pinned) for image in images]


def _locked(answer: Locked) -> Plain:
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


def _check(answer: LockCheck) -> Plain:
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


def _drift(drift: Drift) -> Plain:
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
