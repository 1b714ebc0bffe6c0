"""Images in tar archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.layers.decompress import InflateLimits
from resolver.core.oci.descriptor import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_INDEX
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import Manifest, parse_document
from resolver.core.oci.target import LayoutTarget
from resolver.errors import (
    BadDocument,
    ChecksumMismatch,
    LimitExceeded,
    NotFound,
    ResolverError,
    SizeMismatch,
    Unavailable,
    UnsupportedDocument,
)
from resolver.sources import open_local
from resolver.sources.local import tree as inflate
from resolver.sources.local.archive import TarTree
from resolver.sources.local.tree import Member, index_tar
from tests.kit.archives import file_member, link_member, saved, tar, tar_of
from tests.kit.images import build_image, build_layer, multi_platform
from tests.kit.layouts import write_layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolver.core.oci.content import Source

ONE = build_image("linux/amd64", [build_layer({"a": b"1"}), build_layer({"b": b"2"})])
TWO = multi_platform("linux/amd64", "linux/arm64")


def opened(path: Path, kind: str = "oci-archive") -> Source:
    return open_local(LayoutTarget(kind, str(path), None))


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    (tmp_path / "layout").mkdir()
    return write_layout(tmp_path / "layout", {"1": ONE, "2": TWO})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archive.tar"


# OCI layouts in a tar


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_layout_in_an_archive_reads_like_a_folder(
    layout: Path, path: Path, pack: Callable[[bytes], bytes], prefix: str
) -> None:
    path.write_bytes(pack(tar_of(layout, prefix)))
    source = opened(path)

    assert list(source.tags()) == ["1", "2"]
    assert source.document("2").body == TWO.body
    assert source.warnings() == ()
    for text, body in ONE.blobs.items():
        content = source.resolve(text)
        assert source.has(content)
        with source.open(content) as chunks:
            assert b"".join(chunks) == body


def test_archive_is_not_unpacked(layout: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(tar_of(layout))

    def refuse(*_arguments: object, **_options: object) -> object:
        raise AssertionError("a plain archive needs no other file")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert opened(path).document("1").body == ONE.body


def test_inflating_an_archive_leaves_no_file(
    layout: Path, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "room").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "room"))
    path.write_bytes(gzip.compress(tar_of(layout)))

    source = opened(path)

    assert list((tmp_path / "room").iterdir()) == []
    assert source.document("1").body == ONE.body


def test_two_threads_read_an_archive_concurrently(layout: Path, path: Path) -> None:
    path.write_bytes(tar_of(layout))
    source = opened(path)
    wanted = [source.resolve(text) for text in ONE.blobs] * 20

    def read(number: int) -> bytes:
        with source.open(wanted[number]) as chunks:
            return b"".join(chunks)

    with ThreadPoolExecutor(8) as pool:
        for number, body in enumerate(pool.map(read, range(len(wanted)))):
            assert Digest.of(body) == wanted[number].digest


def test_archive_can_be_closed_and_closes_itself(path: Path) -> None:
    path.write_bytes(tar([file_member("a", b"1")]))

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count of open files

    before = descriptors()
    tree = TarTree(str(path))
    assert descriptors() == before + 1
    tree.close()
    assert descriptors() == before
    TarTree(str(path))
    assert descriptors() == before


def test_archive_that_shrinks_while_read_is_untrusted(layout: Path, path: Path) -> None:
    path.write_bytes(tar_of(layout))
    source = opened(path)
    os.truncate(path, 600)

    with pytest.raises(SizeMismatch):
        source.read(ONE.descriptor)


def test_links_out_of_an_archive_are_not_followed(path: Path) -> None:
    hard = link_member("index.json", "/etc/passwd", tarfile.LNKTYPE)
    path.write_bytes(tar([link_member("oci-layout", "../../etc/passwd"), hard]))

    with pytest.raises(UnsupportedDocument, match=r"`oci-layout`.* is a link.* not followed"):
        opened(path)


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
@pytest.mark.parametrize("manifests", [None, []])
def test_docker_25_archive_with_an_empty_index_is_read_by_its_manifest(
    path: Path, kind: str, manifests: object
) -> None:
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    marker = file_member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    members = [marker, file_member("index.json", json.dumps(index).encode())]
    path.write_bytes(tar([*members, *saved(ONE)]))

    source = open_local(LayoutTarget(kind, str(path), None))
    assert list(source.tags()) == ["app:1"]
    parsed = parse_document(source.document("app:1").body, None, "it")
    assert isinstance(parsed, Manifest)
    assert all(source.has(layer) for layer in parsed.layers)

    path.write_bytes(tar(members))
    with pytest.raises(NotFound, match="holds no image"):
        open_local(LayoutTarget(kind, str(path), None)).resolve("")


def test_null_lists_of_a_saved_image_are_empty(path: Path) -> None:
    bare = build_image("linux/amd64", [], config={"rootfs": None, "history": None})
    path.write_bytes(tar(saved(bare, None, changes={"Layers": None})))

    source = open_local(LayoutTarget("docker-archive", str(path), None))
    parsed = parse_document(source.document("").body, None, "it")
    assert isinstance(parsed, Manifest)
    assert parsed.layers == ()


@pytest.mark.parametrize("written", ["name", "name:latest", "docker.io/library/name:latest"])
@pytest.mark.parametrize("asked", ["name", "name:latest", "docker.io/library/name", "library/name"])
def test_repository_tag_is_found_in_other_spellings(path: Path, written: str, asked: str) -> None:
    path.write_bytes(tar([*saved(ONE, [written])]))

    source = open_local(LayoutTarget("docker-archive", str(path), None))
    assert source.resolve(asked).media_type == DOCKER_MANIFEST
    with pytest.raises(NotFound):
        source.resolve("name:other")


def test_other_file_is_refused_with_its_type(layout: Path, path: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"archive\.tar"):
        opened(path)
    with pytest.raises(UnsupportedDocument, match="it is a folder") as caught:
        opened(layout)
    assert caught.value.hints() == (f"write `oci:{layout}`",)
    path.write_bytes(tar(saved(ONE)))
    with pytest.raises(UnsupportedDocument, match="docker save") as caught:
        opened(path)
    assert caught.value.hints() == (f"write `docker-archive:{path}`",)
    path.write_bytes(b"\x28\xb5\x2f\xfd and more")
    with pytest.raises(UnsupportedDocument, match="compressed with zstd"):
        opened(path)
    path.write_bytes(b"#!/bin/sh\n" + b" " * 1024)
    with pytest.raises(BadDocument, match="not a tar archive"):
        opened(path)
    path.write_bytes(b"")
    with pytest.raises(BadDocument, match="not an OCI layout"):
        opened(path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UnsupportedDocument, match="neither a file nor a folder"):
        opened(tmp_path / "fifo")


# The index of a tar


NAMES = st.from_regex(r"[a-z]{1,99}(/[a-z]{1,99})?", fullmatch=True)


def index(body: bytes) -> inflate.TarIndex:
    return index_tar(lambda offset, count: body[offset : offset + count], len(body), "`x`")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(
    files=st.dictionaries(st.from_regex(r"[a-z]{1,99}(/[a-z]{1,99})?", fullmatch=True), st.binary())
)
def test_archive_members_are_found(form: int, files: dict[str, bytes]) -> None:
    body = tar([file_member(name, content) for name, content in files.items()], form)

    found = index(body)

    assert found.is_ended
    assert {
        name: body[member.offset : member.offset + member.size]
        for name, member in found.files.items()
    } == files


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["a" * 300, "é" * 90, "ü/" * 200 + "x"])
def test_long_member_names_are_read_in_every_format(form: int, name: str) -> None:
    found = index(tar([file_member(name, b"1"), link_member("l", name)], form))

    assert list(found.files) == [name]
    assert found.links == {"l": name}


def test_last_of_two_members_with_one_name_counts() -> None:
    found = index(tar([file_member("a", b"1"), file_member("./a", b"22"), link_member("b", "a")]))

    assert found.files["a"].size == 2
    replaced = index(tar([file_member("a", b"1"), link_member("a", "b")]))
    assert replaced.files == {}


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("./x", "x"),
        ("/x", "x"),
        ("a/./x", "a/x"),
        ("../../x", "x"),
        ("a/../x", "x"),
        ("a//x", "a/x"),
    ],
)
def test_member_name_has_one_spelling(name: str, normal: str) -> None:
    assert list(index(tar([file_member(name, b"1")])).files) == [normal]


def test_missing_archive_end_is_a_warning(layout: Path, path: Path) -> None:
    body = tar_of(layout)
    while body.endswith(bytes(512)):
        body = body[:-512]
    path.write_bytes(body)

    source = opened(path)

    assert source.document("1").body == ONE.body
    assert "no end mark" in source.warnings()[0]


def header(change: Callable[[tarfile.TarInfo], None], **fields: bytes) -> bytes:
    """Write one header, with bytes of it changed and its checksum right again."""
    info = tarfile.TarInfo("a")
    change(info)
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    places = {"size": slice(124, 136), "kind": slice(156, 157)}
    for name, value in fields.items():
        block[places[name]] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def plain(_info: tarfile.TarInfo) -> None:
    """Change nothing."""


def extended(kind: bytes, body: bytes) -> bytes:
    size = b"%011o\0" % len(body)
    return header(plain, kind=kind, size=size) + body + bytes(-len(body) % 512)


GOOD = tar([file_member("a", b"1"), file_member("b", b"2")])

BAD: dict[str, tuple[bytes, type[ResolverError]]] = {
    "a damaged second header": (GOOD[:1024] + b"x" + GOOD[1025:], BadDocument),
    "cut inside a header": (GOOD[:1100], BadDocument),
    "cut inside a file": (GOOD[:512], BadDocument),
    "a size of -512": (header(plain, size=b"\xff" * 10 + b"\xfe\x00") + bytes(512), BadDocument),
    "a size of 2^60": (header(plain, size=b"\x80" + (1 << 60).to_bytes(11, "big")), BadDocument),
    "a size that is text": (header(plain, size=b"12x45678901\0") + bytes(1024), BadDocument),
    "a size with a sign": (header(plain, size=b"-0000000001\0") + bytes(1024), BadDocument),
    "a sparse file": (header(plain, kind=b"S") + bytes(1024), UnsupportedDocument),
    "stacked headers": (extended(b"x", b"8 a=bcd\n"[:8]) * 20, LimitExceeded),
    "a huge header": (
        header(plain, kind=b"x", size=b"%011o\0" % (2 << 20)) + bytes(2 << 20),
        LimitExceeded,
    ),
    "an extended header without a member": (extended(b"x", b"8 a=bcd\n"), BadDocument),
    "a length past the end": (extended(b"x", b"99 a=b\n") + GOOD, BadDocument),
    "a length of 0": (extended(b"x", b"0 a=b\n") + GOOD, BadDocument),
    "a length that is none": (extended(b"x", b"x a=b\n") + GOOD, BadDocument),
    "a record without a value": (extended(b"x", b"5 ab\n") + GOOD, BadDocument),
    "a record without an end": (extended(b"x", b"6 a=bc") + GOOD, BadDocument),
    "an extended size that is text": (extended(b"x", b"10 size=x\n") + GOOD, BadDocument),
    "an extended size past the end": (extended(b"x", b"13 size=9999\n") + GOOD, BadDocument),
    "an extended sparse file": (
        extended(b"x", b"22 GNU.sparse.major=1\n") + GOOD,
        UnsupportedDocument,
    ),
    "a name without an end": (extended(b"L", b"a" * 5000) + GOOD, LimitExceeded),
}


@pytest.mark.parametrize(("body", "error"), BAD.values(), ids=BAD.keys())
def test_damaged_or_hostile_archive_is_refused(body: bytes, error: type[ResolverError]) -> None:
    with pytest.raises(error):
        index(body)


def test_number_of_archive_members_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflate, "MAX_MEMBERS", 2)
    index(GOOD)

    with pytest.raises(LimitExceeded, match="limit of 2 members: 3"):
        index(tar([file_member(name, b"") for name in "abc"]))


def test_extended_size_applies_to_the_next_file_only() -> None:
    found = index(extended(b"x", b"10 size=1\n") + GOOD)

    assert found.files == {"a": Member(1536, 1), "b": Member(2560, 1)}


def test_members_without_data_ignore_their_size() -> None:
    folder = header(plain, kind=b"5", size=b"%011o\0" % 4096)

    assert list(index(folder + GOOD).files) == ["a", "b"]


def test_sun_checksum_is_accepted() -> None:
    info = tarfile.TarInfo("é")
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    block[148:156] = b"%06o\0 " % signed

    assert list(index(bytes(block) + bytes(1024)).files) == ["é"]


@given(st.binary(max_size=2048), st.integers(0, 3000), st.binary(min_size=1, max_size=40))
def test_any_bytes_are_an_archive_or_a_documented_error(
    noise: bytes, at: int, patch: bytes
) -> None:
    for body in (noise, GOOD[:at] + patch + GOOD[at + len(patch) :]):
        try:
            found = index(body)
        except ResolverError:
            continue
        assert all(member.offset + member.size <= len(body) for member in found.files.values())


# Compressed archives


def damaged_gzip(layout: Path) -> dict[str, bytes]:
    whole = gzip.compress(tar_of(layout))
    return {
        "cut short": whole[:-20],
        "wrong sum": whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:],
        "damaged": whole[:200] + bytes(50) + whole[250:],
        "followed by something": whole + b"something",
    }


@pytest.mark.parametrize("damage", ["cut short", "wrong sum", "damaged", "followed by something"])
def test_damaged_gzip_is_refused(layout: Path, path: Path, damage: str) -> None:
    path.write_bytes(damaged_gzip(layout)[damage])

    with pytest.raises((BadDocument, ChecksumMismatch), match=r"gzip data|is damaged"):
        opened(path)


def test_gzip_in_several_streams_with_padding_is_one_archive(layout: Path, path: Path) -> None:
    body = tar_of(layout)
    half = len(body) // 2
    path.write_bytes(gzip.compress(body[:half]) + gzip.compress(body[half:]) + bytes(700))

    assert opened(path).document("1").body == ONE.body


def test_archive_decompression_bomb_is_refused_in_little_memory(path: Path) -> None:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb") as stream:
        for _ in range(100):
            stream.write(bytes(1 << 20))
    path.write_bytes(out.getvalue())

    tracemalloc.start()
    with pytest.raises(LimitExceeded, match="inflates to"):
        opened(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_inflating_limits_are_exact(path: Path) -> None:
    path.write_bytes(gzip.compress(b"x" * 1000))
    with path.open("rb") as file:
        os.close(inflate.inflate(file.fileno(), "x", InflateLimits(total=1000)))
        with pytest.raises(LimitExceeded, match="limit of 999 bytes"):
            inflate.inflate(file.fileno(), "x", InflateLimits(total=999))


def test_full_disk_while_inflating_is_unavailable_and_names_the_folder(
    layout: Path, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(gzip.compress(tar_of(layout)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))

    with pytest.raises(Unavailable, match="absent") as caught:
        opened(path)
    assert "TMPDIR" in caught.value.hints()[0]


# What `docker save` writes


def manifest_of(source: Source, name: str = "") -> Manifest:
    found = parse_document(source.document(name).body, None, "x")
    assert isinstance(found, Manifest)
    return found


def test_old_archive_gets_a_computed_manifest(path: Path) -> None:
    path.write_bytes(tar(saved(ONE, ["app:1", "quay.io/app:2"])))
    source = opened(path, "docker-archive")

    config = json.loads(ONE.body)["config"]["digest"]
    manifest = manifest_of(source)
    assert manifest.media_type == DOCKER_MANIFEST
    assert manifest.config is not None
    assert (str(manifest.config.digest), manifest.config.media_type) == (config, DOCKER_CONFIG)
    assert source.read(manifest.config) == ONE.blobs[config]
    diff_ids = json.loads(ONE.blobs[config])["rootfs"]["diff_ids"]
    assert [str(layer.digest) for layer in manifest.layers] == diff_ids
    for layer in manifest.layers:
        assert layer.media_type == "application/vnd.docker.image.rootfs.diff.tar"
        with source.open(layer) as chunks:
            assert Digest.of(b"".join(chunks)) == layer.digest
    assert list(source.tags()) == ["app:1", "quay.io/app:2"]
    first, second = source.resolve("docker.io/library/app:1"), source.resolve("quay.io/app:2")
    assert first.digest == second.digest
    document = source.document("app:1")
    assert document.descriptor.digest == Digest.of(document.body)


def test_computed_manifest_is_deterministic(path: Path) -> None:
    members = saved(ONE)
    path.write_bytes(tar(members))
    first = opened(path, "docker-archive").document("")
    path.write_bytes(gzip.compress(tar(list(reversed(members)), tarfile.GNU_FORMAT)))

    assert opened(path, "docker-archive").document("") == first


def test_compressed_layers_are_described_by_their_own_hash(path: Path) -> None:
    path.write_bytes(tar(saved(ONE, compressed=True)))
    manifest = manifest_of(opened(path, "docker-archive"))

    layers = json.loads(ONE.body)["layers"]
    assert [str(layer.digest) for layer in manifest.layers] == [x["digest"] for x in layers]
    assert {layer.media_type for layer in manifest.layers} == {
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
    }


def test_layer_linked_inside_the_archive_is_found(path: Path) -> None:
    layer = build_layer({"a": b"1"})
    image = build_image("linux/amd64", [layer, layer])
    path.write_bytes(tar(saved(image, shared=True)))
    source = opened(path, "docker-archive")

    for content in manifest_of(source).layers:
        assert source.has(content)


def test_layer_linked_outside_the_archive_is_missing(path: Path) -> None:
    members = [*saved(ONE), link_member(f"{0:064x}/layer.tar", "/etc/passwd")]
    path.write_bytes(tar(members))

    with pytest.raises(BadDocument, match=r"Layers\[0\]"):
        opened(path, "docker-archive")


def test_archive_without_names_needs_no_name(path: Path) -> None:
    path.write_bytes(tar(saved(ONE, None)))
    source = opened(path, "docker-archive")

    assert list(source.tags()) == []
    assert manifest_of(source).media_type == DOCKER_MANIFEST


def test_docker_25_archive_is_read_by_its_layout(layout: Path, path: Path) -> None:
    extra = file_member("manifest.json", b"[]")
    files = [
        file_member(file.relative_to(layout).as_posix(), file.read_bytes())
        for file in layout.rglob("*")
        if file.is_file()
    ]
    path.write_bytes(tar([*files, extra]))

    assert opened(path, "docker-archive").document("2").body == TWO.body


def replaced(**changes: Any) -> bytes:
    return tar(saved(ONE, changes=changes))


def listed(body: bytes) -> bytes:
    return tar([*saved(ONE), file_member("manifest.json", body)])


MALFORMED = {
    "nothing": tar([file_member("a", b"")]),
    "not json": listed(b"{"),
    "an object": listed(b"{}"),
    "an array that goes on": listed(b'[], "b": []'),
    "two documents": listed(b"[][]"),
    "a closed object": listed(b"[]}{"),
    "numbers": listed(b"[1]"),
    "a config that is absent": replaced(Config="absent.json"),
    "a config that is a path": replaced(Config="/etc/passwd"),
    "no config": replaced(Config=None),
    "too few layers": replaced(Layers=[f"{0:064x}/layer.tar"]),
    "a layer that is absent": replaced(Layers=["../../etc/passwd", "b"]),
    "a layer that is a number": replaced(Layers=[1, 2]),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_archive_image_list_is_refused(path: Path, body: bytes) -> None:
    path.write_bytes(body)

    with pytest.raises(BadDocument):
        opened(path, "docker-archive")


@pytest.mark.parametrize("config", [b"{}", b'{"rootfs":{"diff_ids":["x","y"]}}', b"[]"])
def test_malformed_archive_config_is_refused(path: Path, config: bytes) -> None:
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    path.write_bytes(tar([*saved(ONE, changes={"Config": name}), file_member(name, config)]))

    with pytest.raises(BadDocument):
        opened(path, "docker-archive")


# What others write


@pytest.mark.real
@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_archives_are_read(layout: Path, tmp_path: Path) -> None:
    oci, docker = tmp_path / "oci.tar", tmp_path / "docker.tar"
    for target in (f"oci-archive:{oci}:1", f"docker-archive:{docker}:app:1"):
        command = ["skopeo", "--insecure-policy", "copy", "-q", f"oci:{layout}:1", target]
        subprocess.run(command, check=True, timeout=60, capture_output=True)

    assert opened(oci).document("1").body == ONE.body
    source = opened(docker, "docker-archive")
    manifest = manifest_of(source, "app:1")
    config = json.loads(ONE.body)["config"]["digest"]
    assert manifest.config is not None
    assert str(manifest.config.digest) == config
    for content in (manifest.config, *manifest.layers):
        with source.open(content) as chunks:
            assert Digest.of(b"".join(chunks)) == content.digest
