"""The wheel, built as a release builds it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from typing import TYPE_CHECKING

import pytest

from resolver.cli.help import TOPICS
from tests.kit.processes import ROOT, python

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and the sdist with hatchling itself, so that no network is needed."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--directory", folder],
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
    assert {top for top in tops if not top.endswith((".dist-info", ".data"))} == {"resolver"}
    shared = [name.partition(".data/")[2] for name in names if ".data/" in name]
    assert shared == ["data/share/man/man1/resolver.1"]


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


def test_wheel_and_sdist_pass_twine_check(wheel: Path) -> None:
    files = sorted(wheel.parent.iterdir())
    assert [path.suffix for path in files] == [".whl", ".gz"]

    done = python("-m", "twine", "check", "--strict", *map(str, files))

    assert done.returncode == 0, done.stdout.decode()


def test_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    (source,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()

    done = python("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), cwd=folder)

    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_wheel_metadata_has_links_that_work_outside_the_repository(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))

    links = re.findall(r"\]\(([^)\s]+)\)", str(metadata.get_payload()))
    assert len(links) > 10
    assert [link for link in links if not link.startswith("https://")] == []
    urls = dict(str(line).split(", ") for line in metadata.get_all("Project-URL", []))
    assert set(urls) == {"Repository", "Documentation", "Changelog", "Issues"}
    assert f"{urls['Repository']}/blob/main/docs/commands.md" in links
    classifiers = metadata.get_all("Classifier", [])
    assert {"Programming Language :: Python :: 3.14", "Typing :: Typed"} <= set(classifiers)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("help", "platforms"), b"A platform is"),
        (("doctor", "--format", "html"), b"<style>"),
    ],
    ids=["topic", "html"],
)
def test_package_works_from_a_zip_file(
    wheel: Path, tmp_path: Path, words: tuple[str, ...], expected: bytes
) -> None:
    done = python(
        "-P", "-m", "resolver", *words, environment={"PYTHONPATH": str(wheel)}, cwd=tmp_path
    )

    assert expected in done.stdout, done.stderr


def test_pyz_is_one_file_that_runs_from_any_folder(tmp_path: Path) -> None:
    # Offline, so without the dependencies; those of the tests stand in for them.
    offline = {
        "PIP_ARGS": "--no-deps --no-index --no-build-isolation",
        "PYTHONPATH": "",
        "COVERAGE_PROCESS_START": "",
    }
    built = subprocess.run(
        [ROOT / "scripts" / "pyz", tmp_path / "resolver.pyz"],
        check=False,
        capture_output=True,
        env={**os.environ, **offline},
        timeout=120,
        umask=0o022,
    )
    assert built.returncode == 0, built.stderr.decode()
    assert (tmp_path / "resolver.pyz").stat().st_mode & 0o777 == 0o755
    with zipfile.ZipFile(tmp_path / "resolver.pyz") as archive:
        names = archive.namelist()
    assert "resolver/cli/app.py" in names
    assert not [name for name in names if name.endswith((".so", ".pyd", ".pyc"))]

    done = subprocess.run(
        [sys.executable, tmp_path / "resolver.pyz", "help", "store"],
        check=False,
        capture_output=True,
        cwd=tmp_path,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == (ROOT / "resolver" / "topics" / "store.txt").read_bytes()
