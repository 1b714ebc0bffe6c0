"""Reports: an answer as facts and tables, which each format draws."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import EntryKind
from resolver.core.results.resolve import Batch, Failure, Inspection, Offer, Offers, Resolution
from resolver.errors import megabytes
from resolver.render.text import batch_row, escape
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.manifest import HistoryEntry, ImageConfig, Index, Manifest
    from resolver.core.platforms.platform import Platform
    from resolver.render import Page


#: Characters of a digest that tables show, after the algorithm; enough to tell two apart.
SHORT_HEX = 12

#: Label of a fact with output of a tool.
SAID = "said"
#: Headings of columns with names, which are never cut: a part of a name is useless.
NAMES = frozenset(
    {"folder", "image", "key", "listed for", "name", "package", "path",
     "platform", "program", "read as", "reference", "repository", "rule", "tag", "what", "where"}
)  # fmt: skip

#: Short names of common media types, for tables.
_KINDS = {
    "application/vnd.oci.image.index.v1+json": "oci index",
    "application/vnd.oci.image.manifest.v1+json": "oci manifest",
    "application/vnd.docker.distribution.manifest.list.v2+json": "docker list",
    "application/vnd.docker.distribution.manifest.v2+json": "docker manifest",
    "application/vnd.oci.image.layer.v1.tar": "oci tar",
    "application/vnd.oci.image.layer.v1.tar+gzip": "oci tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd": "oci tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar": "docker tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "docker tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "docker tar+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "docker foreign tar+gzip",
}


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Rows under headings.

    Attributes:
        right: columns with numbers; never narrowed.
        whole: columns that are never narrowed.
        tail: columns with names, like those headed by one of `NAMES`: they are never cut or
            broken; the text in other columns wraps on a narrow terminal.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    tail: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Report:
    """One answer, ready to draw: lines of text, then labelled facts, then tables."""

    title: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[ReportTable, ...] = ()
    lines: tuple[str, ...] = ()


def report(
    answer: object, *, explain: bool = False, full: bool = False, clean: Callable[[str], str] = str
) -> Report:
    """Turn an answer into a report.

    With `explain`, a resolution lists every entry and why it was not chosen; with `full`
    (`--no-trunc`), tables show whole digests. `clean` redacts the text of errors and tools.
    """
    match answer:
        case Resolution():
            return _resolution(answer, explain=explain, full=full)
        case Failure():
            return _failure(answer, clean)
        case Batch():
            return _batch(answer, full=full)
        case Offers():
            return _offers(answer, full=full)
        case Inspection():
            return _inspection(answer, full=full)
        case _:
            from resolver.render.answers import renderer_of  # noqa: PLC0415 - a resolve needs none

            drawn: Report = renderer_of(answer).report(answer, explain=explain, full=full)
            facts = ((label, clean(text) if label == SAID else text) for label, text in drawn.facts)
            return replace(drawn, facts=tuple(facts))


def short(digest: object, *, full: bool) -> str:
    """Shorten a digest for a table, unless `full`."""
    text = str(digest)
    algorithm, _, digits = text.partition(":")
    return text if full else f"{algorithm}:{digits[:SHORT_HEX]}"


def kind(media_type: str) -> str:
    """Return the short name of a media type, or the media type itself."""
    return _KINDS.get(media_type, media_type)


#: Columns of the lines of a batch, which are printed before the next ones are known.
BATCH = ("digest", "platform", "grade", "reference")
#: Widths of the longest platform, `windows/amd64:10.0.20348.2700`, and grade.
_PLATFORM, _GRADE = 29, 10
#: Widths of a digest: whole, and on a narrow terminal, where an error code still fits.
_WHOLE, _SHORTENED = 71, 27


def batch_line(answer: Resolution | Failure, page: Page) -> str:
    """Return one of several resolutions, or a failure in its place, as a line.

    On a terminal the digest is shortened if the line does not fit, and the reference has a line of
    its own if it still does not.
    """
    if isinstance(answer, Failure):
        code = f"error: {getattr(answer.error, 'code', 'error')}"
        cells = (code, answer.wanted or "-", "-", answer.reference)
    else:
        platform = str(answer.platform) if answer.platform is not None else "-"
        grade = answer.grade.value if answer.grade is not None else "-"
        cells = (str(answer.manifest.digest), platform, grade, answer.reference)
    rest = 2 * 3 + _PLATFORM + _GRADE + len(answer.reference)
    fits = page.width is None or _WHOLE + rest <= page.width
    widths = (_WHOLE if fits else _SHORTENED, _PLATFORM, _GRADE, 0)
    if not isinstance(answer, Failure):
        cells = (cells[0][: widths[0]], *cells[1:])
    if page.width is None or sum(widths) + 2 * 3 + len(answer.reference) <= page.width:
        return batch_row(BATCH, cells, widths, colour=page.colour)
    first = batch_row(BATCH[:-1], cells[:-1], widths[:-1], colour=page.colour)
    return f"{first}\n    {escape(answer.reference)}"


def _batch(answer: Batch, *, full: bool) -> Report:
    """List resolutions; the title is the outcome."""
    failed = sum(isinstance(item, Failure) for item in answer.answers)
    rows = []
    for item in answer.answers:
        if isinstance(item, Failure):
            code = f"error: {getattr(item.error, 'code', 'error')}"
            rows.append((item.reference, item.wanted or "-", code, "-"))
        else:
            grade = item.grade.value if item.grade is not None else "-"
            digest = short(item.manifest.digest, full=full)
            rows.append((item.reference, _platform(item.platform), grade, digest))
    table = ReportTable("images", ("image", "platform", "grade", "digest"), tuple(rows))
    return Report(resolved_words(len(answer.answers), failed), (), (table,))


def resolved_words(total: int, failed: int) -> str:
    """Return the outcome of a batch."""
    return f"resolved {total - failed} of {total}" + (f", {failed} failed" if failed else "")


def _failure(answer: Failure, clean: Callable[[str], str]) -> Report:
    facts = [("image", answer.reference)]
    if answer.wanted:
        facts.append(("platform", answer.wanted))
    facts.append(("error", clean(str(answer.error))))
    return Report(answer.reference, tuple(facts))


def _resolution(answer: Resolution, *, explain: bool, full: bool) -> Report:
    facts = [("image", answer.reference), ("platform", _platform_words(answer))]
    facts.append(("manifest", str(answer.manifest.digest)))
    if answer.index is not None:
        facts.append(("index", str(answer.index.digest)))
    facts.append(("type", f"{answer.manifest.media_type}"))
    facts.append(("size", f"{answer.manifest.size} bytes"))
    if answer.tag_verified:
        facts.append(("tag", "still points at this digest"))
    tables = (_considered(answer, full=full),) if explain else ()
    return Report(answer.reference, tuple(facts), tables)


def _platform_words(answer: Resolution) -> str:
    if answer.platform is None:
        return "none: not an image"
    requested = " or ".join(str(platform) for platform in answer.wanted)
    grade = answer.grade.value if answer.grade is not None else "not the platform of this machine"
    source = "requested" if answer.explicit else "default"
    if str(answer.platform) == requested:
        return f"{answer.platform} ({grade})"
    return f"{answer.platform} ({grade}; {source} {requested})"


def _considered(answer: Resolution, *, full: bool) -> ReportTable:
    rows = []
    for entry in answer.considered:
        number = ".".join(str(position + 1) for position in entry.path) or "-"
        platform = str(entry.descriptor.platform) if entry.descriptor.platform else "-"
        why = "chosen" if entry.chosen else entry.reason
        rows.append((number, platform, short(entry.descriptor.digest, full=full), why))
    columns = ("#", "platform", "digest", "why")
    return ReportTable("entries", columns, tuple(rows))


def _offers(answer: Offers, *, full: bool) -> Report:
    facts = (("image", answer.reference), ("index", str(answer.root.digest)))
    if not answer.root.is_index:
        facts = (("image", answer.reference), ("manifest", str(answer.root.digest)))
    columns = ("platform", "digest", "layers", "size")
    rows = tuple(
        (
            _platform(offer.platform),
            short(offer.descriptor.digest, full=full),
            str(offer.layers) if offer.layers is not None else "-",
            megabytes(offer.size) if offer.size is not None else "-",
        )
        for offer in answer.offers
    )
    tables = [ReportTable("platforms", columns, rows, frozenset({"layers", "size"}))]
    if answer.attestations:
        tables.append(_attestations(answer.attestations, full=full))
    if answer.artifacts:
        tables.append(_artifacts(answer.artifacts, full=full))
    return Report(answer.reference, facts, tuple(tables))


def _platform(platform: Platform | None) -> str:
    return str(platform) if platform is not None else "-"


def _attestations(attestations: tuple[Offer, ...], *, full: bool) -> ReportTable:
    rows = tuple(
        (
            short(offer.descriptor.digest, full=full),
            short(offer.refers_to, full=full) if offer.refers_to else "-",
            str(offer.descriptor.size),
        )
        for offer in attestations
    )
    return ReportTable("attestations", ("digest", "refers to", "bytes"), rows, frozenset({"bytes"}))


def _artifacts(artifacts: tuple[Offer, ...], *, full: bool) -> ReportTable:
    rows = tuple(
        (
            _platform(offer.platform),
            short(offer.descriptor.digest, full=full),
            kind(offer.artifact_type or offer.descriptor.media_type),
            str(offer.descriptor.size),
        )
        for offer in artifacts
    )
    columns = ("listed for", "digest", "type", "bytes")
    return ReportTable("artifacts", columns, rows, frozenset({"bytes"}))


def _inspection(answer: Inspection, *, full: bool) -> Report:
    facts = [("image", answer.reference)]
    if answer.index is not None:
        facts += [("index", str(answer.descriptor.digest)), ("type", answer.descriptor.media_type)]
        tables = [_entries(answer.index, full=full)]
        annotations = answer.index.annotations
    else:
        facts += _image_facts(answer)
        tables = _image_tables(answer, full=full)
        annotations = answer.manifest.annotations if answer.manifest is not None else ()
    if annotations:
        tables.append(ReportTable("annotations", ("key", "value"), tuple(annotations)))
    return Report(answer.reference, tuple(facts), tuple(tables))


def _entries(index: Index, *, full: bool) -> ReportTable:
    rows = tuple(
        (
            _entry_kind(entry),
            short(entry.digest, full=full),
            str(entry.size),
            kind(entry.media_type),
        )
        for entry in index.manifests
    )
    return ReportTable(
        "entries", ("platform", "digest", "bytes", "type"), rows, frozenset({"bytes"})
    )


def _entry_kind(entry: Descriptor) -> str:
    if entry.kind in {EntryKind.ATTESTATION, EntryKind.ARTIFACT}:
        return f"({entry.kind.value})"
    return _platform(entry.platform)


def _image_facts(answer: Inspection) -> list[tuple[str, str]]:
    manifest, config = answer.manifest, answer.config
    facts = []
    if answer.platform is not None:
        facts.append(("platform", str(answer.platform)))
    facts.append(("manifest", str(answer.descriptor.digest)))
    if answer.root.digest != answer.descriptor.digest:
        facts.append(("index", str(answer.root.digest)))
    facts.append(("type", answer.descriptor.media_type))
    if manifest is not None:
        if manifest.config is not None:
            facts.append(("config", str(manifest.config.digest)))
        total = sum(layer.size for layer in manifest.layers)
        facts.append(("layers", f"{len(manifest.layers)}, {megabytes(total)}"))
    return facts + (_config_facts(config) if config is not None else [])


def _config_facts(config: ImageConfig) -> list[tuple[str, str]]:
    pairs = (
        ("created", config.created or ""),
        ("user", config.user or ""),
        ("workdir", config.working_dir or ""),
        ("entry", _command(config.entrypoint)),
        ("command", _command(config.cmd)),
        ("ports", ", ".join(config.exposed_ports)),
        ("volumes", ", ".join(config.volumes)),
        ("stop", config.stop_signal or ""),
    )
    return [(name, value) for name, value in pairs if value]


def _command(words: tuple[str, ...] | None) -> str:
    return " ".join(word if word and " " not in word else repr(word) for word in words or ())


def _image_tables(answer: Inspection, *, full: bool) -> list[ReportTable]:
    tables = []
    if answer.manifest is not None:
        tables.append(_layers(answer.manifest, full=full))
    if answer.config is not None:
        tables += _config_tables(answer.config, answer.step_sizes)
    return tables


def _layers(manifest: Manifest, *, full: bool) -> ReportTable:
    rows = tuple(
        (str(number), short(layer.digest, full=full), megabytes(layer.size), kind(layer.media_type))
        for number, layer in enumerate(manifest.layers, 1)
    )
    return ReportTable("layers", ("#", "digest", "size", "type"), rows, frozenset({"#", "size"}))


def _config_tables(config: ImageConfig, sizes: Sequence[int | None]) -> list[ReportTable]:
    tables = []
    if config.env:
        pairs = tuple((name, value) for name, _, value in (e.partition("=") for e in config.env))
        tables.append(ReportTable("environment", ("name", "value"), pairs))
    if config.labels:
        tables.append(ReportTable("labels", ("key", "value"), config.labels))
    if config.history:
        rows = tuple(
            (str(number), "-" if size is None else megabytes(size), _step(step))
            for number, (step, size) in enumerate(zip(config.history, sizes, strict=True), 1)
        )
        right = frozenset({"#", "size"})
        tables.append(ReportTable("history", ("#", "size", "step"), rows, right))
    return tables


def _step(step: HistoryEntry) -> str:
    return step.created_by or step.comment or "-"
