"""Pulling from `serve` with skopeo and containerd."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.target import LayoutTarget
from resolver.session import Session
from resolver.verbs.serve.serve import serve_layout, serve_store
from tests.kit.exports import AMD64, ARM64, WINDOWS, exported, stocked
from tests.kit.images import build_image, build_index, build_layer, multi_platform
from tests.kit.registry import FakeRegistry
from tests.real.registries import skopeo

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.verbs.serve.server import Server
    from tests.kit.images import Image
    from tests.real.containerds import RealContainerd

pytestmark = pytest.mark.real

FULL = "docker.io/library/app"


def sample(*, docker: bool = False) -> Image:
    """Make an image with a layer large enough to be sent in many pieces."""
    large = build_layer({"large": bytes(range(256)) * 20_000})
    images = [build_image(AMD64, [large], docker=docker)]
    return build_index(
        [*images, *multi_platform(ARM64, WINDOWS, docker=docker).children], docker=docker
    )


def copied(server: Server, name: str, folder: Path) -> set[bytes]:
    """Copy an image with skopeo; return its files."""
    out = folder / "out"
    words = ["copy", "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false"]
    skopeo(*words, f"docker://{server.address}/{name}", f"dir:{out}", home=folder)
    return {path.read_bytes() for path in out.iterdir() if path.name != "version"}


@pytest.mark.usefixtures("with_skopeo")
@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("name", [f"{FULL}:1", "library/app:1"])
def test_skopeo_copies_every_byte_out_of_the_store(tmp_path: Path, docker: bool, name: str) -> None:
    image = sample(docker=docker)
    with serve_store(stocked(tmp_path, app=image)) as server:
        assert copied(server, name, tmp_path) == image.contents()


@pytest.mark.usefixtures("with_skopeo")
def test_skopeo_copies_every_byte_out_of_a_layout(tmp_path: Path) -> None:
    image = sample()
    exported(stocked(tmp_path, app=image), tmp_path / "layout", "app:1")
    with serve_layout(LayoutTarget("oci", str(tmp_path / "layout"), None)) as server:
        assert copied(server, "layout:1", tmp_path) == image.contents()


@pytest.mark.usefixtures("with_skopeo")
def test_fifty_skopeo_processes_copy_from_one_store(tmp_path: Path) -> None:
    image = sample()
    with serve_store(stocked(tmp_path, app=image)) as server:
        assert_all_copy(server, f"{FULL}:1", tmp_path, image)


@pytest.mark.usefixtures("with_skopeo")
def test_fifty_skopeo_processes_copy_through_one_cold_mirror(tmp_path: Path) -> None:
    image = sample()
    with FakeRegistry() as upstream:
        upstream.serve("team/app", "1", image)
        with (
            Session(tmp_path / "mirror", environment={"HOME": str(tmp_path)}) as session,
            session.serve_mirror(upstream=upstream.host) as server,
        ):
            assert_all_copy(server, "team/app:1", tmp_path, image)
        # Each document once, and nothing of a blob twice.
        asked = [(seen.path, seen.headers.get("range")) for seen in upstream.requests("GET")]
        assert len(asked) == len(set(asked))


def assert_all_copy(server: Server, name: str, folder: Path, image: Image) -> None:
    """Let 50 clients copy an image at the same time; each must get every byte."""
    homes = [folder / f"client-{number}" for number in range(50)]
    for home in homes:
        home.mkdir()
    with ThreadPoolExecutor(len(homes)) as pool:
        for got in pool.map(lambda home: copied(server, name, home), homes):
            assert got == image.contents()


@pytest.mark.usefixtures("with_skopeo")
def test_skopeo_lists_the_tags_and_reads_by_digest(tmp_path: Path) -> None:
    image = sample()
    with serve_store(stocked(tmp_path, app=image)) as server:
        place = f"docker://{server.address}/{FULL}"
        words = ["--tls-verify=false", place]
        tags = json.loads(skopeo("list-tags", *words, home=tmp_path))["Tags"]
        pinned = f"{place}@{image.child(ARM64).digest}"
        body = skopeo("inspect", "--raw", "--tls-verify=false", pinned, home=tmp_path)

    assert tags == ["1"]
    assert body == image.child(ARM64).body


def test_containerd_pulls_from_the_store(containerd: RealContainerd, tmp_path: Path) -> None:
    image = sample()
    with serve_store(stocked(tmp_path, app=image)) as server:
        name = f"{server.address}/{FULL}:1"
        words = ["content", "fetch", "--plain-http", "--all-platforms", name]
        containerd.ctr("served", *words)

    assert containerd.images("served") == {name: image.digest}
    for digest, body in image.blobs.items():
        assert containerd.content("served", digest) == body
