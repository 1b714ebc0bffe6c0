"""Exports read by skopeo, umoci and containerd."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.reference import Reference
from resolver.core.platforms.platform import Platform
from resolver.core.results.export import parse_destination
from resolver.errors import ToolFailed
from resolver.files.platforms import host_platform
from resolver.store import LocalStore
from resolver.verbs.export.bundle import ExportSelection
from resolver.verbs.export.export import ExportOptions, export
from tests.kit.exports import AMD64, ARM64, QUICK, WINDOWS, app, exported, stocked
from tests.kit.images import build_image, build_layer, multi_platform
from tests.kit.stored_images import pull
from tests.real.registries import skopeo

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.core.results.export import Exported
    from tests.real.containerds import RealContainerd

pytestmark = pytest.mark.real

APP = "docker.io/library/app:1"


def copied(source: str, folder: Path, *words: str) -> set[bytes]:
    """Copy an image with skopeo; return its files."""
    out = folder / "copied"
    skopeo("copy", "--quiet", *words, source, f"dir:{out}", home=folder)
    return {path.read_bytes() for path in out.iterdir() if path.name != "version"}


def whole(source: str, folder: Path) -> set[bytes]:
    """Read all platforms unchanged with skopeo."""
    return copied(source, folder, "--all", "--preserve-digests")


# skopeo


@pytest.mark.usefixtures("with_skopeo")
@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_skopeo_reads_every_byte_of_a_layout_and_of_an_archive(tmp_path: Path, form: str) -> None:
    image = multi_platform(AMD64, ARM64, WINDOWS)
    store = stocked(tmp_path, app=image, other=app("o"))
    place = tmp_path / ("a.tar" if form == "oci-archive" else "layout")

    exported(store, place, "app:1")

    assert whole(f"{form}:{place}:1", tmp_path) == image.contents()


@pytest.mark.usefixtures("with_skopeo")
@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_skopeo_reads_a_pruned_index(tmp_path: Path, form: str) -> None:
    image = app("1", AMD64, ARM64, "linux/arm/v7")
    store = LocalStore(tmp_path / "store", fsync=False)
    pull(store, APP, image, [AMD64, ARM64])
    place = tmp_path / ("a.tar" if form == "oci-archive" else "layout")

    found = exported(store, place, "app:1")

    read = whole(f"{form}:{place}", tmp_path)
    kept = image.child(AMD64).contents() | image.child(ARM64).contents()
    assert read > kept
    (made,) = read - kept
    assert len(json.loads(made)["manifests"]) == 2
    assert len(made) == found.images[0].root.size


@pytest.mark.usefixtures("with_skopeo")
@pytest.mark.parametrize("name", ["", f":{APP}", ":app:1"])
def test_skopeo_reads_the_docker_archive_form(tmp_path: Path, name: str) -> None:
    image = app("1", AMD64)
    store = stocked(tmp_path, app=image)

    exported(store, tmp_path / "a.tar", "app:1")

    read = copied(f"docker-archive:{tmp_path}/a.tar{name}", tmp_path)
    config = json.loads(image.children[0].body)["config"]["digest"]
    assert image.blobs[config] in read


@pytest.mark.usefixtures("with_skopeo")
@pytest.mark.parametrize("platform", [AMD64, ARM64])
def test_docker_archive_contains_the_requested_platform(tmp_path: Path, platform: str) -> None:
    image = multi_platform(WINDOWS, AMD64, ARM64, docker=True)
    store = stocked(tmp_path, app=image, other=app("other"))
    wish = (platform, *{AMD64, ARM64} - {platform}, WINDOWS)

    exported(store, tmp_path / "a.tar", "app:1", "other:1", platforms=wish[:2])

    source = f"docker-archive:{tmp_path}/a.tar:{APP}"
    config = json.loads(skopeo("inspect", "--config", source, home=tmp_path))
    assert f"{config['os']}/{config['architecture']}" == platform


@pytest.mark.usefixtures("with_skopeo")
def test_skopeo_and_export_add_to_the_same_layout(
    tmp_path: Path,
) -> None:
    ours, theirs = app("1"), app("2")
    store = stocked(tmp_path, app=ours, b=theirs)
    exported(store, tmp_path / "source", "b:1")
    layout = tmp_path / "layout"
    words = ["copy", "--quiet", "--all", "--preserve-digests", f"oci:{tmp_path}/source:1"]

    skopeo(*words, f"oci:{layout}:theirs", home=tmp_path)
    exported(store, layout, "app:1")
    skopeo(*words, f"oci:{layout}:more", home=tmp_path)

    read = {}
    for name in ("theirs", "1", "more"):
        (tmp_path / name).mkdir()
        read[name] = whole(f"oci:{layout}:{name}", tmp_path / name)
    assert read == {"theirs": theirs.contents(), "1": ours.contents(), "more": theirs.contents()}


# umoci


@pytest.mark.usefixtures("with_umoci")
def test_umoci_unpacks_an_export(tmp_path: Path) -> None:
    layers = [build_layer({"etc/name": b"first"}), build_layer({"usr/bin/tool": b"second"})]
    host = str(host_platform()).split("/", 2)
    store = stocked(tmp_path, app=build_image("/".join(host[:2]), layers))
    exported(store, tmp_path / "layout", "app:1")

    words = ["--image", f"{tmp_path}/layout:1", f"{tmp_path}/bundle"]
    subprocess.run(
        ["umoci", "unpack", "--rootless", *words],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        timeout=60,
    )

    assert (tmp_path / "bundle/rootfs/etc/name").read_bytes() == b"first"
    assert (tmp_path / "bundle/rootfs/usr/bin/tool").read_bytes() == b"second"


@pytest.mark.usefixtures("with_umoci")
def test_umoci_lists_the_tags_of_a_layout(tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app("1"), other=app("2"))
    pull(store, "docker.io/library/app:2", app("3"))
    exported(store, tmp_path / "layout", "app:1", "app:2")

    done = subprocess.run(
        ["umoci", "ls", "--layout", str(tmp_path / "layout")],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        timeout=60,
    )

    assert sorted(done.stdout.decode().split()) == ["1", "2"]


# containerd


def hand(
    store: LocalStore, containerd: RealContainerd, namespace: str, *platforms: str
) -> Exported:
    options = ExportOptions(
        selection=ExportSelection(tuple(Platform.parse(each) for each in platforms)),
        host=host_platform(),
        namespace=namespace,
        environment=containerd.environment,
        layout=QUICK,
    )
    return export([Reference.parse("app:1")], store, parse_destination("containerd"), options)


def test_containerd_imports_all_platforms(containerd: RealContainerd, tmp_path: Path) -> None:
    image = app("1", AMD64, ARM64, "linux/s390x")
    store = stocked(tmp_path, app=image)

    hand(store, containerd, "all")

    assert containerd.images("all") == {APP: image.digest}
    for digest, body in (*image.blobs.items(), *((d, b) for d, (_, b) in image.documents.items())):
        assert containerd.content("all", digest) == body


def test_containerd_unpacks_the_host_platform(containerd: RealContainerd, tmp_path: Path) -> None:
    host = "/".join(str(host_platform()).split("/")[:2])
    image = app("1", host, "linux/s390x")
    store = stocked(tmp_path, app=image)

    found = hand(store, containerd, "here", host)

    assert "--no-unpack" not in found.command
    assert containerd.images("here") == {APP: str(found.images[0].root.digest)}
    snapshots = containerd.ctr("here", "snapshots", "ls").splitlines()[1:]
    assert ["Committed" in line for line in snapshots] == [True, True]


def test_containerd_imports_an_image_for_another_platform(
    containerd: RealContainerd, tmp_path: Path
) -> None:
    image = app("1", AMD64, ARM64, "linux/s390x")
    store = stocked(tmp_path, app=image)

    found = hand(store, containerd, "there", "linux/s390x")

    child = image.child("linux/s390x")
    assert containerd.images("there") == {APP: str(found.images[0].root.digest)}
    assert containerd.content("there", child.digest) == child.body
    for digest, body in child.blobs.items():
        assert containerd.content("there", digest) == body


def test_containerd_imports_a_pruned_index_with_docker_types(
    containerd: RealContainerd, tmp_path: Path
) -> None:
    for docker in (False, True):
        image = app("1", AMD64, ARM64, "linux/arm/v7", docker=docker)
        store = LocalStore(tmp_path / f"store-{docker}", fsync=False)
        pull(store, APP, image, [AMD64, ARM64])
        namespace = f"pruned-{docker}"

        found = hand(store, containerd, namespace)

        assert containerd.images(namespace) == {APP: str(found.images[0].root.digest)}
        for each in (image.child(AMD64), image.child(ARM64)):
            assert containerd.content(namespace, each.digest) == each.body


def test_containerd_imports_an_export_without_resolver(
    containerd: RealContainerd, tmp_path: Path
) -> None:
    image = app()
    exported(stocked(tmp_path, app=image, other=app("2")), tmp_path / "a.tar", "app:1", "other:1")

    words = ["images", "import", "--all-platforms", "--no-unpack", str(tmp_path / "a.tar")]
    containerd.ctr("file", *words)

    assert set(containerd.images("file")) == {APP, "docker.io/library/other:1"}
    assert containerd.images("file")[APP] == image.digest


def test_missing_containerd_is_reported(containerd: RealContainerd, tmp_path: Path) -> None:
    store = stocked(tmp_path, app=app("1", AMD64))
    environment = {**containerd.environment, "CONTAINERD_ADDRESS": str(tmp_path / "none")}
    options = ExportOptions(environment=environment, layout=QUICK)

    with pytest.raises(ToolFailed) as caught:
        export([Reference.parse("app:1")], store, parse_destination("containerd"), options)

    assert caught.value.status == 1
    assert str(tmp_path / "none") in caught.value.detail
