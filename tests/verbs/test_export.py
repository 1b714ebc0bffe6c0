"""Export to OCI layouts: what is written, and that foreign names are kept."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from resolver.core.oci.digest import Digest
from resolver.core.oci.reference import Reference
from resolver.core.platforms.platform import Platform
from resolver.core.results.export import Destination, Exported, parse_destination
from resolver.errors import (
    BadDocument,
    DigestMismatch,
    ExportFault,
    NotHeld,
    PlatformNotOffered,
    UnsupportedDocument,
    Usage,
)
from resolver.store import LocalStore, Patience
from resolver.verbs.export.bundle import ExportSelection
from resolver.verbs.export.export import ExportOptions, export
from resolver.verbs.export.layout import LayoutOptions
from tests.kit.exports import (
    AMD64,
    ARM64,
    QUICK,
    WINDOWS,
    app,
    check_layout,
    exported,
    index_of,
    names_in,
    stocked,
)
from tests.kit.images import build_image, build_index, from_dict, listed_as, multi_platform
from tests.kit.processes import ROOT
from tests.kit.stored_images import fill, place, pull

APP = "docker.io/library/app:1"


def root_of(layout: Path) -> dict[str, Any]:
    """Read what `APP` points at."""
    document: dict[str, Any] = blob(layout, names_in(layout)[APP])
    return document


def blob(layout: Path, digest: str) -> Any:
    return json.loads((layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_text())


# Where to


@pytest.mark.parametrize(
    ("text", "kind", "path"),
    [
        ("docker", "docker", ""),
        ("podman", "podman", ""),
        ("containerd", "containerd", ""),
        ("./docker", "layout", "./docker"),
        ("images.tar", "archive", "images.tar"),
        ("a/b", "layout", "a/b"),
        ("oci:a.tar", "layout", "a.tar"),
        ("oci-archive:a", "archive", "a"),
        ("docker-archive:a", "archive", "a"),
    ],
)
def test_export_destination_is_a_tool_a_file_or_a_folder(text: str, kind: str, path: str) -> None:
    destination = parse_destination(text)

    assert (destination.kind, destination.path) == (kind, path)


@pytest.mark.parametrize("text", ["", "oci:", "a.tar.gz", "a.tgz", "a\0b"])
def test_export_rejects_an_invalid_destination(text: str) -> None:
    with pytest.raises(Usage):
        parse_destination(text)


@pytest.mark.parametrize("text", ["docker-daemon:app:1", "containers-storage:app", "dir:out"])
def test_export_rejects_the_transport_prefix_of_another_tool(text: str) -> None:
    with pytest.raises(Usage, match=f"transport `{text.partition(':')[0]}:` is not supported"):
        parse_destination(text)
    assert parse_destination(f"./{text}") == Destination("layout", f"./{text}")


# What leaves


def test_export_of_everything_pulled_keeps_the_digest(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)

    found = exported(store, tmp_path / "out", "app:1")

    assert names_in(tmp_path / "out") == {APP: image.digest}
    assert check_layout(tmp_path / "out") == {*image.documents, *image.blobs}
    assert (found.blobs, found.warnings) == (len(image.documents) + len(image.blobs), ())
    assert found.images[0].short == "1"
    assert not found.images[0].is_filtered


def test_export_of_some_platforms_creates_a_new_index(tmp_path: Path) -> None:
    image = build_index(
        [build_image(AMD64), build_image(ARM64), build_image("linux/arm/v7")],
        annotations={"kept": "yes"},
    )
    store = LocalStore(tmp_path / "store", fsync=False)
    pull(store, APP, image, [AMD64, ARM64])

    found = exported(store, tmp_path / "out", "app:1")

    check_layout(tmp_path / "out")
    digest = names_in(tmp_path / "out")[APP]
    made = blob(tmp_path / "out", digest)
    original = json.loads(image.body)
    assert made == {**original, "manifests": original["manifests"][:2]}
    assert found.images[0].is_filtered
    assert [warning.code for warning in found.warnings] == ["digest-new"]
    assert digest in found.warnings[0].message


def test_export_of_one_platform_creates_an_index_for_it(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)

    found = exported(store, tmp_path / "out", "app:1", platforms=(ARM64,))

    child = image.child(ARM64)
    (entry,) = index_of(tmp_path / "out")
    digest = str(entry["digest"])
    (listed,) = blob(tmp_path / "out", digest)["manifests"]
    assert listed["digest"] == child.digest
    assert listed["platform"] == {"os": "linux", "architecture": "arm64"}
    assert check_layout(tmp_path / "out") == {digest, *child.documents, *child.blobs}
    assert [warning.code for warning in found.warnings] == ["digest-new"]
    assert [(each.kind, str(each.platform)) for each in found.images[0].left_out] == [
        ("image", AMD64)
    ]


def test_export_includes_attestations_in_the_store(tmp_path: Path) -> None:
    image = multi_platform(AMD64, ARM64, "linux/arm/v7", attestations=True)
    store = LocalStore(tmp_path / "store", fsync=False)
    pull(store, APP, image, [AMD64, ARM64])
    (statement,) = (
        each for each in image.children if each.attestation_of == image.child(AMD64).digest
    )
    fill(store, statement)

    exported(store, tmp_path / "out", "app:1")

    blobs = check_layout(tmp_path / "out")
    made = root_of(tmp_path / "out")
    assert [entry["digest"] for entry in made["manifests"]] == [
        image.child(AMD64).digest,
        image.child(ARM64).digest,
        statement.digest,
    ]
    assert statement.digest in blobs


def test_export_prunes_nested_indexes(tmp_path: Path) -> None:
    inner = multi_platform(AMD64, ARM64)
    outer = build_index([listed_as(inner, ""), build_image("linux/s390x")])
    store = LocalStore(tmp_path / "store", fsync=False)
    for part in (inner.child(AMD64), build_image("linux/s390x")):
        fill(store, part)
    fill(store, inner, [])
    fill(store, outer, [])
    record = pull(store, APP, outer, ["linux/s390x"])
    more = pull(store, "docker.io/library/x:1", inner, [AMD64])
    store.name(type(record)(APP, outer.descriptor, (*record.images, *more.images), 2))

    exported(store, tmp_path / "out", "app:1")

    check_layout(tmp_path / "out")
    made = root_of(tmp_path / "out")
    nested = made["manifests"][0]
    assert nested["digest"] != inner.digest
    body = blob(tmp_path / "out", nested["digest"])
    assert [entry["digest"] for entry in body["manifests"]] == [inner.child(AMD64).digest]


def test_export_names_the_command_that_fetches_a_missing_image(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", fsync=False)
    pull(store, APP, app(), [AMD64])

    with pytest.raises(NotHeld) as nothing:
        exported(store, tmp_path / "out", "other:1")
    with pytest.raises(NotHeld) as platform:
        exported(store, tmp_path / "out", "app:1", platforms=(ARM64,))
    with pytest.raises(PlatformNotOffered):
        exported(store, tmp_path / "out", "app:1", platforms=("linux/s390x",))

    assert "resolver pull docker.io/library/other:1" in nothing.value.hints()[0]
    assert f"resolver pull {APP} -p {ARM64}" in platform.value.hints()[0]
    assert not (tmp_path / "out").exists()


def test_export_does_not_substitute_a_worse_platform(tmp_path: Path) -> None:
    image = app("1", "linux/arm/v7", "linux/arm/v6")
    store = LocalStore(tmp_path / "store", fsync=False)
    pull(store, APP, image, ["linux/arm/v6"])

    with pytest.raises(NotHeld, match="linux/arm/v7"):
        exported(store, tmp_path / "out", "app:1", platforms=("linux/arm/v7",))


@pytest.mark.parametrize("which", ["config", "layer", "manifest"])
def test_export_refuses_an_image_with_missing_content(tmp_path: Path, which: str) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    manifest = image.child(ARM64)
    document = json.loads(manifest.body)
    digest = {
        "config": document["config"]["digest"],
        "layer": document["layers"][1]["digest"],
        "manifest": manifest.digest,
    }[which]
    place(store, digest).unlink()

    with pytest.raises(NotHeld) as caught:
        exported(store, tmp_path / "out", "app:1")

    assert digest in str(caught.value) or which == "manifest"
    assert not (tmp_path / "out").exists()


def test_export_omits_and_names_unpulled_foreign_layers(tmp_path: Path) -> None:
    whole = build_image(WINDOWS)
    document = json.loads(whole.body)
    foreign = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": "sha256:" + "0" * 64,
        "size": 1000,
        "urls": ["https://mcr.example/layer"],
    }
    document["layers"].insert(0, foreign)
    image = from_dict(document, parts=[whole])
    store = stocked(tmp_path, app=image)

    found = exported(store, tmp_path / "out", "app:1")
    archive = exported(store, tmp_path / "out.tar", "app:1")

    assert [warning.code for warning in found.warnings] == ["foreign-layer"]
    assert not (tmp_path / "out/blobs/sha256" / ("0" * 64)).exists()
    assert "docker-none" in [warning.code for warning in archive.warnings]


def test_export_of_a_digest_reference_uses_the_exported_digest_as_name(tmp_path: Path) -> None:
    image = app()
    store = LocalStore(tmp_path / "store", fsync=False)
    reference = f"ghcr.io/owner/app@{image.digest}"
    pull(store, reference, image)

    exported(store, tmp_path / "whole", reference)
    part = exported(store, tmp_path / "part", reference, platforms=(ARM64,))

    assert list(names_in(tmp_path / "whole")) == [reference]
    assert part.images[0].root.digest != image.descriptor.digest
    assert list(names_in(tmp_path / "part")) == [f"ghcr.io/owner/app@{part.images[0].root.digest}"]


def test_export_holds_a_lease_on_the_store(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    seen: set[Digest] = set()

    export(
        [Reference.parse("app:1")],
        store,
        Destination("layout", str(tmp_path / "out")),
        ExportOptions(layout=QUICK, check=lambda: seen.update(store.in_use())),
    )

    assert {Digest.parse(each) for each in (*image.documents, *image.blobs)} <= seen
    assert store.in_use() == frozenset()


# Verified


@pytest.mark.parametrize("way", ["share", "copy"])
def test_export_finds_a_damaged_layer_and_writes_no_name(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    victim = place(store, json.loads(image.child(AMD64).body)["layers"][0]["digest"])
    body = bytearray(victim.read_bytes())
    body[0] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(body)
    if way == "copy":
        _only_copies(monkeypatch)

    with pytest.raises(DigestMismatch):
        exported(store, tmp_path / "out", "app:1")

    assert not (tmp_path / "out/index.json").exists()
    assert not (tmp_path / "out/blobs/sha256" / victim.name).exists()
    assert [path.name for path in (tmp_path / "out").glob(".*")] == []


def _only_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_named: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    monkeypatch.setattr(os, "link", refuse)


def _linked(store: LocalStore, folder: Path) -> Exported:
    options = ExportOptions(layout=LayoutOptions(sync=False, link=True))
    reference = Reference.parse("app:1")
    return export([reference], store, Destination("layout", str(folder)), options)


def _files(folder: Path) -> set[tuple[int, int]]:
    """Return what identifies the files below a folder."""
    found = (path.stat() for path in folder.rglob("*") if path.is_file())
    return {(status.st_dev, status.st_ino) for status in found}


def test_export_hard_links_blobs_only_with_link(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())

    copied = exported(store, tmp_path / "copied", "app:1")
    linked = _linked(store, tmp_path / "linked")

    assert linked.linked == linked.size == copied.size
    assert linked.written == 0
    shared = _files(store.root) & _files(tmp_path / "linked")
    assert len(shared) == len({*app().documents, *app().blobs})
    assert not _files(store.root) & _files(tmp_path / "copied")


def test_export_layout_can_change_without_changing_the_store(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    exported(store, tmp_path / "out", "app:1")

    for path in (tmp_path / "out/blobs/sha256").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0
        path.chmod(0o644)
        path.write_bytes(b"changed")

    assert store.verify(full=True).is_sound


def test_export_replaces_earlier_hard_links_by_copies(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    _linked(store, tmp_path / "out")

    found = exported(store, tmp_path / "out", "app:1")

    assert found.present == 0
    assert not _files(store.root) & _files(tmp_path / "out")
    assert check_layout(tmp_path / "out") == {*image.documents, *image.blobs}


def test_export_copies_blobs_that_cannot_be_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    _only_copies(monkeypatch)

    found = exported(store, tmp_path / "out", "app:1")

    assert check_layout(tmp_path / "out") == {*image.documents, *image.blobs}
    assert (found.linked, found.written) == (0, found.size)
    assert {path.stat().st_nlink for path in (tmp_path / "out/blobs/sha256").iterdir()} == {1}


def test_export_verifies_and_reuses_earlier_blobs(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    exported(store, tmp_path / "out", "app:1")
    before = (tmp_path / "out/index.json").read_bytes()

    again = exported(store, tmp_path / "out", "app:1")

    assert again.present == again.size
    assert (tmp_path / "out/index.json").read_bytes() == before


@pytest.mark.parametrize("harm", ["flipped", "cut", "link", "fifo"])
def test_export_replaces_blobs_that_do_not_match_their_digest(tmp_path: Path, harm: str) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    exported(store, tmp_path / "out", "app:1")
    victim = tmp_path / "out/blobs/sha256" / next(iter(image.blobs))[7:]
    body = victim.read_bytes()
    victim.unlink()
    if harm == "flipped":
        victim.write_bytes(bytes([body[0] ^ 1]) + body[1:])
    elif harm == "cut":
        victim.write_bytes(body[:-1])
    elif harm == "link":
        victim.symlink_to(outside)
    else:
        os.mkfifo(victim)

    exported(store, tmp_path / "out", "app:1")

    check_layout(tmp_path / "out")
    assert outside.read_bytes() == b"precious"


# Foreign names


def test_export_keeps_other_names_and_does_not_take_their_tags(tmp_path: Path) -> None:
    first, second = app("1"), app("2")
    store = stocked(tmp_path, app=first, other=second)
    exported(store, tmp_path / "out", "app:1")

    found = exported(store, tmp_path / "out", "other:1")

    check_layout(tmp_path / "out")
    assert names_in(tmp_path / "out") == {
        APP: first.digest,
        "docker.io/library/other:1": second.digest,
    }
    stated = [each["annotations"] for each in index_of(tmp_path / "out")]
    assert [each["org.opencontainers.image.ref.name"] for each in stated] == [
        "1",
        "docker.io/library/other:1",
    ]
    assert [warning.code for warning in found.warnings] == ["tag-taken"]


def test_export_replaces_the_same_name_in_place(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app("1"), b=app("b"))
    exported(store, tmp_path / "out", "app:1", "b:1")
    newer = app("2")
    pull(store, APP, newer)

    exported(store, tmp_path / "out", "app:1")

    assert next(iter(names_in(tmp_path / "out").items())) == (APP, newer.digest)
    assert len(index_of(tmp_path / "out")) == 2


def test_export_keeps_foreign_entries_in_the_layout_index(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    exported(store, tmp_path / "out", "app:1")
    document = json.loads((tmp_path / "out/index.json").read_text())
    theirs = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": "sha256:" + "a" * 64,
        "size": 1,
        "annotations": {"org.opencontainers.image.ref.name": "theirs"},
        "x-more": [1, 2],
    }
    document["manifests"].insert(0, theirs)
    document["annotations"] = {"by": "them"}
    (tmp_path / "out/index.json").write_text(json.dumps(document))

    exported(store, tmp_path / "out", "app:1", platforms=(AMD64,))

    after = json.loads((tmp_path / "out/index.json").read_text())
    assert after["manifests"][0] == theirs
    assert after["annotations"] == {"by": "them"}


def test_export_into_a_layout_whose_index_lists_null(tmp_path: Path) -> None:
    # So zot writes a new repository.
    store, image = stocked(tmp_path, app=app()), app()
    out = tmp_path / "out"
    (out / "blobs").mkdir(parents=True)
    (out / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (out / "index.json").write_text('{"schemaVersion":2,"manifests":null}')

    exported(store, out, "app:1")

    assert names_in(out) == {APP: image.digest}


_RACER = """
import sys
from pathlib import Path
from tests.kit.exports import exported
from resolver.store import LocalStore
folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
store = LocalStore(folder / "store", fsync=False)
sys.stdin.read()
for number in range(first, last):
    exported(store, folder / "out", f"app{number}:1")
"""


def test_concurrent_exports_into_one_layout_all_succeed(tmp_path: Path) -> None:
    images = {f"app{number}": app(str(number)) for number in range(24)}
    stocked(tmp_path, **images)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, str(tmp_path), str(first), str(first + 6)],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for first in range(0, 24, 6)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()

    assert [racer.wait(60) for racer in racers] == [0] * 4
    assert names_in(tmp_path / "out") == {
        f"docker.io/library/{name}:1": image.digest for name, image in images.items()
    }
    check_layout(tmp_path / "out")


def test_export_waits_for_a_locked_folder_and_then_fails(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    out = tmp_path / "out"
    out.mkdir()
    holder = os.open(out, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    times = iter(range(100))
    patience = Patience(5, clock=lambda: float(next(times)), sleep=lambda _seconds: None)
    options = ExportOptions(layout=LayoutOptions(sync=False, patience=patience))
    try:
        with pytest.raises(ExportFault, match="has held the folder for 5 s"):
            export([Reference.parse("app:1")], store, parse_destination(str(out)), options)
    finally:
        os.close(holder)

    exported(store, out, "app:1")
    check_layout(out)


# Refused destinations


def test_export_rejects_a_folder_with_other_files(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    out = tmp_path / "home"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")

    with pytest.raises(ExportFault, match="neither empty"):
        exported(store, out, "app:1")

    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256", "index.json", "oci-layout"])
@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_export_rejects_a_layout_with_links_or_pipes(tmp_path: Path, name: str, kind: str) -> None:
    store = stocked(tmp_path, app=app())
    out, outside = tmp_path / "out", tmp_path / "outside"
    exported(store, out, "app:1")
    victim = out / name
    victim.rename(outside)
    before = sorted(path.name for path in outside.rglob("*"))
    if kind == "link":
        victim.symlink_to(outside)
    else:
        os.mkfifo(victim)
    pull(store, APP, app("2"))

    with pytest.raises((ExportFault, BadDocument)):
        exported(store, out, "app:1")

    assert sorted(path.name for path in outside.rglob("*")) == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"schemaVersion": 2, "manifests": 3}'])
def test_export_leaves_an_unreadable_index_unchanged(tmp_path: Path, body: bytes) -> None:
    store = stocked(tmp_path, app=app())
    exported(store, tmp_path / "out", "app:1")
    (tmp_path / "out/index.json").write_bytes(body)

    with pytest.raises(BadDocument):
        exported(store, tmp_path / "out", "app:1")

    assert (tmp_path / "out/index.json").read_bytes() == body


def test_export_rejects_a_layout_of_an_unknown_version(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app())
    out = tmp_path / "out"
    out.mkdir()
    (out / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')

    with pytest.raises(UnsupportedDocument):
        exported(store, out, "app:1")


def test_export_on_a_full_disk_keeps_the_old_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stocked(tmp_path, app=app(), b=app("b"))
    exported(store, tmp_path / "out", "app:1")
    before = (tmp_path / "out/index.json").read_bytes()
    _only_copies(monkeypatch)
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 5000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)

    with pytest.raises(ExportFault, match="no space left") as caught:
        exported(store, tmp_path / "out", "b:1")

    assert "free some space" in caught.value.hints()[0]
    assert (tmp_path / "out/index.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "out").glob(".*")] == []


def test_export_removes_old_leftovers_of_a_killed_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stocked(tmp_path, app=app())
    exported(store, tmp_path / "out", "app:1")
    dead, living = (tmp_path / "out" / f".resolver-{letter * 32}" for letter in "ab")
    for path in (dead, living):
        path.write_bytes(b"half")
    with living.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        exported(store, tmp_path / "out", "app:1")
        assert dead.exists()

        now = time.time()
        monkeypatch.setattr("resolver.verbs.output_files.time.time", lambda: now + 7200)
        exported(store, tmp_path / "out", "app:1")

        assert not dead.exists()
        assert living.exists()


_VICTIM = """
import sys
from pathlib import Path
from tests.kit.exports import exported
from resolver.store import LocalStore
folder = Path(sys.argv[1])
store = LocalStore(folder / "store", fsync=False)
print("ready", flush=True)
while True:
    exported(store, folder / "out", "app:1")
    exported(store, folder / "out", "app:1", platforms=("linux/arm64",))
"""


def test_killed_export_leaves_a_complete_layout(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image, b=app("b"))
    exported(store, tmp_path / "out", "b:1")
    for number in range(8):
        victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"ready\n"
        # The invariants hold at any moment.
        time.sleep(0.003 * number)
        victim.kill()
        victim.wait()
        victim.stdout.close()
        for path in (tmp_path / "out").glob(".resolver-*"):
            path.unlink()

        check_layout(tmp_path / "out")
        assert "docker.io/library/b:1" in names_in(tmp_path / "out")

    exported(store, tmp_path / "out", "app:1")
    assert names_in(tmp_path / "out")[APP] == image.digest


def test_export_works_from_a_read_only_store(tmp_path: Path) -> None:
    image = app()
    store = stocked(tmp_path, app=image)
    (store.root / "version").write_text("99\n")

    exported(store, tmp_path / "out", "app:1")

    assert check_layout(tmp_path / "out") == {*image.documents, *image.blobs}


def test_export_exact_selects_exact_platforms_only(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app("1", "linux/arm/v6"))
    selection = ExportSelection((Platform.parse("linux/arm/v7"),), exact=True)

    with pytest.raises(PlatformNotOffered):
        export(
            [Reference.parse("app:1")],
            store,
            Destination("layout", str(tmp_path / "out")),
            ExportOptions(selection=selection, layout=QUICK),
        )


def test_export_uses_file_clones_where_supported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = app()
    store = stocked(tmp_path, app=image)

    def clone(target: int, request: int, source: int) -> int:
        assert request == 0x40049409
        os.copy_file_range(source, target, os.fstat(source).st_size, 0, 0)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", clone)

    found = exported(store, tmp_path / "out", "app:1")

    assert check_layout(tmp_path / "out") == {*image.documents, *image.blobs}
    assert found.linked == found.size
    assert {path.stat().st_nlink for path in (tmp_path / "out/blobs/sha256").iterdir()} == {1}


def test_export_syncs_content_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stocked(tmp_path, app=app())
    _only_copies(monkeypatch)
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        steps.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def renamed(source: str, target: str, **folders: int) -> None:
        rename(source, target, **folders)
        steps.append(f"rename {target}")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)

    export([Reference.parse("app:1")], store, parse_destination(str(tmp_path / "out")))

    named = steps.index("rename index.json")
    blobs = [step for step in steps if len(step) == len("rename ") + 64]
    assert all(steps.index(step) < named for step in blobs)
    # Each file before its name, and after the last name the folders, innermost first.
    assert all(steps[steps.index(step) - 1].startswith("sync .resolver-") for step in blobs)
    assert steps[named - 4 : named - 1] == ["sync sha256", "sync blobs", "sync out"]
    assert steps[named + 1] == "sync out"


def test_export_does_not_replace_a_tag_named_by_a_full_reference(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app("1"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": "sha256:" + "a" * 64,
        "size": 1,
        "annotations": {"org.opencontainers.image.ref.name": "1"},
    }
    (out / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))

    found = exported(store, out, "app:1")

    assert index_of(out)[0] == entry
    assert found.images[0].short == APP
