"""Tables of contents of layers in chunks, and which bytes of two layers are equal."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
import tracemalloc
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.core.layers.chunked import (
    KEY,
    UNKNOWN,
    ChunkIndex,
    ChunkMap,
    ChunkRun,
    Declaration,
    declared,
    index_of,
    read_footer,
    read_map,
    sections,
)
from resolver.errors import BadDocument, ResolverError
from tests.kit.chunked import GENERATIONS, ChunkedLayer, sample_files, stargz, zstd_chunked

if TYPE_CHECKING:
    from collections.abc import Callable

zstd = pytest.importorskip("backports.zstd")

DATA = Path(__file__).parents[2] / "data" / "chunked"
FACTS = json.loads((DATA / "facts.json").read_text("utf-8"))
#: Percent and requests by gap in KiB, the request for the end of the layer included.
#: Source: README of the data folder.
STATED = {
    "zstd-chunked": {0: (10.6, 12), 16: (11.3, 10), 64: (17.6, 9), 128: (38.6, 6)},
    "estargz": {0: (31.5, 9), 16: (31.9, 8), 64: (35.2, 7), 128: (49.9, 5)},
}


def read(name: str) -> tuple[bytes, ChunkMap, Declaration]:
    """Return the bytes of a layer, its map, and its declaration."""
    body = (DATA / name).read_bytes()
    found = declared(FACTS[name]["annotations"], len(body))
    assert found is not None
    if found.toc is None:
        found = read_footer(found, body[found.tail :], name)
    return body, read_map(found, body[found.tail :], name), found


def rebuild(form: str, gap: int) -> tuple[bytes, tuple[ChunkRun, ...], int]:
    """Rebuild the second layer from the first; return it, its pieces, and the bytes fetched."""
    old, old_map, _ = read(f"v1.{form}")
    new, new_map, found = read(f"v2.{form}")
    parts = sections(new_map, [(ChunkIndex(index_of(old_map)), len(old))], gap)
    body = b"".join(
        new[part.start : part.end]
        if part.source is None
        else old[part.offset : part.offset + part.length]
        for part in parts
    )
    end = new[found.tail :]
    fetched = sum(part.length for part in parts if part.source is None) + len(end)
    return body + end, parts, fetched


@pytest.mark.parametrize("form", ["zstd-chunked", "estargz", "estargz-zstd"])
def test_rebuilt_layer_has_the_digest_of_the_real_one(form: str) -> None:
    for gap in (0, 16 << 10, 64 << 10, 1 << 30):
        body, parts, _ = rebuild(form, gap)
        assert f"sha256:{hashlib.sha256(body).hexdigest()}" == FACTS[f"v2.{form}"]["digest"]
        assert all(one.end == two.start for one, two in itertools.pairwise(parts))


@pytest.mark.parametrize("form", list(STATED))
def test_bytes_and_requests_are_those_that_the_data_folder_states(form: str) -> None:
    for gap, (percent, requests) in STATED[form].items():
        body, parts, fetched = rebuild(form, gap << 10)
        assert round(100 * fetched / len(body), 1) == percent
        assert sum(part.source is None for part in parts) + 1 == requests


def end_of(layer: ChunkedLayer) -> tuple[ChunkMap, Declaration]:
    """Read the TOC of a written layer."""
    body = layer.body
    found = declared(layer.annotations, len(body))
    assert found is not None
    if found.toc is None:
        found = read_footer(found, body[found.tail :], "layer")
    return read_map(found, body[found.tail :], "layer"), found


VARIANTS: dict[str, Callable[[dict[str, bytes]], ChunkedLayer]] = {
    **{f"zstd:chunked {name}": partial(zstd_chunked, generation=name) for name in GENERATIONS},
    **{
        f"zstd:chunked {name} by footer": partial(zstd_chunked, generation=name, position=False)
        for name in GENERATIONS
    },
    "eStargz": stargz,
    "eStargz with the older footer": partial(stargz, footer=47),
    "eStargz at level 1": partial(stargz, level=1),
    "eStargz with inner offsets": partial(stargz, merge=True),
}


@pytest.mark.parametrize("write", VARIANTS.values(), ids=list(VARIANTS))
def test_each_variant_is_read_and_rebuilt(
    write: Callable[[dict[str, bytes]], ChunkedLayer],
) -> None:
    old, new = write(sample_files(1)), write(sample_files(2))
    old_map, _ = end_of(old)
    new_map, found = end_of(new)
    parts = sections(new_map, [(ChunkIndex(index_of(old_map)), len(old.body))])
    assert parts
    body = b"".join(
        new.body[part.start : part.end]
        if part.source is None
        else old.body[part.offset : part.offset + part.length]
        for part in parts
    )
    assert body + new.body[found.tail :] == new.body
    copied = sum(part.length for part in parts if part.source is not None)
    assert copied > len(new.body) / 4


@pytest.mark.parametrize("generation", GENERATIONS)
def test_zeros_of_other_lengths_are_other_chunks(generation: str) -> None:
    one, other = ({"a": bytes(size) + b"end"} for size in (5_000, 6_000))
    first, _ = end_of(zstd_chunked(one, generation))
    second, _ = end_of(zstd_chunked(other, generation))
    assert not {key for _, _, key in first.spans()} >= {key for _, _, key in second.spans()}


def test_estargz_with_its_toc_elsewhere_is_not_read() -> None:
    layer = stargz(sample_files(1), footer=46)
    with pytest.raises(BadDocument, match="footer"):
        end_of(layer)


def test_plain_gzip_declares_no_chunks() -> None:
    assert declared(FACTS["v1.plain-gzip"]["annotations"], 1_000) is None


def test_footer_of_zstd_chunked_replaces_a_missing_position() -> None:
    for name in ("v1.zstd-chunked", "v1.estargz-zstd"):
        body, expected, found = read(name)
        annotations = {
            key: value
            for key, value in FACTS[name]["annotations"].items()
            if not key.endswith("position")
        }
        bare = declared(annotations, len(body))
        assert bare is not None
        assert bare.toc is None
        by_footer = read_footer(bare, body[bare.tail :], name)
        assert by_footer.toc == found.toc
        assert read_map(by_footer, body[by_footer.tail :], name) == expected


def chunk_map(*spans: tuple[int, bytes], form: str = "zstd:chunked") -> ChunkMap:
    """Make a map of spans, each with its length and a name for its key."""
    starts = [0]
    for length, _ in spans:
        starts.append(starts[-1] + length)
    keys = b"".join(hashlib.sha256(name).digest()[:KEY] if name else UNKNOWN for _, name in spans)
    return ChunkMap(form, starts, keys)


def held(chunks: ChunkMap) -> tuple[ChunkIndex, int]:
    """Return the index of a held layer, and its size."""
    return ChunkIndex(index_of(chunks)), chunks.starts[-1]


def test_layer_of_another_encoder_is_fetched_whole() -> None:
    old = chunk_map(*((100 + n, b"%d" % n) for n in range(100)))
    new = chunk_map(*((100 + n + (n > 10), b"%d" % n) for n in range(100)))
    assert sections(new, [held(old)]) == ()
    stargz = ChunkMap("estargz", new.starts, new.keys)
    assert sections(stargz, [held(ChunkMap("estargz", old.starts, old.keys))]) == ()


def test_one_member_of_another_length_does_not_stop_the_use_of_estargz() -> None:
    old = chunk_map(*((100 + n, b"%d" % n) for n in range(20)), form="estargz")
    new = chunk_map(*((100 + n + (n == 10), b"%d" % n) for n in range(20)), form="estargz")
    assert [part.source for part in sections(new, [held(old)])] == [0, None, 0]


def test_spans_without_a_digest_match_nothing() -> None:
    layer = chunk_map((10, b""), (10, b"a"))
    assert sections(layer, [held(layer)]) == (ChunkRun(0, 10), ChunkRun(10, 20, 0, 10))


def test_layers_of_other_formats_and_spans_beyond_a_held_layer_are_not_used() -> None:
    layer = chunk_map((10, b"a"), (10, b"b"))
    index, _ = held(layer)
    assert sections(chunk_map((10, b"a"), form="estargz"), [(index, 20)]) == ()
    assert sections(layer, [(index, 15)]) == (ChunkRun(0, 10, 0, 0), ChunkRun(10, 20))


@settings(max_examples=200, deadline=None)
@given(
    old=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 12)), max_size=20),
    new=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 12)), min_size=1, max_size=20),
    gap=st.integers(0, 200),
)
def test_pieces_cover_the_layer_once_and_stay_within_held_layers(
    old: list[tuple[int, int]], new: list[tuple[int, int]], gap: int
) -> None:
    old_map = chunk_map(*((length, b"%d" % name) for length, name in old))
    new_map = chunk_map(*((length, b"%d" % name) for length, name in new))
    parts = sections(new_map, [held(old_map)], gap)
    if not parts:
        return
    assert parts[0].start == 0
    assert parts[-1].end == new_map.starts[-1]
    assert all(one.end == two.start for one, two in itertools.pairwise(parts))
    for part in parts:
        assert part.length > 0
        if part.source is not None:
            assert part.offset + part.length <= old_map.starts[-1]


# --- hostile input ------------------------------------------------------------------------------


def zstd_layer(entries: object, payload: int = 1_000, **more: object) -> tuple[bytes, Declaration]:
    """Make a zstd:chunked layer of zeros with this TOC; return it and its declaration."""
    toc = zstd.compress(json.dumps({"version": 1, "entries": entries, **more}).encode())
    frame = struct.pack("<4sI", b"\x50\x2a\x4d\x18", len(toc)) + toc
    prefix = "io.github.containers.zstd-chunked."
    size = len(json.dumps({"version": 1, "entries": entries, **more}))
    annotations = {
        f"{prefix}manifest-checksum": f"sha256:{hashlib.sha256(toc).hexdigest()}",
        f"{prefix}manifest-position": f"{payload + 8}:{len(toc)}:{size}:1",
    }
    body = bytes(payload) + frame
    found = declared(annotations, len(body))
    assert found is not None
    return body, found


def entry(**more: object) -> dict[str, object]:
    """Make an entry of a file."""
    return {"type": "reg", "name": "a", "size": 5, "offset": 10, "endOffset": 20, **more}


BAD_ENTRIES: dict[str, object] = {
    "not an array": {"a": 1},
    "an entry that is text": ["a"],
    "no type": [{"name": "a"}],
    "no name": [{"type": "reg"}],
    "a negative offset": [entry(offset=-1)],
    "an offset that is text": [entry(offset="10")],
    "an offset beyond the end": [entry(offset=2_000, endOffset=2_010)],
    "an offset of 10^18": [entry(offset=10**18)],
    "an end before the offset": [entry(endOffset=5), entry(name="b", offset=30, endOffset=40)],
    "an end beyond the layer": [entry(endOffset=10**9)],
    "offsets in the wrong order": [entry(offset=500, endOffset=510), entry(offset=10)],
    "the same offset twice": [entry(), entry(name="b")],
    "overlapping files": [entry(endOffset=100), entry(name="b", offset=50, endOffset=120)],
    "a chunk after the end of its file": [entry(), {**entry(offset=30), "type": "chunk"}],
    "an inner offset of another chunk": [entry(), entry(name="b", offset=15, innerOffset=5)],
    "a size that is a boolean": [entry(size=True)],
}


@pytest.mark.parametrize("entries", BAD_ENTRIES.values(), ids=list(BAD_ENTRIES))
def test_toc_that_contradicts_itself_is_refused(entries: object) -> None:
    body, found = zstd_layer(entries)
    with pytest.raises(ResolverError):
        read_map(found, body[found.tail :], "layer")


def test_toc_with_another_checksum_is_refused() -> None:
    body, found = zstd_layer([entry()])
    other = Declaration(found.format, found.size, found.toc, None, "0" * 64)
    with pytest.raises(ResolverError, match="checksum"):
        read_map(other, body[found.tail :], "layer")


def test_toc_that_inflates_to_more_than_it_states_is_refused_in_little_memory() -> None:
    bomb = zstd.compress(bytes(200 << 20))
    size = 8 + len(bomb)
    annotations = {
        "io.containers.zstd-chunked.manifest-checksum": hashlib.sha256(bomb).hexdigest(),
        "io.containers.zstd-chunked.manifest-position": f"8:{len(bomb)}:1000:1",
    }
    found = declared(annotations, size)
    assert found is not None
    tracemalloc.start()
    try:
        with pytest.raises(ResolverError):
            read_map(found, bytes(8) + bomb, "layer")
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "position", ["", "1:2", "-1:2:3", "0:5:5:1", "990:100:5:1", "10:0:5:1", "10:5:5:2", "1e3:5:5:1"]
)
def test_position_outside_of_the_layer_counts_as_missing(position: str) -> None:
    prefix = "io.github.containers.zstd-chunked."
    found = declared(
        {f"{prefix}manifest-checksum": "sha256:00", f"{prefix}manifest-position": position}, 1_000
    )
    assert found is not None
    assert found.toc is None


@settings(max_examples=300, deadline=None)
@given(data=st.data(), name=st.sampled_from(["v1.zstd-chunked", "v1.estargz", "v1.estargz-zstd"]))
def test_damaged_end_of_a_layer_raises_only_our_errors(data: st.DataObject, name: str) -> None:
    body = (DATA / name).read_bytes()
    found = declared(FACTS[name]["annotations"], len(body))
    assert found is not None
    start = read_footer(found, body[-64:], name).tail if found.toc is None else found.tail
    end = bytearray(body[start:])
    for _ in range(data.draw(st.integers(1, 4))):
        end[data.draw(st.integers(0, len(end) - 1))] = data.draw(st.integers(0, 255))
    try:
        if found.toc is None:
            found = read_footer(found, bytes(end[-64:]), name)
        chunks = read_map(found, bytes(end) if found.tail == start else body[found.tail :], name)
    except ResolverError:
        return
    assert chunks.starts[-1] == found.tail
