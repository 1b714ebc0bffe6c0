"""`resolver compare` against CNCF distribution's registry, and copies that skopeo made of it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from resolver.demo.images import LINUX, WINDOWS
from tests.kit.processes import command
from tests.real.conftest import require
from tests.real.registries import skopeo

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real

PLATFORMS = [*LINUX, *WINDOWS]


def copy(registry: RealRegistry, source: str, target: str) -> None:
    """Copy a whole index byte for byte with skopeo."""
    skopeo(
        "copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false",
        source, target, home=registry.folder,
    )  # fmt: skip


def test_registry_and_local_copy_are_equal(registry: RealRegistry, tmp_path: Path) -> None:
    name, store = f"{registry.host}/demo/app:1.0", ("--store", str(tmp_path / "store"))
    copy(registry, f"docker://{name}", f"docker://{registry.host}/mirror/app:1.0")
    copy(registry, f"docker://{name}", f"oci:{tmp_path / 'layout'}:app")

    for other in (f"{registry.host}/mirror/app:1.0", f"oci:{tmp_path / 'layout'}:app"):
        done = command("compare", name, other, *store)

        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(b"same: sha256:")
        assert done.stdout.count(b"\n") == 1


def test_copy_of_another_version_reports_the_update_size(
    registry: RealRegistry, tmp_path: Path
) -> None:
    name, store = f"{registry.host}/demo/app", ("--store", str(tmp_path / "store"))
    copy(registry, f"docker://{name}:2.0", f"oci:{tmp_path / 'layout'}:app")

    words = (f"{name}:1.0", f"oci:{tmp_path / 'layout'}:app", "--files", "--json")
    done = command("compare", *words, *store)

    output = json.loads(done.stdout)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(b"differ: 5 changed")
    assert [each["name"] for each in output["platforms"]] == PLATFORMS
    assert [each["fetch"]["layers"] for each in output["platforms"]] == [1] * 5
    assert all(
        each["files"]["others"][0]["counts"] == {"content": 1} for each in output["platforms"]
    )


def test_image_rebuilt_by_umoci_has_other_settings(registry: RealRegistry, tmp_path: Path) -> None:
    require({"umoci": "umoci"})
    store = ("--store", str(tmp_path / "store"))
    layout = tmp_path / "layout"
    source = f"docker://{registry.host}/demo/app:1.0"
    skopeo("copy", "--override-os=linux", "--override-arch=amd64", "--src-tls-verify=false",
           source, f"oci:{layout}:app", home=registry.folder)  # fmt: skip
    subprocess.run(
        ["umoci", "config", "--image", f"{layout}:app", "--tag", "made", "--config.env=NEW=1",
         "--config.user=nobody"],
        check=True, capture_output=True,
    )  # fmt: skip

    done = command("compare", f"oci:{layout}:app", f"oci:{layout}:made", "--json", *store)

    change = json.loads(done.stdout)["platforms"][0]
    assert done.returncode == 1
    assert (change["change"], change["layersDiffer"]) == ("changed", False)
    assert [each["name"] for each in change["drift"]] == ["env.NEW", "user"]
    assert change["fetch"]["layers"] == 0
    assert sum(not step["same"] for step in change["history"]["steps"]) == 1
