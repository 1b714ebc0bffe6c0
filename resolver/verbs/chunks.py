"""Rebuild a missing layer from the chunks of layers that are held: the plan, and the indexes.

The table of contents (TOC) of a missing layer is read from its registry, and compared with the
chunk indexes of held layers. Nothing of this is trusted: the digest of the whole layer decides.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, cast

from resolver.clock import SystemClock
from resolver.core.layers.chunked import (
    FOOTER,
    MAX_TOC,
    UNKNOWN,
    ChunkFetch,
    ChunkIndex,
    ChunkRun,
    Declaration,
    declared,
    index_of,
    read_footer,
    read_map,
    sections,
    without_short_runs,
)
from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.manifest import Index, Manifest, parse_document
from resolver.core.oci.reference import Reference
from resolver.core.results.events import Noted
from resolver.core.results.plan import CONNECTIONS, RANGE_SIZE, ChunkReuse, cut, gaps
from resolver.errors import (
    BadDocument,
    ConnectionFailed,
    LimitExceeded,
    NotFound,
    RangeRefused,
    ResolverError,
    SizeMismatch,
    StoreFault,
    UnsupportedDocument,
    Untrusted,
)
from resolver.values import dataclass
from resolver.verbs.threads import parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import ExitStack

    from resolver.clock import Clock
    from resolver.core.layers.chunked import ChunkMap
    from resolver.core.oci.content import Content, RangedSource, Source
    from resolver.core.oci.digest import Digest
    from resolver.core.results.events import Observer
    from resolver.core.results.plan import ChunkMode, Span
    from resolver.store import LocalStore
    from resolver.store.files import File

    #: Opens a repository; None if no registry may be asked.
    Opener = Callable[[], RangedSource] | None

#: Held layers that are looked at, those that are used, and the spans that decide between them.
_CANDIDATES, _USED, _SAMPLE = 64, 4, 256
#: Pulled names whose layers are looked at for their repository.
_NAMES = 1_000
#: Bytes read first where a layer does not state the length of its TOC and no held one suggests it.
_FIRST = 64 << 10
#: What indexes say of the formats that layers declare.
_FORMATS = {"zstd:chunked": {"zstd:chunked", "estargz-zstd"}, "estargz": {"estargz"}}
#: Most requests for one layer, and most runs of bytes that it is divided into.
_MOST_REQUESTS, _MOST_RUNS = 2_000, 100_000
#: Gaps to choose from, in bytes.
_GAPS = (0, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20)
#: Bytes per second of a link whose rate is not known: 100 Mbit/s. Fewer bytes than these, or less
#: time, say nothing about a rate.
_RATE, _RATED_BYTES, _RATED_SECONDS = 12_500_000.0, 64 << 10, 0.002
#: Seconds until an answer of a link that was not measured.
_WAIT = 0.05
#: Bytes by which a TOC may have grown since the held layer.
_SLACK = 128


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """How chunks are used.

    Attributes:
        mode: `auto`, `always` or `never`.
        gap: bytes; held runs that are shorter are fetched along. None chooses by the link.
    """

    mode: ChunkMode = "auto"
    gap: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """A link: seconds until an answer begins, and bytes per second."""

    wait: float
    rate: float

    def seconds(self, size: int, requests: int) -> float:
        """Estimate the time of some requests in parallel; the rate is that of the whole link."""
        return self.wait * -(-requests // CONNECTIONS) + size / self.rate


@dataclass(frozen=True, slots=True)
class LayerEnd:
    """The TOC of a layer, and what reading it took.

    Attributes:
        body: the bytes of the layer from `chunks.starts[-1]` to its end.
        fetched, requests: bytes and requests; 0 if it was kept by an earlier plan.
    """

    chunks: ChunkMap
    body: bytes
    fetched: int
    requests: int
    link: Measured


@dataclass(frozen=True, slots=True, eq=False)
class HeldLayer:
    """A layer that may be reused: in the store, or in the place of this name."""

    descriptor: Descriptor
    index: ChunkIndex
    place: str = ""


def plan_reuse(  # noqa: PLR0913 - each is one thing that decides
    store: LocalStore,
    descriptor: Descriptor,
    known: Iterable[Descriptor],
    source: Callable[[], RangedSource],
    options: ChunkOptions,
    *,
    observe: Observer,
    clock: Clock | None = None,
    elsewhere: Sequence[HeldLayer] = (),
) -> ChunkReuse | None:
    """Plan how to rebuild a missing layer from held ones; None if its TOC was not read.

    Where nothing can be copied, the plan fetches all but the end of the layer, which has the TOC.

    Args:
        store: has the held layers.
        descriptor: of the layer, with its annotations.
        known: layers that may be held, the preferred ones first; see `layers_of`.
        source: opens the repository; called when there is a held layer that may be used.
        options: how chunks are used.
        observe: receives a note where the TOC cannot be used.
        clock: measures the link.
        elsewhere: layers in other places of this machine; see `layers_in`.
    """
    declaration = declared(dict(descriptor.annotations), descriptor.size)
    if options.mode == "never" or declaration is None:
        return None
    try:
        found = (*elsewhere, *islice(_held(store, descriptor, known), _CANDIDATES))
        held = [one for one in found if one.index.format in _FORMATS[declaration.format]]
        if not held:
            return None
        read = _Reader(descriptor, source, clock or SystemClock())
        guess = _suggested(store, held[0].descriptor, declaration)
        end = _kept_end(store, descriptor, declaration) or _read_end(read, declaration, guess)
    except ResolverError as error:
        # Where the layer itself is unavailable, its transfer says so.
        observe(Noted(f"`{descriptor.digest}` is fetched whole: {error}"))
        return None
    if end.requests:
        with suppress(StoreFault):
            store.chunks.put_toc(descriptor.digest, end.body)
    return _choose(store, descriptor, end, _best(end.chunks, held), options)


def _choose(
    store: LocalStore,
    descriptor: Descriptor,
    end: LayerEnd,
    held: Sequence[HeldLayer],
    options: ChunkOptions,
) -> ChunkReuse:
    """Choose the gap; copy nothing if the layer is fetched sooner, or with as few bytes, whole."""
    found = sections(end.chunks, [(one.index, one.descriptor.size) for one in held])
    have = store.partial_ranges(descriptor)
    whole = descriptor.size - sum(last - first for first, last in have)
    sources = tuple(one.descriptor for one in held)
    places = tuple(one.place for one in held)
    index = index_of(end.chunks)

    def plan_with(copied: tuple[ChunkRun, ...], gap: int) -> ChunkReuse:
        spans = [*have, *((one.start, one.end) for one in copied)]
        spans.append((descriptor.size - len(end.body), descriptor.size))
        ranges = tuple(cut(gaps(descriptor.size, spans), RANGE_SIZE))
        return ChunkReuse(
            sources if copied else (), copied, end.body, ranges, gap, end.fetched, end.requests,
            index, places if copied else (),
        )  # fmt: skip

    is_auto = options.mode == "auto"
    # The end of the layer is here, and is not fetched again.
    best, least = plan_with((), 0), end.link.seconds(whole, 1) if is_auto else float("inf")
    if not 0 < len(found) <= _MOST_RUNS:
        return best
    for gap in _GAPS if options.gap is None else (options.gap,):
        copied = tuple(one for one in without_short_runs(found, gap) if one.source is not None)
        plan = plan_with(copied, gap)
        seconds = end.link.seconds(plan.missing, plan.requests)
        if plan.missing >= whole or plan.requests > _MOST_REQUESTS or seconds >= least:
            continue
        best, least = plan, seconds
        if not is_auto:
            break
    return best


# --- held layers ----------------------------------------------------------------------------


def keep_index(
    store: LocalStore, descriptor: Descriptor, reuse: ChunkReuse | None, observe: Observer
) -> None:
    """Keep the chunk index of a layer that has arrived; without it, only requests are lost."""
    try:
        index_layer(store, descriptor, reuse.index if reuse is not None else b"")
    except (Untrusted, NotFound, StoreFault) as error:
        observe(Noted(f"the chunks of `{descriptor.digest}` cannot be reused: {error}"))


def index_layer(store: LocalStore, descriptor: Descriptor, index: bytes = b"") -> None:
    """Keep the chunk index of a layer that is held.

    Args:
        store: has the layer.
        descriptor: of the layer, with its annotations.
        index: its index, if it is known already.

    Raises:
        Untrusted: its TOC is malformed.
        StoreFault: the store cannot be written.
    """
    declaration = declared(dict(descriptor.annotations), descriptor.size)
    if declaration is None:
        return
    if not index:
        what = f"`{descriptor.digest}`"
        with store.file(descriptor) as file:
            if declaration.toc is None:
                end = pread(file, declaration.tail, descriptor.size)
                declaration = read_footer(declaration, end, what)
            _refuse_long(descriptor.size - declaration.tail)
            tail = pread(file, declaration.tail, descriptor.size)
        index = index_of(read_map(declaration, tail, what))
    store.chunks.put_index(descriptor.digest, index)


def pread(file: File, start: int, end: int) -> bytes:
    """Read a range of a file; less than that where the file is shorter."""
    found = bytearray()
    while len(found) < end - start:
        piece = os.pread(file.descriptor, end - start - len(found), start + len(found))
        if not piece:
            break
        found += piece
    return bytes(found)


def _held(
    store: LocalStore, descriptor: Descriptor, known: Iterable[Descriptor]
) -> Iterator[HeldLayer]:
    """Find held layers with an index, the known ones first."""
    seen = {descriptor.digest}
    for layer in known:
        if layer.digest in seen or not layer.has_chunks or not store.has(layer):
            continue
        seen.add(layer.digest)
        index = store.chunks.open_index(layer.digest)
        if index is None:
            with suppress(Untrusted, UnsupportedDocument, StoreFault):
                index_layer(store, layer)
            index = store.chunks.open_index(layer.digest)
        if index is not None:
            yield HeldLayer(layer, index)
    for digest in store.chunks.indexed(_CANDIDATES):
        size = store.size(digest)
        index = None if digest in seen or size is None else store.chunks.open_index(digest)
        if index is not None and size is not None:
            yield HeldLayer(Descriptor("application/octet-stream", digest, size), index)


class HeldChunks:
    """What is held of a layer that is rebuilt as a stream; the caller keeps the files open.

    Args:
        store: has the held layers.
        size: of the layer, in bytes.
        reuse: a plan without other places.
        files: closes the files.
        observe: receives a note about each layer that cannot be opened; its bytes are fetched.
    """

    def __init__(
        self,
        store: LocalStore,
        size: int,
        reuse: ChunkReuse,
        files: ExitStack,
        observe: Observer,
    ) -> None:
        self._size, self._end = size, reuse.end
        self._files: list[File | None] = []
        for source in reuse.sources:
            try:
                self._files.append(files.enter_context(store.file(source)))
            except (NotFound, StoreFault) as error:
                self._files.append(None)
                observe(Noted(f"`{source.digest}` cannot be reused: {error}"))
        tail = size - len(reuse.end)
        self._runs = [run for run in reuse.copied if run.start < tail]
        self._runs.append(ChunkRun(tail, size))
        self._starts = [run.start for run in self._runs]

    def pieces(self, start: int, longest: int) -> list[Span]:
        """Divide the layer from a position on; a piece has one range to fetch, or none."""
        missing = gaps(self._size, [(run.start, run.end) for run in self._runs])
        ends = sorted({end for _, end in missing if end > start} | {self._size})
        bounds = zip([start, *ends[:-1]], ends, strict=True)
        return cut((span for span in bounds if span[0] < span[1]), longest)

    def read(self, start: int, end: int) -> Iterator[tuple[Span, bytes]]:
        """Yield the bytes of a piece in order, unverified; empty ones are to be fetched."""
        position = start
        for run in self._runs[max(0, bisect_right(self._starts, start) - 1) :]:
            first, last = max(run.start, position), min(run.end, end)
            if run.start >= end:
                break
            if first >= last:
                continue
            body = self._held(run, first, last)
            if len(body) == last - first:
                if position < first:
                    yield (position, first), b""
                yield (first, last), body
                position = last
        if position < end:
            yield (position, end), b""

    def _held(self, run: ChunkRun, start: int, end: int) -> bytes:
        """Read a part of a run; less, or nothing, where the held layer does not have it."""
        if run.source is None:
            return self._end[start - run.start : end - run.start]
        file = self._files[run.source]
        if file is None:
            return b""
        at = run.offset + start - run.start
        try:
            return pread(file, at, at + end - start)
        except OSError:
            # A bad sector: the registry has these bytes as well.
            return b""


def layers_of(store: LocalStore, repository: str) -> Iterator[Descriptor]:
    """Yield the layers of images pulled from `registry/name`, the last pulled first."""
    names = [
        name
        for name in islice(store.pulled_names(), _NAMES)
        if Reference.parse(name.reference).identity == repository
    ]
    for name in sorted(names, key=lambda name: -name.pulled_at)[:_CANDIDATES]:
        for image in name.images:
            with suppress(ResolverError):
                what = f"`{image.manifest.digest}`"
                body = store.read(image.manifest)
                manifest = parse_document(body, image.manifest.media_type, what)
                if isinstance(manifest, Manifest):
                    yield from manifest.layers


def layers_in(place: str, content: Content, observe: Observer) -> Iterator[HeldLayer]:
    """Yield the layers in chunks of the images that a layout or an archive names."""
    if not hasattr(content, "tags"):
        return
    named = cast("Source", content)
    seen: set[Digest] = set()
    try:
        documents = [named.document(tag) for tag in islice(named.tags(), _CANDIDATES)]
        while documents and len(seen) < _CANDIDATES:
            document = documents.pop(0)
            root = document.descriptor
            parsed = parse_document(document.body, root.media_type, f"`{root.digest}`")
            if isinstance(parsed, Index):
                inner = [one for one in parsed.manifests[:_CANDIDATES] if content.has(one)]
                documents += [Document(one, content.read(one)) for one in inner]
                continue
            for layer in parsed.layers:
                if layer.has_chunks and layer.digest not in seen and content.has(layer):
                    seen.add(layer.digest)
                    yield HeldLayer(layer, _index_in(content, layer), place)
    except ResolverError as error:
        observe(Noted(f"the chunks of layers in `{place}` cannot be used: {error}"))


def _index_in(content: Content, layer: Descriptor) -> ChunkIndex:
    """Make the index of a layer in a place, which is read as a stream."""

    def read(start: int) -> bytes:
        _refuse_long(layer.size - start)
        at, end = 0, bytearray()
        with content.open(layer) as chunks:
            for chunk in chunks:
                end += chunk[max(0, start - at) :]
                at += len(chunk)
        return bytes(end)

    what = f"`{layer.digest}`"
    declaration = declared(dict(layer.annotations), layer.size)
    if declaration is None:
        raise BadDocument(what, "", "it declares no chunks")
    if declaration.toc is None:
        declaration = read_footer(declaration, read(declaration.tail), what)
    return ChunkIndex(index_of(read_map(declaration, read(declaration.tail), what)))


def _best(chunks: ChunkMap, held: Sequence[HeldLayer]) -> list[HeldLayer]:
    """Choose the held layers that have the most of some spans; the first of equal ones."""
    usable = [one for one in held if one.index.format == chunks.format]
    if len(usable) <= _USED:
        return usable
    known = [(length, key) for _, length, key in chunks.spans() if key != UNKNOWN]
    sample = sorted(known, reverse=True)[: _SAMPLE // 2]
    sample += known[:: max(1, 2 * len(known) // _SAMPLE)]

    def share(one: HeldLayer) -> int:
        find = one.index.find
        return sum(length for length, key in sample if (find(key) or (0, 0))[1] == length)

    ranked = sorted(((share(one), one) for one in usable), key=lambda pair: -pair[0])
    return [one for found, one in ranked[:_USED] if found]


# --- the TOC of a missing layer ---------------------------------------------------------------


def _refuse_long(length: int) -> None:
    if length > MAX_TOC:
        raise LimitExceeded("the end of a layer with its TOC", MAX_TOC, length, "bytes")


class _Reader:
    """Reads ranges of a layer, and measures the link."""

    def __init__(
        self, descriptor: Descriptor, source: Callable[[], RangedSource], clock: Clock
    ) -> None:
        self.descriptor = descriptor
        self._source = source
        self._clock = clock
        self.fetched = 0
        self.requests = 0
        self.link = Measured(_WAIT, _RATE)

    def read(self, start: int, end: int) -> bytes:
        """Read a range.

        Raises:
            RangeRefused: the registry sends all of the layer.
            LimitExceeded: it is longer than the end of a layer may be.
            ResolverError: as `RangedSource.open_range`.
        """
        _refuse_long(end - start)
        found = bytearray()
        begun = self._clock.monotonic()
        self.requests += 1
        with self._source().open_range(self.descriptor, start, end) as answer:
            if answer.whole and (start or end < self.descriptor.size):
                raise RangeRefused(f"its registry sends all of `{self.descriptor.digest}`")
            answered = self._clock.monotonic()
            for chunk in answer.chunks:
                found += chunk
                if len(found) > end - start:
                    raise SizeMismatch(
                        f"a range of `{self.descriptor.digest}`", end - start, len(found)
                    )
        if len(found) < end - start:
            raise ConnectionFailed(f"a range of `{self.descriptor.digest}` was cut short")
        self.fetched += len(found)
        passed = self._clock.monotonic() - answered
        is_rated = len(found) >= _RATED_BYTES and passed >= _RATED_SECONDS
        self.link = Measured(answered - begun, len(found) / passed if is_rated else _RATE)
        return bytes(found)


def _kept_end(
    store: LocalStore, descriptor: Descriptor, declaration: Declaration
) -> LayerEnd | None:
    """Return the end of a layer that an earlier plan has read."""
    body = store.chunks.read_toc(descriptor.digest, MAX_TOC)
    if body is None:
        return None
    try:
        chunks = _map_of(declaration, body, f"`{descriptor.digest}`")
    except Untrusted:
        return None
    return None if chunks is None else LayerEnd(chunks, body, 0, 0, Measured(_WAIT, _RATE))


def _read_end(reader: _Reader, declaration: Declaration, guess: int) -> LayerEnd:
    """Read the end of a layer with its TOC, in one request or two."""
    size = declaration.size
    what = f"`{reader.descriptor.digest}`"
    first = size - declaration.tail if declaration.toc else min(size, guess)
    body = reader.read(size - first, size)
    if declaration.toc is None:
        declaration = read_footer(declaration, body[-FOOTER:], what)
        if declaration.tail < size - first:
            _refuse_long(size - declaration.tail)
            body = reader.read(declaration.tail, size - first) + body
    chunks = read_map(declaration, body[-(size - declaration.tail) :], what)
    return LayerEnd(chunks, body, reader.fetched, reader.requests, reader.link)


def _map_of(declaration: Declaration, body: bytes, what: str) -> ChunkMap | None:
    """Read the TOC from the last bytes of a layer; None if they do not have all of it."""
    if declaration.toc is None:
        declaration = read_footer(declaration, body[-FOOTER:], what)
    length = declaration.size - declaration.tail
    return read_map(declaration, body[-length:], what) if length <= len(body) else None


def _suggested(store: LocalStore, held: Descriptor, declaration: Declaration) -> int:
    """Return how many bytes to read first, by the end of a held layer of the same kind."""
    if declaration.toc is not None:
        return 0
    bare = Declaration(declaration.format, held.size, None, None, "")
    try:
        with store.file(held) as file:
            end = pread(file, bare.tail, held.size)
        length = held.size - read_footer(bare, end, f"`{held.digest}`").tail
    except ResolverError:
        return _FIRST
    return min(length + max(_SLACK, length // 32), MAX_TOC)


# --- two images -------------------------------------------------------------------------------

#: The gap of a comparison, which measures no link.
_COMPARED_GAP = 64 << 10


def compare_chunks(
    store: LocalStore,
    before: tuple[Opener, Sequence[Descriptor]],
    after: tuple[Opener, Sequence[Descriptor]],
    whole: int,
    *,
    jobs: int,
    observe: Observer,
) -> ChunkFetch | None:
    """Count what the holder of some layers fetches for others; None if nothing can be reused.

    Args:
        store: is read first.
        before: opens the repository of the held layers, those that the second image lacks.
        after: opens that of the missing layers.
        whole: bytes that are fetched without chunks.
        jobs: layers whose TOCs are read at once.
        observe: receives a note about each TOC that cannot be read.
    """
    every = [(before[0], layer) for layer in before[1]] + [(after[0], one) for one in after[1]]

    def read(one: tuple[Opener, Descriptor]) -> LayerEnd | None:
        return _end_of(store, observe, *one)

    ends = [outcome.value for outcome in parallel(read, every, jobs=jobs)]
    maps = [end if isinstance(end, LayerEnd) else None for end in ends]
    held = [
        (ChunkIndex(index_of(end.chunks)), layer.size)
        for end, layer in zip(maps, before[1], strict=False)
        if end is not None
    ]
    layers, saved, requests = 0, 0, 0
    for end, layer in zip(maps[len(before[1]) :], after[1], strict=True):
        found = sections(end.chunks, held, _COMPARED_GAP) if end is not None else ()
        if end is None or not found:
            continue
        ranges = [(one.start, one.end) for one in found if one.source is None]
        fetched = sum(last - first for first, last in ranges) + layer.size - end.chunks.starts[-1]
        if fetched < layer.size:
            layers, saved = layers + 1, saved + layer.size - fetched
            requests += len(cut(ranges, RANGE_SIZE)) + 1
    return ChunkFetch(layers, whole - saved, requests, _COMPARED_GAP) if layers else None


def _end_of(
    store: LocalStore, observe: Observer, source: Opener, layer: Descriptor
) -> LayerEnd | None:
    """Read the TOC of a layer in the store, or else in its registry."""
    declaration = declared(dict(layer.annotations), layer.size)
    if declaration is None:
        return None
    try:
        if store.has(layer):
            with store.file(layer) as file:
                end = declaration.tail if declaration.toc else max(0, layer.size - _FIRST)
                chunks = _map_of(declaration, pread(file, end, layer.size), f"`{layer.digest}`")
                if chunks is not None:
                    return LayerEnd(chunks, b"", 0, 0, Measured(_WAIT, _RATE))
        if source is None:
            return None
        return _read_end(_Reader(layer, source, SystemClock()), declaration, _FIRST)
    except ResolverError as error:
        observe(Noted(f"the chunks of `{layer.digest}` are unknown: {error}"))
        return None
