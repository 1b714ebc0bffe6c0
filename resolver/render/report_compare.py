"""Reports of comparisons: one image across its platforms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.comparison import Comparison
from resolver.render.compare_words import cut, delta_words, mark, step_words, value_words
from resolver.render.report import Report, Table, short
from resolver.render.report_files import file_tables
from resolver.render.report_images import images_report
from resolver.render.units import megabytes

if TYPE_CHECKING:
    from resolver.core.comparison import ImageComparison
    from resolver.core.drift import Drift
    from resolver.core.sharing import Amount

#: Builds whose sizes stand side by side on a page of 80 columns; more are summed up there.
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
    """Say what a comparison is about, and what follows from it as a whole."""
    root = "index" if answer.root.is_index else "manifest"
    facts = [("image", answer.reference), (root, str(answer.root.digest))]
    if len(answer.builds) > 1:
        facts.append(("base", answer.builds[answer.base].name))
        facts.append(("stored", stored_words(answer)))
    if answer.missing:
        facts.append(("missing", ", ".join(str(platform) for platform in answer.missing)))
    elif answer.expected:
        facts.append(("expected", f"all {len(answer.expected)} are there"))
    reasons: dict[str, list[int]] = {}
    for number, reason in enumerate(answer.history.unmatched, 1):
        reasons.setdefault(reason, []).append(number)
    facts += [("steps", f"{_ranges(them)}: {why}") for why, them in reasons.items() if why]
    return tuple(facts)


def _ranges(numbers: list[int]) -> str:
    """Write ascending numbers as people do: `1-3, 5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def stored_words(answer: Comparison) -> str:
    """Say what somebody keeps who has all builds, and what sharing saves."""
    stored, summed = answer.sharing.stored, answer.sharing.summed
    count = len(answer.builds)
    return f"{megabytes(stored.bytes)} for all {count}; one by one {megabytes(summed.bytes)}"


def _sizes(answer: Comparison) -> Table:
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
    return Table("sizes", columns, tuple(rows), right)


def _documents(answer: Comparison, *, full: bool) -> Table:
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
    return Table(
        "documents", columns, rows, frozenset({"#", "layers"}), frozenset({"manifest", "config"})
    )


def _sharing(answer: Comparison, *, full: bool) -> Table:
    """Show who shares with whom: every pair, or, where that is too wide, who shares a layer."""
    if len(answer.builds) > _SIDE_BY_SIDE and not full:
        return _groups(answer)
    numbers = tuple(f"{position + 1}" for position in range(len(answer.builds)))
    rows = tuple(
        (number, *(_amount(each, is_self=row == column) for column, each in enumerate(amounts)))
        for row, (number, amounts) in enumerate(zip(numbers, answer.sharing.matrix, strict=True))
    )
    title = "shared layers, bytes and how many"
    return Table(
        title,
        ("#", *(f"with {n}" for n in numbers)),
        rows,
        frozenset(("#", *(f"with {n}" for n in numbers))),
    )


def _amount(amount: Amount, *, is_self: bool) -> str:
    if is_self:
        return "="
    return f"{megabytes(amount.bytes)} in {amount.layers}" if amount.layers else "-"


def _groups(answer: Comparison) -> Table:
    rows = tuple(
        (
            ", ".join(str(position + 1) for position in group.holders),
            str(group.amount.layers),
            megabytes(group.amount.bytes),
        )
        for group in answer.sharing.groups
    )
    columns = ("#", "layers", "bytes")
    return Table("shared layers", columns, rows, frozenset({"layers", "bytes"}))


def _drift(answer: Comparison) -> Table:
    rows = tuple(row for drift in answer.drift for row in _drift_rows(drift))
    return Table("drift", ("what", "#", "value"), rows, whole=frozenset({"#"}))


def _drift_rows(drift: Drift) -> list[tuple[str, ...]]:
    """Give a row for every value; what differs is named in the first."""
    rows: list[tuple[str, ...]] = []
    for number, (value, holders) in enumerate(drift.groups):
        who = ", ".join(str(position + 1) for position in holders)
        rows.append((drift.name if number == 0 else "", who, value_words(value)))
    return rows


def _history(answer: Comparison, *, full: bool) -> Table:
    history = answer.history
    if len(answer.builds) > _SIDE_BY_SIDE and not full:
        return _history_summed(answer)
    names = tuple(str(position + 1) for position in range(len(answer.builds)))
    rows = tuple(
        (*(step_words(step) for step in row.steps), mark(same=row.is_same), cut(row.instruction))
        for row in history.rows
    )
    return Table("history", (*names, "=", "step"), rows, frozenset(names))


def _history_summed(answer: Comparison) -> Table:
    rows = []
    for row in answer.history.rows:
        sizes = [
            (step.layer.size, position)
            for position, step in enumerate(row.steps)
            if step is not None and step.layer is not None
        ]
        there = [position for position, step in enumerate(row.steps) if step is not None]
        least = min(sizes, default=None)
        most = max(sizes, default=None, key=lambda each: each[0])
        rows.append(
            (
                str(len(there)),
                step_words(row.steps[answer.base]),
                megabytes(least[0]) if least else "-",
                f"{megabytes(most[0])} in {most[1] + 1}" if most else "-",
                mark(same=row.is_same),
                cut(row.instruction),
            )
        )
    columns = ("in", "base", "least", "most", "=", "step")
    return Table("history", columns, tuple(rows), frozenset({"in", "base", "least", "most"}))


def _unmatched(answer: Comparison, *, full: bool) -> list[Table]:
    """List the layers of builds whose history does not say which step made them."""
    rows = tuple(
        (
            f"{position + 1}",
            str(number),
            short(layer.digest, full=full),
            megabytes(layer.size),
        )
        for position, build in enumerate(answer.builds)
        for number, layer in enumerate(build.manifest.layers, 1)
        if answer.history.unmatched[position]
    )
    columns = ("#", "layer", "digest", "size")
    table = Table("layers without steps", columns, rows, frozenset({"#", "layer", "size"}))
    return [table] if rows else []
