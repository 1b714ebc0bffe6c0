"""Check and matrix against CNCF distribution's registry, with skopeo as the second opinion."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from resolver.demo.images import LINUX, WINDOWS
from tests.kit.images import build_image, from_dict
from tests.kit.processes import command
from tests.real.registries import skopeo, upload

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real

INDEX = "application/vnd.oci.image.index.v1+json"


def listed(registry: RealRegistry, name: str) -> dict[str, str]:
    """Read an index with skopeo: digests by platform, without attestations."""
    words = ["inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/{name}"]
    document = json.loads(skopeo(*words, home=registry.folder))
    found = {}
    for entry in document["manifests"]:
        stated = entry["platform"]
        if stated["os"] != "unknown":
            parts = [stated["os"], stated["architecture"], stated.get("variant", "")]
            version = stated.get("os.version", "")
            name = "/".join(part for part in parts if part)
            found[f"{name}:{version}" if version else name] = entry["digest"]
    return found


def test_check_requires_exactly_what_skopeo_lists(registry: RealRegistry, tmp_path: Path) -> None:
    name, store = f"{registry.host}/demo/app:1.0", ("--store", str(tmp_path / "store"))
    seen = list(listed(registry, "demo/app:1.0"))

    assert sorted(seen) == sorted((*LINUX, *WINDOWS))
    platforms = ",".join(seen)
    passed = command("check", name, "--require", platforms, "--only", platforms, *store)
    assert passed.returncode == 0, passed.stderr
    failed = command("check", name, "--require", "linux/riscv64", "--forbid", seen[0], *store)
    assert failed.returncode == 1
    assert failed.stdout.count(b"error  platform-") == 2


def test_matrix_jobs_match_skopeo(registry: RealRegistry, tmp_path: Path) -> None:
    name, store = f"{registry.host}/demo/app:2.0", ("--store", str(tmp_path / "store"))
    done = command("matrix", name, "--quiet", *store)
    jobs = json.loads(done.stdout)["include"]

    assert {job["platform"]: job["digest"] for job in jobs} == listed(registry, "demo/app:2.0")
    for job in jobs:
        repository, _, digest = job["ref"].partition("@")
        assert (repository, digest) == (f"{registry.host}/demo/app", job["digest"])
        words = ["inspect", "--raw", "--tls-verify=false", f"docker://{job['ref']}"]
        assert json.loads(skopeo(*words, home=registry.folder))["layers"]


def test_attestation_is_found_without_the_referrers_api(
    registry: RealRegistry, tmp_path: Path
) -> None:
    image = build_image("linux/amd64")
    upload(registry, "team/attested", "1", image)
    empty = build_image("linux/386")
    config = json.loads(empty.body)["config"]
    statement = from_dict(
        {
            "schemaVersion": 2,
            "mediaType": image.media_type,
            "artifactType": "application/spdx+json",
            "config": config,
            "layers": [{**config, "mediaType": "application/spdx+json"}],
            "subject": {
                "mediaType": image.media_type,
                "digest": image.digest,
                "size": image.size,
            },
        },
        parts=[empty],
    )
    name, store = f"{registry.host}/team/attested:1", ("--store", str(tmp_path / "store"))
    asked = ("check", name, "--require-attestation", "sbom", *store)

    assert command(*asked).returncode == 1
    upload(registry, "team/attested", "sbom", statement)
    entry = {"mediaType": image.media_type, "digest": statement.digest, "size": statement.size}
    body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    upload(registry, "team/attested", image.digest.replace(":", "-"), from_dict(body))
    done = command(*asked)
    assert done.returncode == 0, done.stdout + done.stderr
