"""The strict tar reader: accepted archives, refused ones, and its limits."""

from __future__ import annotations

import json
import random
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.core.layers import decompress
from resolver.core.layers.tar import DEFAULT_LIMITS, TarEntry, TarEntryKind, TarLimits, TarReader
from resolver.errors import BadDocument, LimitExceeded, ResolverError, Untrusted
from tests import DATA
from tests.kit.tar_blocks import (
    END,
    ZERO,
    base256,
    header,
    member,
    octal,
    padded,
    pax,
    record,
    sealed,
)

BAD_INPUTS = DATA / "bad_inputs"
CASES: list[dict[str, Any]] = [
    case
    for case in json.loads((BAD_INPUTS / "index.json").read_text("utf-8"))["files"]
    if case["kind"] == "layer-tar"
]


def read(
    archive: bytes, limits: TarLimits = DEFAULT_LIMITS, step: int = 1 << 20
) -> list[tuple[TarEntry, bytes]]:
    chunks = (archive[at : at + step] for at in range(0, len(archive), step))
    reader = TarReader(chunks, "the archive", limits)
    return [(entry, b"".join(map(bytes, reader.content()))) for entry in reader]


def warnings(archive: bytes) -> list[str]:
    reader = TarReader([archive], "the archive")
    list(reader)
    return reader.warnings


def only(archive: bytes) -> TarEntry:
    ((entry, _),) = read(archive)
    return entry


def refused(archive: bytes, words: str) -> None:
    with pytest.raises(BadDocument, match=words):
        read(archive)


# The catalogue


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["file"])
def test_tar_archives_of_the_catalogue_are_read_or_refused(
    case: dict[str, Any],
) -> None:
    body = (BAD_INPUTS / case["file"]).read_bytes()
    kind = decompress.compression_of(body[:8], "the layer")
    reader = TarReader(decompress.inflate([body], kind, "the layer"), "the layer")
    if case["expect"] == "error":
        with pytest.raises(Untrusted) as caught:
            list(reader)
        assert caught.value.word == case["error_class"]
    else:
        names = [entry.name for entry in reader]
        assert case["entries"] in (None, names)


# What is read


def test_tar_entry_has_name_type_mode_owner_size_and_content() -> None:
    fields = {100: octal(0o104755, 8), 108: octal(1000, 8), 116: octal(100, 8)}
    archive = member(b"bin/a", b"content", fields=fields) + END

    assert read(archive) == [
        (TarEntry("bin/a", TarEntryKind.FILE, 0o4755, 1000, 100, 7), b"content"),
    ]


@pytest.mark.parametrize(
    ("flag", "kind"),
    [
        (b"0", TarEntryKind.FILE),
        (b"\0", TarEntryKind.FILE),
        (b"7", TarEntryKind.FILE),
        (b"1", TarEntryKind.HARD_LINK),
        (b"2", TarEntryKind.SYMLINK),
        (b"3", TarEntryKind.CHARACTER),
        (b"4", TarEntryKind.BLOCK),
        (b"5", TarEntryKind.FOLDER),
        (b"6", TarEntryKind.FIFO),
    ],
)
def test_tar_entry_types_are_distinguished(flag: bytes, kind: TarEntryKind) -> None:
    entry = only(header(b"a", 0, flag, link=b"../t") + END)

    assert entry.kind is kind
    assert entry.link == ("../t" if kind in {TarEntryKind.HARD_LINK, TarEntryKind.SYMLINK} else "")


def test_tar_device_has_its_numbers() -> None:
    fields = {329: octal(8, 8), 337: base256(2**40, 8)}

    assert only(header(b"sda", 0, b"4", fields=fields) + END).device == (8, 2**40)


@pytest.mark.parametrize("flag", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_tar_entries_without_data_ignore_their_size(flag: bytes) -> None:
    entries = read(header(b"a", 512, flag) + header(b"b") + END)

    assert [(entry.name, entry.size) for entry, _ in entries] == [("a", 0), ("b", 0)]


def test_old_tar_file_with_a_trailing_slash_is_a_folder() -> None:
    assert [entry.kind for entry, _ in read(member(b"x/", b"data") + member(b"y") + END)] == [
        TarEntryKind.FOLDER,
        TarEntryKind.FILE,
    ]


def test_tar_prefix_is_used_in_posix_archives_only() -> None:
    assert only(header(b"name", prefix=b"pre/fix") + END).name == "pre/fix/name"
    assert only(header(b"name", prefix=b"pre/fix", magic=b"ustar  \0") + END).name == "name"


def test_tar_names_are_kept_as_bytes() -> None:
    name = only(header(b"\xff\xfe\x1b[0m") + END).name

    assert name.encode("utf-8", "surrogateescape") == b"\xff\xfe\x1b[0m"


@pytest.mark.parametrize("name", [b"", b"./", b"/etc/passwd", b"../x", b"a/../../x", b"..\\x"])
def test_tar_names_with_parent_references_are_returned_unchanged(name: bytes) -> None:
    assert only(header(name) + END).name == name.decode()


def test_long_names_and_links_of_gnu_are_read() -> None:
    name, link = b"n" * 300, b"l" * 300
    archive = (
        member(b"././@LongLink", link + b"\0", b"K")
        + member(b"././@LongLink", name + b"\0", b"L")
        + header(b"cut", 0, b"2", link=b"cut")
        + header(b"next")
        + END
    )

    long, following = (entry for entry, _ in read(archive))
    assert (long.name, long.link) == (name.decode(), link.decode())
    assert following.name == "next"


def test_pax_header_applies_to_the_next_entry_only() -> None:
    big = record(b"size", b"3") + record(b"uid", b"4294967296") + record(b"gid", b"-1")
    archive = (
        pax(record(b"path", "ü/long".encode()), record(b"linkpath", b"t"), big)
        + header(b"a", 0)
        + padded(b"abc")
        + header(b"b")
        + END
    )

    assert read(archive) == [
        (TarEntry("ü/long", TarEntryKind.FILE, 0o644, 2**32, -1, 3), b"abc"),
        (TarEntry("b", TarEntryKind.FILE, 0o644, 0, 0, 0), b""),
    ]


def test_global_pax_header_applies_until_replaced() -> None:
    archive = (
        pax(record(b"uid", b"7"), record(b"comment", b"\0\xff"), flag=b"g")
        + header(b"a")
        + pax(record(b"uid", b"8"))
        + header(b"b")
        + header(b"c")
        + pax(record(b"uid", b""), flag=b"g")
        + header(b"d")
        + END
    )

    assert [entry.uid for entry, _ in read(archive)] == [7, 8, 7, 0]


def test_later_global_pax_header_wins_as_in_gnu_tar() -> None:
    globally = [pax(record(key, b"7"), flag=b"g") for key in (b"uid", b"gid")]

    entry = only(b"".join(globally) + header(b"a") + END)
    assert (entry.uid, entry.gid) == (0, 7)


def test_later_pax_header_wins() -> None:
    archive = pax(record(b"path", b"x")) + pax(record(b"uid", b"7")) + header(b"a") + END

    entry = only(archive)
    assert (entry.name, entry.uid) == ("a", 7)


def test_extended_attributes_may_contain_any_bytes() -> None:
    archive = pax(record(b"SCHILY.xattr.security.capability", b"\0\1\2=\n")) + header(b"a") + END

    assert only(archive).name == "a"


@pytest.mark.parametrize(
    ("field", "uid"),
    [
        (base256(2**31, 8), 2**31),
        (base256(-1, 8), -1),
        (b"   17 \0\0", 0o17),
        (bytes(8), 0),
        (b" " * 8, 0),
        (b"0000017x"[:7] + b"\0", 0o17),
    ],
)
def test_tar_numbers_are_octal_or_base_256(field: bytes, uid: int) -> None:
    assert only(header(fields={108: field}) + END).uid == uid


def test_signed_byte_checksums_are_accepted() -> None:
    block = bytearray(header(b"\xff\xff"))
    signed = sum(byte - 256 * (byte > 127) for byte in block[:148] + block[156:]) + 256
    block[148:156] = b"%06o\0 " % signed

    assert only(bytes(block) + END).size == 0


@pytest.mark.parametrize("step", [1, 7, 511, 512, 513, 4096])
def test_tar_result_does_not_depend_on_chunks(step: int) -> None:
    archive = member(b"a", b"x" * 1000) + pax(record(b"path", b"p")) + member(b"b", b"y") + END

    assert read(archive, step=step) == read(archive)


def test_unread_tar_content_is_skipped() -> None:
    reader = TarReader([member(b"a", b"x" * 5000) + member(b"b", b"y") + END], "the archive")

    assert [entry.name for entry in reader] == ["a", "b"]
    assert list(reader.content()) == []


@pytest.mark.parametrize("step", [1, 100, 512, 4096])
@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_tar_content_may_be_read_in_part(step: int, pieces: int) -> None:
    sparse = old_sparse([(2, 3), (700, 300)], 1000, b"y" * 303) + padded(b"y" * 303)
    archive = member(b"a", b"x" * 5000) + sparse + member(b"b", b"z" * 10) + END
    chunks = (archive[at : at + step] for at in range(0, len(archive), step))
    names = []
    reader = TarReader(chunks, "the archive")
    for entry in reader:
        names.append(entry.name)
        list(islice(reader.content(), pieces))
        assert list(reader.content()) == []

    assert names == ["a", "s", "b"]


# Sparse files


def old_sparse(pairs: list[tuple[int, int]], size: int, data: bytes, flag: int = 0) -> bytes:
    fields = {386: b"".join(octal(a, 12) + octal(b, 12) for a, b in pairs[:4])}
    fields |= {482: bytes([flag]), 483: octal(size, 12)}
    return header(b"s", len(data), b"S", magic=b"ustar  \0", fields=fields)


def test_old_gnu_sparse_file_is_read_with_its_holes() -> None:
    archive = old_sparse([(2, 3), (7, 2), (10, 0)], 10, b"abcde") + padded(b"abcde") + END

    ((entry, content),) = read(archive)
    assert (entry.size, entry.stretches) == (10, ((2, 3), (7, 2)))
    assert content == b"\0\0abc\0\0de\0"


def test_long_sparse_map_continues_in_its_own_blocks() -> None:
    pairs = [(2 * number, 1) for number in range(30)]
    rest = [octal(a, 12) + octal(b, 12) for a, b in pairs[4:]]
    blocks = [bytearray(512), bytearray(512)]
    blocks[0][: 21 * 24] = b"".join(rest[:21])
    blocks[0][504] = 1
    blocks[1][: 5 * 24] = b"".join(rest[21:])
    data = b"x" * 30
    archive = old_sparse(pairs, 60, data, 1) + b"".join(blocks) + padded(data) + member(b"n") + END

    (sparse, content), (following, _) = read(archive)
    assert content == b"x\0" * 30
    assert (sparse.size, following.name) == (60, "n")


def sparse_0(*records: bytes, data: bytes = b"abcde") -> bytes:
    size = record(b"GNU.sparse.size", b"10")
    name = record(b"GNU.sparse.name", b"real")
    return pax(size, name, *records) + member(b"GNUSparseFile.1/real", data) + END


@pytest.mark.parametrize(
    "archive",
    [
        sparse_0(
            record(b"GNU.sparse.offset", b"2"),
            record(b"GNU.sparse.numbytes", b"3"),
            record(b"GNU.sparse.offset", b"7"),
            record(b"GNU.sparse.numbytes", b"2"),
        ),
        sparse_0(record(b"GNU.sparse.map", b"2,3,7,2")),
        sparse_0(
            record(b"GNU.sparse.major", b"1"),
            record(b"GNU.sparse.minor", b"0"),
            data=padded(b"2\n2\n3\n7\n2\n") + b"abcde",
        ),
    ],
    ids=["0.0", "0.1", "1.0"],
)
def test_sparse_files_of_pax_are_read_with_their_holes(archive: bytes) -> None:
    ((entry, content),) = read(archive)

    assert (entry.name, entry.size) == ("real", 10)
    assert content == b"\0\0abc\0\0de\0"


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (sparse_0(record(b"GNU.sparse.map", b"2,3,4,2")), "overlap"),
        (sparse_0(record(b"GNU.sparse.map", b"2,3,9,2")), "outside"),
        (sparse_0(record(b"GNU.sparse.map", b"2,3")), "3 bytes, and 5 are stored"),
        (sparse_0(record(b"GNU.sparse.map", b"2,3,4")), "without a length"),
        (sparse_0(record(b"GNU.sparse.map", b"2,x")), "is not a list of numbers"),
        (sparse_0(record(b"GNU.sparse.numbytes", b"2")), "out of order"),
        (sparse_0(record(b"GNU.sparse.major", b"2")), "version"),
        (
            sparse_0(
                record(b"GNU.sparse.major", b"1"),
                record(b"GNU.sparse.minor", b"0"),
                data=padded(b"1\nx\n3\n"),
            ),
            "lacks a number",
        ),
        (
            sparse_0(
                record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.minor", b"0"), data=b""
            ),
            "no number|cut short",
        ),
        (old_sparse([(2, 3), (4, 2)], 10, b"abcde") + padded(b"abcde") + END, "overlap"),
        (old_sparse([(0, 5)], 10, b"abcde", 1), "cut short"),
        (old_sparse([(0, 3)], 10, b"abcde") + padded(b"abcde") + END, "3 bytes, and 5 are stored"),
        (
            header(b"s", 0, b"S", magic=b"ustar  \0", fields={483: base256(-5, 12)}) + END,
            "size of a sparse file is negative: -5",
        ),
        (pax(record(b"GNU.sparse.map", b"0,3")) + header(b"d", 0, b"5") + END, "without data"),
        (pax(record(b"GNU.sparse.major", b"1")) + header(b"l", 0, b"2") + END, "without data"),
    ],
)
def test_invalid_sparse_map_is_refused(archive: bytes, words: str) -> None:
    refused(archive, words)


# Invalid input


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (header()[:100], "cut short"),
        (header() + header()[:511], "cut short"),
        (header(size=5) + b"hell", "cut short"),
        (header(size=5) + b"hello" + bytes(507) + header(size=5) + b"hell", "cut short"),
        (header(flag=b"S", size=5) + padded(b"hello") + END, "lacks its mark"),
        (pax(record(b"path", b"x"))[:600], "cut short"),
        (header(size=2**33 - 1), "cut short"),
        (header(fields={124: base256(2**60, 12)}) + END, "cut short"),
        (header(fields={124: base256(2**80, 12)}) + END, "cut short"),
        (header(fields={124: base256(-512, 12)}) + END, "negative: -512"),
        (header(fields={124: b"-0000000777\0"}) + END, "size is not a number"),
        (header(fields={108: b"\x81" + bytes(7)}) + END, "uid is not a number"),
        (header(fields={100: b"0000x44\0"}) + END, "mode is not a number"),
        (header() + bytes([header()[0] ^ 1]) + header()[1:] + END, "byte 512.*checksum"),
        (b"x" * 512 + END, "checksum"),
        (header() + ZERO + header(b"hidden") + END, "stands alone"),
        (header() + ZERO + b"x", "cut short"),
        (member(b"L", b"name\0", b"L")[:600], "cut short"),
        (pax(b"0 path=a\n") + header() + END, "length"),
        (pax(b"99 path=a\n") + header() + END, "length"),
        (pax(b"x path=a\n") + header() + END, "length"),
        (pax(b"  10 path=a\n") + header() + END, "length"),
        (pax(b"2 path=a\n") + header() + END, "length"),
        (pax(b"8 path=a\n") + header() + END, "without its end"),
        (pax(b"9 path a\n") + header() + END, "without a key"),
        (pax(b"6 =a\n\n") + header() + END, "without a key|without its end"),
        (pax(record(b"pa\0th", b"a")) + header() + END, "without a key"),
        (pax(record(b"path", b"a\0b")) + header() + END, "NUL in `path`"),
        (pax(record(b"linkpath", b"a\0b")) + header() + END, "NUL in `linkpath`"),
        (pax(record(b"uname", b"ro\0ot")) + header() + END, "NUL in `uname`"),
        (pax(record(b"size", b"-512")) + header() + END, "negative `size`"),
        (pax(record(b"size", b"1e3")) + header() + END, "no number in `size`"),
        (pax(record(b"uid", b"\xd9\xa1")) + header() + END, "no number in `uid`"),
        (pax(record(b"size", b"1_0")) + header() + END, "no number in `size`"),
        (pax(record(b"size", b"9" * 20)) + header() + END, "no number in `size`"),
    ],
)
def test_damaged_tar_is_refused(archive: bytes, words: str) -> None:
    refused(archive, words)


def test_invalid_tar_time_is_ignored() -> None:
    archive = pax(record(b"mtime", b"nan")) + header(fields={136: base256(-1, 12)}) + END

    assert only(archive).name == "a"


def test_tar_error_names_archive_and_position() -> None:
    with pytest.raises(BadDocument) as caught:
        list(TarReader([member(b"a", b"x" * 600) + b"y" * 512], "layer 3 of `app:1`"))
    assert str(caught.value).startswith("layer 3 of `app:1` is malformed at `byte 1536`: ")


# What is odd


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (b"", "no end mark"),
        (header(), "no end mark"),
        (header() + ZERO, "half an end mark"),
        (header() + ZERO + bytes(100), "half an end mark"),
        (header() + END + b"x", "follows the end mark"),
        (header() + END + header(b"hidden"), "follows the end mark"),
        (pax(record(b"path", b"x")) + END, "after an extended header"),
        (header(flag=b"V") + header() + END, "volume label"),
        (pax(record(b"path", b"x"), flag=b"g") + header() + END, "runtimes ignore"),
        (member(b"m", b"x" * 600, b"M") + header() + END, "rest of a file"),
        (member(b"q", b"x" * 600, b"Q") + header() + END, "unknown type"),
    ],
)
def test_harmless_tar_oddity_is_a_warning(archive: bytes, words: str) -> None:
    (warning,) = warnings(archive)

    assert words in warning


@pytest.mark.parametrize("padding", [b"", bytes(1), bytes(506)])
@pytest.mark.parametrize("is_read", [False, True])
def test_missing_padding_at_the_very_end_is_a_warning(padding: bytes, is_read: bool) -> None:
    """As `umoci insert` writes it; Go's archive/tar, and so container runtimes, accept it."""
    reader = TarReader([member(b"a", b"x"), header(b"b", 5), b"hello", padding], "the archive")

    contents = {
        entry.name: b"".join(map(bytes, reader.content() if is_read else ())) for entry in reader
    }
    assert contents == ({"a": b"x", "b": b"hello"} if is_read else {"a": b"", "b": b""})
    assert reader.warnings == [
        "the last file of the archive is not padded",
        "the archive has no end mark",
    ]


def test_archive_comment_of_git_gives_no_warning() -> None:
    assert warnings(pax(record(b"comment", b"1d4e"), flag=b"g") + header() + END) == []


@pytest.mark.parametrize("archive", [END, END + bytes(9216), header() + END + bytes(9000)])
def test_padding_after_the_end_gives_no_warning(archive: bytes) -> None:
    assert warnings(archive) == []


def test_repeated_tar_oddity_is_reported_once() -> None:
    assert len(warnings(b"".join(header(flag=b"Q") for _ in range(50)) + END)) == 1


def test_tar_entry_of_unknown_type_is_a_file() -> None:
    assert read(member(b"q", b"x" * 600, b"Q") + END)[0][1] == b"x" * 600


# Limits, at the limit and one past it


def long_path(size: int) -> bytes:
    return pax(record(b"path", b"p" * size)) + header() + END


def deep(count: int) -> bytes:
    return pax(record(b"path", b"./" + b"/".join([b"d"] * count) + b"//")) + header() + END


def long_link(size: int) -> bytes:
    return member(b"L", b"l" * size, b"K") + header(flag=b"2") + END


def extended(size: int) -> bytes:
    return member(b"x", record(b"comment", b"c" * (size - 17)), b"x") + header() + END


def stacked(count: int) -> bytes:
    return pax(record(b"uid", b"1")) * count + header() + END


def long_map(count: int) -> bytes:
    numbers = b"".join(b"%d\n1\n" % (2 * number) for number in range(count))
    data = padded(b"%d\n" % count + numbers) + b"x" * count
    version = record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0")
    size = record(b"GNU.sparse.realsize", b"%d" % (2 * count))
    return pax(version, size) + member(b"s", data) + END


def holes(size: int) -> bytes:
    return old_sparse([], size, b"") + END


@pytest.mark.parametrize(
    ("make", "limit", "unit"),
    [
        (long_path, 4096, "bytes"),
        (deep, 256, "components"),
        (long_link, 4096, "bytes"),
        (extended, 1 << 20, "bytes"),
        (stacked, 16, "headers"),
    ],
)
def test_tar_limits_are_exact(make: Any, limit: int, unit: str) -> None:
    assert read(make(limit))
    with pytest.raises(LimitExceeded) as caught:
        read(make(limit + 1))
    assert (caught.value.limit, caught.value.value, caught.value.unit) == (limit, limit + 1, unit)


def test_number_of_entries_is_limited() -> None:
    assert DEFAULT_LIMITS.entries == 2_000_000
    limits = TarLimits(entries=3)
    assert len(read(header() * 3 + END, limits)) == 3
    with pytest.raises(LimitExceeded, match="limit of 3 entries: 4"):
        read(header() * 4 + END, limits)


def test_total_memory_of_tar_names_is_limited() -> None:
    assert DEFAULT_LIMITS.names == 256 << 20
    archive = header(b"ab", 0, b"2", link=b"cd") + header("ü".encode()) + END
    assert len(read(archive, TarLimits(names=12))) == 2
    with pytest.raises(LimitExceeded, match="limit of 11 bytes: 12"):
        read(archive, TarLimits(names=11))


def test_sparse_holes_are_limited_before_reading() -> None:
    limits = TarLimits(holes=4096)
    assert read(holes(4096), limits)[0][1] == bytes(4096)
    with pytest.raises(LimitExceeded, match="limit of 4096 bytes: 4097"):
        read(holes(4097), limits)
    with pytest.raises(LimitExceeded):
        read(pax(record(b"GNU.sparse.size", b"9" * 19)) + header(flag=b"0") + END)


def test_sparse_map_size_is_limited() -> None:
    limits = TarLimits(extended=1024)
    assert read(long_map(100), limits)
    with pytest.raises(LimitExceeded, match="map of a sparse file"):
        read(long_map(400), limits)
    extension = bytearray(512)
    extension[504] = 1
    endless = old_sparse([(0, 1)] * 4, 10, b"", 1) + bytes(extension) * 10
    with pytest.raises(LimitExceeded, match="map of a sparse file"):
        read(endless, limits)


# Properties


def corpus() -> list[bytes]:
    sparse = sparse_0(record(b"GNU.sparse.map", b"2,3,7,2"))
    long = member(b"././@LongLink", b"n" * 300 + b"\0", b"L") + header(b"cut") + END
    plain = member(b"a", b"x" * 700) + header(b"l", 0, b"2", link=b"t") + END
    old = old_sparse([(2, 3), (7, 2)], 10, b"abcde") + padded(b"abcde") + END
    return [sparse, long, plain, old, pax(record(b"path", b"x" * 200), flag=b"g") + plain]


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8), st.booleans())
def test_any_bytes_are_read_as_tar_or_refused(seed: int, changes: int, mend: bool) -> None:
    chance = random.Random(seed)
    archive = bytearray(chance.choice(corpus()))
    for _ in range(changes):
        at = chance.randrange(len(archive))
        archive[at] = chance.choice([0, 32, 48, 55, 128, 255, chance.randrange(256)])
    if chance.random() < 0.2:
        del archive[chance.randrange(len(archive)) :]
    if mend and len(archive) >= 512:
        # With a valid checksum, so that the rest is parsed.
        for at in range(0, len(archive) - 511, 512):
            if archive[at + 257 : at + 262] == b"ustar":
                archive[at : at + 512] = sealed(archive[at : at + 512])
    try:
        for entry, content in read(bytes(archive), TarLimits(holes=1 << 24)):
            assert len(content) in {0, entry.size}
    except ResolverError:
        pass
