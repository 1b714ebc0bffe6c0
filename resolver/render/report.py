"""Reports: any answer as facts and tables, once; each format draws reports."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from resolver.core.answer import Failure, Resolution
from resolver.core.contents import Inspection, Offer, Offers
from resolver.core.descriptor import EntryKind
from resolver.render.units import megabytes
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.descriptor import Descriptor
    from resolver.core.image_config import HistoryEntry, ImageConfig
    from resolver.core.manifest import Index, Manifest
    from resolver.core.platform import Platform

#: Characters of a digest that tables show, after the algorithm; enough to tell two apart.
SHORT_HEX = 12

#: Words for the media types that tables are full of.
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
class Table:
    """Rows under headings.

    Attributes:
        right: columns that hold numbers.
        whole: columns that are cut last, since a part of what they say is of no use.
        tail: columns whose end says more than their start: they are cut there.
        is_wide: it may be wider than the page.

    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    tail: frozenset[str] = frozenset()
    is_wide: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """One answer, ready to be drawn: lines of words, then labelled facts, then tables."""

    title: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...] = ()
    lines: tuple[str, ...] = ()


#: Answers whose reports are made elsewhere, by the module that defines the answer; imported when
#: there is one, since most commands have none of them.
ELSEWHERE = {
    "resolver.core.checkup": "resolver.render.report_doctor",
    "resolver.core.checked": "resolver.render.report_check",
    "resolver.core.comparison": "resolver.render.report_compare",
    "resolver.core.exported": "resolver.render.report_export",
    "resolver.core.linted": "resolver.render.report_lint",
    "resolver.core.found": "resolver.render.report_home",
    "resolver.core.login": "resolver.render.report_home",
    "resolver.core.listing": "resolver.render.report_store",
    "resolver.core.matrix": "resolver.render.report_matrix",
    "resolver.core.lock_check": "resolver.render.report_lock",
    "resolver.core.lock": "resolver.render.report_lock",
    "resolver.core.pinned": "resolver.render.report_pin",
    "resolver.core.plan": "resolver.render.report_plan",
    "resolver.core.pulled": "resolver.render.report_plan",
    "resolver.core.stored": "resolver.render.report_store",
    "resolver.core.tagged": "resolver.render.tagged",
}


def report(answer: object, *, explain: bool = False, full: bool = False) -> Report:
    """Turn an answer into a report.

    With `explain`, a resolution lists every entry and why it lost; with `full` (`--no-trunc`),
    tables show digests whole.
    """
    match answer:
        case Resolution():
            return _resolution(answer, explain=explain, full=full)
        case Failure():
            return _failure(answer)
        case Offers():
            return _offers(answer, full=full)
        case Inspection():
            return _inspection(answer, full=full)
        case _:
            place = import_module(ELSEWHERE[type(answer).__module__])
            made: Report = place.report(answer, explain=explain, full=full)
            return made


def short(digest: object, *, full: bool) -> str:
    """Cut a digest for a table, unless whole ones are wanted."""
    text = str(digest)
    algorithm, _, digits = text.partition(":")
    return text if full else f"{algorithm}:{digits[:SHORT_HEX]}"


def kind(media_type: str) -> str:
    """Say a media type in a few words, for tables; one we have no words for stays whole."""
    return _KINDS.get(media_type, media_type)


def resolution_line(answer: Resolution) -> str:
    """One resolution on one line, digest first, so that columns line up unseen."""
    platform = str(answer.platform) if answer.platform is not None else "-"
    grade = answer.grade.value if answer.grade is not None else "-"
    return f"{answer.manifest.digest}  {platform:<16}  {grade:<10}  {answer.reference}"


def failure_line(answer: Failure) -> str:
    """One failure on one line, in the place of its answer."""
    code = getattr(answer.error, "code", "error")
    return f"{'error: ' + code:<71}  {answer.wanted or '-':<16}  {'-':<10}  {answer.reference}"


def _failure(answer: Failure) -> Report:
    facts = [("image", answer.reference)]
    if answer.wanted:
        facts.append(("platform", answer.wanted))
    facts.append(("error", str(answer.error)))
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
        return "none: this is no image"
    asked = " or ".join(str(platform) for platform in answer.wanted)
    grade = answer.grade.value if answer.grade is not None else "not what this machine is"
    source = "asked for" if answer.explicit else "default"
    if str(answer.platform) == asked:
        return f"{answer.platform} ({grade})"
    return f"{answer.platform} ({grade}; {source} {asked})"


def _considered(answer: Resolution, *, full: bool) -> Table:
    rows = []
    for entry in answer.considered:
        number = ".".join(str(position + 1) for position in entry.path) or "-"
        platform = str(entry.descriptor.platform) if entry.descriptor.platform else "-"
        why = "chosen" if entry.chosen else entry.reason
        rows.append((number, platform, short(entry.descriptor.digest, full=full), why))
    columns = ("#", "platform", "digest", "why")
    return Table("entries", columns, tuple(rows))


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
    tables = [Table("platforms", columns, rows, frozenset({"layers", "size"}))]
    if answer.attestations:
        tables.append(_attestations(answer.attestations, full=full))
    if answer.artifacts:
        tables.append(_artifacts(answer.artifacts, full=full))
    return Report(answer.reference, facts, tuple(tables))


def _platform(platform: Platform | None) -> str:
    return str(platform) if platform is not None else "-"


def _attestations(attestations: tuple[Offer, ...], *, full: bool) -> Table:
    rows = tuple(
        (
            short(offer.descriptor.digest, full=full),
            short(offer.refers_to, full=full) if offer.refers_to else "-",
            str(offer.descriptor.size),
        )
        for offer in attestations
    )
    return Table("attestations", ("digest", "speaks about", "bytes"), rows, frozenset({"bytes"}))


def _artifacts(artifacts: tuple[Offer, ...], *, full: bool) -> Table:
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
    return Table("artifacts", columns, rows, frozenset({"bytes"}))


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
        tables.append(Table("annotations", ("key", "value"), tuple(annotations)))
    return Report(answer.reference, tuple(facts), tuple(tables))


def _entries(index: Index, *, full: bool) -> Table:
    rows = tuple(
        (
            _entry_kind(entry),
            short(entry.digest, full=full),
            str(entry.size),
            kind(entry.media_type),
        )
        for entry in index.manifests
    )
    return Table("entries", ("platform", "digest", "bytes", "type"), rows, frozenset({"bytes"}))


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


def _image_tables(answer: Inspection, *, full: bool) -> list[Table]:
    tables = []
    if answer.manifest is not None:
        tables.append(_layers(answer.manifest, full=full))
    if answer.config is not None:
        tables += _config_tables(answer.config)
    return tables


def _layers(manifest: Manifest, *, full: bool) -> Table:
    rows = tuple(
        (
            str(number),
            short(layer.digest, full=full),
            megabytes(layer.size),
            kind(layer.media_type),
        )
        for number, layer in enumerate(manifest.layers, 1)
    )
    return Table("layers", ("#", "digest", "size", "type"), rows, frozenset({"#", "size"}))


def _config_tables(config: ImageConfig) -> list[Table]:
    tables = []
    if config.env:
        pairs = tuple((name, value) for name, _, value in (e.partition("=") for e in config.env))
        tables.append(Table("environment", ("name", "value"), pairs))
    if config.labels:
        tables.append(Table("labels", ("key", "value"), config.labels))
    if config.history:
        rows = tuple(_step(number, step) for number, step in enumerate(config.history, 1))
        tables.append(Table("history", ("#", "layer", "step"), rows, frozenset({"#"})))
    return tables


def _step(number: int, step: HistoryEntry) -> tuple[str, ...]:
    return (str(number), "-" if step.empty_layer else "yes", step.created_by or step.comment or "-")
