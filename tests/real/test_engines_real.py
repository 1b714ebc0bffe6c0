"""Images in podman, and in the engine that podman's service is for Docker's client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from resolver.core.compare.compare import ImageComparison
from resolver.errors import NotFound
from resolver.session import Session
from tests.kit.exports import exported, stocked
from tests.kit.images import build_image, build_layer
from tests.real.registries import skopeo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.images import Image
    from tests.real.podmans import RealPodman
    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real

KINDS = ("docker-daemon", "containers-storage")
SHARED = build_layer({"usr/lib/shared": b"shared" * 20_000})


def app(version: str) -> Image:
    """Make an image for one platform with a large layer that all versions share."""
    return build_image("linux/amd64", [SHARED, build_layer({"etc/version": version.encode()})])


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
