"""Reports of comparisons: two images, platform by platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.comparison import Change
from resolver.render.compare_words import cut, delta_words, step_words, value_words
from resolver.render.report import Report, Table
from resolver.render.report_files import file_tables
from resolver.render.units import megabytes

if TYPE_CHECKING:
    from resolver.core.comparison import ImageComparison, PlatformChange
    from resolver.core.drift import Drift


def images_report(answer: ImageComparison, *, full: bool) -> Report:
    """Turn a comparison of two images into a report; one line where they are the same."""
    if answer.is_same:
        return Report("compare", (), (), (f"same: {answer.first_root.digest}",))
    tables = (_changes(answer), _drift(answer), _steps(answer), *file_tables(answer, full=full))
    return Report("compare", facts_of(answer), tables)


def facts_of(answer: ImageComparison) -> tuple[tuple[str, str], ...]:
    """Say what is compared, and what follows from it as a whole."""
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
    """Say of how many platforms became what."""
    said = [f"{answer.count(each)} {each.value}" for each in Change if answer.count(each)]
    return ", ".join(said) or "no platforms"


def fetch_words(answer: ImageComparison) -> str:
    """Say what somebody who has the first fetches to have the second."""
    layers = f"{answer.fetch.layers} layers" if answer.fetch.layers != 1 else "1 layer"
    return f"{megabytes(answer.fetch.bytes)}: {layers} and the documents that are new"


def _changes(answer: ImageComparison) -> Table:
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
    return Table("platforms", columns, rows, frozenset({"#", "from", "to", "delta", "fetch"}))


def _drift(answer: ImageComparison) -> Table:
    """Show each change of a value once, with the numbers of the platforms that have it."""
    found: dict[Drift, list[int]] = {}
    for number, change in enumerate(answer.changes, 1):
        for drift in change.drift:
            found.setdefault(drift, []).append(number)
    rows = tuple(
        (drift.name, _numbers(numbers), *(value_words(value) for value in drift.values))
        for drift, numbers in found.items()
    )
    return Table("drift", ("what", "#", "from", "to"), rows, whole=frozenset({"#"}))


def _numbers(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _steps(answer: ImageComparison) -> Table:
    """Show each step that is not the same, or made another layer, once for all its platforms."""
    found: dict[tuple[str, ...], list[int]] = {}
    for number, change in enumerate(answer.changes, 1):
        for row in step_rows(change):
            found.setdefault(row, []).append(number)
    rows = tuple((_numbers(numbers), *row) for row, numbers in found.items())
    columns, right = ("#", "from", "to", "step"), frozenset({"from", "to"})
    return Table("steps that differ", columns, rows, right, frozenset({"#"}))


def step_rows(change: PlatformChange) -> list[tuple[str, ...]]:
    """List the steps of one platform that are not the same, or made another layer."""
    rows = []
    for row in change.history.rows if change.history is not None else ():
        layers = [step.layer.digest if step and step.layer else None for step in row.steps]
        if not row.is_same or layers[0] != layers[1]:
            rows.append((*(step_words(step) for step in row.steps), cut(row.instruction)))
    return rows
