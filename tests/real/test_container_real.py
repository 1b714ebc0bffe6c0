"""The image of `Containerfile`, built and run by buildah on a base made from this Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from resolver import __version__
from resolver.demo import samples
from resolver.verbs.serve.api import MemoryShelf
from resolver.verbs.serve.server import serve
from tests.kit.processes import ROOT
from tests.real.conftest import require
from tests.real.test_files_real import Buildah

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "multiarch-resolver"
EXTRAS = "fast,keys"
ARM = "sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a"
#: Runs in the image: its user, the modules of `resolver`, and those that are compiled.
INSTALLED = """
import os, pathlib, resolver
found = pathlib.Path(resolver.__file__).parent
print(os.getuid(), len(list(found.rglob("*.py"))), len(list(found.rglob("*.pyc"))))
"""


def needed(name: str, extras: str = "") -> set[str]:
    """Return a distribution and all that it needs, as installed here."""
    found = {name}
    for line in distribution(name).requires or ():
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in extras.split(",")):
            found |= needed(one.name, ",".join(one.extras))
    return found


def libraries(*files: Path) -> set[Path]:
    """Return the shared libraries of programs and modules, and their loader."""
    done = subprocess.run(["ldd", *files], check=False, capture_output=True, text=True)
    return {Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+) \(", done.stdout, re.MULTILINE)}


def put(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, target)


def base_files(root: Path) -> dict[str, str]:
    """Write this Python, pip and the packages of `resolver`; return the environment to run it."""
    python, library = Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib"))
    skipped = shutil.ignore_patterns("*-packages", "test", "idlelib", "config-*", "__pycache__")
    shutil.copytree(library, root / library.relative_to("/"), ignore=skipped)
    # As in the Pythons of Debian and Alpine, which pip refuses to install into (PEP 668).
    (root / library.relative_to("/") / "EXTERNALLY-MANAGED").write_text("[externally-managed]\n")
    for name in needed(NAME, EXTRAS) - {NAME} | {"pip"}:
        for part in distribution(name).files or ():
            if not {"..", "__pycache__"} & set(part.parts):
                put(Path(str(part.locate())), root / "packages" / str(part))
    tools = {name: Path(shutil.which(name) or "") for name in ("sh", "rm", "mkdir", "chown")}
    for name, tool in tools.items():
        put(tool, root / "bin" / name)
    modules = (file for file in root.rglob("*.so*") if file.is_file())
    for file in {python, *libraries(python, *tools.values(), *modules)}:
        put(file, root / file.relative_to("/"))
    (root / python.relative_to("/")).with_name("python3").symlink_to(python.name)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    path = f"{python.parent}:/usr/local/bin:/bin"
    return {"PATH": path, "PYTHONPATH": "/packages", "PIP_NO_INDEX": "1"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """Build the image `localhost/resolver` as the recipe says, without network."""
    require({"buildah": "buildah", "ldd": "libc-bin"})
    pytest.importorskip("pyreqwest", reason="the wheel requires it")
    if os.geteuid() != 0:
        pytest.skip("buildah's storage needs root, or a range of user ids")
    folder = tmp_path_factory.mktemp("container")
    buildah = Buildah(folder / "storage")
    base = buildah("from", "scratch")
    for name, value in base_files(folder / "base").items():
        buildah("config", "--env", f"{name}={value}", base)
    buildah("add", "--quiet", base, str(folder / "base"), "/")
    buildah("commit", "--quiet", "--rm", base, "localhost/base")

    context = folder / "context"
    context.mkdir()
    shutil.copy(ROOT / "Containerfile", context)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", context / "dist"],
        check=True,
        capture_output=True,
        cwd=ROOT,
        timeout=60,
    )
    # Of an earlier build: it is no wheel, so it would fail.
    (context / "dist" / "multiarch_resolver-0.0.1-py3-none-any.whl").write_bytes(b"")
    given = ("--build-arg=BASE=localhost/base", f"--build-arg=EXTRAS={EXTRAS}")
    words = ("build", "--isolation=chroot", "--pull-never", "--tag=localhost/resolver")
    buildah(*words, *given, str(context))
    yield buildah
    shutil.rmtree(folder)


def test_container_image_has_the_wheel_compiled_and_no_root_user(run: Buildah) -> None:
    made = run("from", "--pull-never", "localhost/resolver")

    printed = run("run", "--isolation=chroot", made, "python3", "-c", INSTALLED)

    user, sources, compiled = map(int, printed.split())
    assert user == 65532
    assert compiled == sources > 200
    assert run("run", "--isolation=chroot", made, "resolver", "--version").split() == [
        "resolver",
        __version__,
    ]


def test_container_image_resolves_and_pulls_from_a_registry(run: Buildah) -> None:
    made = run("from", "--pull-never", "localhost/resolver")
    words = ("run", "--isolation=chroot", made, "resolver")
    other = ("run", "--isolation=chroot", "--user=1000:0", "--env=RESOLVER_STORE=/tmp/store", made)
    with serve(MemoryShelf(samples())) as server:
        name = f"{server.address}/demo/app:1.0"

        resolved = run(*words, "resolve", name, "-p", "linux/arm64", "--format", "ref")
        run(*words, "pull", name, "-p", "linux/arm64", "--quiet")
        run(*other, "resolver", "pull", name, "-p", "linux/arm64", "--quiet")
        held = run(*words, "resolve", name, "-p", "linux/arm64", "--offline", "--format", "digest")

    assert resolved == f"{server.address}/demo/app@{ARM}"
    assert held == ARM
    entrypoint = "{{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}}"
    assert run("inspect", "--format", entrypoint, made) == "[resolver] [--help]"
