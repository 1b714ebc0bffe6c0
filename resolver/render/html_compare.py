"""The page of a comparison: one image across its platforms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.comparison import Comparison
from resolver.render.compare_words import delta_words
from resolver.render.html_bars import LEGEND, Segment, bar, heat
from resolver.render.html_drift import drift_details
from resolver.render.html_files import files_body
from resolver.render.html_history import history_grid
from resolver.render.html_images import draw_images
from resolver.render.html_page import (
    Cell,
    Grid,
    Section,
    code,
    details,
    facts,
    grid,
    name,
    page,
    text,
)
from resolver.render.html_reasons import reasons
from resolver.render.report_compare import facts_of
from resolver.render.units import megabytes

if TYPE_CHECKING:
    from resolver.core.builds import Build
    from resolver.core.comparison import ImageComparison
    from resolver.core.sharing import Amount


def draw(answer: Comparison | ImageComparison) -> str:
    """Draw a comparison."""
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
    return page(f"{answer.reference} across {platforms}", sections, head=head)


def _bars(answer: Comparison) -> str:
    most = max(build.size for build in answer.builds)
    items = []
    for position, build in enumerate(answer.builds):
        own, shared = answer.sharing.own[position], answer.sharing.shared(position)
        label = (
            f"{build.name}: {megabytes(build.size)}, of it {megabytes(shared.bytes)} shared "
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
        said = [build.config.created or "-", str(build.descriptor.digest), str(build.config_digest)]
        rows.append(
            [
                Cell(name(build.name), "nowrap"),
                *(Cell(each, "right") for each in cells),
                Cell(text(said[0]), "nowrap"),
                *(Cell(code(each[:19]), "nowrap") for each in said[1:]),
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
            _heat(each, answer.builds[column].size, is_self=row == column)
            for column, each in enumerate(amounts)
        ]
        rows.append([Cell(name(build.name), "nowrap"), *cells])
    columns = ("platform", *(build.name for build in answer.builds))
    caption = "What both have: bytes, layers, and how much that is of the platform above"
    table = grid(Grid("matrix", caption, columns, rows, frozenset(range(1, len(columns)))))
    stored, summed = answer.sharing.stored, answer.sharing.summed
    saved = summed.bytes - stored.bytes
    note = (
        f"Who keeps all of them stores {megabytes(stored.bytes)}, each layer once; one by one "
        f"they are {megabytes(summed.bytes)}. Sharing saves {megabytes(saved)}."
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
        return '<p class="note">The platforms agree on everything they say.</p>'
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
