"""Images of container engines: where an engine is, and how it saves an image."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.descriptor import DOCKER_MANIFEST
from resolver.core.oci.digest import Digest
from resolver.core.oci.target import LayoutTarget, parse_target
from resolver.errors import BadDocument, InvalidConfiguration, NotFound, Unavailable, Usage
from resolver.session import Session
from resolver.sources import open_local
from resolver.sources.local.docker_engine import docker_address
from tests.kit.archives import saved as save_members
from tests.kit.archives import tar, tar_of
from tests.kit.engines import Engine, engine_at, program, running_engine
from tests.kit.images import build_image, build_layer
from tests.kit.layouts import write_layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from resolver.core.oci.content import Source

IMAGE = build_image("linux/amd64", [build_layer({"etc/name": b"app"})])
USUAL = "unix:///var/run/docker.sock"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with running_engine(tmp_path) as server:
        yield server


@pytest.fixture
def saved(tmp_path: Path) -> bytes:
    (tmp_path / "layout").mkdir()
    return tar_of(write_layout(tmp_path / "layout", {"app:1": IMAGE}))


def opened(text: str, environment: Mapping[str, str]) -> Source:
    target = parse_target(text)
    assert isinstance(target, LayoutTarget)
    return open_local(target, environment)


# The address


def context(folder: Path, name: str, host: object) -> None:
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = folder / "contexts" / "meta" / key
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": host}}}))


def test_docker_address_is_that_of_the_docker_command(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    (tmp_path / ".docker").mkdir()
    config = tmp_path / ".docker" / "config.json"
    context(tmp_path / ".docker", "rootless", "unix:///run/user/1/docker.sock")
    context(tmp_path / ".docker", "far", "ssh://host")
    assert docker_address({}) == USUAL
    assert docker_address(home) == USUAL

    config.write_text('{"auths": {}}')
    assert docker_address(home) == USUAL
    config.write_text('{"currentContext": "rootless"}')
    assert docker_address(home) == "unix:///run/user/1/docker.sock"
    assert docker_address({**home, "DOCKER_CONTEXT": "far"}) == "ssh://host"
    assert docker_address({**home, "DOCKER_CONTEXT": "default"}) == USUAL
    both = {"DOCKER_CONTEXT": "far", "DOCKER_HOST": "tcp://h:1"}
    assert docker_address({**home, **both}) == "tcp://h:1"
    assert docker_address({"DOCKER_CONFIG": str(tmp_path / ".docker")}) != USUAL


@pytest.mark.parametrize("body", ["[", "[]", '{"currentContext": "nowhere"}'])
def test_docker_address_names_the_file_that_is_unusable(tmp_path: Path, body: str) -> None:
    (tmp_path / "config.json").write_text(body)

    with pytest.raises(InvalidConfiguration, match=str(tmp_path)):
        docker_address({"DOCKER_CONFIG": str(tmp_path)})


# An engine that saves


def test_engine_saves_an_image_by_the_name_as_written(
    engine: Engine, tmp_path: Path, saved: bytes
) -> None:
    engine.answers = {"/images/ghcr.io/o/app:1/get": saved}

    source = opened("docker-daemon:ghcr.io/o/app:1", engine_at(tmp_path))

    assert source.resolve("").digest == Digest.parse(IMAGE.digest)
    assert engine.requests == ["/images/ghcr.io/o/app:1/get"]


def test_engine_saves_an_image_in_the_older_form(engine: Engine, tmp_path: Path) -> None:
    engine.answers = {"/images/app/get": tar(save_members(IMAGE))}

    source = opened("docker-daemon:app", engine_at(tmp_path))

    assert list(source.tags()) == ["app:1"]
    assert source.resolve("").media_type == DOCKER_MANIFEST


@pytest.mark.usefixtures("engine")
def test_missing_image_and_engine_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no image `app:2`"):
        opened("docker-daemon:app:2", engine_at(tmp_path))
    with pytest.raises(Unavailable, match=r"no engine answers at `/nowhere\.sock`") as caught:
        opened("docker-daemon:app:2", {"DOCKER_HOST": "unix:///nowhere.sock"})
    assert "DOCKER_HOST" in caught.value.hints()[0]


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:2375", "ssh://host", "npipe:////./pipe/docker"])
def test_engine_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(Usage, match="is not on this machine") as caught:
        opened("docker-daemon:app:1", {"DOCKER_HOST": host})

    assert "docker save -o image.tar app:1" in caught.value.hints()[0]


def test_engine_error_is_quoted(engine: Engine, tmp_path: Path) -> None:
    engine.answers, engine.status = {"/images/app/get": b'{"message": "disk failure"}'}, 500

    with pytest.raises(Unavailable, match="disk failure"):
        opened("docker-daemon:app", engine_at(tmp_path))


@pytest.mark.parametrize("length", [0, 100, 700])
def test_saved_image_that_breaks_off_is_refused(
    engine: Engine, tmp_path: Path, saved: bytes, length: int
) -> None:
    engine.answers, engine.cut = {"/images/app/get": saved}, length

    with pytest.raises(Unavailable, match="did not finish"):
        opened("docker-daemon:app", engine_at(tmp_path))


def test_engine_that_saves_no_archive_is_refused(engine: Engine, tmp_path: Path) -> None:
    engine.answers = {"/images/app/get": b"x" * 4096}

    with pytest.raises(BadDocument, match="`docker-daemon:app`"):
        opened("docker-daemon:app", engine_at(tmp_path))


def test_session_saves_an_image_once(engine: Engine, tmp_path: Path, saved: bytes) -> None:
    engine.answers = {"/images/app:1/get": saved}

    with Session(tmp_path / "store", environment=engine_at(tmp_path)) as session:
        for _ in range(2):
            assert str(session.inspect("docker-daemon:app:1").root.digest) == IMAGE.digest
        session.lint("docker-daemon:app:1", deep=True)

    assert engine.requests == ["/images/app:1/get"]


def test_full_disk_is_reported_with_the_folder(
    engine: Engine, tmp_path: Path, saved: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.answers = {"/images/app/get": saved}
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))

    with pytest.raises(Unavailable, match="cannot be saved in") as caught:
        opened("docker-daemon:app", engine_at(tmp_path))

    assert "TMPDIR" in caught.value.hints()[0]


# Podman's storage


def test_podman_saves_an_image_without_secrets(tmp_path: Path, saved: bytes) -> None:
    (tmp_path / "saved.tar").write_bytes(saved)
    script = 'echo "$@" > "$OUT/args"; env > "$OUT/env"; cat "$OUT/saved.tar"'
    environment = program(tmp_path, "podman", script)

    secrets = {"RESOLVER_PASSWORD": "S3cr3t", "DOCKER_AUTH_CONFIG": "S3cr3t"}
    source = opened("containers-storage:localhost/app:1", {**environment, **secrets})

    assert source.resolve("").digest == Digest.parse(IMAGE.digest)
    assert (tmp_path / "args").read_text().split()[-1] == "localhost/app:1"
    assert "S3cr3t" not in (tmp_path / "env").read_text()


def test_podman_failures_are_told_apart(tmp_path: Path) -> None:
    absent = program(tmp_path, "podman", 'test "$1" != image || exit 1; exit 125')
    with pytest.raises(NotFound, match="has no image `app:1`"):
        opened("containers-storage:app:1", absent)

    broken = program(tmp_path, "podman", 'test "$1" = image || { echo "no lock" >&2; exit 125; }')
    with pytest.raises(Unavailable, match="no lock"):
        opened("containers-storage:app:1", broken)

    with pytest.raises(Unavailable, match="`podman` is not on PATH"):
        opened("containers-storage:app:1", {"PATH": os.fspath(tmp_path)})
