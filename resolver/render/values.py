"""Values: what a pipeline wants of an answer, as names with a text each.

Texts from elsewhere are escaped (R50): a step that echoes an output cannot be made to say a
command. Several answers give a line each under one name, in the order asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from resolver.core.findings import Severity
from resolver.render.escape import escape
from resolver.render.json import jsonl
from resolver.render.plain import SCHEMA, plain

if TYPE_CHECKING:
    from resolver.core.answer import Failure
    from resolver.core.ending import Ending
    from resolver.render.plain import Plain


class Value(NamedTuple):
    """One value: a name of `[a-z_]`, and its text; no control character but line breaks."""

    name: str
    text: str


def values(ending: Ending) -> tuple[Value, ...]:
    """Give what a pipeline can use, the most useful first; `json` holds everything, and is last."""
    rows = [_of(answer) for answer in ending.answers]
    names = dict.fromkeys(name for row in rows for name in row)
    found = [Value("status", str(ending.status))]
    for name in names:
        texts = [escape(row.get(name, "")) for row in rows]
        found.append(Value(name, "\n".join(texts)))
    found += _counted(ending)
    found.append(Value("json", jsonl(_whole(ending)).rstrip("\n")))
    return tuple(found)


def _of(answer: object) -> dict[str, str]:
    """Look an answer's values up; empty ones are left out."""
    give = VALUES.get(type(answer).__qualname__)
    pairs = give(answer) if give is not None else ()
    return {name: str(value) for name, value in pairs if value not in {None, ""}}


def _counted(ending: Ending) -> Iterable[Value]:
    """Count what rules found, where the answers are of the kind that has findings."""
    if any(hasattr(answer, "findings") for answer in ending.answers):
        found = ending.findings
        errors = sum(finding.severity is Severity.ERROR for finding in found)
        warnings = sum(finding.severity is Severity.WARNING for finding in found)
        yield Value("findings", str(len(found)))
        yield Value("errors", str(errors))
        yield Value("warnings", str(warnings))


def _whole(ending: Ending) -> Plain:
    """Give all answers as `--json` would; without any, what went wrong."""
    told = [plain(answer) for answer in ending.answers]
    if len(told) == 1:
        return told[0]
    if told or not ending.faults:
        return {"schema": SCHEMA, "results": told}
    fault = ending.faults[0]
    return {
        "schema": SCHEMA,
        "error": {
            "class": fault.word,
            "code": fault.code,
            "status": fault.status,
            "message": escape(fault.message),
            "hints": [escape(hint) for hint in fault.hints],
        },
    }


Pairs = Iterable[tuple[str, object]]


def _resolution(answer: Any) -> Pairs:
    yield "reference", answer.reference
    yield "digest", answer.manifest.digest
    yield "ref", answer.pinned
    yield "index_digest", answer.index.digest if answer.index is not None else None
    yield "index_ref", answer.pinned_index if answer.index is not None else None
    yield "platform", answer.platform
    yield "grade", answer.grade.value if answer.grade is not None else None


def _failure(answer: Failure) -> Pairs:
    yield "reference", answer.reference


def _offers(answer: Any) -> Pairs:
    yield "reference", answer.reference
    yield "digest", answer.root.digest
    yield "platforms", ",".join(str(offer.platform) for offer in answer.offers if offer.platform)


def _inspection(answer: Any) -> Pairs:
    yield "reference", answer.reference
    yield "digest", answer.descriptor.digest
    yield "index_digest", answer.root.digest if answer.root.is_index else None
    yield "platform", answer.platform


def _tags(answer: Any) -> Pairs:
    yield "repository", answer.repository
    yield "tags", ",".join(answer.names)


def _plan(answer: Any) -> Pairs:
    yield "missing_bytes", answer.bytes_missing


def _pulled(answer: Any) -> Pairs:
    images = [done.image for done in answer.images]
    yield "reference", "\n".join(image.reference for image in images)
    yield "digest", "\n".join(str(image.manifest.digest) for image in images)
    yield "ref", "\n".join(image.pinned for image in images)
    yield "fetched_bytes", answer.bytes_fetched


def _matrix(answer: Any) -> Pairs:
    from resolver.render.matrix import tell_matrix  # noqa: PLC0415 - for this answer alone

    yield "reference", answer.reference
    yield "digest", answer.root.digest
    yield "matrix", tell_matrix(answer).rstrip("\n") if answer.system == "github" else None


def _quota(answer: Any) -> Pairs:
    yield "limit", answer.limit
    yield "remaining", answer.remaining


def _locked(answer: Any) -> Pairs:
    images = [one.image for one in answer.changes]
    yield "lock_file", answer.path
    yield "reference", "\n".join(image.reference for image in images)
    yield "digest", "\n".join(str(image.digest) for image in images)
    yield "ref", "\n".join(image.pinned for image in images)


def _lock_check(answer: Any) -> Pairs:
    yield "lock_file", answer.path
    yield "drifted", "true" if answer.drifted else "false"
    yield "moved", ",".join(dict.fromkeys(finding.subject for finding in answer.findings))


#: What is worth a name of its own, by the name of the answer's class. An answer without a row
#: gives `status`, the number of its findings, and `json`.
VALUES: dict[str, Callable[[Any], Pairs]] = {
    "Resolution": _resolution,
    "Failure": _failure,
    "Offers": _offers,
    "Inspection": _inspection,
    "Tags": _tags,
    "LockCheck": _lock_check,
    "Locked": _locked,
    "Plan": _plan,
    "Matrix": _matrix,
    "Quota": _quota,
    "Pulled": _pulled,
}
