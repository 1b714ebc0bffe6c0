"""Images in podman, and in the engine that podman's service is for Docker's client."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from resolver.core.compare.compare import ImageComparison
from resolver.errors import NotFound
from resolver.session import Session
from resolver.store import LocalStore
from tests.kit.exports import exported, stocked
from tests.kit.images import build_image, build_layer, multi_platform
from tests.kit.stored_images import pull
from tests.real.registries import skopeo, upload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.kit.images import Image
    from tests.real.containerds import RealContainerd
    from tests.real.podmans import RealPodman
    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real

KINDS = ("docker-daemon", "containers-storage")
SHARED = build_layer({"usr/lib/shared": b"shared" * 20_000})


def app(version: str, shared: bytes = SHARED) -> Image:
    """Make an image for one platform with a large layer that all versions share."""
    return build_image("linux/amd64", [shared, build_layer({"etc/version": version.encode()})])


def config_of(image: Image) -> str:
    return str(json.loads(image.body)["config"]["digest"])


def loaded(podman: RealPodman, folder: Path, **images: Image) -> None:
    """Load images into podman, `name` as `docker.io/library/name:1`."""
    store = stocked(folder, **images)
    exported(store, folder / "images.tar", *(f"{name}:1" for name in images))
    podman.run("podman", "load", "--input", str(folder / "images.tar"))


@pytest.fixture
def session(podman: RealPodman, tmp_path: Path) -> Iterator[Session]:
    with Session(tmp_path / "own", environment=podman.environment) as session:
        yield session


# Sources


@pytest.mark.parametrize("kind", KINDS)
def test_inspect_and_lint_read_an_image_of_an_engine(
    podman: RealPodman, session: Session, tmp_path: Path, kind: str
) -> None:
    image = app("1")
    loaded(podman, tmp_path, app=image)
    identity = config_of(image)

    for name in ("app:1", "docker.io/library/app:1", identity.removeprefix("sha256:")):
        found = session.inspect(f"{kind}:{name}")
        assert found.manifest is not None
        assert found.manifest.config is not None
        assert str(found.manifest.config.digest) == identity
    deep = session.lint(f"{kind}:app:1", deep=True)

    assert not deep.failures
    with pytest.raises(NotFound, match="no image `app:2`"):
        session.inspect(f"{kind}:app:2")


def test_compare_reads_the_files_of_images_of_engines(
    podman: RealPodman, session: Session, tmp_path: Path
) -> None:
    loaded(podman, tmp_path, app=app("1"), new=app("22"))

    found = session.compare_images("docker-daemon:app:1", "containers-storage:new:1", files=True)

    assert isinstance(found, ImageComparison)
    assert "etc/version" in str(found)
    assert "usr/lib/shared" not in str(found)


@pytest.mark.usefixtures("with_skopeo")
@pytest.mark.parametrize("kind", KINDS)
def test_copy_of_an_image_of_an_engine_is_readable(
    podman: RealPodman, registry: RealRegistry, session: Session, tmp_path: Path, kind: str
) -> None:
    image = app("1")
    loaded(podman, tmp_path, app=image)
    name = f"{registry.host}/copied/{kind}:1"

    session.copy(session.plan_copy(f"{kind}:app:1", name))

    words = ["inspect", "--config", "--tls-verify=false", f"docker://{name}"]
    config = json.loads(skopeo(*words, home=tmp_path))
    assert config == json.loads(image.blobs[config_of(image)])


# Hand-over


def sizes(image: Image) -> dict[str, int]:
    """Return the size of the manifest, and of every blob."""
    return {image.digest: len(image.body)} | {d: len(body) for d, body in image.blobs.items()}


def own_layer(image: Image) -> str:
    """Return the digest of the layer that only this version has."""
    return str(json.loads(image.body)["layers"][1]["digest"])


@contextmanager
def stored(
    podman_environment: Mapping[str, str], folder: Path, **images: Image
) -> Iterator[Session]:
    stocked(folder, **images)
    with Session(folder / "store", environment=podman_environment) as session:
        yield session


@pytest.mark.usefixtures("with_docker")
@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_engine_fetches_only_the_layer_that_it_lacks(
    podman: RealPodman, tmp_path: Path, engine: str
) -> None:
    old, new = app("1"), app("2")
    with stored(podman.environment, tmp_path, old=old, new=new) as session:
        first = session.export("old:1", engine)
        second = session.export("new:1", engine)

    assert first.written == sum(sizes(old).values())
    config = json.loads(new.body)["config"]["digest"]
    crossed = {new.digest, config, own_layer(new)}
    assert second.written == sum(sizes(new)[digest] for digest in crossed)
    assert second.present == len(SHARED)
    for name, image in (("old:1", old), ("new:1", new)):
        found = podman.image(f"docker.io/library/{name}")
        assert found["Digest"] == image.digest
        assert found["RepoDigests"] == [f"docker.io/library/{name[:-2]}@{image.digest}"]
    assert podman.names() == {"docker.io/library/old:1", "docker.io/library/new:1"}


@pytest.mark.usefixtures("with_docker")
@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_engine_takes_the_requested_platform_of_an_index(
    podman: RealPodman, tmp_path: Path, engine: str
) -> None:
    image = multi_platform("linux/amd64", "linux/s390x", attestations=True)
    with stored(podman.environment, tmp_path, app=image) as session:
        found = session.export("app:1", engine, ["linux/s390x"])

    child = image.child("linux/s390x")
    assert found.written == sum(sizes(child).values())
    assert podman.image("docker.io/library/app:1")["Digest"] == child.digest
    assert podman.image("docker.io/library/app:1")["Architecture"] == "s390x"


@pytest.mark.usefixtures("with_docker")
@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_engine_gets_the_whole_archive_with_load(
    podman: RealPodman, tmp_path: Path, engine: str
) -> None:
    with stored(podman.environment, tmp_path, app=app("1")) as session:
        found = session.export("app:1", engine, load=True)

    assert found.command == (engine, "load")
    assert podman.names() == {"docker.io/library/app:1"}


@pytest.mark.parametrize("engine", ["podman"])
def test_engine_keeps_an_image_without_a_tag(
    podman: RealPodman, tmp_path: Path, engine: str
) -> None:
    image = app("1")
    store = LocalStore(tmp_path / "store", fsync=False)
    name = f"docker.io/library/app@{image.digest}"
    pull(store, name, image)

    with Session(tmp_path / "store", environment=podman.environment) as session:
        session.export(name, engine)

    assert podman.image(config_of(image))["Id"] == config_of(image).removeprefix("sha256:")


def test_containerd_fetches_only_the_layer_that_it_lacks(
    containerd: RealContainerd, tmp_path: Path
) -> None:
    old, new = app("1"), app("2")
    with stored(containerd.environment, tmp_path, old=old, new=new) as session:
        session.export("old:1", "containerd", namespace="lacks")
        found = session.export("new:1", "containerd", namespace="lacks")

    crossed = {new.digest, config_of(new), own_layer(new)}
    assert found.written == sum(sizes(new)[digest] for digest in crossed)
    images = {"docker.io/library/old:1": old.digest, "docker.io/library/new:1": new.digest}
    assert containerd.images("lacks") == images
    assert len(containerd.ctr("lacks", "snapshots", "ls").splitlines()[1:]) == 3
    assert "lacks" in containerd.ctr("lacks", "namespaces", "ls")


def test_containerd_keeps_an_index_and_its_attestations(
    containerd: RealContainerd, registry: RealRegistry, tmp_path: Path
) -> None:
    image = multi_platform("linux/amd64", "linux/s390x", attestations=True)
    upload(registry, "engines/app", "1", image)
    name = f"{registry.host}/engines/app:1"
    with Session(tmp_path / "store", environment=containerd.environment) as session:
        session.pull(name, "all")
        session.export(name, "containerd", namespace="index")

    assert containerd.images("index") == {name: image.digest}
    documents = {digest: body for digest, (_, body) in image.documents.items()}
    for digest, body in (documents | dict(image.blobs)).items():
        assert containerd.content("index", digest) == body


# Pull and plan


@pytest.mark.usefixtures("with_docker")
@pytest.mark.parametrize("engine", ["podman", "docker", "containerd"])
def test_plan_shows_what_an_engine_then_fetches(
    podman: RealPodman,
    containerd: RealContainerd,
    registry: RealRegistry,
    tmp_path: Path,
    engine: str,
) -> None:
    # Namespaces of containerd share content, and so do tests: no other has this layer.
    shared = build_layer({"usr/lib/planned": b"planned" * 20_000})
    old, new = app("planned 1", shared), app("planned 2", shared)
    upload(registry, "engines/plan", "1", old)
    upload(registry, "engines/plan", "2", new)
    name = f"{registry.host}/engines/plan"
    environment = {**podman.environment, **containerd.environment, "HOME": str(podman.folder)}
    with Session(tmp_path / "store", environment=environment) as session:
        empty = session.plan(f"{name}:1", to=engine, namespace="plan")
        first = session.pull(f"{name}:1", to=engine, namespace="plan")
        plan = session.plan(f"{name}:2", to=engine, namespace="plan")
        second = session.pull(plan, to=engine, namespace="plan")

    assert empty.engine is not None
    assert {str(digest) for digest in empty.engine.lacking} == set(sizes(old))
    assert [each.written for each in first.exported] == [sum(sizes(old).values())]
    assert plan.engine is not None
    lacking = {str(digest) for digest in plan.engine.lacking}
    assert lacking == {new.digest, config_of(new), own_layer(new)}
    (taken,) = second.exported
    assert taken.written == sum(sizes(new)[digest] for digest in lacking)
    if engine == "containerd":
        assert containerd.images("plan")[f"{name}:2"] == new.digest
    else:
        assert podman.image(f"{name}:2")["Digest"] == new.digest
