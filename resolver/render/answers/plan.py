"""Plans and pulls: what is held, what is missing, what was fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.oci.manifest import counted
from resolver.core.results.plan import ContentState, Plan
from resolver.errors import megabytes
from resolver.render.answers import renderer_of
from resolver.render.report import Report, ReportTable, short
from resolver.render.to_dict import bare, failure, platform, warnings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.core.oci.digest import Digest
    from resolver.core.oci.manifest import LeftOut
    from resolver.core.results.export import Exported
    from resolver.core.results.plan import ChunkReuse, EngineNeeds, Piece, PlannedImage
    from resolver.core.results.pull import Pulled, PulledOne
    from resolver.render.to_dict import Plain


#: How Docker reports the result of a pull.
_STATUS = {"downloaded": "Downloaded newer image for", "up-to-date": "Image is up to date for"}


def report(answer: Plan | Pulled, *, explain: bool = False, full: bool = False) -> Report:
    """Turn a plan or a pull into a report."""
    del explain
    return _plan(answer, full=full) if isinstance(answer, Plan) else _pulled(answer)


def _pulled(answer: Pulled) -> Report:
    """Report each image as Docker does, then the total fetched."""
    groups: dict[str, list[PulledOne]] = {}
    for one in answer.entries:
        groups.setdefault(one.image.reference, []).append(one)
    left_out: dict[str, list[LeftOut]] = {}
    for item in answer.left_out:
        left_out.setdefault(item.reference, []).append(item)
    lines: list[str] = []
    for reference, ones in groups.items():
        lines += _image(reference, ones, left_out.get(reference, []))
    if answer.fetched:
        fetched = f"{megabytes(answer.bytes_fetched)} in {_pieces_of(len(answer.fetched))}"
        lines.append(f"Fetched: {fetched}; {len(answer.reused)} already held")
    lines += [line for export in answer.exported for line in _handed_over(export)]
    return Report("pulled", (), (), tuple(lines))


def _handed_over(export: Exported) -> Iterator[str]:
    for image in export.images:
        platforms = ", ".join(str(each) for each in image.platforms if each is not None)
        what = f"{image.name} ({platforms or '-'}), {image.root.digest}"
        yield f"Handed over to {export.destination}: {what}"
    size = f"{megabytes(export.written)} of {megabytes(export.size)}"
    yield f"Fetched by {export.destination}: {size}"


def _pieces_of(count: int) -> str:
    return "1 piece" if count == 1 else f"{count} pieces"


def left_out_words(entries: Iterable[LeftOut]) -> str:
    """Describe the entries of an index that were left out, on one line."""
    kinds = [item.kind for item in entries]
    if set(kinds) == {"attestation"}:
        return f"{counted(kinds)} (`--no-attestations`)"
    return f"{counted(kinds)} of the index (`-p all` includes every entry)"


def _image(reference: str, ones: list[PulledOne], left_out: list[LeftOut]) -> list[str]:
    platforms = [str(one.image.platform) for one in ones if one.image.platform is not None]
    status = "downloaded" if any(one.status == "downloaded" for one in ones) else "up-to-date"
    skipped = [piece.descriptor for one in ones for piece in one.skipped]
    foreign = {descriptor.digest: descriptor.size for descriptor in skipped}
    attached = counted(one.image.kind for one in ones if one.image.kind != "image")
    lines = [f"Platform: {platform}" for platform in platforms]
    if attached:
        lines.append(f"With: {attached}")
    if left_out:
        lines.append(f"Left out: {left_out_words(left_out)}")
    lines += [f"Digest: {ones[0].image.root.digest}", f"Status: {_STATUS[status]} {reference}"]
    if foreign:
        size = megabytes(sum(foreign.values()))
        lines.append(
            f"Left out: {_pieces_of(len(foreign))} foreign, {size} (`--foreign` fetches it)"
        )
    return lines


def _plan(answer: Plan, *, full: bool) -> Report:
    only = len(answer.images) == 1 and all(item.kind != "artifact" for item in answer.attached)
    facts = _image_facts(answer.images[0]) if only else ()
    tables = [] if only else [_images(answer, full=full)]
    tables.append(_pieces(answer, full=full))
    return Report("plan", (*facts, *_totals(answer)), tuple(tables))


def _image_facts(image: PlannedImage) -> tuple[tuple[str, str], ...]:
    facts = [("image", image.reference)]
    if image.platform is not None:
        facts.append(("platform", str(image.platform)))
    facts.append(("manifest", str(image.manifest.digest)))
    if image.root.digest != image.manifest.digest:
        facts.append(("index", str(image.root.digest)))
    return tuple(facts)


def _totals(answer: Plan) -> tuple[tuple[str, str], ...]:
    total, missing = answer.bytes_total, answer.bytes_missing
    requests = answer.requests
    fetch = "nothing, all content is held"
    if answer.missing:
        word = "request" if requests == 1 else "requests"
        fetch = f"{megabytes(missing)} of {megabytes(total)}, in {requests} {word}"
    facts = [("fetch", fetch), ("held", megabytes(answer.bytes_held))]
    gaps = sorted({piece.rebuilt.gap for piece in answer.pieces if piece.rebuilt is not None})
    if gaps:
        several = " and ".join(megabytes(gap) for gap in gaps)
        facts.append(("chunks", f"held runs shorter than {several} are fetched along"))
    if answer.failures:
        facts.append(("failed", ", ".join(item.reference for item in answer.failures)))
    if answer.saved:
        facts.append(("shared", f"{megabytes(answer.saved)} among these images, fetched once"))
    if answer.attached:
        facts.append(("with", counted(item.kind for item in answer.attached)))
    if answer.left_out:
        facts.append(("left out", left_out_words(answer.left_out)))
    if answer.foreign:
        size = sum(piece.descriptor.size for piece in answer.foreign)
        facts.append(("foreign", f"{megabytes(size)} left out (`--foreign` fetches it)"))
    if answer.engine is not None:
        facts.append(("engine", _engine_words(answer, answer.engine)))
    return tuple(facts)


def _engine_words(answer: Plan, engine: EngineNeeds) -> str:
    lacking, total = _sizes(answer, engine.lacking), _sizes(answer, engine.pieces)
    pieces = _pieces_of(len(engine.lacking))
    size = f"{megabytes(lacking)} of {megabytes(total)}"
    return f"{engine.engine} lacks at most {size}, in {pieces}"


def _sizes(answer: Plan, digests: frozenset[Digest]) -> int:
    sizes = (each.descriptor.size for each in answer.pieces if each.descriptor.digest in digests)
    return sum(sizes)


def _engine_state(engine: EngineNeeds, piece: Piece) -> str:
    digest = piece.descriptor.digest
    if digest not in engine.pieces:
        return "-"
    return "missing" if digest in engine.lacking else "held"


def _images(answer: Plan, *, full: bool) -> ReportTable:
    rows = tuple(
        (
            image.reference,
            _entry_name(image),
            short(image.manifest.digest, full=full),
            megabytes(sum(piece.missing for piece in answer.pieces_of(image))),
        )
        for image in answer.entries
    )
    columns = ("image", "platform", "digest", "fetch")
    return ReportTable("images", columns, rows, frozenset({"fetch"}), tail=frozenset({"image"}))


def _entry_name(image: PlannedImage) -> str:
    if image.kind != "image":
        return f"({image.kind})"
    return str(image.platform) if image.platform is not None else "-"


def _pieces(answer: Plan, *, full: bool) -> ReportTable:
    """List the pieces; with several images, also the images that each belongs to."""
    users: dict[Digest, dict[str, None]] = {}
    for image in answer.entries:
        for content in image.contents:
            users.setdefault(content.descriptor.digest, {})[image.reference] = None
    several = len({image.reference for image in answer.images}) > 1
    rows = tuple(
        (
            piece.role,
            short(piece.descriptor.digest, full=full),
            megabytes(piece.descriptor.size),
            _state(piece),
            *([_engine_state(answer.engine, piece)] if answer.engine is not None else []),
            *([", ".join(users.get(piece.descriptor.digest, ()))] if several else []),
        )
        for piece in answer.pieces
    )
    engine = [answer.engine.engine] if answer.engine is not None else []
    columns = ("piece", "digest", "size", "state", *engine, *(["image"] if several else []))
    return ReportTable("pieces", columns, rows, frozenset({"size"}))


def _state(piece: Piece) -> str:
    where = f" by {piece.place}" if piece.place else ""
    match piece.state:
        case ContentState.HELD:
            return f"held{where}"
        case ContentState.MISSING | ContentState.PARTIAL if piece.rebuilt is not None:
            held = _sources(piece.rebuilt)
            size, total = megabytes(piece.missing), megabytes(piece.descriptor.size)
            return f"missing {size} of {total} (chunks from {held})"
        case ContentState.PARTIAL:
            return f"partial, {megabytes(piece.have)} held{where}"
        case ContentState.MISSING:
            return "missing"
        case ContentState.FOREIGN:
            return "foreign, left out"


def _sources(reuse: ChunkReuse) -> str:
    """Name the held layers that a layer is rebuilt from."""
    used = {one.source for one in reuse.copied}
    return ", ".join(
        short(source.digest, full=False)
        for number, source in enumerate(reuse.sources)
        if number in used
    )


def plain(answer: Plan | Pulled) -> Plain:
    """Turn a plan or a pull into plain values."""
    return _plan_values(answer) if isinstance(answer, Plan) else _pulled_values(answer)


def _plan_values(answer: Plan) -> Plain:
    written: Plain = {
        "images": [_image_values(image) for image in answer.images],
        "attached": [_attached(image) for image in answer.attached],
        "leftOut": left_out(answer.left_out),
        "failures": _failures(answer),
        "bytesTotal": answer.bytes_total,
        "bytesHeld": answer.bytes_held,
        "bytesMissing": answer.bytes_missing,
        "bytesShared": answer.saved,
        "requests": answer.requests,
        "pieces": [piece(item) for item in answer.pieces],
    }
    if answer.engine is not None:
        engine = answer.engine
        written["engine"] = {
            "name": engine.engine,
            "bytesTotal": _sizes(answer, engine.pieces),
            "bytesMissing": _sizes(answer, engine.lacking),
            "missing": [
                str(each.descriptor.digest)
                for each in answer.pieces
                if each.descriptor.digest in engine.lacking
            ],
        }
    return written


def _pulled_values(answer: Pulled) -> Plain:
    written: Plain = {
        "images": [_one(one) for one in answer.images],
        "attached": [{**_attached(one.image), "status": one.status} for one in answer.attached],
        "leftOut": left_out(answer.left_out),
        "failures": _failures(answer),
        "bytesFetched": answer.bytes_fetched,
        "fetched": [piece(item) for item in answer.fetched],
        "reused": [piece(item) for item in answer.reused],
    }
    if answer.exported:
        written["exported"] = [renderer_of(each).plain(each) for each in answer.exported]
    return written


def _failures(answer: Plan | Pulled) -> list[Plain]:
    return [{"reference": item.reference, **failure(item.error)} for item in answer.failures]


def _one(one: PulledOne) -> Plain:
    written = _image_values(one.image)
    del written["upToDate"]
    written["status"] = one.status
    written["skipped"] = [piece(item) for item in one.skipped]
    written["warnings"] = warnings(one.warnings)
    return written


def pairs(answer: Plan | Pulled) -> list[tuple[str, str]]:
    """Return the digest and pinned reference of each image."""
    if isinstance(answer, Plan):
        images = answer.images
    else:
        images = tuple(one.image for one in answer.images)
    return [(str(image.manifest.digest), image.pinned) for image in images]


def _image_values(image: PlannedImage) -> Plain:
    return {
        "reference": image.reference,
        "platform": platform(image.platform) if image.platform is not None else None,
        "root": bare(image.root),
        "manifest": bare(image.manifest),
        "pinned": image.pinned,
        "upToDate": image.up_to_date,
        "warnings": warnings(image.warnings),
    }


def _attached(image: PlannedImage) -> Plain:
    return {
        "reference": image.reference,
        "kind": image.kind,
        "manifest": bare(image.manifest),
        "refersTo": str(image.about) if image.about is not None else None,
        "tag": image.tag or None,
        "pinned": image.pinned,
    }


def left_out(entries: Iterable[LeftOut]) -> list[Plain]:
    """Return the entries of indexes that were left out, as plain values."""
    return [
        {
            "reference": item.reference,
            "kind": item.kind,
            "platform": platform(item.platform) if item.platform is not None else None,
            **bare(item.descriptor),
        }
        for item in entries
    ]


def piece(value: Piece) -> Plain:
    """Return a piece as plain values."""
    return {
        "role": value.role,
        **bare(value.descriptor),
        "state": value.state.value,
        "place": value.place,
        "have": value.have,
        "missing": value.missing,
        "chunks": _chunks(value.rebuilt) if value.rebuilt is not None else None,
    }


def _chunks(reuse: ChunkReuse) -> Plain:
    used = {one.source for one in reuse.copied}
    return {
        "from": [str(one.digest) for number, one in enumerate(reuse.sources) if number in used],
        "gap": reuse.gap,
        "requests": reuse.requests,
        "tocBytes": reuse.toc_bytes,
    }
