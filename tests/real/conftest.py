"""Real registries for the tests of this folder: one open, one behind TLS and a password."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from resolver.demo.images import LINUX, samples
from tests.kit.images import multi_platform
from tests.kit.layouts import image_of, write_layout
from tests.real.containerds import RealContainerd
from tests.real.containerds import start as start_containerd
from tests.real.podmans import RealPodman
from tests.real.podmans import start as start_podman
from tests.real.registries import Lock, RealRegistry, push, start, upload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Programs, and the Debian packages that bring them.
NEEDED = {"docker-registry": "docker-registry", "skopeo": "skopeo"}
#: Read before a test's clean environment takes it away.
ON_CI = os.environ.get("CI", "").lower() in {"1", "true"}


def require(programs: Mapping[str, str]) -> None:
    """Skip where a program is not installed, which on CI is a failure."""
    absent = [package for program, package in programs.items() if shutil.which(program) is None]
    missing = list(dict.fromkeys(absent))
    if not missing:
        return
    advice = f"not installed: {', '.join(missing)} (apt-get install {' '.join(missing)})"
    if ON_CI:
        pytest.fail(advice)
    pytest.skip(advice)


@pytest.fixture(scope="session")
def real_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the registries."""
    require(NEEDED)
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="session")
def with_skopeo() -> None:
    """Require skopeo."""
    require({"skopeo": "skopeo"})


@pytest.fixture(scope="session")
def with_umoci() -> None:
    """Require umoci."""
    require({"umoci": "umoci"})


@pytest.fixture(scope="session")
def with_podman() -> None:
    """Require podman; skip with the reason if it cannot store images."""
    require({"podman": "podman"})
    if os.geteuid() != 0:
        pytest.skip("podman's own storage needs root, or a range of user ids")


@pytest.fixture(scope="session")
def podman_service(with_podman: None) -> Iterator[RealPodman]:
    """Run podman's API service over storage of its own; skip with the reason if it cannot run."""
    del with_podman
    # Not below pytest's own folder: the path of its state has at most 50 characters.
    folder = Path(tempfile.mkdtemp(prefix="pod-"))
    try:
        running = start_podman(folder)
        if isinstance(running, str):
            pytest.skip(f"podman's service does not run here: {running}")
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def podman(podman_service: RealPodman) -> RealPodman:
    """Return a podman without images."""
    podman_service.clear()
    return podman_service


@pytest.fixture(scope="session")
def with_docker() -> None:
    """Require the `docker` command."""
    require({"docker": "docker.io"})


@pytest.fixture(scope="session")
def containerd() -> Iterator[RealContainerd]:
    """Run a separate containerd, which requires root; skip with the reason if it cannot run."""
    require({"containerd": "containerd", "ctr": "containerd"})
    if os.geteuid() != 0:
        pytest.skip("containerd runs as root only")
    # Not below pytest's own folder: a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ctr-"))
    try:
        running = start_containerd(folder)
        if isinstance(running, str):
            pytest.skip(f"containerd does not run here: {running}")
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the sample images of `demo/app` to disk as an OCI layout."""
    wanted = {s.tag: image_of(s) for s in samples() if s.repository == "demo/app"}
    return write_layout(tmp_path_factory.mktemp("layout"), wanted)


@pytest.fixture(scope="session")
def registry(real_home: Path, layout: Path) -> Iterator[RealRegistry]:
    """Run a plain HTTP registry without authentication that holds `demo/app`."""
    running = start(real_home / "open")
    try:
        for tag in ("1.0", "2.0", "latest"):
            push(running, layout, tag, f"demo/app:{tag}")
        upload(running, "demo/docker", "1.0", multi_platform(*LINUX, docker=True))
        yield running
    finally:
        running.process.kill()
        running.process.wait()


@pytest.fixture(scope="session")
def locked(real_home: Path, layout: Path) -> Iterator[RealRegistry]:
    """Run a registry over TLS that answers one user and holds `demo/app:1.0`."""
    lock = Lock(trustme.CA(), "u5er", "S3cr3tPa55:with:colons")
    running = start(real_home / "locked", lock)
    try:
        push(running, layout, "1.0", "demo/app:1.0")
        yield running
    finally:
        running.process.kill()
        running.process.wait()


@pytest.fixture
def ca_file(locked: RealRegistry, tmp_path: Path) -> Path:
    """Write the CA of the locked registry as PEM."""
    assert locked.lock is not None
    path = tmp_path / "ca.pem"
    locked.lock.authority.cert_pem.write_to_path(str(path))
    return path
