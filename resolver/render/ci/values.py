"""Values: what a pipeline needs from an answer, as named texts.

Remote text is escaped, so that a step that prints an output cannot run a CI command. With several
answers, a value has a line for each, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from resolver.core.lint.findings import Severity
from resolver.render.json import jsonl
from resolver.render.text import escape
from resolver.render.to_dict import SCHEMA, to_dict

if TYPE_CHECKING:
    from resolver.core.results.resolve import Failure
    from resolver.core.results.run import RunResult
    from resolver.render.to_dict import Plain


class Value(NamedTuple):
    """One value: a name of `[a-z_]`, and a text whose only control characters are line breaks."""

    name: str
    text: str


def values(result: RunResult) -> tuple[Value, ...]:
    """Return the values of a result, the most useful first; `json` has everything and is last."""
    rows = [_of(answer) for answer in result.answers]
    names = dict.fromkeys(name for row in rows for name in row)
    found = [Value("status", str(result.status))]
    found += [Value(name, "\n".join(row.get(name, "") for row in rows)) for name in names]
    found += _counted(result)
    found.append(Value("json", jsonl(_whole(result)).rstrip("\n")))
    return tuple(found)


def _of(answer: object) -> dict[str, str]:
    give = VALUES.get(type(answer).__qualname__)
    pairs = give(answer) if give is not None else ()
    texts = ((name, _text(value)) for name, value in pairs if value is not None)
    return {name: text for name, text in texts if text}


def _text(value: object) -> str:
    return "\n".join(escape(str(item)) for item in (value if isinstance(value, list) else [value]))


def _counted(result: RunResult) -> Iterable[Value]:
    """Yield the numbers of findings, if an answer can have findings."""
    if any(hasattr(answer, "findings") for answer in result.answers):
        found = result.findings
        errors = sum(finding.severity is Severity.ERROR for finding in found)
        warnings = sum(finding.severity is Severity.WARNING for finding in found)
        yield Value("findings", str(len(found)))
        yield Value("errors", str(errors))
        yield Value("warnings", str(warnings))


def _whole(result: RunResult) -> Plain:
    """Return all answers as `--json` does; without any, the failure."""
    written = [to_dict(answer) for answer in result.answers]
    if len(written) == 1:
        return written[0]
    if written or not result.faults:
        return {"schema": SCHEMA, "results": written}
    fault = result.faults[0]
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


#: Names and values; a list becomes a line for each member.
Pairs = Iterable[tuple[str, object]]


def _resolution(answer: Any) -> Pairs:
    yield "reference", answer.reference
    yield "digest", answer.manifest.digest
    yield "ref", answer.pinned
    yield "index_digest", answer.index.digest if answer.index is not None else None
    yield "index_ref", answer.pinned_index if answer.index is not None else None
    yield "platform", answer.platform
    yield "grade", answer.grade.value if answer.grade is not None else None


def _copied(answer: Any) -> Pairs:
    """Name each destination by tag and by digest: the next job wants one or the other."""
    roots = [
        one.target.before if one.target.done and one.target.before else answer.plan.root
        for one in answer.targets
    ]
    yield "reference", [one.target.name for one in answer.targets]
    yield "digest", [root.digest for root in roots]
    yield "bytes", sum(one.bytes_sent for one in answer.targets)


def _index_written(answer: Any) -> Pairs:
    yield "reference", answer.name
    yield "digest", answer.root.digest


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


def _attestations(answer: Any) -> Pairs:
    yield "reference", answer.reference
    yield "digest", answer.root.digest
    yield "verified_with", answer.verified_with or None


def _tags(answer: Any) -> Pairs:
    yield "repository", answer.repository
    yield "tags", ",".join(answer.names)


def _plan(answer: Any) -> Pairs:
    yield "missing_bytes", answer.bytes_missing


def _pulled(answer: Any) -> Pairs:
    images = [done.image for done in answer.images]
    yield "reference", [image.reference for image in images]
    yield "digest", [str(image.manifest.digest) for image in images]
    yield "ref", [image.pinned for image in images]
    yield "fetched_bytes", answer.bytes_fetched


def _matrix(answer: Any) -> Pairs:
    from resolver.render.answers.matrix import matrix_text  # noqa: PLC0415 - for this answer alone

    yield "reference", answer.reference
    yield "digest", answer.root.digest
    yield "matrix", matrix_text(answer).rstrip("\n") if answer.system == "github" else None


def _quota(answer: Any) -> Pairs:
    yield "limit", answer.limit
    yield "remaining", answer.remaining


def _locked(answer: Any) -> Pairs:
    images = [one.image for one in answer.changes]
    yield "lock_file", answer.path
    yield "reference", [image.reference for image in images]
    yield "digest", [str(image.digest) for image in images]
    yield "ref", [image.pinned for image in images]


def _lock_check(answer: Any) -> Pairs:
    yield "lock_file", answer.path
    # A reference that failed may have moved, so do not report "false".
    yield "drifted", "true" if answer.drifted else None if answer.failures else "false"
    yield "moved", ",".join(dict.fromkeys(finding.subject for finding in answer.findings))


def _linted(answer: Any) -> Pairs:
    yield "reference", [image.reference for image in answer.looked_at]
    yield "digest", [str(image.root.digest) for image in answer.looked_at if image.root]


def _checked(answer: Any) -> Pairs:
    images = answer.looked_at
    yield "passed", "true" if answer.passed else "false"
    yield "reference", [image.reference for image in images]
    yield "digest", [str(image.root.digest) for image in images]
    yield "ref", [image.pinned for image in images]
    yield "platforms", [",".join(image.platforms) for image in images]
    yield "failing", [image.reference for image in images if not image.passed]


def _pinned(answer: Any) -> Pairs:
    states = [pin.state.value for file in answer.files for pin in file.pins]
    yield "changed_files", [file.path for file in answer.files if file.is_changed]
    for state in ("pinned", "updated", "kept", "unpinned", "ignored", "not pinnable", "failed"):
        yield state.replace(" ", "_"), states.count(state)


def _comparison(answer: Any) -> Pairs:
    yield "reference", answer.reference
    yield "digest", answer.root.digest
    yield "platforms", ",".join(build.name for build in answer.builds)
    yield "missing", ",".join(str(platform) for platform in answer.missing)
    yield from _reasons(answer)


def _image_comparison(answer: Any) -> Pairs:
    yield "reference", answer.second
    yield "base_reference", answer.first
    yield "digest", answer.second_root.digest
    yield "base_digest", answer.first_root.digest
    yield "same", "true" if answer.is_same else "false"
    changes = [change.change.value for change in answer.changes]
    for word in ("unchanged", "rewritten", "changed", "added", "removed"):
        yield word, changes.count(word)
    yield "fetch_bytes", answer.fetch.bytes
    yield "missing", ",".join(str(platform) for platform in answer.missing)
    yield from _reasons(answer)


def _reasons(answer: Any) -> Pairs:
    """Yield the aspects that differ, each once, and the messages."""
    yield "differs_in", ",".join(dict.fromkeys(reason.aspect for reason in answer.reasons))
    yield "reasons", [reason.message for reason in answer.reasons]


#: Values with a name of their own, by the class of the answer. An answer without a row has only
#: `status`, the number of its findings, and `json`.
VALUES: dict[str, Callable[[Any], Pairs]] = {
    "Resolution": _resolution,
    "Failure": _failure,
    "Offers": _offers,
    "Inspection": _inspection,
    "Tags": _tags,
    "Linted": _linted,
    "Checked": _checked,
    "Comparison": _comparison,
    "ImageComparison": _image_comparison,
    "Attestations": _attestations,
    "LockCheck": _lock_check,
    "Locked": _locked,
    "Plan": _plan,
    "Matrix": _matrix,
    "Pinned": _pinned,
    "Quota": _quota,
    "Pulled": _pulled,
    "Copied": _copied,
    "IndexWritten": _index_written,
}
