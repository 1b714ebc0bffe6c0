"""`serve --mirror` between a real registry and real tools, and their configuration files."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from resolver.demo.images import samples
from resolver.session import Session
from resolver.verbs.serve.tool_config import mirror_config
from tests.kit.layouts import image_of
from tests.real.registries import skopeo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.verbs.serve.server import Server
    from tests.real.containerds import RealContainerd
    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real

IMAGE = next(
    image_of(each) for each in samples() if (each.repository, each.tag) == ("demo/app", "1.0")
)


@pytest.fixture
def mirror(registry: RealRegistry, tmp_path: Path) -> Iterator[Server]:
    """Run a mirror of the real registry."""
    with (
        Session(tmp_path / "store", environment={"HOME": str(tmp_path)}) as session,
        session.serve_mirror(upstream=registry.host, fresh=3600) as server,
    ):
        yield server


def hosts_dir(registry: RealRegistry, server: Server, folder: Path) -> Path:
    """Configure containerd to use the mirror."""
    for file in mirror_config("containerd", [registry.host], None, f"http://{server.address}"):
        place = folder / file.path.removeprefix("/etc/containerd/")
        place.parent.mkdir(parents=True)
        place.write_text(file.content)
    return folder / "certs.d"


def registries_conf(registry: RealRegistry, server: Server, home: Path) -> None:
    """Configure skopeo to use the mirror."""
    [file] = mirror_config("podman", [registry.host], None, f"http://{server.address}")
    place = home / ".config/containers/registries.conf"
    place.parent.mkdir(parents=True)
    place.write_text(file.content)


def with_skopeo(registry: RealRegistry, home: Path) -> set[bytes]:
    out = home / "out"
    words = ["copy", "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false"]
    skopeo(*words, f"docker://{registry.host}/demo/app:1.0", f"dir:{out}", home=home)
    return {path.read_bytes() for path in out.iterdir() if path.name != "version"}


def test_mirror_fetches_each_blob_once_for_two_tools(
    registry: RealRegistry, mirror: Server, containerd: RealContainerd, tmp_path: Path
) -> None:
    registries_conf(registry, mirror, tmp_path)
    hosts = hosts_dir(registry, mirror, tmp_path / "containerd")
    name = f"{registry.host}/demo/app:1.0"
    before = registry.seen()

    copied = with_skopeo(registry, tmp_path)
    containerd.ctr(
        "mirrored", "content", "fetch", "--hosts-dir", str(hosts), "--all-platforms", name
    )

    wanted = {body for _, body in IMAGE.documents.values()} | set(IMAGE.blobs.values())
    assert copied == wanted
    for digest, body in IMAGE.blobs.items():
        assert containerd.content("mirrored", digest) == body
    assert containerd.images("mirrored")[name] == IMAGE.digest
    seen = Counter(registry.requests(len(IMAGE.blobs) + len(IMAGE.documents), before))
    blobs = {line: count for line, count in seen.items() if "/blobs/" in line}
    assert blobs == {f"GET /v2/demo/app/blobs/{digest}": 1 for digest in IMAGE.blobs}
    # The tag once, and every manifest below it once.
    children = [digest for digest in IMAGE.documents if digest != IMAGE.digest]
    manifests = {line: count for line, count in seen.items() if "/manifests/" in line}
    assert manifests == {f"GET /v2/demo/app/manifests/{one}": 1 for one in ("1.0", *children)}


@pytest.mark.usefixtures("with_skopeo")
def test_mirrored_image_is_a_normal_image(
    registry: RealRegistry, mirror: Server, tmp_path: Path
) -> None:
    registries_conf(registry, mirror, tmp_path)
    with_skopeo(registry, tmp_path)
    with Session(tmp_path / "store", environment={"HOME": str(tmp_path)}, offline=True) as session:
        [image] = [each for each in session.images() if each.reference]
        assert image.reference == f"{registry.host}/demo/app:1.0"
        assert set(image.platforms) == set(image.offered)
        assert session.verify(full=True).is_sound


def test_pull_through_a_real_mirror(registry: RealRegistry, mirror: Server, tmp_path: Path) -> None:
    environment = {
        "HOME": str(tmp_path),
        "RESOLVER_MIRROR": f"{registry.host}=http://{mirror.address}#tags",
    }
    before = registry.seen()
    with Session(tmp_path / "other", environment=environment) as session:
        done = session.pull(f"{registry.host}/demo/app:1.0", "linux/amd64")
        assert done.images[0].status == "downloaded"
    lines = registry.requests(1, before)
    # Everything went through the mirror; `ns` names the upstream.
    assert len(lines) == len(set(lines))
    assert not [line for line in lines if "ns=" in line]


def test_mirror_config_files_are_read_by_docker_and_buildkit(mirror: Server) -> None:
    import tomllib

    [docker] = mirror_config("docker", [], None, f"http://{mirror.address}")
    assert json.loads(docker.content) == {"registry-mirrors": [f"http://{mirror.address}"]}
    [buildkit] = mirror_config("buildkit", [], None, f"http://{mirror.address}")
    assert tomllib.loads(buildkit.content)["registry"] == {
        "docker.io": {"mirrors": [mirror.address]},
        mirror.address: {"http": True},
    }
