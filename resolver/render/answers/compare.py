"""Comparisons: the platforms of an image, or two images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.compare.compare import ChangeKind, Comparison
from resolver.core.compare.drift import DIMENSIONS, Dimension, Unit
from resolver.errors import megabytes
from resolver.render.answers.files import (
    cut,
    delta_words,
    file_tables,
    files,
    mark,
    step_words,
    value_words,
)
from resolver.render.report import Report, ReportTable, short
from resolver.render.to_dict import bare, platform, warnings

if TYPE_CHECKING:
    from resolver.core.compare.builds import Amount, Build, Group
    from resolver.core.compare.compare import CompareReason, ImageComparison, PlatformChange
    from resolver.core.compare.drift import Drift
    from resolver.core.compare.history import History, HistoryRow, Step
    from resolver.core.platforms.platform import Platform
    from resolver.render.to_dict import Plain


def images_report(answer: ImageComparison, *, full: bool) -> Report:
    """Turn a comparison of two images into a report; one line if they are the same."""
    attached = attestation_tables(answer)
    if answer.is_same:
        return Report("compare", (), attached, (f"same: {answer.first_root.digest}",))
    tables = (
        _changes(answer),
        _image_drift(answer),
        _steps(answer),
        *file_tables(answer, full=full),
        *attached,
    )
    return Report("compare", image_facts(answer), tables)


def attestation_tables(answer: ImageComparison) -> tuple[ReportTable, ...]:
    """Return the table of attestations that differ; none if they were not looked up."""
    if answer.attestations is None:
        return ()
    rows = tuple(
        (each.name, each.kind, each.before.value, each.after.value) for each in answer.attestations
    )
    return (ReportTable("attestations", ("platform", "kind", "from", "to"), rows),)


def image_facts(answer: ImageComparison) -> tuple[tuple[str, str], ...]:
    """Return the compared references and the totals."""
    facts = [
        ("from", answer.first),
        ("", str(answer.first_root.digest)),
        ("to", answer.second),
        ("", str(answer.second_root.digest)),
        ("result", change_words(answer)),
        ("fetch", fetch_words(answer)),
    ]
    if answer.missing:
        facts.append(("missing", ", ".join(str(platform) for platform in answer.missing)))
    return tuple(facts)


def change_words(answer: ImageComparison) -> str:
    """Return the number of platforms per change."""
    counts = [f"{answer.count(kind)} {kind.value}" for kind in ChangeKind if answer.count(kind)]
    return ", ".join(counts) or "no platforms"


def fetch_words(answer: ImageComparison) -> str:
    """Return what must be fetched for the second image if the first is held."""
    layers = f"{answer.fetch.layers} layers" if answer.fetch.layers != 1 else "1 layer"
    return f"{megabytes(answer.fetch.bytes)}: {layers} and new documents"


def _changes(answer: ImageComparison) -> ReportTable:
    rows = tuple(
        (
            f"{number}",
            change.name,
            change.change.value,
            megabytes(change.before.size) if change.before else "-",
            megabytes(change.after.size) if change.after else "-",
            delta_words(change.delta) if change.before and change.after else "-",
            megabytes(change.fetch.bytes) if change.after else "-",
        )
        for number, change in enumerate(answer.changes, 1)
    )
    columns = ("#", "platform", "result", "from", "to", "delta", "fetch")
    return ReportTable("platforms", columns, rows, frozenset({"#", "from", "to", "delta", "fetch"}))


def _image_drift(answer: ImageComparison) -> ReportTable:
    """List each change of a value once, with the numbers of its platforms."""
    found: dict[Drift, list[int]] = {}
    for number, change in enumerate(answer.changes, 1):
        for drift in change.drift:
            found.setdefault(drift, []).append(number)
    rows = tuple(
        (drift.name, _numbers(numbers), *(value_words(value) for value in drift.values))
        for drift, numbers in found.items()
    )
    return ReportTable("drift", ("what", "#", "from", "to"), rows, whole=frozenset({"#"}))


def _numbers(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _steps(answer: ImageComparison) -> ReportTable:
    """List each step that differs or made another layer, once for all its platforms."""
    found: dict[tuple[str, ...], list[int]] = {}
    for number, change in enumerate(answer.changes, 1):
        for row in step_rows(change):
            found.setdefault(row, []).append(number)
    rows = tuple((_numbers(numbers), *row) for row, numbers in found.items())
    columns, right = ("#", "from", "to", "step"), frozenset({"from", "to"})
    return ReportTable("steps that differ", columns, rows, right, frozenset({"#"}))


def step_rows(change: PlatformChange) -> list[tuple[str, ...]]:
    """List the steps of a platform that differ or made another layer."""
    rows = []
    for row in change.history.rows if change.history is not None else ():
        layers = [step.layer.digest if step and step.layer else None for step in row.steps]
        if not row.is_same or layers[0] != layers[1]:
            rows.append((*(step_words(step) for step in row.steps), cut(row.instruction)))
    return rows


#: Builds whose sizes fit side by side into 80 columns; more are summarised.
_SIDE_BY_SIDE = 5


def report(
    answer: Comparison | ImageComparison, *, explain: bool = False, full: bool = False
) -> Report:
    """Turn a comparison into a report."""
    del explain
    if not isinstance(answer, Comparison):
        return images_report(answer, full=full)
    tables = [_sizes(answer), _documents(answer, full=full)]
    if len(answer.builds) > 1:
        tables += [_sharing(answer, full=full), _drift(answer)]
    tables.append(_history(answer, full=full))
    tables += _unmatched(answer, full=full)
    tables += file_tables(answer, full=full)
    return Report(answer.reference, facts_of(answer), tuple(tables))


def facts_of(answer: Comparison) -> tuple[tuple[str, str], ...]:
    """Return the compared references and the totals."""
    root = "index" if answer.root.is_index else "manifest"
    facts = [("image", answer.reference), (root, str(answer.root.digest))]
    if len(answer.builds) > 1:
        facts.append(("base", answer.builds[answer.base].name))
        facts.append(("stored", stored_words(answer)))
    if answer.missing:
        facts.append(("missing", ", ".join(str(platform) for platform in answer.missing)))
    elif answer.expected:
        facts.append(("expected", f"all {len(answer.expected)} offered"))
    reasons: dict[str, list[int]] = {}
    for number, reason in enumerate(answer.history.unmatched, 1):
        reasons.setdefault(reason, []).append(number)
    facts += [("steps", f"{_ranges(them)}: {why}") for why, them in reasons.items() if why]
    return tuple(facts)


def _ranges(numbers: list[int]) -> str:
    """Format ascending numbers: `1-3, 5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def stored_words(answer: Comparison) -> str:
    """Return the size of all builds stored together and separately."""
    stored, summed = answer.sharing.stored, answer.sharing.summed
    count = len(answer.builds)
    return f"{megabytes(stored.bytes)} for all {count}; one by one {megabytes(summed.bytes)}"


def _sizes(answer: Comparison) -> ReportTable:
    rows = []
    for position, build in enumerate(answer.builds):
        ratio = answer.ratio(position)
        is_base = position == answer.base
        rows.append(
            (
                f"{position + 1}",
                build.name,
                megabytes(build.size),
                "base" if is_base else delta_words(answer.delta(position)),
                "-" if is_base or ratio is None else f"{ratio:.2f}x",
                megabytes(answer.sharing.shared(position).bytes),
                megabytes(answer.sharing.own[position].bytes),
            )
        )
    columns = ("#", "platform", "size", "delta", "ratio", "shared", "own")
    right = frozenset({"#", "size", "delta", "ratio", "shared", "own"})
    return ReportTable("sizes", columns, tuple(rows), right)


def _documents(answer: Comparison, *, full: bool) -> ReportTable:
    rows = tuple(
        (
            f"{position + 1}",
            str(len(build.manifest.layers)),
            build.config.created or "-",
            short(build.descriptor.digest, full=full),
            short(build.config_digest, full=full),
        )
        for position, build in enumerate(answer.builds)
    )
    columns = ("#", "layers", "created", "manifest", "config")
    return ReportTable(
        "documents", columns, rows, frozenset({"#", "layers"}), frozenset({"manifest", "config"})
    )


def _sharing(answer: Comparison, *, full: bool) -> ReportTable:
    """List shared layers per pair of builds or, if that is too wide, per layer."""
    if len(answer.builds) > _SIDE_BY_SIDE and not full:
        return _groups(answer)
    numbers = tuple(f"{position + 1}" for position in range(len(answer.builds)))
    rows = tuple(
        (number, *(_amount(item, is_self=row == column) for column, item in enumerate(amounts)))
        for row, (number, amounts) in enumerate(zip(numbers, answer.sharing.matrix, strict=True))
    )
    title = "shared layers, bytes and how many"
    return ReportTable(
        title,
        ("#", *(f"with {n}" for n in numbers)),
        rows,
        frozenset(("#", *(f"with {n}" for n in numbers))),
    )


def _amount(amount: Amount, *, is_self: bool) -> str:
    if is_self:
        return "="
    return f"{megabytes(amount.bytes)} in {amount.layers}" if amount.layers else "-"


def _groups(answer: Comparison) -> ReportTable:
    rows = tuple(
        (
            ", ".join(str(position + 1) for position in group.holders),
            str(group.amount.layers),
            megabytes(group.amount.bytes),
        )
        for group in answer.sharing.groups
    )
    columns = ("#", "layers", "bytes")
    return ReportTable("shared layers", columns, rows, frozenset({"layers", "bytes"}))


def _drift(answer: Comparison) -> ReportTable:
    rows = tuple(row for drift in answer.drift for row in _drift_rows(drift))
    return ReportTable("drift", ("what", "#", "value"), rows, whole=frozenset({"#"}))


def _drift_rows(drift: Drift) -> list[tuple[str, ...]]:
    """Return a row for every value."""
    rows: list[tuple[str, ...]] = []
    for value, holders in drift.groups:
        numbers = ", ".join(str(position + 1) for position in holders)
        rows.append((drift.name, numbers, value_words(value)))
    return rows


def _history(answer: Comparison, *, full: bool) -> ReportTable:
    history = answer.history
    if len(answer.builds) > _SIDE_BY_SIDE and not full:
        return _history_summed(answer)
    names = tuple(str(position + 1) for position in range(len(answer.builds)))
    rows = tuple(
        (*(step_words(step) for step in row.steps), mark(same=row.is_same), cut(row.instruction))
        for row in history.rows
    )
    return ReportTable("history", (*names, "=", "step"), rows, frozenset(names))


def _history_summed(answer: Comparison) -> ReportTable:
    rows = []
    for row in answer.history.rows:
        sizes = [
            (step.layer.size, position)
            for position, step in enumerate(row.steps)
            if step is not None and step.layer is not None
        ]
        present = [position for position, step in enumerate(row.steps) if step is not None]
        least = min(sizes, default=None)
        most = max(sizes, default=None, key=lambda item: item[0])
        rows.append(
            (
                str(len(present)),
                step_words(row.steps[answer.base]),
                megabytes(least[0]) if least else "-",
                f"{megabytes(most[0])} in {most[1] + 1}" if most else "-",
                mark(same=row.is_same),
                cut(row.instruction),
            )
        )
    columns = ("in", "base", "least", "most", "=", "step")
    return ReportTable("history", columns, tuple(rows), frozenset({"in", "base", "least", "most"}))


def _unmatched(answer: Comparison, *, full: bool) -> list[ReportTable]:
    """List layers whose step is unknown, from builds without usable history."""
    rows = tuple(
        (f"{position + 1}", str(number), short(layer.digest, full=full), megabytes(layer.size))
        for position, build in enumerate(answer.builds)
        for number, layer in enumerate(build.manifest.layers, 1)
        if answer.history.unmatched[position]
    )
    columns = ("#", "layer", "digest", "size")
    table = ReportTable("layers without steps", columns, rows, frozenset({"#", "layer", "size"}))
    return [table] if rows else []


def plain(answer: Comparison | ImageComparison) -> Plain:
    """Turn a comparison into plain values."""
    return _comparison(answer) if isinstance(answer, Comparison) else _images(answer)


def _comparison(answer: Comparison) -> Plain:
    sharing = answer.sharing
    names = [build.name for build in answer.builds]
    return {
        "reference": answer.reference,
        "root": bare(answer.root),
        "base": names[answer.base],
        "platforms": [_build(answer, position) for position in range(len(names))],
        "sharing": {
            "stored": _amount_values(sharing.stored),
            "summed": _amount_values(sharing.summed),
            "matrix": [[_amount_values(item) for item in row] for row in sharing.matrix],
            "groups": [_group(group, names) for group in sharing.groups],
        },
        "drift": [_drift_values(drift, names) for drift in answer.drift],
        "history": _history_values(answer.history, names),
        "files": files(answer.files) if answer.files is not None else None,
        "expected": [_expected(item) for item in answer.expected],
        "missing": [_expected(item) for item in answer.missing],
        "reasons": [_reason(reason) for reason in answer.reasons],
        "warnings": warnings(answer.warnings),
    }


def _group(group: Group, names: list[str]) -> Plain:
    return {
        "platforms": [names[position] for position in group.holders],
        "digests": [str(digest) for digest in group.digests],
        **_amount_values(group.amount),
    }


def _build(answer: Comparison, position: int) -> Plain:
    """Return a build: its sharing and sizes, then its value in every dimension."""
    build, ratio = answer.builds[position], answer.ratio(position)
    return {
        **_identity(build),
        "delta": answer.delta(position),
        "ratio": round(ratio, 4) if ratio is not None else None,
        "shared": _amount_values(answer.sharing.shared(position)),
        "own": _amount_values(answer.sharing.own[position]),
        "dimensions": {item.name: _value(item, build) for item in DIMENSIONS},
        "layers": [bare(layer) for layer in build.manifest.layers],
    }


def _identity(build: Build) -> Plain:
    return {
        "name": build.name,
        "platform": platform(build.platform) if build.platform is not None else None,
        "manifest": bare(build.descriptor),
        "config": str(build.config_digest),
        "created": build.config.created or None,
        "size": build.size,
    }


def _value(dimension: Dimension, build: Build) -> object:
    """Return a value as JSON: pairs as an object, lists as a list."""
    look = dimension.look(build)
    if not isinstance(look, tuple):
        return look
    if dimension.unit is not Unit.PAIRS:
        return list(look)
    return dict(item for item in look if isinstance(item, tuple))


def _amount_values(amount: Amount) -> Plain:
    return {"layers": amount.layers, "bytes": amount.bytes}


def _drift_values(drift: Drift, names: list[str]) -> Plain:
    return {
        "name": drift.name,
        "dimension": drift.dimension,
        "key": drift.key or None,
        "values": [
            {
                "value": list(value) if isinstance(value, tuple) else value,
                "platforms": [names[position] for position in holders],
            }
            for value, holders in drift.groups
        ],
    }


def _history_values(history: History, names: list[str]) -> Plain:
    reasons = zip(names, history.unmatched, strict=True)
    return {
        "steps": [_row(row, names) for row in history.rows],
        "unmatched": [{"platform": name, "reason": why} for name, why in reasons if why],
    }


def _row(row: HistoryRow, names: list[str]) -> Plain:
    return {
        "instruction": row.instruction,
        "same": row.is_same,
        "platforms": [
            {"platform": name, **_step(step)}
            for name, step in zip(names, row.steps, strict=True)
            if step is not None
        ],
    }


def _step(step: Step) -> Plain:
    return {
        "position": step.position,
        "instruction": step.instruction,
        "layer": bare(step.layer) if step.layer is not None else None,
    }


def _images(answer: ImageComparison) -> Plain:
    written: Plain = {
        "from": {"reference": answer.first, "root": bare(answer.first_root)},
        "to": {"reference": answer.second, "root": bare(answer.second_root)},
        "same": answer.is_same,
        "platforms": [_change(change) for change in answer.changes],
        "fetch": _amount_values(answer.fetch),
        "expected": [_expected(item) for item in answer.expected],
        "missing": [_expected(item) for item in answer.missing],
        "reasons": [_reason(reason) for reason in answer.reasons],
        "warnings": warnings(answer.warnings),
    }
    if answer.attestations is not None:
        written["attestations"] = [
            {
                "name": each.name,
                "kind": each.kind,
                "from": each.before.value,
                "to": each.after.value,
            }
            for each in answer.attestations
        ]
    return written


def _change(change: PlatformChange) -> Plain:
    sides = ["from", "to"]
    written: Plain = {
        "name": change.name,
        "change": change.change.value,
        "from": _side(change.before),
        "to": _side(change.after),
        "delta": change.delta,
        "fetch": _amount_values(change.fetch),
        "layersDiffer": change.layers_differ,
        "drift": [_drift_values(drift, sides) for drift in change.drift],
    }
    if change.history is not None:
        written["history"] = _history_values(change.history, sides)
    if change.files is not None:
        written["files"] = files(change.files)
    return written


def _side(build: Build | None) -> Plain | None:
    if build is None:
        return None
    return {**_identity(build), "layers": [bare(layer) for layer in build.manifest.layers]}


def _expected(value: Platform) -> str:
    return str(value)


def _reason(reason: CompareReason) -> Plain:
    return {"aspect": reason.aspect, "platform": reason.platform or None, "message": reason.message}
