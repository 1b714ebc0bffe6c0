"""Export to one tar: reproducible, and the same image for every reader."""

from __future__ import annotations

import io
import json
import os
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.reference import Reference
from resolver.core.oci.target import LayoutTarget
from resolver.core.platforms.platform import Platform
from resolver.core.results.export import parse_destination
from resolver.errors import DigestMismatch, ExportFault, SizeMismatch
from resolver.sources.local.archive import open_docker_archive, open_oci_archive
from resolver.store import LocalStore
from resolver.verbs.export.archive import write_archive
from resolver.verbs.export.bundle import ExportBundle, ExportSelection
from resolver.verbs.export.export import ExportOptions, export
from tests.kit.exports import (
    AMD64,
    ARM64,
    QUICK,
    WINDOWS,
    app,
    check_layout,
    exported,
    member,
    members,
    names_in,
    stocked,
    unpack,
)
from tests.kit.images import build_image, build_index
from tests.kit.stored_images import place, pull

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = "docker.io/library/app:1"


def listed(archive: Path) -> list[dict[str, object]]:
    """Read Docker's `manifest.json`."""
    entries: list[dict[str, object]] = json.loads(member(archive, "manifest.json"))
    return entries


def test_archive_is_a_complete_oci_layout(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)

    found = exported(store, tmp_path / "a.tar", "app:1")

    unpacked = unpack(tmp_path / "a.tar", tmp_path / "out")
    (unpacked / "manifest.json").unlink()
    assert check_layout(unpacked) == {*image.documents, *image.blobs}
    assert names_in(unpacked) == {APP: image.digest}
    assert found.written == (tmp_path / "a.tar").stat().st_size


def test_archive_export_is_reproducible(tmp_path: Path) -> None:
    first = stocked(tmp_path / "1", app=app("1"), b=app("b"))
    second = stocked(tmp_path / "2", b=app("b"), app=app("1"))
    for path in (second.root / "blobs").rglob("*"):
        os.utime(path, (1, 1))

    exported(first, tmp_path / "1.tar", "app:1", "b:1")
    exported(second, tmp_path / "2.tar", "b:1", "app:1", "app:1")

    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_archive_members_are_sorted_and_carry_no_owner(tmp_path: Path) -> None:
    exported(stocked(tmp_path, app=app()), tmp_path / "a.tar", "app:1")

    found = members(tmp_path / "a.tar")

    assert list(found) == sorted(found)
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in found.values()} == {
        (0, 0, "", "", 0)
    }
    assert {oct(m.mode) for m in found.values() if m.isfile()} == {"0o644"}
    assert {oct(m.mode) for m in found.values() if m.isdir()} == {"0o755"}


def test_archive_members_use_the_requested_time(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    options = ExportOptions(epoch=1_700_000_000, layout=QUICK)

    to = parse_destination(str(tmp_path / "a.tar"))
    export([Reference.parse("app:1")], store, to, options)

    assert {m.mtime for m in members(tmp_path / "a.tar").values()} == {1_700_000_000}


def test_both_archive_formats_are_read_back(tmp_path: Path) -> None:
    image = app()
    exported(stocked(tmp_path, app=image), tmp_path / "a.tar", "app:1")
    path = str(tmp_path / "a.tar")

    oci = open_oci_archive(LayoutTarget("oci-archive", path, "1"))
    docker = open_docker_archive(LayoutTarget("docker-archive", path, APP))

    assert str(oci.resolve("1").digest) == image.digest
    assert str(docker.resolve(APP).digest) == image.digest
    assert oci.warnings() == ()


def test_docker_archive_manifest_lists_existing_blobs_in_layer_order(
    tmp_path: Path,
) -> None:
    image = app("1", AMD64)
    exported(stocked(tmp_path, app=image), tmp_path / "a.tar", "app:1")

    (entry,) = listed(tmp_path / "a.tar")

    document = json.loads(image.children[0].body)
    assert entry == {
        "Config": f"blobs/sha256/{document['config']['digest'][7:]}",
        "RepoTags": [APP],
        "Layers": [f"blobs/sha256/{layer['digest'][7:]}" for layer in document["layers"]],
    }


@pytest.mark.parametrize(
    ("platforms", "expected"),
    [((), AMD64), ((ARM64, AMD64), ARM64), ((AMD64, ARM64), AMD64), ((ARM64,), ARM64)],
)
def test_docker_archive_gives_a_name_to_the_first_requested_platform(
    tmp_path: Path, platforms: tuple[str, ...], expected: str
) -> None:
    image = app()
    store = stocked(tmp_path, app=image)

    found = exported(store, tmp_path / "a.tar", "app:1", platforms=platforms)

    (entry,) = listed(tmp_path / "a.tar")
    config = json.loads(image.child(expected).body)["config"]["digest"]
    assert entry["Config"] == f"blobs/sha256/{config[7:]}"
    codes = [warning.code for warning in found.warnings]
    assert codes == ["digest-new" if len(platforms) == 1 else "docker-one-platform"]


def test_docker_archive_never_lists_windows_beside_linux(tmp_path: Path) -> None:
    mixed, windows = app("1", WINDOWS, AMD64), app("2", WINDOWS)
    store = stocked(tmp_path, app=mixed, win=windows)

    exported(store, tmp_path / "mixed.tar", "app:1")
    both = exported(store, tmp_path / "both.tar", "app:1", "win:1")
    exported(store, tmp_path / "win.tar", "win:1")

    linux = json.loads(mixed.child(AMD64).body)["config"]["digest"][7:]
    for name in ("mixed.tar", "both.tar"):
        assert [entry["Config"] for entry in listed(tmp_path / name)] == [f"blobs/sha256/{linux}"]
    assert "docker-windows" in [warning.code for warning in both.warnings]
    assert [entry["RepoTags"] for entry in listed(tmp_path / "win.tar")] == [
        ["docker.io/library/win:1"]
    ]
    assert windows.digest[7:] in " ".join(members(tmp_path / "both.tar"))


def test_docker_archive_lists_an_image_with_two_names_once(tmp_path: Path) -> None:
    image = build_image(AMD64)
    store = stocked(tmp_path, app=image, same=image)

    exported(store, tmp_path / "a.tar", "app:1", "same:1")

    (entry,) = listed(tmp_path / "a.tar")
    assert entry["RepoTags"] == [APP, "docker.io/library/same:1"]


def test_docker_archive_of_an_untagged_image_has_no_tags(tmp_path: Path) -> None:
    image = build_image(AMD64)
    store = LocalStore(tmp_path / "store", fsync=False)
    pull(store, f"ghcr.io/o/app@{image.digest}", image)

    exported(store, tmp_path / "a.tar", f"ghcr.io/o/app@{image.digest}")

    assert [entry["RepoTags"] for entry in listed(tmp_path / "a.tar")] == [None]


def test_archive_keeps_docker_media_types_with_a_note(tmp_path: Path) -> None:
    image = app(docker=True)
    store = stocked(tmp_path, app=image)

    found = exported(store, tmp_path / "a.tar", "app:1")

    assert names_in(unpack(tmp_path / "a.tar", tmp_path / "out")) == {APP: image.digest}
    assert "docker-types" in [warning.code for warning in found.warnings]


def test_archive_with_a_damaged_blob_keeps_the_old_file(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    exported(store, tmp_path / "a.tar", "app:1")
    before = (tmp_path / "a.tar").read_bytes()
    victim = place(store, json.loads(image.child(AMD64).body)["layers"][1]["digest"])
    body = victim.read_bytes()
    victim.chmod(0o644)
    victim.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))

    with pytest.raises(DigestMismatch):
        exported(store, tmp_path / "a.tar", "app:1")

    assert (tmp_path / "a.tar").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"store", "a.tar"}


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_archive_replaces_regular_files_only(tmp_path: Path, kind: str) -> None:
    store = stocked(tmp_path, app=app())
    path = tmp_path / "a.tar"
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)

    with pytest.raises(ExportFault):
        exported(store, path, "app:1")

    assert not path.is_file()


def test_archive_follows_a_symlink_to_its_target(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.tar").symlink_to(tmp_path / "elsewhere/b.tar")

    exported(store, tmp_path / "a.tar", "app:1")

    assert (tmp_path / "a.tar").is_symlink()
    assert "oci-layout" in members(tmp_path / "elsewhere/b.tar")


def test_archive_reports_a_missing_folder(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())

    with pytest.raises(ExportFault) as caught:
        exported(store, tmp_path / "none/a.tar", "app:1")

    assert caught.value.hints() == ("make the folder above it first",)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_archive_writes_long_names_portably(tmp_path: Path, algorithm: str) -> None:
    body = b"small"
    piece = Descriptor("x", Digest.of(body, algorithm), len(body))
    written = bytearray()

    bundle = ExportBundle((), (piece,), {piece.digest: body}, ())
    write_archive(bundle, (), LocalStore(tmp_path), written.extend, listed=b"[]")

    with tarfile.open(fileobj=io.BytesIO(written)) as tar:
        file = tar.extractfile(f"blobs/{algorithm}/{piece.digest.hex}")
        assert file is not None
        assert file.read() == body


class Endless:
    """Content that starts and never ends."""

    def has(self, descriptor: Descriptor) -> bool:
        raise NotImplementedError(descriptor)

    def read(self, descriptor: Descriptor) -> bytes:
        raise NotImplementedError(descriptor)

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        del descriptor
        yield iter((b"",))


def test_archive_states_the_size_of_a_nine_gigabyte_layer(tmp_path: Path) -> None:
    large = Descriptor("x", Digest.of(b""), 9 << 30)
    path = tmp_path / "head.tar"
    with path.open("wb") as file:
        with pytest.raises(SizeMismatch):
            write_archive(
                ExportBundle((), (large,), {}, ()), (), Endless(), file.write, listed=b"[]"
            )
        file.truncate(file.tell() + large.size)

    with tarfile.open(path) as tar:
        sizes = {each.name: each.size for each in tar}
    assert sizes[f"blobs/sha256/{large.digest.hex}"] == large.size


def test_archive_prefers_the_requested_platform_over_the_host(tmp_path: Path) -> None:
    image = build_index([build_image(ARM64), build_image(AMD64)])
    store = stocked(tmp_path, app=image)
    to = parse_destination(str(tmp_path / "a.tar"))
    selection = ExportSelection((Platform.parse(ARM64), Platform.parse(AMD64)))

    export(
        [Reference.parse("app:1")],
        store,
        to,
        ExportOptions(selection=selection, host=Platform.parse(AMD64), layout=QUICK),
    )

    config = json.loads(image.child(ARM64).body)["config"]["digest"][7:]
    assert [entry["Config"] for entry in listed(tmp_path / "a.tar")] == [f"blobs/sha256/{config}"]
