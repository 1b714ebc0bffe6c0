"""Locking against a real registry, in processes as a pipeline starts them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.digest import Digest
from tests.kit.processes import python
from tests.real.registries import push, skopeo

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real


def test_lock_check_and_pull_in_a_pipeline_detect_a_moved_tag(
    registry: RealRegistry, layout: Path, tmp_path: Path
) -> None:
    name = f"{registry.host}/demo/moving:1"
    environment = {"RESOLVER_STORE": str(tmp_path / "store"), "RESOLVER_FORMAT": "json"}

    def run(*words: str) -> subprocess.CompletedProcess[bytes]:
        return python("-m", "resolver", *words, environment=environment, cwd=tmp_path)

    push(registry, layout, "1.0", "demo/moving:1")
    body = skopeo(
        "inspect", "--raw", "--tls-verify=false", f"docker://{name}", home=registry.folder
    )

    assert run("lock", name).returncode == 0
    locked = json.loads((tmp_path / "resolver.lock").read_text())["images"][name]
    assert locked["digest"] == str(Digest.of(body))
    entries = [entry for entry in json.loads(body)["manifests"] if "annotations" not in entry]
    assert {one["digest"] for one in locked["platforms"].values()} == {
        entry["digest"] for entry in entries
    }
    assert run("lock", "--check").returncode == 0

    push(registry, layout, "2.0", "demo/moving:1")
    moved = run("lock", "--check", "-p", "linux/arm64")
    assert moved.returncode == 1, moved.stderr
    output = json.loads(moved.stdout)
    assert [finding["rule"] for finding in output["findings"]] == ["platform-changed"]

    pulled = run("pull", "--locked", "-p", "linux/arm64")
    assert pulled.returncode == 0, pulled.stderr
    held = json.loads(run("resolve", "--locked", "-p", "linux/arm64", name).stdout)
    assert held["manifest"]["digest"] == locked["platforms"]["linux/arm64"]["digest"]
    assert held["manifest"]["digest"] in pulled.stdout.decode()
    assert run("pull", "--locked", "-p", "linux/arm64", "--offline").returncode == 0

    assert run("lock", "--update").returncode == 0
    assert run("lock", "--check").returncode == 0
    again = json.loads((tmp_path / "resolver.lock").read_text())["images"][name]
    assert again["digest"] != locked["digest"]


def test_lock_exit_statuses_in_a_shell(registry: RealRegistry, tmp_path: Path) -> None:
    name = f"{registry.host}/demo/app:1.0"
    environment = {"RESOLVER_STORE": str(tmp_path / "store")}

    def status(*words: str) -> int:
        return python("-m", "resolver", *words, environment=environment, cwd=tmp_path).returncode

    assert status("lock", "--check") == 2
    assert status("lock", f"{registry.host}/demo/app:none") == 3
    assert status("lock", "127.0.0.1:9/app:1") == 5
    assert status("resolve", "--locked", name) == 2
    assert status("lock", name) == 0
    assert status("lock", "--check") == 0
    assert status("resolve", "--locked", name, "-p", "linux/s390x") == 7
    assert status("lock", "--check", "--offline") == 7
    assert status("lock", name, "-o", "/nowhere/resolver.lock") == 8
    file = tmp_path / "resolver.lock"
    file.write_text(file.read_text().replace("sha256:8d36", "sha256:0d36"))
    assert status("lock", "--check") == 0
    digest = json.loads(file.read_text())["images"][name]["digest"]
    file.write_text(file.read_text().replace(digest, "sha256:" + "0" * 64))
    assert status("lock", "--check") == 1
    assert status("lock", "--check", "-p", "linux/amd64") == 0
