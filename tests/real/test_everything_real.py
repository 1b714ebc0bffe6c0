"""An image with attestations, pulled completely, exported and served to other tools."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.reference import Reference
from resolver.core.results.export import parse_destination
from resolver.files.platforms import host_platform
from resolver.session import Session
from resolver.verbs.export.export import ExportOptions, export
from tests.kit.exports import AMD64, ARM64, QUICK
from tests.kit.images import multi_platform
from tests.real.registries import skopeo, upload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.images import Image
    from tests.real.containerds import RealContainerd
    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def image() -> Image:
    """Make what buildx pushes: two platforms, each with an attestation."""
    return multi_platform(AMD64, ARM64, attestations=True)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session(tmp_path / "store", environment={}) as opened:
        yield opened


@pytest.fixture
def name(registry: RealRegistry, session: Session, image: Image) -> str:
    """Pull all of it from a registry."""
    upload(registry, "whole/app", "1", image)
    text = f"{registry.host}/whole/app:1"
    session.pull(text, "all")
    return text


def digest_at(registry: RealRegistry, repository: str, folder: Path) -> str:
    """Return the digest of a tag from skopeo."""
    place = f"docker://{registry.host}/{repository}:1"
    words = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", place]
    return skopeo(*words, home=folder).decode().strip()


@pytest.mark.usefixtures("with_skopeo")
def test_skopeo_copies_everything_from_serve_with_equal_digests(
    registry: RealRegistry, session: Session, name: str, image: Image, tmp_path: Path
) -> None:
    repository = name.partition("/")[2].rpartition(":")[0]
    with session.serve() as server:
        source = f"docker://{server.address}/{repository}:1"
        words = ["copy", "--quiet", "--all", "--preserve-digests"]
        words += ["--src-tls-verify=false", "--dest-tls-verify=false"]
        skopeo(*words, source, f"docker://{registry.host}/copied/app:1", home=tmp_path)

    assert digest_at(registry, "copied/app", tmp_path) == image.digest
    assert digest_at(registry, "whole/app", tmp_path) == image.digest


@pytest.mark.usefixtures("with_skopeo")
def test_skopeo_copies_a_partial_index_from_serve(
    registry: RealRegistry, session: Session, image: Image, tmp_path: Path
) -> None:
    upload(registry, "part/app", "1", image)
    session.pull(f"{registry.host}/part/app:1", ARM64)
    with session.serve() as server:
        source = f"docker://{server.address}/part/app:1"
        words = ["copy", "--quiet", "--all", "--preserve-digests", "--src-tls-verify=false"]
        skopeo(*words, source, f"dir:{tmp_path}/out", home=tmp_path)

    listed = json.loads((tmp_path / "out/manifest.json").read_bytes())["manifests"]
    about = [one for one in image.children if one.attestation_of == image.child(ARM64).digest]
    assert [each["digest"] for each in listed] == [image.child(ARM64).digest, about[0].digest]


@pytest.mark.usefixtures("with_skopeo")
@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_skopeo_copies_everything_from_an_export_with_equal_digests(
    registry: RealRegistry, session: Session, name: str, image: Image, tmp_path: Path, form: str
) -> None:
    place = tmp_path / ("a.tar" if form == "oci-archive" else "layout")
    session.export(name, str(place), ["all"])
    source = f"{form}:{place}:1"
    words = ["copy", "--quiet", "--all", "--preserve-digests"]

    skopeo(*words, source, f"dir:{tmp_path}/out", home=tmp_path)
    there = f"docker://{registry.host}/exported-{form}/app:1"
    skopeo(*words, "--dest-tls-verify=false", source, there, home=tmp_path)

    read = {path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name != "version"}
    assert read == image.contents()
    assert digest_at(registry, f"exported-{form}/app", tmp_path) == image.digest


@pytest.mark.usefixtures("with_umoci")
def test_umoci_unpacks_a_platform_exported_without_attestations(
    session: Session, name: str, tmp_path: Path
) -> None:
    session.export(name, str(tmp_path / "layout"), [AMD64], attestations=False)

    words = ["--rootless", "--image", f"{tmp_path}/layout:1", f"{tmp_path}/bundle"]
    subprocess.run(
        ["umoci", "unpack", *words],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        timeout=60,
    )

    assert (tmp_path / "bundle/rootfs/etc/platform").read_text() == AMD64


def test_containerd_unpacks_the_host_platform_of_a_full_export(
    containerd: RealContainerd, session: Session, name: str, image: Image
) -> None:
    options = ExportOptions(
        host=host_platform(),
        namespace="here-whole",
        environment=containerd.environment,
        layout=QUICK,
    )

    export(
        [Reference.parse(name)], session._context.store, parse_destination("containerd"), options
    )

    assert containerd.images("here-whole") == {name: image.digest}


def test_containerd_imports_a_full_export(
    containerd: RealContainerd, session: Session, name: str, image: Image, tmp_path: Path
) -> None:
    session.export(name, str(tmp_path / "a.tar"))

    words = ["images", "import", "--all-platforms", "--no-unpack", str(tmp_path / "a.tar")]
    containerd.ctr("whole", *words)

    assert containerd.images("whole") == {name: image.digest}
    documents = {digest: body for digest, (_, body) in image.documents.items()}
    for digest, body in (documents | dict(image.blobs)).items():
        assert containerd.content("whole", digest) == body


@pytest.mark.usefixtures("with_podman")
@pytest.mark.parametrize("platforms", [(), ("local",)])
def test_podman_loads_a_full_export(
    registry: RealRegistry, session: Session, tmp_path: Path, platforms: tuple[str, ...]
) -> None:
    host = "/".join(str(host_platform()).split("/")[:2])
    image = multi_platform(host, "linux/s390x", attestations=True)
    upload(registry, "load/app", "1", image)
    name = f"{registry.host}/load/app:1"
    session.pull(name, "all")
    session.export(name, str(tmp_path / "a.tar"), platforms)

    with tempfile.TemporaryDirectory(prefix="pod-") as folder:
        # Not below pytest's own folder: the path of its state has at most 50 characters.
        podman("load", "--quiet", "--input", str(tmp_path / "a.tar"), home=Path(folder))
        words = ["image", "inspect", "--format", "{{.Id}}", name]
        found = podman(*words, home=Path(folder))
    config = json.loads(image.child(host).body)["config"]["digest"]
    assert f"sha256:{found.decode().strip()}" == config


def podman(*arguments: str, home: Path) -> bytes:
    """Run podman with its own storage; return its stdout."""
    places = [f"--root={home}/podman", f"--runroot={home}/run", "--storage-driver=vfs"]
    done = subprocess.run(
        ["podman", *places, "--events-backend=none", *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
