"""Files on a page: a tree to unfold for each platform, its size by folder first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.answers.files import folder_row, path_row, programs_words
from resolver.render.html.page import Cell, Grid, code, details, grid, text
from resolver.render.report import megabytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.core.compare.file_difference import FileComparison, TreeComparison, TreeSummary

#: Paths of one tree on a page; a browser is slow with more, and JSON has all of them.
MOST_PATHS = 2_000


def files_body(name: str, found: FileComparison, labels: Sequence[str]) -> str:
    """Draw file trees against their base.

    Args:
        name: unique on the page.
        found: what differs.
        labels: what the others are called here, in their order.
    """
    base = found.base
    rows = [
        [Cell("base"), *_counts(base), Cell(text(programs_words(base)))],
        *(
            [Cell(text(label)), Cell(""), Cell(""), Cell(""), Cell(text(tree.not_compared))]
            if tree.not_compared
            else [
                Cell(text(label)),
                *_counts(tree.summary),
                Cell(text(programs_words(tree.summary))),
            ]
            for label, tree in zip(labels, found.others, strict=True)
        ),
    ]
    columns = ("tree", "files", "size", "packages", "programs by machine")
    whole = grid(Grid(f"{name}-trees", "Trees", columns, rows, frozenset({1, 2, 3})))
    of_base = "".join((_strangers(f"{name}-base", base), _odd(f"{name}-base", base)))
    noted = details("base: what was found in it", of_base) if of_base else ""
    return f"{whole}{noted}" + "".join(
        _tree(f"{name}-{number}", label, tree)
        for number, (label, tree) in enumerate(zip(labels, found.others, strict=True), 1)
    )


def _counts(tree: TreeSummary) -> list[Cell]:
    return [Cell(str(tree.files)), Cell(megabytes(tree.size)), Cell(str(len(tree.packages)))]


def _tree(name: str, label: str, tree: TreeComparison) -> str:
    if tree.not_compared:
        return ""
    counts = ", ".join(f"{count} {change.value}" for change, count in tree.counts)
    words = f"{label}: {counts or 'no path differs'}; {tree.same} same, {tree.rebuilt} rebuilt"
    packages = [
        (", ".join(each.before) or "-", ", ".join(each.after) or "-", each.name)
        for each in tree.packages
    ]
    paths = [path_row(each) for each in tree.differences[:MOST_PATHS]]
    left = len(tree.differences) - len(paths)
    parts = (
        _part(f"{name}-folders", "Folders by difference", _FOLDERS, map(folder_row, tree.folders)),
        _part(f"{name}-packages", "Packages", ("from", "to", "package"), packages),
        _strangers(name, tree.summary),
        _part(f"{name}-paths", "Paths that differ", ("how", "size", "path"), paths),
        f'<p class="note">{left} more are in `--format json`.</p>' if left > 0 else "",
        _odd(name, tree.summary),
    )
    return details(text(words), "".join(parts) or _NOTHING)


def _strangers(name: str, tree: TreeSummary) -> str:
    rows = [(str(each.program), each.path) for each in tree.strangers[:MOST_PATHS]]
    left = len(tree.strangers) - len(rows)
    if left > 0:
        rows.append(("", f"… and {left} more (`--format json`)"))
    return _part(f"{name}-strangers", "Programs for another machine", ("program", "path"), rows)


def _odd(name: str, tree: TreeSummary) -> str:
    rows = [*(("layers", each) for each in tree.warnings), *tree.unread]
    return _part(f"{name}-odd", "What was odd", ("where", "what"), rows)


_FOLDERS = ("from", "to", "delta", "folder")
_NOTHING = '<p class="note">There is nothing to show.</p>'


def _part(name: str, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Draw one table; nothing where it has no rows. The last column names, so it is the head."""
    cells = [[Cell(code(row[-1]), "key"), *(Cell(text(each)) for each in row[:-1])] for row in rows]
    if not cells:
        return ""
    return f"<h3>{text(title)}</h3>" + grid(Grid(name, title, (columns[-1], *columns[:-1]), cells))
