"""Pinning against CNCF distribution's registry, verified with skopeo."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from tests.kit.processes import command
from tests.real.registries import skopeo

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real


def raw(registry: RealRegistry, name: str) -> bytes:
    """Return the exact bytes of a manifest from skopeo, by a name with its digest."""
    repository, _, digest = name.partition("@")
    # Like other tools, skopeo takes a tag or a digest, and not both.
    bare = repository.rpartition(":")[0]
    words = ["inspect", "--raw", "--tls-verify=false", f"docker://{bare}@{digest}"]
    return skopeo(*words, home=registry.folder)


def test_pin_writes_the_digests_skopeo_reads(registry: RealRegistry, tmp_path: Path) -> None:
    host = registry.host
    (tmp_path / "Dockerfile").write_text(
        f"FROM {host}/demo/app:1.0 AS a\nFROM {host}/demo/docker:1.0\nCOPY --from=a / /\n"
    )
    (tmp_path / "compose.yaml").write_text(f"services: {{a: {{image: {host}/demo/app:2.0}}}}\n")
    files = [str(tmp_path / name) for name in ("Dockerfile", "compose.yaml")]
    seen = registry.seen()

    done = command("pin", "--json", "--store", str(tmp_path / "store"), *files)

    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout)
    pinned = [image for file in output["files"] for image in file["images"]]
    assert len(pinned) == 3
    for image in pinned:
        body = raw(registry, f"{image['reference']}@{image['digest']}")
        assert image["digest"] == f"sha256:{hashlib.sha256(body).hexdigest()}"
        assert "manifests" in json.loads(body)
    text = "".join((tmp_path / name).read_text() for name in ("Dockerfile", "compose.yaml"))
    assert all(f"{image['reference']}@{image['digest']}" in text for image in pinned)
    asked = registry.requests(3, seen)
    assert sum(line.startswith("GET /v2/demo/") for line in asked[:3]) == 3

    check = command("pin", "--check", "--update", "--store", str(tmp_path / "store"), *files)

    assert check.returncode == 0, check.stdout


def test_pin_update_follows_a_moved_tag(registry: RealRegistry, tmp_path: Path) -> None:
    host = registry.host
    path = tmp_path / "Dockerfile"
    path.write_text(f"FROM {host}/demo/app:1.0\n")
    store = ("--store", str(tmp_path / "store"))
    assert command("pin", *store, str(path)).returncode == 0
    # As if the tag `2.0` had been pinned when it was what `1.0` is.
    path.write_text(path.read_text().replace(":1.0@", ":2.0@"))
    stale = path.read_text()

    check = command("pin", "--check", "--update", *store, str(path))
    update = command("pin", "--update", *store, str(path))

    assert check.returncode == 1
    assert b"stale-pin" in check.stdout
    assert update.returncode == 0
    assert path.read_text() != stale
    assert raw(registry, path.read_text().split()[1])
