"""HTML: an answer as one self-contained page."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING

from resolver.core.compare.compare import Comparison
from resolver.errors import megabytes
from resolver.render.answers.compare import attestation_tables, facts_of, image_facts
from resolver.render.answers.files import delta_words, folder_row, path_row, programs_words
from resolver.render.html.page import (
    LEGEND,
    Cell,
    Drawn,
    Grid,
    Section,
    Segment,
    bar,
    change_details,
    code,
    details,
    draw_page,
    drift_details,
    facts,
    grid,
    heat,
    history_grid,
    name,
    prose,
    reasons,
    text,
)
from resolver.render.report import Report, report

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.core.compare.builds import Amount, Build
    from resolver.core.compare.compare import ImageComparison, PlatformChange
    from resolver.core.compare.file_difference import FileComparison, TreeComparison, TreeSummary
    from resolver.render import Page
    from resolver.render.report import ReportTable


#: Answers with their own page, by the module that defines them; others are drawn from their
#: report.
PAGES = {"resolver.core.compare.compare": "resolver.render.html.compare"}


def html(answer: object, *, page: Page, explain: bool = False) -> str:
    """Render an answer as a page, without shortening values."""
    place = PAGES.get(type(answer).__module__)
    if place is None:
        drawn = _generic(answer, report(answer, explain=explain, full=True))
    else:
        drawn = import_module(place).draw(answer)
    return draw_page(drawn, page)


def _generic(answer: object, drawn: Report) -> Drawn:
    lines = "".join(f"<p>{prose(words)}</p>\n" for words in drawn.lines)
    head = lines + (facts(drawn.facts) if drawn.facts else "")
    sections = [
        Section(f"table-{number}", _heading(table.title), _table(f"table-{number}", table))
        for number, table in enumerate(chain.from_iterable(map(_by_image, drawn.tables)), 1)
    ]
    return Drawn(_title(answer, drawn), sections, head)


def _title(answer: object, drawn: Report) -> str:
    """Return the title of a page: what was done, and to which image."""
    if set(" /:@.") & set(drawn.title):
        return drawn.title
    images = {item.reference: None for item in getattr(answer, "images", ()) if item.reference}
    of = f": {next(iter(images))}" if len(images) == 1 else f": {len(images)} images" * bool(images)
    return drawn.title.capitalize() + of


def _heading(title: str) -> str:
    return title if "/" in title or ":" in title else title[:1].upper() + title[1:]


def _by_image(table: ReportTable) -> list[ReportTable]:
    """Divide findings about several images, so that each has a section."""
    images = {row[0]: None for row in table.rows}
    if table.columns[0] != "image" or table.title != "findings" or len(images) == 1:
        return [table]
    return [
        replace(table, title=image, rows=tuple(row for row in table.rows if row[0] == image))
        for image in images
    ] or [table]


def _table(name: str, table: ReportTable) -> str:
    if not table.rows:
        return '<p class="note">none</p>'
    right = frozenset(n for n, column in enumerate(table.columns) if column in table.right)
    rows = [[Cell(prose(cell)) for cell in row] for row in table.rows]
    return grid(Grid(name, table.title, table.columns, rows, right))


_SIDES = ("from", "to")


def draw_images(answer: ImageComparison) -> Drawn:
    """Render a comparison of two images."""
    title = f"{answer.first} and {answer.second}"
    head = facts(image_facts(answer)) + reasons(answer.reasons)
    attached = [
        Section("attestations", "Attestations", _table("attestations", table))
        for table in attestation_tables(answer)
    ]
    if answer.is_same:
        head = f"<p>Both names point at the same bytes.</p>\n{head}"
        return Drawn(title, attached, head)
    sections = [Section("platforms", "Platforms", _image_bars(answer) + _image_numbers(answer))]
    sections += attached
    for number, change in enumerate(answer.changes, 1):
        if change.history is not None:
            name = f"change-{number}"
            sections.append(Section(name, change.name, _change(name, change)))
    return Drawn(title, sections, head)


def _image_bars(answer: ImageComparison) -> str:
    sizes = [b.size for item in answer.changes for b in (item.before, item.after) if b is not None]
    most = max(sizes, default=0)
    items = "".join(
        _bar(change, side, build, most)
        for change in answer.changes
        for side, build in zip(_SIDES, (change.before, change.after), strict=True)
    )
    return (
        f'<ul class="bars">{items}</ul>\n<p class="legend">Hatched layers are in both images, so '
        "if the first is held, they need not be fetched.</p>\n"
    )


def _bar(change: PlatformChange, side: str, build: Build | None, most: int) -> str:
    label = f"{change.name}, {side}"
    if build is None:
        return f'<li><span>{text(label)}</span><span class="quiet">not offered</span></li>'
    other = change.after if side == "from" else change.before
    both = other.layers if other is not None else {}
    segments = [
        Segment(size, digest in both, f"layer {number}: {megabytes(size)}, {digest}")
        for number, (digest, size) in enumerate(build.layers.items(), 1)
    ]
    size = megabytes(build.size)
    drawn = bar(segments, most, f"{label}: {size}")
    return f'<li><span>{text(label)}</span>{drawn}<span class="number">{size}</span></li>'


def _image_numbers(answer: ImageComparison) -> str:
    rows = []
    for change in answer.changes:
        before, after = change.before, change.after
        both = before is not None and after is not None
        rows.append(
            [
                Cell(name(change.name), "nowrap"),
                Cell(change.change.value),
                Cell(megabytes(before.size) if before else "-", "right"),
                Cell(megabytes(after.size) if after else "-", "right"),
                Cell(delta_words(change.delta) if both else "-", "right"),
                Cell(megabytes(change.fetch.bytes) if after else "-", "right"),
                Cell(str(change.fetch.layers) if after else "-", "right"),
                Cell(code(str(before.descriptor.digest)[:19]) if before else "-", "nowrap"),
                Cell(code(str(after.descriptor.digest)[:19]) if after else "-", "nowrap"),
            ]
        )
    columns = (
        "platform", "result", "from", "to", "delta", "to fetch", "layers to fetch",
        "manifest before", "manifest after",
    )  # fmt: skip
    caption = "Each platform in numbers; to fetch: if the first image is held for that platform"
    return grid(Grid("numbers", caption, columns, rows, frozenset(range(2, 7))))


def _change(name: str, change: PlatformChange) -> str:
    drift = change_details(change.drift, _SIDES, name)
    drift = drift or '<p class="note">The settings of both are the same.</p>\n'
    assert change.history is not None  # noqa: S101 - the caller's condition
    history = history_grid(f"{name}-steps", change.history, _SIDES, 0)
    files = files_body(f"{name}-files", change.files, ("to",)) if change.files is not None else ""
    return drift + details("History", history) + files


def draw(answer: Comparison | ImageComparison) -> Drawn:
    """Render a comparison of the platforms of an image."""
    if not isinstance(answer, Comparison):
        return draw_images(answer)
    count = len(answer.builds)
    platforms = "1 platform" if count == 1 else f"{count} platforms"
    head = facts(facts_of(answer)) + reasons(answer.reasons)
    sections = [Section("sizes", "Sizes", _bars(answer) + _numbers(answer))]
    if count > 1:
        sections.append(Section("sharing", "Shared layers", _matrix(answer)))
        sections.append(Section("drift", "Drift", _drift(answer)))
    names = [build.name for build in answer.builds]
    history = history_grid("history-steps", answer.history, names, answer.base)
    sections.append(Section("history", "History", history))
    if answer.files is not None:
        others = [name for position, name in enumerate(names) if position != answer.base]
        sections.append(Section("files", "Files", files_body("files", answer.files, others)))
    sections.append(Section("layers", "Layers", _layers(answer)))
    return Drawn(f"{answer.reference} across {platforms}", sections, head)


def _bars(answer: Comparison) -> str:
    most = max(build.size for build in answer.builds)
    items = []
    for position, build in enumerate(answer.builds):
        own, shared = answer.sharing.own[position], answer.sharing.shared(position)
        label = (
            f"{build.name}: {megabytes(build.size)}, {megabytes(shared.bytes)} of it shared "
            f"and {megabytes(own.bytes)} its own"
        )
        items.append(
            f"<li><span>{text(build.name)}</span>{bar(_segments(answer, build), most, label)}"
            f'<span class="number">{megabytes(build.size)}</span></li>'
        )
    return f'<ul class="bars">{"".join(items)}</ul>\n{LEGEND}'


def _segments(answer: Comparison, build: Build) -> list[Segment]:
    shared = {digest for group in answer.sharing.groups for digest in group.digests}
    return [
        Segment(size, digest in shared, f"layer {number}: {megabytes(size)}, {digest}")
        for number, (digest, size) in enumerate(build.layers.items(), 1)
    ]


def _numbers(answer: Comparison) -> str:
    rows = []
    for position, build in enumerate(answer.builds):
        ratio, is_base = answer.ratio(position), position == answer.base
        cells = [
            megabytes(build.size),
            "base" if is_base else delta_words(answer.delta(position)),
            "-" if is_base or ratio is None else f"{ratio:.2f}x",
            megabytes(answer.sharing.shared(position).bytes),
            megabytes(answer.sharing.own[position].bytes),
            str(len(build.manifest.layers)),
        ]
        identifiers = [
            build.config.created or "-",
            str(build.descriptor.digest),
            str(build.config_digest),
        ]
        rows.append(
            [
                Cell(name(build.name), "nowrap"),
                *(Cell(item, "right") for item in cells),
                Cell(text(identifiers[0]), "nowrap"),
                *(Cell(code(item[:19]), "nowrap") for item in identifiers[1:]),
            ]
        )
    columns = (
        "platform", "size", "against base", "ratio", "shared", "own", "layers", "created",
        "manifest", "config",
    )  # fmt: skip
    return grid(Grid("numbers", "Each platform in numbers", columns, rows, frozenset(range(1, 7))))


def _matrix(answer: Comparison) -> str:
    rows = []
    for row, (build, amounts) in enumerate(zip(answer.builds, answer.sharing.matrix, strict=True)):
        cells = [
            _heat(item, answer.builds[column].size, is_self=row == column)
            for column, item in enumerate(amounts)
        ]
        rows.append([Cell(name(build.name), "nowrap"), *cells])
    columns = ("platform", *(build.name for build in answer.builds))
    caption = "Shared by both: bytes, layers, and the share of the platform above"
    table = grid(Grid("matrix", caption, columns, rows, frozenset(range(1, len(columns)))))
    stored, summed = answer.sharing.stored, answer.sharing.summed
    saved = summed.bytes - stored.bytes
    note = (
        f"All of them together take {megabytes(stored.bytes)}, each layer once; separately, "
        f"{megabytes(summed.bytes)}. Sharing saves {megabytes(saved)}."
    )
    return f'<p class="note">{note}</p>\n{table}'


def _heat(amount: Amount, whole: int, *, is_self: bool) -> Cell:
    if is_self:
        return Cell('<span class="quiet">itself</span>', "right")
    if not amount.layers:
        return Cell("nothing", "right heat-0")
    share = 100 * amount.bytes // whole if whole else 0
    layers = "1 layer" if amount.layers == 1 else f"{amount.layers} layers"
    words = f"{megabytes(amount.bytes)}<br>{layers}, {share}&nbsp;%"
    return Cell(words, f"right {heat(amount.bytes, whole)}")


def _drift(answer: Comparison) -> str:
    if not answer.drift:
        return '<p class="note">The settings of all platforms are the same.</p>'
    return drift_details(answer.drift, [build.name for build in answer.builds])


def _layers(answer: Comparison) -> str:
    most = max((size for build in answer.builds for size in build.layers.values()), default=0)
    return "".join(_layers_of(answer, position, most) for position in range(len(answer.builds)))


def _layers_of(answer: Comparison, position: int, most: int) -> str:
    build = answer.builds[position]
    sharers = {
        digest: [answer.builds[n].name for n in group.holders if n != position]
        for group in answer.sharing.groups
        for digest in group.digests
        if position in group.holders
    }
    rows = []
    for number, layer in enumerate(build.manifest.layers, 1):
        others = sharers.get(layer.digest, [])
        words = f"layer {number}: {megabytes(layer.size)}"
        drawn = bar([Segment(layer.size, bool(others), words)], most, words)
        rows.append(
            [
                Cell(str(number)),
                Cell(megabytes(layer.size), "right"),
                Cell(drawn),
                Cell(text(", ".join(others)) or "-"),
                Cell(code(str(layer.digest)), "nowrap"),
            ]
        )
    columns = ("layer", "size", "drawn", "shared with", "digest")
    name = f"layers-{position + 1}"
    summary = f"{text(build.name)}: {len(rows)} layers, {megabytes(build.size)}"
    table = Grid(name, f"Layers of {build.name}", columns, rows, frozenset({1}))
    return details(summary, grid(table))


#: Paths of a tree on a page; browsers are slow with more. JSON lists all.
MOST_PATHS = 2_000


def files_body(name: str, found: FileComparison, labels: Sequence[str]) -> str:
    """Render file trees compared with their base."""
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
    noted = details("base: unusual content", of_base) if of_base else ""
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
        (", ".join(item.before) or "-", ", ".join(item.after) or "-", item.name)
        for item in tree.packages
    ]
    paths = [path_row(item) for item in tree.differences[:MOST_PATHS]]
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
    rows = [(str(item.program), item.path) for item in tree.strangers[:MOST_PATHS]]
    left = len(tree.strangers) - len(rows)
    if left > 0:
        rows.append(("", f"… and {left} more (`--format json`)"))
    return _part(f"{name}-strangers", "Programs for another machine", ("program", "path"), rows)


def _odd(name: str, tree: TreeSummary) -> str:
    rows = [*(("layers", item) for item in tree.warnings), *tree.unread]
    return _part(f"{name}-odd", "Unusual entries", ("where", "what"), rows)


_FOLDERS = ("from", "to", "delta", "folder")
_NOTHING = '<p class="note">There is nothing to show.</p>'


def _part(name: str, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a table; empty if it has no rows. The last column is the row header."""
    cells = [[Cell(code(row[-1]), "key"), *(Cell(text(item)) for item in row[:-1])] for row in rows]
    if not cells:
        return ""
    return f"<h3>{text(title)}</h3>" + grid(Grid(name, title, (columns[-1], *columns[:-1]), cells))
