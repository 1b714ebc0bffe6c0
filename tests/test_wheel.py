"""The wheel, built as a release builds it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from resolver.cli.help import TOPICS
from tests.kit.processes import ROOT, python

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with hatchling itself, so that no network is needed."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        check=False,
        capture_output=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    (built,) = folder.glob("multiarch_resolver-*.whl")
    return built


def test_wheel_contains_the_current_platform_facts(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read("resolver/platforms.yaml")

    assert packed == (ROOT / "platforms.yaml").read_bytes()


def test_wheel_contains_the_help_topics(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("resolver/topics/")}

    assert packed == {f"resolver/topics/{name}.txt" for name in TOPICS}


def test_wheel_contains_only_the_package_its_types_and_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    assert "resolver/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"resolver"}


def test_wheel_command_runs(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    version = wheel.name.split("-")[1]

    # `-P`: only what was unpacked may answer, not the folder the test happens to stand in.
    done = python(
        "-P",
        "-m",
        "resolver",
        "--version",
        environment={"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert version in done.stdout.decode()
