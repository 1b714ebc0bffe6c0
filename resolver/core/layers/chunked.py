"""Layers of independently compressed chunks: zstd:chunked and eStargz.

Such a layer is a sequence of gzip members or zstd frames with a table of contents (TOC). A
`ChunkMap` divides the compressed bytes of a layer into spans, each with a key: spans of two layers
that have the same key, and that the same encoder wrote, have the same bytes. Nothing here is
trusted: the digest of the rebuilt layer decides, so a wrong TOC costs a transfer of the whole layer
and no more.

Source: containers/storage, pkg/chunked (zstd:chunked); containerd/stargz-snapshotter,
estargz.md, "eStargz"; RFC 8878, 3.1.2 (skippable frames).
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from array import array
from itertools import pairwise
from typing import TYPE_CHECKING

from resolver.core.layers.decompress import InflateLimits, compression_of, inflate
from resolver.core.parse.json import kind_of, read_array, read_object
from resolver.errors import BadDocument, LimitExceeded
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Bytes of a TOC and of a tar-split, compressed and not. Ours: a TOC entry takes 300 bytes.
MAX_TOC = 64 << 20
MAX_TAR_SPLIT = 256 << 20
MAX_LINE = 16 << 20
#: Spans of a layer. Ours: 64 GiB of files in chunks of 64 KiB.
MAX_SPANS = 1_000_000
#: Bytes of a key, which is a truncated SHA-256; a key of zeros matches nothing.
KEY = 16
UNKNOWN = bytes(KEY)

#: Annotations of both generations of zstd:chunked writers.
_PREFIXES = ("io.github.containers.zstd-chunked.", "io.containers.zstd-chunked.")
_ESTARGZ = "containerd.io/snapshot/stargz/toc.digest"
_POSITION = re.compile(r"([0-9]{1,15}):([0-9]{1,15}):([0-9]{1,15})(?::([0-9]{1,3}))?")

#: Bytes before the content of a skippable frame: its magic number and its length.
_FRAME = 8
#: Footers of zstd:chunked: the fields, and the magic that ends them.
_ZSTD_FOOTERS = ((struct.Struct("<7Q"), b"GNUlInUx"), (struct.Struct("<4Q"), b"GnUlInUx"))
#: The skippable frame of a footer of containers/storage 1.49, which had no room for the magic.
_UNSIGNED_FOOTER = b"\x50\x2a\x4d\x18" + (56).to_bytes(4, "little")
#: Footers of eStargz: an empty gzip member with an extra field. The older one has no subfield.
_STARGZ_FOOTER = re.compile(
    rb"\x1f\x8b\x08\x04.{4}[\x00\x02\x04]\xff(?:\x1a\x00SG\x16\x00|\x16\x00)([0-9a-f]{16})STARGZ\x01"
    rb"\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\Z",
    re.DOTALL,
)
#: Bytes of the longest footer.
FOOTER = 64
_TOC_NAME = "stargz.index.json"
_BLOCK = 512
#: Members of a TOC entry that say nothing about its tar headers.
_NOT_HEADERS = frozenset(
    {"offset", "endOffset", "innerOffset", "digest", "chunkDigest", "chunkSize", "chunkOffset"}
    | {"chunkType", "numLink", "NumLink"}
)


@dataclass(frozen=True, slots=True)
class TocPart:
    """A part of the end of a layer: where it lies, and its length when decompressed."""

    offset: int
    length: int
    inflated: int


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a descriptor or a footer says about the TOC of a layer.

    Attributes:
        format: `zstd:chunked` or `estargz`.
        size: bytes of the layer.
        toc: where the TOC lies; None until the footer was read.
        tar_split: where the tar-split lies, if there is one.
        checksum: SHA-256 of the TOC in hex: compressed for zstd:chunked, of the JSON for eStargz;
            empty if it is not stated.
    """

    format: str
    size: int
    toc: TocPart | None
    tar_split: TocPart | None
    checksum: str

    @property
    def tail(self) -> int:
        """The offset from which everything to the end has to be read next."""
        if self.toc is None:
            return max(0, self.size - FOOTER)
        return self.toc.offset - (_FRAME if self.format == "zstd:chunked" else 0)


def declared(annotations: Mapping[str, str], size: int) -> Declaration | None:
    """Return what the annotations of a layer declare; None if it has no chunks that can be used."""
    for prefix in _PREFIXES:
        checksum = annotations.get(f"{prefix}manifest-checksum")
        if checksum is None:
            continue
        toc = _position(annotations.get(f"{prefix}manifest-position", ""), size)
        tar_split = _position(annotations.get(f"{prefix}tarsplit-position", ""), size)
        return Declaration("zstd:chunked", size, toc, tar_split, _hex(checksum))
    if (checksum := annotations.get(_ESTARGZ)) is not None:
        return Declaration("estargz", size, None, None, _hex(checksum))
    return None


def _hex(checksum: str) -> str:
    return checksum.removeprefix("sha256:")


def _position(text: str, size: int) -> TocPart | None:
    """Parse `offset:length:inflated[:type]`."""
    numbers = _POSITION.fullmatch(text)
    if numbers is None or numbers[4] not in {None, "1"}:
        return None
    part = TocPart(int(numbers[1]), int(numbers[2]), int(numbers[3]))
    return part if part.offset >= _FRAME and 0 < part.length <= size - part.offset else None


def read_footer(declaration: Declaration, end: bytes, what: str) -> Declaration:
    """Complete a declaration from the last bytes of the layer.

    Raises:
        BadDocument: there is no footer, or the TOC is stored elsewhere.
    """
    size = declaration.size
    if declaration.format == "estargz":
        footer = _STARGZ_FOOTER.search(end)
        if footer is None:
            raise BadDocument(what, "footer", "not the footer of an eStargz layer")
        offset = int(footer[1], 16)
        length = size - (len(end) - footer.start()) - offset
        toc = TocPart(offset, length, MAX_TOC)
        tar_split = None
    else:
        toc, tar_split = _zstd_footer(end, what)
    if not _FRAME <= toc.offset < size or not 0 < toc.length <= size - toc.offset:
        raise BadDocument(what, "footer", f"the TOC lies outside of the {size} bytes")
    return Declaration(declaration.format, size, toc, tar_split, declaration.checksum)


def _zstd_footer(end: bytes, what: str) -> tuple[TocPart, TocPart | None]:
    """Read the footer of a zstd:chunked layer."""
    for fields, magic in _ZSTD_FOOTERS:
        body = end[-(fields.size + len(magic)) :]
        if len(body) < fields.size + len(magic) or not body.endswith(magic):
            continue
        offset, length, inflated, kind, *more = fields.unpack(body[: fields.size])
        if kind != 1:
            break
        return TocPart(offset, length, inflated), TocPart(*more) if more and more[0] else None
    if end[-FOOTER:].startswith(_UNSIGNED_FOOTER):
        offset, length, inflated, kind, *more = _ZSTD_FOOTERS[0][0].unpack(end[_FRAME - FOOTER :])
        if kind == 1:
            return TocPart(offset, length, inflated), TocPart(*more) if more[0] else None
    raise BadDocument(what, "footer", "not the footer of a zstd:chunked layer")


# --- spans ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChunkMap:
    """The compressed bytes of a layer as consecutive spans.

    Attributes:
        format: `zstd:chunked`; `estargz`; or `estargz-zstd`, which is declared as zstd:chunked.
        starts: the offset of each span, and at last the offset at which the tail begins.
        keys: the keys of all spans, one after the other, `KEY` bytes each.
    """

    format: str
    starts: Sequence[int]
    keys: bytes

    def spans(self) -> Iterator[tuple[int, int, bytes]]:
        """Iterate over start, length and key."""
        for number, (start, end) in enumerate(pairwise(self.starts)):
            yield start, end - start, self.keys[number * KEY : (number + 1) * KEY]


def read_map(declaration: Declaration, tail: bytes, what: str) -> ChunkMap:
    """Read the TOC of a layer.

    Args:
        declaration: with the position of the TOC.
        tail: the bytes of the layer from `declaration.tail` to its end.
        what: the layer, for messages.

    Raises:
        BadDocument: the TOC is malformed, or contradicts itself or the layer.
        ChecksumMismatch: its checksum is not the declared one.
        LimitExceeded: it is larger than `MAX_TOC`, or has more than `MAX_SPANS` spans.
        UnsupportedDocument: no library for zstd is installed.
    """
    toc = declaration.toc
    if toc is None or len(tail) != declaration.size - declaration.tail:
        raise BadDocument(what, "TOC", "the end of the layer is incomplete")
    read = _read_estargz if declaration.format == "estargz" else _read_zstd
    body, gaps = read(declaration, toc, tail, what)
    spans = _Spans(what, declaration.tail, declaration.format)
    for entry in read_array(body, "entries", f"the TOC of {what}", with_objects=True):
        spans.add(entry)
    return spans.finish(gaps)


def _read_zstd(
    declaration: Declaration, toc: TocPart, tail: bytes, what: str
) -> tuple[bytes, list[bytes] | None]:
    """Return the TOC, and what lies between payloads by the tar-split."""
    packed = _slice(declaration, toc, tail, what)
    if hashlib.sha256(packed).hexdigest() != declaration.checksum:
        raise BadDocument(what, "TOC", "its checksum is not the one that the manifest states")
    body = _inflate(packed, toc.inflated, MAX_TOC, f"the TOC of {what}")
    if declaration.tar_split is None:
        return body, None
    packed = _slice(declaration, declaration.tar_split, tail, what)
    return body, _gaps(packed, declaration.tar_split.inflated, f"the tar-split of {what}")


def _slice(declaration: Declaration, part: TocPart, tail: bytes, what: str) -> bytes:
    start = part.offset - declaration.tail
    if start < 0 or start + part.length > len(tail):
        raise BadDocument(what, "TOC", "it lies outside of the end of the layer")
    return tail[start : start + part.length]


def _inflate(packed: bytes, stated: int, most: int, what: str) -> bytes:
    """Decompress a part; `stated` is its length."""
    if stated > most:
        raise LimitExceeded(what, most, stated)
    limits = InflateLimits(total=stated, streams=1_000)
    body = b"".join(inflate([packed], compression_of(packed[:8], what), what, limits))
    if len(body) != stated:
        raise BadDocument(what, "", f"it has {len(body)} bytes instead of {stated}")
    return body


def _gaps(packed: bytes, stated: int, what: str) -> list[bytes]:
    """Return a key for the bytes before each payload, and for those after the last.

    A tar-split is a sequence of JSON objects, a line each: type 1 is an entry, with `size` if it
    has a payload; type 2 is the bytes between payloads. Source: vbatts/tar-split, tar/storage.
    """
    if stated > MAX_TAR_SPLIT:
        raise LimitExceeded(what, MAX_TAR_SPLIT, stated)
    limits = InflateLimits(total=stated, streams=1_000)
    keys: list[bytes] = []
    between = hashlib.sha256(b"gap")
    rest = b""
    for piece in inflate([packed], compression_of(packed[:8], what), what, limits):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if not line:
                continue
            entry = read_object(line, what, any_number=True)
            payload = entry.get("payload")
            if entry.get("type") == 2 and isinstance(payload, str):  # noqa: PLR2004 - see above
                between.update(payload.encode())
            elif entry.get("size"):
                keys.append(between.digest()[:KEY])
                between = hashlib.sha256(b"gap")
        if len(rest) > MAX_LINE:
            raise LimitExceeded(f"a line of {what}", MAX_LINE, len(rest))
    keys.append(between.digest()[:KEY])
    return keys


def _read_estargz(
    declaration: Declaration, toc: TocPart, tail: bytes, what: str
) -> tuple[bytes, None]:
    """Return the TOC, which is the last file of the tar archive."""
    packed = tail[: toc.length]
    named = f"the TOC of {what}"
    limits = InflateLimits(total=MAX_TOC, streams=1_000)
    if compression_of(packed[:8], named) != "gzip":
        raise BadDocument(what, "TOC", "it is not compressed with gzip")
    archive = b"".join(inflate([packed], "gzip", named, limits))
    header = archive[:_BLOCK]
    if header[:100].rstrip(b"\0") != _TOC_NAME.encode():
        raise BadDocument(what, "TOC", f"its tar entry is not named `{_TOC_NAME}`")
    digits = header[124:136].strip(b" \0")
    if not re.fullmatch(rb"[0-7]{1,11}", digits) or int(digits, 8) > len(archive) - _BLOCK:
        raise BadDocument(what, "TOC", "the size of its tar entry is wrong")
    body = archive[_BLOCK : _BLOCK + int(digits, 8)]
    if declaration.checksum and hashlib.sha256(body).hexdigest() != declaration.checksum:
        raise BadDocument(what, "TOC", "its checksum is not the one that the manifest states")
    return body, None


class _Spans:
    """Divides a layer by the entries of its TOC, in their order.

    Where a chunk ends is stated by `endOffset`, or it is where the next one begins. In the second
    case a chunk contains the tar headers that follow its payload, so its key covers the metadata of
    the entries up to the next payload.
    """

    def __init__(self, what: str, end: int, form: str) -> None:
        self._what = what
        self._end = end
        self._salt = form.encode()
        self._starts = array("Q", [0])
        self._keys = bytearray()
        #: The positions of spans between payloads, to be named by the tar-split.
        self._headers: list[int] = []
        self._metadata = hashlib.sha256(b"headers")
        self._chunks = hashlib.sha256()
        self._payload: int | None = None
        #: Where the current file ends; 0 = not stated.
        self._file_end = 0
        self._states_ends = False
        #: Whether the current span lacks the digest of a chunk.
        self._is_unknown = False
        #: What decides how much padding follows the current file.
        self._odd = 0

    def add(self, entry: object) -> None:
        """Take one entry of the TOC."""
        if not isinstance(entry, dict):
            raise self._bad(f"an entry must be an object, not {kind_of(entry)}")
        kind, name = entry.get("type"), entry.get("name")
        if not isinstance(kind, str) or not isinstance(name, str):
            raise self._bad("an entry lacks its type or name")
        has_payload = kind == "chunk" or (kind == "reg" and self._number(entry, "size") > 0)
        if kind != "chunk":
            self._describe(entry)
        if not has_payload:
            return
        offset, inner = self._number(entry, "offset"), self._number(entry, "innerOffset")
        if inner == 0 or self._payload is None:
            self._begin(offset, is_file=kind != "chunk")
        elif offset != self._payload:
            raise self._bad("an inner offset without its chunk")
        content = self._content(entry)
        self._is_unknown |= not content
        self._chunks.update(content.encode() + b"\n")
        if kind != "chunk":
            self._file_end = self._number(entry, "endOffset")
            self._states_ends |= self._file_end > 0
            self._odd = self._number(entry, "size") % _BLOCK
        if len(self._starts) > MAX_SPANS:
            raise LimitExceeded(f"the chunks of {self._what}", MAX_SPANS, len(self._starts), "")

    def _content(self, entry: dict[str, object]) -> str:
        """Return what identifies the payload of a chunk."""
        if entry.get("chunkType") == "zeros":
            return f"zeros:{self._number(entry, 'chunkSize')}"
        digest = entry.get("chunkDigest") or entry.get("digest")
        return digest if isinstance(digest, str) else ""

    def _describe(self, entry: dict[str, object]) -> None:
        """Add what the tar headers of an entry are made from."""
        shown = {name: value for name, value in entry.items() if name not in _NOT_HEADERS}
        self._metadata.update(json.dumps(shown, sort_keys=True).encode() + b"\n")

    def _begin(self, offset: int, *, is_file: bool) -> None:
        """Close what lies before a payload, and begin a span with it."""
        self._close(offset, is_file=is_file)
        self._payload = offset
        self._chunks = hashlib.sha256(self._salt + b"chunk\n")
        self._is_unknown = False

    def _close(self, offset: int, *, is_file: bool) -> None:
        """Close the span before `offset`, and the headers before a file if they are apart."""
        last = self._starts[-1]
        if not last < offset <= self._end:
            raise self._bad(f"offset {offset} is out of order or beyond the end")
        if self._payload is None:
            self._headers.append(len(self._starts) - 1)
            self._append(offset, self._header_key())
            return
        end = self._file_end
        if not end:
            self._chunks.update(self._header_key())
            self._append(offset, self._chunk_key())
        elif not is_file and offset < end:
            self._append(offset, self._chunk_key())
        elif is_file and last < end < offset:
            self._append(end, self._chunk_key())
            self._headers.append(len(self._starts) - 1)
            self._append(offset, self._header_key())
        else:
            raise self._bad(f"offset {offset} does not fit the end of its file at {end}")

    def _chunk_key(self) -> bytes:
        return UNKNOWN if self._is_unknown else self._chunks.digest()[:KEY]

    def _header_key(self) -> bytes:
        self._metadata.update(self._salt + b"%d" % self._odd)
        key = self._metadata.digest()[:KEY]
        self._metadata = hashlib.sha256(b"headers")
        return key

    def _append(self, end: int, key: bytes) -> None:
        self._starts.append(end)
        self._keys += key

    def finish(self, gaps: list[bytes] | None) -> ChunkMap:
        """Close the last span, and name those between payloads by the tar-split."""
        self._close(self._end, is_file=True)
        if gaps is not None and len(gaps) == len(self._headers):
            for position, key in zip(self._headers, gaps, strict=True):
                self._keys[position * KEY : (position + 1) * KEY] = key
        form = self._salt.decode()
        if form == "zstd:chunked" and not self._states_ends:
            form = "estargz-zstd"
        return ChunkMap(form, self._starts, bytes(self._keys))

    def _number(self, entry: dict[str, object], name: str) -> int:
        value = entry.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._bad(f"`{name}` must be a number of at least 0")
        return value

    def _bad(self, reason: str) -> BadDocument:
        return BadDocument(f"the TOC of {self._what}", "", reason)


# --- the index of a held layer ----------------------------------------------------------------

_RECORD = struct.Struct(f">{KEY}sQQ")
_INDEX_MAGIC = b"resolver chunk index 1\n"


def index_of(chunks: ChunkMap) -> bytes:
    """Return the index of a layer: records of key, offset and length, sorted by key.

    It is searched where it lies, so that a large layer costs no memory.
    """
    records = sorted(
        _RECORD.pack(key, start, length) for start, length, key in chunks.spans() if key != UNKNOWN
    )
    form = chunks.format.encode().ljust(16)
    return b"".join([_INDEX_MAGIC, form, *records])


class ChunkIndex:
    """The index of a held layer.

    Args:
        data: what `index_of` returned, or a map of such a file.

    Raises:
        BadDocument: it is not such an index.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._first = len(_INDEX_MAGIC) + 16
        count, rest = divmod(len(self._data) - self._first, _RECORD.size)
        if rest or count < 0 or self._data[: len(_INDEX_MAGIC)] != _INDEX_MAGIC:
            raise BadDocument("a chunk index", "", "it is damaged")
        self._count = count
        self.format = bytes(self._data[len(_INDEX_MAGIC) : self._first]).decode("latin-1").strip()

    def find(self, key: bytes) -> tuple[int, int] | None:
        """Return offset and length of a span with this key."""
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._key(middle) < key:
                low = middle + 1
            else:
                high = middle
        if low == self._count or self._key(low) != key:
            return None
        _, offset, length = _RECORD.unpack_from(self._data, self._first + low * _RECORD.size)
        return offset, length

    def _key(self, number: int) -> bytes:
        start = self._first + number * _RECORD.size
        return bytes(self._data[start : start + KEY])


# --- what to fetch ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChunkFetch:
    """What the holder of one image fetches for another, with chunks.

    `bytes`: of all content that is missing. `requests`: for the layers that are rebuilt. `gap`:
    bytes; shorter held runs are fetched along.
    """

    layers: int
    bytes: int
    requests: int
    gap: int


#: The least share of equal lengths among spans with equal keys. Measured with the real encoders:
#: 100 % for the same encoder, 99.996 % for another version, 11 % for another compression level.
SAME_ENCODER = 0.99
#: For eStargz so many may differ, and at most a quarter: its encoder compresses parts of a layer in
#: parallel, and ends a member where each part ends. Source: stargz-snapshotter, estargz/build.go.
_PARALLEL = 16


@dataclass(frozen=True, slots=True)
class ChunkRun:
    """Consecutive bytes of a layer from one place.

    Attributes:
        start, end: in the new layer.
        source: the number of the held layer that has the bytes; None = fetch them.
        offset: where they begin in that layer.
    """

    start: int
    end: int
    source: int | None = None
    offset: int = 0

    @property
    def length(self) -> int:
        """The number of bytes."""
        return self.end - self.start


def sections(
    chunks: ChunkMap, held: Sequence[tuple[ChunkIndex, int]], gap: int = 0
) -> tuple[ChunkRun, ...]:
    """Divide a layer, up to its tail, into what is held and what has to be fetched.

    Args:
        chunks: of the new layer.
        held: indexes of held layers, the preferred ones first, each with the size of its layer.
        gap: bytes; held runs that are shorter are fetched along.

    Returns:
        Nothing if the held layers were compressed by another encoder, so that no span can be used.
    """
    usable = [
        (number, index, size)
        for number, (index, size) in enumerate(held)
        if index.format == chunks.format
    ]
    equal, different = 0, 0
    found: list[ChunkRun] = []
    for start, length, key in chunks.spans():
        piece = ChunkRun(start, start + length)
        for number, index, size in usable if key != UNKNOWN else ():
            match = index.find(key)
            if match is None or sum(match) > size:
                continue
            if match[1] == length:
                piece = ChunkRun(start, start + length, number, match[0])
                equal += 1
                break
            different += 1
        _join(found, piece)
    known = equal + different
    allowed = known * (1 - SAME_ENCODER)
    if chunks.format != "zstd:chunked":
        allowed = max(allowed, min(_PARALLEL, known / 4))
    if equal == 0 or different > allowed:
        return ()
    return tuple(without_short_runs(found, gap))


def _join(found: list[ChunkRun], piece: ChunkRun) -> None:
    """Append a piece; extend the last one if they are consecutive."""
    if found:
        last = found[-1]
        follows = last.source is None or last.offset + last.length == piece.offset
        if last.source == piece.source and follows:
            found[-1] = ChunkRun(last.start, piece.end, last.source, last.offset)
            return
    found.append(piece)


def without_short_runs(found: Sequence[ChunkRun], gap: int) -> list[ChunkRun]:
    """Fetch held runs shorter than `gap` along with their neighbours."""
    joined: list[ChunkRun] = []
    run: list[ChunkRun] = []
    for piece in (*found, ChunkRun(found[-1].end, found[-1].end)):
        if piece.source is not None:
            run.append(piece)
            continue
        if run and run[-1].end - run[0].start >= gap:
            joined += run
        elif run:
            _join(joined, ChunkRun(run[0].start, run[-1].end))
        if piece.length:
            _join(joined, piece)
        run = []
    return joined
