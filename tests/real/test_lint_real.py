"""Lint against CNCF distribution's registry, with images pushed by skopeo and range requests."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from resolver.core.layers.executable import read_executable
from resolver.demo.images import samples
from tests.kit.executables import elf
from tests.kit.images import Image, build_image, build_index, build_layer
from tests.kit.layouts import image_of, write_layout
from tests.kit.processes import command
from tests.real.registries import push

if TYPE_CHECKING:
    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real

SIZE = 4_000_000


def lint(registry: RealRegistry, store: Path, name: str, *words: str) -> tuple[int, list[str], int]:
    """Run lint on an image; return status, rules and layer bytes read."""
    variables = {"RESOLVER_STORE": str(store)}
    done = command("lint", *words, "--json", f"{registry.host}/{name}", environment=variables)
    assert not done.stderr, done.stderr.decode()
    answer = json.loads(done.stdout)
    found = [each["rule"] for each in answer["findings"]]
    return done.returncode, found, answer["images"][0]["layerBytesRead"]


def pushed(registry: RealRegistry, folder: Path, image: Image, name: str) -> None:
    """Push with skopeo, all platforms."""
    push(registry, write_layout(folder, {"1": image}), "1", name)


def test_lint_finds_nothing_in_a_correct_image_without_fetching_layers(
    registry: RealRegistry, tmp_path: Path
) -> None:
    before = registry.seen()

    seen = lint(registry, tmp_path, "demo/app:1.0", "--fail-on", "note")

    # The index; manifest and config of five images; the manifests of three attestations.
    asked = registry.requests(14, since=before)
    assert seen == (0, [], 0)
    assert len([line for line in asked if "/blobs/" in line]) == 5
    assert len([line for line in asked if "/manifests/" in line]) == 9


def test_lint_finds_a_false_platform(registry: RealRegistry, tmp_path: Path) -> None:
    (liar,) = (image_of(each) for each in samples() if each.repository == "demo/liar")
    pushed(registry, tmp_path / "layout", liar, "lint/liar:1")

    shallow = lint(registry, tmp_path / "store", "lint/liar:1")
    deep = lint(registry, tmp_path / "store", "lint/liar:1", "--deep")

    assert shallow == (1, ["contradictory-config", "identical-layers"], 0)
    assert deep[:2] == (1, ["contradictory-config", "identical-layers", "wrong-machine"])


def test_lint_deep_finds_a_false_layer_reading_a_small_part(
    registry: RealRegistry, tmp_path: Path
) -> None:
    config = {"config": {"Entrypoint": ["/app"]}}
    images = [
        build_image(
            platform,
            [build_layer({"app": elf("amd64"), "data": Random(platform).randbytes(SIZE)})],
            config=config,
        )
        for platform in ("linux/amd64", "linux/arm64")
    ]
    pushed(registry, tmp_path / "layout", build_index(images), "lint/large:1")

    shallow = lint(registry, tmp_path / "1", "lint/large:1", "--fail-on", "note")
    status, found, count = lint(registry, tmp_path / "2", "lint/large:1", "--deep")

    assert shallow == (0, [], 0)
    assert (status, found) == (1, ["wrong-machine"])
    assert count == 2 * 65_536 < 2 * SIZE * 0.05


@pytest.mark.usefixtures("with_umoci")
def test_lint_deep_accepts_an_umoci_image_of_this_machines_programs(
    registry: RealRegistry, tmp_path: Path
) -> None:
    machine = read_executable(Path("/bin/sh").read_bytes()[:4096])
    assert machine is not None
    alien = "s390x" if machine.machine != "s390x" else "amd64"
    layout = tmp_path / "layout"
    umoci("init", "--layout", str(layout))
    umoci("new", "--image", f"{layout}:1")
    bundle = tmp_path / "bundle"
    umoci("unpack", "--rootless", "--image", f"{layout}:1", str(bundle))
    root = bundle / "rootfs"
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    shutil.copy(Path("/bin/sh").resolve(), root / "usr/bin/dash")
    (root / "usr/bin/sh").symlink_to("dash")
    (root / "start").write_text("#!/usr/bin/env sh\nexit 0\n")
    umoci("repack", "--image", f"{layout}:1", str(bundle))
    start = ("--config.entrypoint", "/start", "--os", "linux")
    for tag, architecture in (("own", machine.machine), ("alien", alien)):
        words = ("--image", f"{layout}:1", "--tag", tag, "--architecture", architecture)
        umoci("config", *words, *start)
        push(registry, layout, tag, f"lint/umoci:{tag}")

    own = lint(registry, tmp_path / "store", "lint/umoci:own", "--deep", "--fail-on", "note")
    other = lint(registry, tmp_path / "store", "lint/umoci:alien", "--deep")

    # The image has no loader for its shell.
    assert own[:2] == (1, ["missing-interpreter"])
    assert other[:2] == (1, ["wrong-machine"])


def umoci(*words: str) -> None:
    """Run umoci."""
    done = subprocess.run(["umoci", *words], check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
