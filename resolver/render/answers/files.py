"""File trees: tables of the differences between the files of builds."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from resolver.core.compare.compare import Comparison
from resolver.core.compare.file_difference import PathChange
from resolver.core.layers.xattrs import shown
from resolver.errors import megabytes
from resolver.render.report import ReportTable
from resolver.render.to_dict import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from resolver.core.compare.compare import ImageComparison
    from resolver.core.compare.file_difference import (
        FileComparison,
        FileDifference,
        FileFacts,
        FolderDelta,
        TreeComparison,
        TreeSummary,
    )
    from resolver.core.compare.history import Step
    from resolver.render.to_dict import Plain

    RowsOf = Callable[[TreeSummary, TreeComparison], "BoundedRows"]


#: Characters of an instruction shown in a table of any width.
_LONGEST = 400


def delta_words(delta: int) -> str:
    """Format a difference in bytes, with its sign."""
    return f"{'-' if delta < 0 else '+'}{megabytes(abs(delta))}" if delta else "same"


def value_words(value: str | tuple[str, ...] | None) -> str:
    """Format a value; words with spaces are quoted."""
    if value is None:
        return "(not set)"
    if isinstance(value, str):
        return value or "(empty)"
    return " ".join(word if word and " " not in word else repr(word) for word in value)


def step_words(step: Step | None) -> str:
    """Return what a step did in a build: nothing, no layer, or a layer of this size."""
    if step is None:
        return "absent"
    return megabytes(step.layer.size) if step.layer is not None else "-"


def mark(*, same: bool) -> str:
    """Mark a step that differs between builds."""
    return "=" if same else "!"


def cut(instruction: str) -> str:
    """Shorten an instruction to one line; a script can have thousands of characters."""
    text = " ".join(instruction.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


#: Rows of each tree in a shortened table.
_ROWS = 12
#: Folders of each tree in it.
_FOLDERS = 5
#: Rows and characters of a full table, for all trees together: the widest row sets the width of
#: a column, so all rows are in memory. JSON has no such limit.
MOST_ROWS = 20_000
_MOST_TEXT = 4 << 20

#: Extended attributes of a file in it.
_XATTRS = 3

Row = tuple[str, ...]


class BoundedRows(NamedTuple):
    """Rows that are made on iteration, and their number."""

    total: int
    rows: Iterable[Row]


def _rows(rows: Sequence[Row]) -> BoundedRows:
    return BoundedRows(len(rows), rows)


class TreePair(NamedTuple):
    """A tree, its base, and its number in the other tables."""

    number: int
    base: TreeSummary
    tree: TreeComparison


def pairs_of(answer: Comparison | ImageComparison) -> list[TreePair]:
    """List the trees of a comparison that have a base."""
    if isinstance(answer, Comparison):
        if answer.files is None:
            return []
        numbers = [n for n in range(1, len(answer.builds) + 1) if n != answer.base + 1]
        trees = zip(numbers, answer.files.others, strict=True)
        return [TreePair(number, answer.files.base, tree) for number, tree in trees]
    return [
        TreePair(number, change.files.base, tree)
        for number, change in enumerate(answer.changes, 1)
        if change.files is not None
        for tree in change.files.others
    ]


def _trees(pairs: Sequence[TreePair]) -> Iterator[tuple[str, TreeSummary]]:
    """List every tree once, with its name in tables; bases included."""
    shown: set[int] = set()
    for number, base, tree in pairs:
        if id(base) not in shown:
            shown.add(id(base))
            yield _base_name(number, base), base
        yield str(number), tree.summary


def _base_name(number: int, base: TreeSummary) -> str:
    return "base" if base.label != "from" else f"{number} from"


def file_tables(answer: Comparison | ImageComparison, *, full: bool) -> list[ReportTable]:
    """Return the tables of file differences; none if files were not read."""
    most = None if full else _ROWS
    pairs = pairs_of(answer)
    if isinstance(answer, Comparison) and answer.files is not None and not pairs:
        # A single build: nothing differs, but its content is reported.
        base = answer.files.base
        row = ("1", *_size(base), *[""] * 5, programs_words(base))
        whole = ReportTable("files", _SUMMARY, (row,), frozenset(_SUMMARY[:-1]))
        return [whole, *_notes([("1", base)], most)]
    if not pairs:
        return []
    tables = [
        ReportTable("files", _SUMMARY, tuple(_summary(pairs)), frozenset(_SUMMARY[:-1])),
        _table("folders by difference", _FOLDER_COLUMNS, _each(pairs, _folders, most and _FOLDERS)),
        _table("packages", ("#", "package", "from", "to"), _each(pairs, _packages, most)),
        _table("paths that differ", ("#", "how", "size", "path"), _each(pairs, _paths, most)),
    ]
    apart = _each(pairs, _apart, None)
    if apart:
        tables.append(_table("not compared", ("#", "why"), apart))
    return tables + _notes(list(_trees(pairs)), most)


def _notes(trees: Sequence[tuple[str, TreeSummary]], most: int | None) -> list[ReportTable]:
    """Return tables of unexpected content: foreign programs and malformed entries."""
    tables = []
    strangers = _gathered(((name, _strangers(tree)) for name, tree in trees), most)
    if strangers:
        tables.append(_table("programs for another machine", ("#", "program", "path"), strangers))
    odd = _gathered(((name, _odd(tree)) for name, tree in trees), most)
    if odd:
        tables.append(_table("unusual entries", ("#", "where", "what"), odd))
    return tables


_SUMMARY = ("#", "files", "size", "same", "added", "removed", "changed", "rebuilt", "programs")
_FOLDER_COLUMNS = ("#", "from", "to", "delta", "folder")
_RIGHT = frozenset({"size", "from", "to", "delta"})


def _table(title: str, columns: Row, rows: Sequence[Row]) -> ReportTable:
    right = frozenset() if title == "packages" else _RIGHT
    return ReportTable(title, columns, tuple(rows), right, frozenset({"#"}), frozenset({"path"}))


def _summary(pairs: Sequence[TreePair]) -> Iterator[Row]:
    """Return the summary row of each tree; a base precedes its trees."""
    shown: set[int] = set()
    for number, base, tree in pairs:
        if id(base) not in shown:
            shown.add(id(base))
            yield (_base_name(number, base), *_size(base), *[""] * 5, programs_words(base))
        if tree.not_compared:
            continue
        counts = dict(tree.counts)
        added, removed = counts.get(PathChange.ADDED, 0), counts.get(PathChange.REMOVED, 0)
        changed = len(tree.differences) - added - removed
        numbers = (tree.same, added, removed, changed, tree.rebuilt)
        summary = tree.summary
        yield (str(number), *_size(summary), *map(str, numbers), programs_words(summary))


def _size(tree: TreeSummary) -> tuple[str, str]:
    return str(tree.files), megabytes(tree.size)


def programs_words(tree: TreeSummary) -> str:
    """Return the number of programs per machine in a tree."""
    return ", ".join(f"{count} {machine}" for machine, count in tree.programs) or "none"


def _each(pairs: Sequence[TreePair], rows_of: RowsOf, most: int | None) -> list[Row]:
    """Merge the rows of all trees; a row of several trees appears once, with their numbers."""
    return _gathered(((str(number), rows_of(base, tree)) for number, base, tree in pairs), most)


def _gathered(trees: Iterable[tuple[str, BoundedRows]], most: int | None) -> list[Row]:
    found: dict[Row, list[str]] = {}
    left: dict[str, int] = {}
    text = 0
    for name, rows in trees:
        count = 0
        for row in islice(rows.rows, most):
            if row not in found:
                text += sum(map(len, row))
                if len(found) >= MOST_ROWS or text > _MOST_TEXT:
                    break
            found.setdefault(row, []).append(name)
            count += 1
        if rows.total > count:
            left[name] = rows.total - count
    shown = [(", ".join(names), *row) for row, names in found.items()]
    width = max((len(row) for row in shown), default=3)
    how = "--no-trunc" if most is not None else "--format json"
    for count in dict.fromkeys(left.values()):
        cut_trees = ", ".join(name for name, item in left.items() if item == count)
        shown.append((cut_trees, *[""] * (width - 2), f"… and {count} more (`{how}`)"))
    return shown


def _apart(_base: TreeSummary, tree: TreeComparison) -> BoundedRows:
    return _rows([(tree.not_compared,)] if tree.not_compared else [])


def _folders(_base: TreeSummary, tree: TreeComparison) -> BoundedRows:
    return BoundedRows(len(tree.folders), map(folder_row, tree.folders))


def folder_row(folder: FolderDelta) -> Row:
    """Return the sizes and the path of a folder."""
    sizes = (megabytes(folder.before), megabytes(folder.after), delta_words(folder.delta))
    return (*sizes, folder.path or "/")


def _packages(_base: TreeSummary, tree: TreeComparison) -> BoundedRows:
    return _rows(
        [
            (item.name, ", ".join(item.before) or "-", ", ".join(item.after) or "-")
            for item in tree.packages
        ]
    )


def _paths(_base: TreeSummary, tree: TreeComparison) -> BoundedRows:
    return BoundedRows(len(tree.differences), map(path_row, tree.differences))


def path_row(difference: FileDifference) -> Row:
    """Return how a path differs, its change of size, and the path."""
    before, after = difference.before, difference.after
    how = ", ".join(_how(change, difference) for change in difference.changes)
    old, new = before.size if before else 0, after.size if after else 0
    return how, delta_words(new - old) if old or new else "-", difference.path


def _how(change: PathChange, difference: FileDifference) -> str:
    """Describe a change; if short, with the values before and after."""
    before, after = difference.before, difference.after
    if before is None or after is None:
        return change.value
    match change:
        case PathChange.MODE:
            return f"mode {before.mode:04o} to {after.mode:04o}"
        case PathChange.OWNER:
            return f"owner {before.uid}:{before.gid} to {after.uid}:{after.gid}"
        case PathChange.XATTRS:
            return _xattrs(difference.xattrs, dict(before.xattrs), dict(after.xattrs))
        case PathChange.TYPE:
            return f"{before.kind} to {after.kind}"
        case _:
            return str(change.value)


def _xattrs(names: Sequence[str], before: dict[str, str], after: dict[str, str]) -> str:
    """List attributes that differ, with their values: `security.capability cap_net_raw+ep to -`."""
    shown_names = [
        f"{name} {shown(before.get(name, '-'))} to {shown(after.get(name, '-'))}"
        for name in names[:_XATTRS]
    ]
    more = len(names) - len(shown_names)
    return ", ".join([*shown_names, *([f"{more} more xattrs"] if more > 0 else [])])


def _strangers(tree: TreeSummary) -> BoundedRows:
    return BoundedRows(
        len(tree.strangers), ((str(item.program), item.path) for item in tree.strangers)
    )


def _odd(tree: TreeSummary) -> BoundedRows:
    return _rows([*(("layers", warning) for warning in tree.warnings), *tree.unread])


def files(found: FileComparison) -> Plain:
    """Return all differences between trees as plain values."""
    return {
        "same": found.is_same,
        "base": _tree(found.base),
        "others": [_other(tree) for tree in found.others],
    }


def _tree(tree: TreeSummary) -> Plain:
    return {
        "name": tree.label,
        "files": tree.files,
        "folders": tree.folders,
        "links": tree.links,
        "size": tree.size,
        "programs": dict(tree.programs),
        "strangers": Rows(_facts, tree.strangers),
        "packages": [
            {
                "manager": item.manager,
                "name": item.name,
                "version": item.version,
                "architecture": item.architecture,
            }
            for item in tree.packages
        ],
        "unread": [{"path": path, "reason": reason} for path, reason in tree.unread],
        "warnings": list(tree.warnings),
    }


def _other(tree: TreeComparison) -> Plain:
    return {
        **_tree(tree.summary),
        "same": tree.same,
        **({"notCompared": tree.not_compared} if tree.not_compared else {}),
        "counts": {change.value: count for change, count in tree.counts},
        "rebuilt": {
            "files": tree.rebuilt,
            "from": tree.rebuilt_size[0],
            "to": tree.rebuilt_size[1],
        },
        "differences": Rows(_difference, tree.differences),
        "folderDeltas": [
            {"path": item.path, "from": item.before, "to": item.after, "delta": item.delta}
            for item in tree.folders
        ],
        "packageDifferences": [
            {
                "manager": item.manager,
                "name": item.name,
                "from": list(item.before),
                "to": list(item.after),
            }
            for item in tree.packages
        ],
        "samePackages": tree.same_packages,
    }


def _difference(difference: FileDifference) -> Plain:
    return {
        "path": difference.path,
        "changes": [change.value for change in difference.changes],
        **({"xattrs": list(difference.xattrs)} if difference.xattrs else {}),
        "from": _facts(difference.before),
        "to": _facts(difference.after),
    }


def _facts(facts: FileFacts | None) -> Plain | None:
    if facts is None:
        return None
    written: Plain = {
        "path": facts.path,
        "kind": facts.kind,
        "mode": f"{facts.mode:04o}",
        "uid": facts.uid,
        "gid": facts.gid,
        "size": facts.size,
    }
    if facts.sha256:
        written["sha256"] = facts.sha256
    if facts.link:
        written["link"] = facts.link
    if facts.device is not None:
        written["device"] = list(facts.device)
    if facts.program is not None:
        written["program"] = str(facts.program)
    if facts.xattrs:
        written["xattrs"] = dict(facts.xattrs)
    return written
