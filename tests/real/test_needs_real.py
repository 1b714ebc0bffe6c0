"""Needs of real programs: images built by umoci and buildah, Debian's cross compilers, Go."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from resolver.core.layers.elf import ElfWindow
from resolver.core.layers.elf_needs import read_elf
from tests import DATA
from tests.core.layers.test_elf import KNOWN
from tests.kit.images import build_image, build_index
from tests.kit.processes import command
from tests.real.conftest import require
from tests.real.registries import push, upload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real

PROGRAMS = DATA / "programs"
#: What an entry for each architecture is called.
PLATFORMS = {
    "amd64": "linux/amd64",
    "arm": "linux/arm",
    "arm64": "linux/arm64",
    "riscv64": "linux/riscv64",
}
SOURCE = """
#include <stdio.h>
#include <stdatomic.h>
atomic_int counter;
int main(int count, char **words) {
    atomic_fetch_add(&counter, count);
    return printf("%d\\n", atomic_load(&counter)) < 0;
}
"""


def ran(*words: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, check=False, **options
    )  # type: ignore[call-overload]  # as given
    assert done.returncode == 0, done.stderr.decode()
    return done  # type: ignore[no-any-return]  # as above


def by_umoci(folder: Path, files: Mapping[str, Path], platform: str) -> str:
    """Build an image from scratch with umoci; return its reference."""
    architecture = platform.split("/")[1]
    ran("umoci", "init", "--layout", folder)
    image = f"{folder}:app"
    ran("umoci", "new", "--image", image)
    for path, source in files.items():
        ran("umoci", "insert", "--rootless", "--image", image, source, path)
    ran(
        "umoci", "config", "--image", image, "--architecture", architecture, "--os", "linux",
        "--config.entrypoint", "/app",
    )  # fmt: skip
    return f"oci:{folder}:app"


def answered(verb: str, reference: str, store: Path, *words: str) -> tuple[int, dict[str, object]]:
    done = command(verb, *words, "--json", reference, environment={"RESOLVER_STORE": str(store)})
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def only_platform(answer: dict[str, object]) -> dict[str, Any]:
    platforms = answer["platforms"]
    assert isinstance(platforms, list)
    (found,) = platforms
    assert isinstance(found, dict)
    return found


def rules(answer: dict[str, object]) -> set[tuple[str, str]]:
    findings = answer["findings"]
    assert isinstance(findings, list)
    return {(one["rule"], one["severity"]) for one in findings}


@pytest.mark.usefixtures("with_umoci")
@pytest.mark.parametrize("name", KNOWN)
def test_needs_of_each_program_as_an_image_of_umoci(name: str, tmp_path: Path) -> None:
    architecture = name.partition("-")[0]
    reference = by_umoci(tmp_path / "image", {"/app": PROGRAMS / name}, PLATFORMS[architecture])

    _status, answer = answered("needs", reference, tmp_path / "store")

    found = only_platform(answer)
    level, sure, page, kernel = KNOWN[name]
    assert (found["level"], found["sure"]) == (level or None, sure.value)
    assert (found["pageSize"], found["kernel"], found["libc"]) == (page, kernel, "glibc")
    cpu = [fact for fact in found["facts"] if fact["need"] == "cpu"]
    assert [(fact["value"], fact["sure"], fact["file"]) for fact in cpu] == [
        (level or None, sure.value, "app")
    ]
    assert all(fact["evidence"] for fact in found["facts"])


def test_needs_of_an_image_of_buildah_with_its_libc(tmp_path: Path) -> None:
    require({"buildah": "buildah"})
    if os.geteuid() != 0:
        pytest.skip("buildah's storage needs root, or a range of user ids")
    folder = "/usr/arm-linux-gnueabihf/lib"
    if not Path(folder, "libc.so.6").exists():
        pytest.skip("not installed: libc6-armhf-cross")
    own = ["--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver", "vfs"]
    made = ran("buildah", *own, "from", "scratch").stdout.decode().strip()
    parts = {
        PROGRAMS / "arm-v6": "/app",
        Path(folder, "ld-linux-armhf.so.3"): "/lib/ld-linux.so.3",
        Path(folder, "libc.so.6"): "/lib/libc.so.6",
    }
    for source, path in parts.items():
        ran("buildah", *own, "copy", made, source, path)
    # The libc names the loader of its own architecture.
    ran("buildah", *own, "copy", made, f"{folder}/ld-linux-armhf.so.3", "/lib/")
    ran(
        "buildah", *own, "config", "--entrypoint", '["/app"]', "--arch", "arm", "--variant", "v6",
        "--os", "linux", made,
    )  # fmt: skip
    ran("buildah", *own, "commit", made, f"oci:{tmp_path / 'image'}:app")
    reference = f"oci:{tmp_path / 'image'}:app"

    status, linted = answered("lint", reference, tmp_path / "store", "--deep")
    _, needed = answered("needs", reference, tmp_path / "store")

    assert status == 1, linted
    assert ("needs-newer-cpu", "error") in rules(linted)
    found = only_platform(needed)
    assert (found["platform"], found["level"], found["sure"]) == ("linux/arm/v6", "v7", "stated")
    assert found["complete"] is True
    for platform, expected in (("linux/arm/v6", 1), ("linux/arm/v7", 0), ("linux/arm64", 0)):
        checked, _ = answered(
            "check", reference, tmp_path / "store", "--runs-on", platform, "--strict"
        )
        assert checked == expected, platform


#: Compiler, its options, and what the program needs.
COMPILED = {
    "amd64 v2": ("x86_64-linux-gnu-gcc", ["-Wl,-z,x86-64-v2"], "amd64", "v2", "stated"),
    "amd64 v3": ("x86_64-linux-gnu-gcc", ["-Wl,-z,x86-64-v3"], "amd64", "v3", "stated"),
    "amd64 v4": ("x86_64-linux-gnu-gcc", ["-Wl,-z,x86-64-v4"], "amd64", "v4", "stated"),
    "amd64 static": ("x86_64-linux-gnu-gcc", ["-static"], "amd64", None, "unknown"),
    "amd64 AVX2": ("x86_64-linux-gnu-gcc", ["-mavx2", "-O3"], "amd64", None, "unknown"),
    "arm v5te": ("arm-linux-gnueabi-gcc", ["-march=armv5te"], "arm", "v5", "stated"),
    "arm v6k": ("arm-linux-gnueabi-gcc", ["-march=armv6k"], "arm", "v6", "stated"),
    "arm v7": ("arm-linux-gnueabihf-gcc", [], "arm", "v7", "stated"),
    "arm v8": ("arm-linux-gnueabihf-gcc", ["-march=armv8-a+simd"], "arm", "v8", "stated"),
    "arm64 LSE": ("aarch64-linux-gnu-gcc", ["-march=armv8.1-a"], "arm64", "v8.1", "seen"),
    "arm64 outline": ("aarch64-linux-gnu-gcc", [], "arm64", None, "unknown"),
    "arm64 inline": ("aarch64-linux-gnu-gcc", ["-mno-outline-atomics"], "arm64", None, "unknown"),
    "riscv64": ("riscv64-linux-gnu-gcc", ["-march=rv64gc_zbs"], "riscv64", "rva22u64", "stated"),
}  # fmt: skip


@pytest.mark.usefixtures("with_umoci")
@pytest.mark.parametrize("name", COMPILED)
def test_needs_of_programs_of_cross_compilers(name: str, tmp_path: Path) -> None:
    compiler, options, architecture, level, sure = COMPILED[name]
    if shutil.which(compiler) is None:
        pytest.skip(f"not installed: {compiler} (apt-get install gcc-{compiler[:-4]})")
    (tmp_path / "app.c").write_text(SOURCE)
    ran(compiler, "-O1", *options, tmp_path / "app.c", "-o", tmp_path / "app")
    reference = by_umoci(tmp_path / "image", {"/app": tmp_path / "app"}, PLATFORMS[architecture])

    _, answer = answered("needs", reference, tmp_path / "store")

    found = only_platform(answer)
    assert (found["level"], found["sure"]) == (level, sure)
    (fact,) = [fact for fact in found["facts"] if fact["need"] == "cpu"]
    assert (fact["value"], fact["sure"]) == (level, sure)


@pytest.mark.usefixtures("with_umoci")
@pytest.mark.parametrize("level", ["v1", "v3"])
def test_needs_of_a_program_that_go_builds_here(level: str, tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("not installed: go (apt-get install golang-go)")
    (tmp_path / "main.go").write_text("package main\n\nfunc main() { println(1) }\n")
    (tmp_path / "go.mod").write_text("module app\n\ngo 1.18\n")
    settings = {"GOAMD64": level, "GOARCH": "amd64", "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    folders = {
        "GOCACHE": str(tmp_path / "cache"),
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
    }
    ran(go, "build", "-o", "app", ".", cwd=tmp_path, env={**settings, **folders})
    reference = by_umoci(tmp_path / "image", {"/app": tmp_path / "app"}, "linux/amd64")

    _, answer = answered("needs", reference, tmp_path / "store")
    status, linted = answered("lint", reference, tmp_path / "store", "--deep")

    found = only_platform(answer)
    assert (found["level"], found["sure"], found["complete"]) == (level, "stated", True)
    assert found["libc"] is None
    assert (status, rules(linted)) == (
        (0, set()) if level == "v1" else (1, {("needs-newer-cpu", "error")})
    )


def tar_of(files: Mapping[str, bytes]) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mode, member.size = 0o755, len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), compresslevel=0, mtime=0)


def test_needs_of_a_large_image_in_a_registry_reads_a_small_part(
    registry: RealRegistry, tmp_path: Path
) -> None:
    loader = "lib64/ld-linux-x86-64.so.2"
    program = (PROGRAMS / "amd64-v3").read_bytes()
    files = {"app": program, loader: program, "lib64/libc.so.6": program}
    layer = tar_of({**files, "words": Random(4).randbytes(1_000_000) * 300})
    config = {"config": {"Entrypoint": ["/app"]}}
    layers = [tar_of({"etc/os": b"x"}), layer]
    image = build_index([build_image("linux/amd64", layers, config=config)])
    upload(registry, "needs/large", "1", image)
    reference = f"{registry.host}/needs/large:1"
    before = time.monotonic()

    _, answer = answered("needs", reference, tmp_path / "store")
    needs_took = time.monotonic() - before
    _, linted = answered("lint", reference, tmp_path / "store", "--deep")
    lint_took = time.monotonic() - before - needs_took

    found = only_platform(answer)
    assert (found["level"], found["sure"]) == ("v3", "stated")
    assert found["layerBytesRead"] < 0.05 * len(layer)
    assert ("needs-newer-cpu", "error") in rules(linted)
    # Both read the same files of the same layers.
    assert needs_took < 2 * lint_took + 2


def test_needs_of_an_index_that_skopeo_pushed(registry: RealRegistry, tmp_path: Path) -> None:
    require({"umoci": "umoci"})
    folder = tmp_path / "image"
    by_umoci(folder, {"/app": PROGRAMS / "amd64-v2"}, "linux/amd64")
    push(registry, folder, "app", "needs/small:1")

    _, answer = answered("needs", f"{registry.host}/needs/small:1", tmp_path / "store")

    found = only_platform(answer)
    assert (found["level"], found["sure"]) == ("v2", "stated")


#: Packages whose programs and libraries choose code at run time, and the baseline of each port.
PACKAGES = (
    "libssl3", "libgcrypt20", "libgmp10", "libavcodec59", "libstdc++6", "libc6", "coreutils",
)  # fmt: skip
BASELINES = {"amd64": "v1", "arm64": "v8", "armhf": "v7"}


@pytest.mark.skipif(
    not os.environ.get("NEEDS_PACKAGES"), reason="downloads Debian packages: set NEEDS_PACKAGES=1"
)
@pytest.mark.parametrize("architecture", BASELINES)
def test_needs_of_debian_packages_state_nothing_above_their_baseline(
    architecture: str, tmp_path: Path
) -> None:
    for folder in ("lists/partial", "cache/archives/partial"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "status").touch()
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Dir::State::lists": tmp_path / "lists",
        "Dir::State::status": tmp_path / "status",
        "Dir::Cache": tmp_path / "cache",
    }
    apt = ["apt-get", *(f"-o{name}={value}" for name, value in options.items())]
    subprocess.run([*apt, "update"], check=False, capture_output=True)
    ran(*apt, "download", *PACKAGES, cwd=tmp_path)
    for package in tmp_path.glob("*.deb"):
        ran("dpkg-deb", "-x", package, tmp_path / "root")
    files = [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
    read = [
        (path, read_elf(ElfWindow(path.read_bytes()), str(path)))
        for path in files
        if not path.is_symlink()
    ]
    found = [(path, elf) for path, elf in read if elf is not None]

    assert len(found) > 100
    for path, elf in found:
        assert not elf.damage, path
        stated = {mark.level for mark in elf.marks if mark.sure.is_certain}
        assert stated <= {BASELINES[architecture]}, (path, elf.marks)
