"""Compressed content: every supported format and every defect."""

from __future__ import annotations

import builtins
import gzip
import random
import sys
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib

from resolver.core.layers import decompress
from resolver.core.layers.decompress import (
    DEFAULT_LIMITS,
    MAX_WINDOW,
    STEP,
    Gzip,
    InflateLimits,
    Library,
    compression_of,
    inflate,
)
from resolver.errors import (
    BadDocument,
    ChecksumMismatch,
    LimitExceeded,
    ResolverError,
    UnsupportedDocument,
)

if TYPE_CHECKING:
    from collections.abc import Callable

BODY = random.Random(1).randbytes(100_000) + b"text " * 100_000
SKIPPABLE = b"\x53\x2a\x4d\x18\x04\0\0\0abcd"
CHECKED: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}
LIBRARIES: dict[str, Callable[[], Library]] = {
    "zlib": lambda: Gzip(zlib, zlib.error),
    "isal": lambda: Gzip(isal_zlib, isal_zlib.error),  # type: ignore[arg-type] # its stubs are wrong
}


@pytest.fixture(params=["zlib", "isal"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Inflate gzip with each library."""
    monkeypatch.setattr(decompress, "gzip_library", LIBRARIES[request.param])
    return str(request.param)


def inflated(content: bytes, limits: InflateLimits = DEFAULT_LIMITS, step: int = 1 << 20) -> bytes:
    chunks = (content[at : at + step] for at in range(0, len(content), step))
    kind = compression_of(content[:8], "the layer")
    pieces = list(inflate(chunks, kind, "the layer", limits))
    assert all(len(piece) <= STEP for piece in pieces)
    return b"".join(pieces)


def windowed(logarithm: int) -> bytes:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: logarithm}
    stream = zstd.ZstdCompressor(options=options)
    return stream.compress(b"abc") + stream.flush()


# What it is


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (SKIPPABLE[:8], "zstd"),
        (b"\x5f\x2a\x4d\x18\0\0\0\0", "zstd"),
        (b"etc/pass", ""),
        (b"", ""),
        (b"\x60\x2a\x4d\x18", ""),
    ],
)
def test_compression_is_detected_from_the_first_bytes(start: bytes, kind: str) -> None:
    assert compression_of(start, "the layer") == kind


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh91AY", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"PK\x03\x04", "zip"),
        (b"\x1f\x9d\x90", "compress"),
        (b"hsqs", "squashfs"),
    ],
)
def test_unsupported_compression_is_named(start: bytes, name: str) -> None:
    with pytest.raises(UnsupportedDocument, match=f"compressed with {name}"):
        compression_of(start, "the layer")


# What is read


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("step", [1 << 20, 999, 65536])
def test_gzip_is_read(step: int) -> None:
    packed = gzip.compress(BODY)

    assert inflated(packed, step=step) == BODY
    assert inflated(packed + gzip.compress(b"") + packed + bytes(700), step=step) == BODY * 2


@pytest.mark.usefixtures("library")
def test_gzip_in_single_bytes_and_many_members_is_read() -> None:
    assert inflated(gzip.compress(b"abc") * 3, step=1) == b"abc" * 3
    assert inflated(gzip.compress(b"x") * 3000) == b"x" * 3000


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("size", [STEP - 1, STEP, STEP + 1, 3 * STEP])
def test_gzip_of_exact_chunks_is_read_to_its_end(size: int) -> None:
    assert len(inflated(gzip.compress(bytes(size)))) == size


@pytest.mark.parametrize("step", [1 << 20, 999])
def test_zstd_is_read_with_frames_and_frames_to_skip(step: int) -> None:
    packed = zstd.compress(BODY, options=CHECKED)

    assert inflated(packed, step=step) == BODY
    assert inflated(SKIPPABLE + packed + SKIPPABLE + packed + SKIPPABLE, step=step) == BODY * 2


def test_uncompressed_data_is_passed_on_in_chunks() -> None:
    body = BODY * 5
    assert inflated(body, step=len(body)) == body


# Invalid input


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("packed", [gzip.compress(BODY)], ids=["gzip"])
def test_damaged_gzip_is_refused(packed: bytes) -> None:
    for size in (1, 5, 12, len(packed) // 2, len(packed) - 1):
        with pytest.raises(BadDocument, match=r"cut short|no gzip"):
            list(inflate([packed[:size]], "gzip", "the layer"))
    for rest in (b"garbage", packed[:1], b"\0\0x", bytes(1 << 20) + b"x"):
        with pytest.raises(BadDocument, match="follows"):
            inflated(packed + rest)
    with pytest.raises(BadDocument, match="damaged gzip data"):
        inflated(packed[:10] + b"\xff" * 8 + packed[18:])
    with pytest.raises(BadDocument, match="reserved flags"):
        inflated(packed[:3] + b"\xe0" + packed[4:])
    with pytest.raises(BadDocument, match="damaged gzip data"):
        inflated(packed[:2] + b"\x07" + packed[3:])


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("at", [-8, -5, -4, -1])
def test_wrong_gzip_checksum_or_length_is_an_integrity_error(at: int) -> None:
    packed = bytearray(gzip.compress(BODY))
    packed[at] ^= 1
    with pytest.raises(ChecksumMismatch) as caught:
        inflated(bytes(packed))
    assert caught.value.word == "INTEGRITY"


@pytest.mark.usefixtures("library")
def test_wrong_gzip_header_checksum_is_an_integrity_error() -> None:
    packed = gzip.compress(BODY)
    with pytest.raises(ChecksumMismatch):
        inflated(packed[:3] + b"\x02" + packed[4:10] + b"zz" + packed[10:])


def test_damaged_zstd_is_refused() -> None:
    packed = zstd.compress(BODY, options=CHECKED)
    for size in (6, len(packed) // 2, len(packed) - 1):
        with pytest.raises(BadDocument, match="cut short"):
            list(inflate([packed[:size]], "zstd", "the layer"))
    for rest in (b"garbage", bytes(10)):
        with pytest.raises(BadDocument, match="damaged zstd data"):
            inflated(packed + rest)
    with pytest.raises(ChecksumMismatch):
        inflated(packed[:-1] + bytes([packed[-1] ^ 1]))


def test_decompression_error_names_format_and_position() -> None:
    with pytest.raises(BadDocument) as caught:
        list(inflate([gzip.compress(b"abc")[:15]], "gzip", "layer 2 of `app:1`"))
    assert str(caught.value) == (
        "layer 2 of `app:1` is malformed at `byte 15`: the gzip data is cut short"
    )


# Limits


@pytest.mark.usefixtures("library")
def test_decompressed_size_is_limited() -> None:
    assert DEFAULT_LIMITS.total == 64 << 30
    assert inflated(gzip.compress(bytes(1000)), InflateLimits(total=1000))
    with pytest.raises(LimitExceeded, match="limit of 999 bytes: more than 999"):
        inflated(gzip.compress(bytes(1000)), InflateLimits(total=999))
    assert inflated(bytes(1000), InflateLimits(total=1000))
    with pytest.raises(LimitExceeded):
        inflated(bytes(1000), InflateLimits(total=999))


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
def test_compression_ratio_is_limited_after_a_minimum_size(pack: Any) -> None:
    assert (DEFAULT_LIMITS.ratio, DEFAULT_LIMITS.free_of_ratio) == (200, 64 << 20)
    packed = pack(bytes(1 << 20))
    free = InflateLimits(free_of_ratio=1 << 20)
    assert len(inflated(packed, free)) == 1 << 20
    with pytest.raises(LimitExceeded):
        inflated(packed, InflateLimits(free_of_ratio=(1 << 20) - 1))
    with pytest.raises(LimitExceeded, match="limit of 67108864 bytes"):
        inflated(pack(bytes((64 << 20) + 1)))


@pytest.mark.usefixtures("library")
def test_number_of_compressed_streams_is_limited() -> None:
    assert DEFAULT_LIMITS.streams == 2_000_000
    for packed in (gzip.compress(b"x"), zstd.compress(b"x")):
        assert inflated(packed * 3, InflateLimits(streams=3)) == b"xxx"
        with pytest.raises(LimitExceeded, match="limit of 3 streams: 4"):
            inflated(packed * 4, InflateLimits(streams=3))


def test_zstd_window_is_limited() -> None:
    assert MAX_WINDOW == 128 << 20
    assert inflated(windowed(27)) == b"abc"
    with pytest.raises(LimitExceeded, match=r"zstd window .* limit of 134217728 bytes"):
        inflated(windowed(28))


# Libraries


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make these modules unavailable for import."""
    real = builtins.__import__

    def refusing(name: str, *rest: Any, **others: Any) -> Any:
        if name.partition(".")[0] in names:
            raise ImportError(name)
        return real(name, *rest, **others)

    for name in list(sys.modules):
        if name.partition(".")[0] in names:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refusing)


def test_gzip_is_read_by_zlib_without_isal(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(BODY)
    assert "isal" in type(decompress.gzip_library().start()).__module__
    without(monkeypatch, "isal")
    assert type(decompress.gzip_library().start()).__module__ == "zlib"

    assert inflated(packed) == BODY


def test_zstd_without_its_library_names_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed = zstd.compress(BODY)
    without(monkeypatch, "backports", "compression")
    with pytest.raises(UnsupportedDocument, match="zstd") as caught:
        inflated(packed)
    assert caught.value.hints() == ("pip install 'multiarch-resolver[fast]'",)


# Properties


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["gzip", "zstd"]), st.sampled_from(["zlib", "isal"]))
def test_any_bytes_are_decompressed_or_refused(seed: int, kind: str, name: str) -> None:
    chance = random.Random(seed)
    body = chance.randbytes(200) + b"text " * 200
    pack: Any = gzip.compress if kind == "gzip" else zstd.compress
    packed = bytearray(pack(body) * chance.randrange(1, 3))
    for _ in range(chance.randrange(1, 5)):
        packed[chance.randrange(len(packed))] = chance.randrange(256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decompress, "gzip_library", LIBRARIES[name])
        with suppress(ResolverError):
            list(inflate([bytes(packed)], kind, "the layer", InflateLimits(total=1 << 20)))
