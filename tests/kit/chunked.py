"""Images whose layers are made of chunks."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.descriptor import OCI_CONFIG, OCI_MANIFEST
from tests.kit.images import Image, from_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA = Path(__file__).parents[1] / "data" / "chunked"
FACTS = json.loads((DATA / "facts.json").read_text("utf-8"))
#: The formats of the data folder whose chunks can be used.
FORMATS = ("zstd-chunked", "estargz", "estargz-zstd")
_TYPES = {"zstd": "application/vnd.oci.image.layer.v1.tar+zstd"}
_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class ChunkedLayer:
    """A layer and the annotations of its descriptor."""

    body: bytes
    annotations: Mapping[str, str]
    media_type: str = _GZIP
    diff_id: str = "sha256:" + "1" * 64

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"


def sample_files(version: int) -> dict[str, bytes]:
    """Return files of two versions: one changed in its middle, one removed, one added."""
    draw = random.Random(17)
    files = {f"usr/lib/{number:02}.txt": _text(draw, 500 + 900 * number) for number in range(24)}
    files["usr/lib/big.bin"] = _text(draw, 70_000)
    files["usr/lib/zeros.bin"] = bytes(20_000)
    files["usr/lib/zz.txt"] = b"end"
    if version > 1:
        del files["usr/lib/07.txt"]
        files["usr/lib/11.txt"] = _text(draw, 9_000)
        big = files["usr/lib/big.bin"]
        files["usr/lib/big.bin"] = big[:30_000] + b"changed" + big[30_007:]
        files["usr/lib/new.txt"] = _text(draw, 3_000)
    return dict(sorted(files.items()))


def _text(draw: random.Random, size: int) -> bytes:
    return bytes(draw.choice(b"abcdefgh \n") for _ in range(size))


def real_layer(version: str, form: str) -> ChunkedLayer:
    """Return a layer of the data folder, such as `v1` and `estargz`."""
    facts = FACTS[f"{version}.{form}"]
    media_type = _TYPES["zstd"] if "zstd" in form else _GZIP
    body = (DATA / f"{version}.{form}").read_bytes()
    return ChunkedLayer(body, facts["annotations"], media_type, facts["diff_id"])


def chunked_image(*layers: ChunkedLayer, platform: str = "linux/amd64") -> Image:
    """Make an image of these layers."""
    system, _, architecture = platform.partition("/")
    config = {
        "os": system,
        "architecture": architecture,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    packed = json.dumps(config).encode()
    blobs = {f"sha256:{hashlib.sha256(packed).hexdigest()}": packed}
    blobs |= {layer.digest: layer.body for layer in layers}
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": next(iter(blobs)), "size": len(packed)},
        "layers": [
            {
                "mediaType": layer.media_type,
                "digest": layer.digest,
                "size": len(layer.body),
                "annotations": dict(layer.annotations),
            }
            for layer in layers
        ],
    }
    return from_dict(manifest, blobs=blobs.values())


# --- writers of each variant --------------------------------------------------------------------

CHUNK = 8_192
_ZEROS = 1_024
_SKIPPABLE = b"\x50\x2a\x4d\x18"
#: Footers of the generations of zstd:chunked: the prefix of the annotations, and what is written.
GENERATIONS = ("old", "github", "1.49", "1.50")


def _sha(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _header(name: str, body: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(body), 1_700_000_000, 0o644
    return entry.tobuf(tarfile.PAX_FORMAT)


def _frame(body: bytes) -> bytes:
    return struct.pack("<4sI", _SKIPPABLE, len(body)) + body


def zstd_chunked(
    files: Mapping[str, bytes],
    generation: str = "1.50",
    *,
    level: int = 3,
    position: bool = True,
    chunk: int = CHUNK,
) -> ChunkedLayer:
    """Write a zstd:chunked layer.

    Args:
        files: contents by path.
        generation: one of `GENERATIONS`.
        level: of the compression.
        position: state where the TOC is in an annotation, and not only in the footer.
        chunk: bytes of a chunk.
    """
    zstd = pytest.importorskip("backports.zstd")
    out, tar, split = bytearray(), hashlib.sha256(), []
    entries: list[dict[str, object]] = []
    between = b""
    for name, body in files.items():
        header = between + _header(name, body)
        split.append({"type": 2, "payload": base64.b64encode(header).decode()})
        split.append({"type": 1, "name": name, "size": len(body)})
        tar.update(header + body)
        out += zstd.compress(header, level)
        entry: dict[str, object] = {
            "type": "reg", "name": name, "mode": 0o644, "size": len(body),
            "modtime": "2023-11-14T22:13:20Z", "digest": _sha(body), "offset": len(out),
        }  # fmt: skip
        pieces = [(at, body[at : at + chunk]) for at in range(0, len(body), chunk)]
        chunks: list[dict[str, object]] = []
        for at, piece in pieces:
            facts: dict[str, object] = {"offset": len(out), "chunkOffset": at}
            facts |= {"chunkSize": len(piece), "chunkDigest": _sha(piece)}
            if not any(piece) and len(piece) >= _ZEROS:
                facts["chunkType"] = "zeros"
            chunks.append(facts)
            out += zstd.compress(piece, level)
        entry["endOffset"] = len(out)
        if len(pieces) > 1:
            entry |= chunks[0]
        entries.append(entry)
        entries += [{"type": "chunk", "name": name, **facts} for facts in chunks[1:]]
        between = bytes(-len(body) % 512)
    end = between + bytes(1_024)
    split.append({"type": 2, "payload": base64.b64encode(end).decode()})
    tar.update(end)
    out += zstd.compress(end, level)
    toc = json.dumps({"version": 1, "entries": entries}).encode()
    packed = zstd.compress(toc, level)
    at = len(out) + 8
    out += _frame(packed)
    fields = [at, len(packed), len(toc), 1]
    prefix = "io.containers" if generation == "old" else "io.github.containers"
    annotations = {f"{prefix}.zstd-chunked.manifest-checksum": _sha(packed)}
    if position:
        annotations[f"{prefix}.zstd-chunked.manifest-position"] = ":".join(map(str, fields))
    if generation in {"1.49", "1.50"}:
        lines = b"".join(json.dumps(line).encode() + b"\n" for line in split)
        folded = zstd.compress(lines, level)
        where = [len(out) + 8, len(folded), len(lines)]
        out += _frame(folded)
        if position:
            annotations[f"{prefix}.zstd-chunked.tarsplit-position"] = ":".join(map(str, where))
        magic = b"GNUlInUx" if generation == "1.50" else b""
        out += _frame(struct.pack("<7Q", *fields, *where) + magic)
    else:
        out += _frame(struct.pack("<4Q", *fields) + b"GnUlInUx")
    return ChunkedLayer(bytes(out), annotations, _TYPES["zstd"], f"sha256:{tar.hexdigest()}")


def stargz_footer(offset: int, size: int = 51) -> bytes:
    """Write the footer of an eStargz layer; it has 51 bytes, 47 in old layers, 46 without a TOC."""
    text = b"STARGZEXTERNALTOC" if size == 46 else b"%016xSTARGZ" % offset
    field = text if size == 47 else b"SG" + struct.pack("<H", len(text)) + text
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", len(field)) + field
    return head + b"\x01\0\0\xff\xff" + bytes(8)


def stargz(
    files: Mapping[str, bytes],
    *,
    footer: int = 51,
    level: int = 9,
    merge: bool = False,
    chunk: int = CHUNK,
) -> ChunkedLayer:
    """Write an eStargz layer.

    Args:
        files: contents by path.
        footer: its size: 51, 47 or 46.
        level: of the compression.
        merge: put small files into one member, with inner offsets.
        chunk: bytes of a chunk.
    """
    out, tar = bytearray(), hashlib.sha256()
    entries: list[dict[str, object]] = []
    member, begun = b"", False

    def close() -> None:
        nonlocal member
        if member:
            out.extend(gzip.compress(member, level, mtime=0))
        member = b""

    for name, body in files.items():
        header = _header(name, body)
        tar.update(header + body + bytes(-len(body) % 512))
        member += header
        entry: dict[str, object] = {"type": "reg", "name": name, "size": len(body)}
        entry |= {"modtime": "2023-11-14T22:13:20Z", "digest": _sha(body)}
        for at in range(0, len(body), chunk):
            piece = body[at : at + chunk]
            if not (merge and begun and len(member) < chunk):
                close()
            facts: dict[str, object] = {"offset": len(out), "chunkDigest": _sha(piece)}
            if member:
                facts["innerOffset"] = len(member)
            if len(body) > chunk:
                facts |= {"chunkOffset": at, "chunkSize": len(piece)}
            begun = True
            member += piece
            if at == 0:
                entries.append(entry | facts)
            else:
                entries.append({"type": "chunk", "name": name, **facts})
        if not body:
            entries.append(entry)
        member += bytes(-len(body) % 512)
    close()
    toc = json.dumps({"version": 1, "entries": entries}).encode()
    at = len(out)
    packed = _header("stargz.index.json", toc) + toc + bytes(-len(toc) % 512) + bytes(1_024)
    tar.update(packed)
    out += gzip.compress(packed, level, mtime=0) + stargz_footer(at, footer)
    annotations = {"containerd.io/snapshot/stargz/toc.digest": _sha(toc)}
    return ChunkedLayer(bytes(out), annotations, _GZIP, f"sha256:{tar.hexdigest()}")
