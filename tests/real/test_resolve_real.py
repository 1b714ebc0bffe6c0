"""The real command against CNCF distribution's registry, with skopeo as the second opinion."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from resolver.demo.images import LINUX, WINDOWS, samples
from tests.kit.clients import ENGINES
from tests.kit.processes import command
from tests.real.registries import skopeo

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.real.registries import RealRegistry

pytestmark = pytest.mark.real

PLATFORMS = (*LINUX, *WINDOWS)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def index_of(tag: str) -> dict[str, object]:
    """Return the sample's index, as a document."""
    (sample,) = (s for s in samples() if (s.repository, s.tag) == ("demo/app", tag))
    _, body = sample.documents[sample.root.digest]
    document: dict[str, object] = json.loads(body)
    return document


def entry_for(index: dict[str, object], platform: str) -> str:
    """Return the digest that an index lists for exactly this platform, by reading its JSON."""
    assert isinstance(index["manifests"], list)
    kind, _, version = platform.partition(":")
    system, architecture, *variant = kind.split("/")
    wanted = {"os": system, "architecture": architecture}
    wanted |= {"variant": variant[0]} if variant else {}
    wanted |= {"os.version": version} if version else {}
    (digest,) = (e["digest"] for e in index["manifests"] if e.get("platform") == wanted)
    return str(digest)


def raw(registry: RealRegistry, name: str) -> bytes:
    """Return the exact bytes of a manifest from skopeo."""
    words = ["inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/{name}"]
    return skopeo(*words, home=registry.folder)


def refused(done: subprocess.CompletedProcess[bytes], status: int) -> str:
    """Check that a command failed as expected; return its stderr."""
    output = done.stderr.decode()
    assert (done.returncode, done.stdout) == (status, b""), output
    assert [line for line in output.splitlines() if line.startswith("error: ")][1:] == []
    assert output.startswith("error: ")
    assert "Traceback" not in output
    return output


def store(tmp_path: Path) -> tuple[str, str]:
    return "--store", str(tmp_path / "store")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_resolve_returns_the_manifest_skopeo_reads(
    registry: RealRegistry, tmp_path: Path, platform: str
) -> None:
    name = f"{registry.host}/demo/app:1.0"

    done = command("resolve", name, "-p", platform, "--format", "digest", *store(tmp_path))

    assert done.returncode == 0, done.stderr
    digest = done.stdout.decode().strip()
    assert digest == entry_for(index_of("1.0"), platform)
    body = raw(registry, f"demo/app@{digest}")
    assert digest == f"sha256:{hashlib.sha256(body).hexdigest()}"


@pytest.mark.parametrize("platform", LINUX)
def test_docker_manifest_list_resolves(
    registry: RealRegistry, tmp_path: Path, platform: str
) -> None:
    name = f"{registry.host}/demo/docker:1.0"
    listed = json.loads(raw(registry, "demo/docker:1.0"))

    done = command("resolve", name, "-p", platform, "--format", "digest", *store(tmp_path))

    assert done.returncode == 0, done.stderr
    assert listed["mediaType"] == "application/vnd.docker.distribution.manifest.list.v2+json"
    assert done.stdout.decode().strip() == entry_for(listed, platform)


def test_resolve_json_has_index_and_manifest_digests(
    registry: RealRegistry, tmp_path: Path
) -> None:
    name = f"{registry.host}/demo/app:1.0"

    done = command("resolve", name, "-p", "linux/arm64", "--json", *store(tmp_path))

    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    index = hashlib.sha256(raw(registry, "demo/app:1.0")).hexdigest()
    digests = set(DIGEST.findall(done.stdout.decode()))
    assert {f"sha256:{index}", entry_for(index_of("1.0"), "linux/arm64/v8")} <= digests


def test_inspect_raw_prints_the_exact_bytes_of_the_index(
    registry: RealRegistry, tmp_path: Path
) -> None:
    done = command("inspect", f"{registry.host}/demo/app:1.0", "--raw", *store(tmp_path))

    assert done.returncode == 0, done.stderr
    assert done.stdout == raw(registry, "demo/app:1.0")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_inspect_raw_prints_the_exact_bytes_of_a_manifest(
    registry: RealRegistry, tmp_path: Path, platform: str
) -> None:
    name = f"{registry.host}/demo/app:1.0"

    done = command("inspect", name, "-p", platform, "--raw", *store(tmp_path))

    assert done.returncode == 0, done.stderr
    assert done.stdout == raw(registry, f"demo/app@{entry_for(index_of('1.0'), platform)}")


def test_inspect_config_prints_the_exact_bytes_of_a_config(
    registry: RealRegistry, tmp_path: Path
) -> None:
    name = f"{registry.host}/demo/app:1.0"
    manifest = json.loads(raw(registry, f"demo/app@{entry_for(index_of('1.0'), 'linux/arm/v7')}"))

    words = ["-p", "linux/arm/v7", "--config", *store(tmp_path)]
    done = command("inspect", name, *words)

    assert done.returncode == 0, done.stderr
    assert f"sha256:{hashlib.sha256(done.stdout).hexdigest()}" == manifest["config"]["digest"]


def test_platforms_lists_the_offered_platforms(registry: RealRegistry, tmp_path: Path) -> None:
    done = command("platforms", f"{registry.host}/demo/app:1.0", *store(tmp_path))

    assert done.returncode == 0, done.stderr
    assert set(PLATFORMS) <= set(done.stdout.decode().split())


def test_tags_lists_the_tags_in_the_order_of_the_registry(
    registry: RealRegistry, tmp_path: Path
) -> None:
    name = f"{registry.host}/demo/app"
    listed = skopeo("list-tags", "--tls-verify=false", f"docker://{name}", home=registry.folder)

    done = command("tags", name, *store(tmp_path))

    assert done.returncode == 0, done.stderr
    tags = done.stdout.decode().split()
    assert sorted(tags) == ["1.0", "2.0", "latest"]
    assert tags == json.loads(listed)["Tags"]


def test_resolve_missing_tag_is_not_found(registry: RealRegistry, tmp_path: Path) -> None:
    name = f"{registry.host}/demo/app:nope"

    output = refused(command("resolve", name, *store(tmp_path)), 3)

    assert "nope" in output


def test_resolve_missing_repository_is_not_found(registry: RealRegistry, tmp_path: Path) -> None:
    output = refused(command("resolve", f"{registry.host}/demo/nope:1.0", *store(tmp_path)), 3)

    assert "demo/nope" in output


def test_resolve_missing_platform_lists_the_offered_ones(
    registry: RealRegistry, tmp_path: Path
) -> None:
    words = ["-p", "linux/s390x", *store(tmp_path)]

    output = refused(command("resolve", f"{registry.host}/demo/app:1.0", *words), 3)

    assert all(platform in output for platform in PLATFORMS)


def test_cold_resolve_is_one_get_and_warm_resolve_one_head(
    registry: RealRegistry, tmp_path: Path
) -> None:
    words = ["resolve", f"{registry.host}/demo/app:2.0", "-p", "linux/arm64", *store(tmp_path)]
    words += ["--plain-http"]

    since = registry.seen()
    cold = command(*words)
    assert cold.returncode == 0, cold.stderr
    asked_cold = registry.requests(1, since)
    since = registry.seen()
    warm = command(*words)
    assert warm.returncode == 0, warm.stderr
    asked_warm = registry.requests(1, since)

    assert warm.stdout == cold.stdout
    assert asked_cold == ["GET /v2/demo/app/manifests/2.0"]
    assert asked_warm == ["HEAD /v2/demo/app/manifests/2.0"]


def test_resolve_held_digest_sends_no_request(registry: RealRegistry, tmp_path: Path) -> None:
    words = ["-p", "linux/amd64", "--format", "digest", "--plain-http", *store(tmp_path)]
    index = hashlib.sha256(raw(registry, "demo/app:2.0")).hexdigest()
    first = command("resolve", f"{registry.host}/demo/app:2.0", *words)

    since = registry.seen()
    again = command("resolve", f"{registry.host}/demo/app@sha256:{index}", *words)

    assert (again.returncode, again.stdout) == (0, first.stdout), again.stderr
    assert registry.requests(0, since) == []


def test_resolve_several_keeps_order_and_prints_failures(
    registry: RealRegistry, tmp_path: Path
) -> None:
    listing = tmp_path / "references"
    names = [f"{registry.host}/demo/app:{tag}" for tag in ("1.0", "nope", "2.0")]
    listing.write_text("\n".join(names) + "\n")
    words = ["-f", str(listing), "-p", "linux/amd64", "--format", "jsonl", *store(tmp_path)]

    done = command("resolve", *words)

    assert done.returncode == 3, done.stderr
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 3
    assert entry_for(index_of("1.0"), "linux/amd64") in lines[0]
    assert "nope" in lines[1]
    assert entry_for(index_of("2.0"), "linux/amd64") in lines[2]


def test_layout_resolves_like_the_registry(layout: Path) -> None:
    words = ["-p", "linux/arm64", "--format", "digest"]

    done = command("resolve", f"oci:{layout}:1.0", *words)

    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == entry_for(index_of("1.0"), "linux/arm64/v8")


def test_skopeo_archive_resolves_like_the_registry(
    registry: RealRegistry, layout: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "app.tar"
    target = f"oci-archive:{archive}:1.0"
    skopeo("copy", "--quiet", "--all", f"oci:{layout}:1.0", target, home=registry.folder)
    words = ["-p", "linux/arm64", "--format", "digest"]

    done = command("resolve", target, *words)

    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == entry_for(index_of("1.0"), "linux/arm64/v8")


def test_skopeo_docker_archive_has_its_platform(
    registry: RealRegistry, layout: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "app.tar"
    choice = ["--override-os", "linux", "--override-arch", "arm64"]
    ends = [f"oci:{layout}:1.0", f"docker-archive:{archive}:demo/app:1.0"]
    skopeo(*choice, "copy", "--quiet", *ends, home=registry.folder)

    done = command("platforms", f"docker-archive:{archive}")

    assert done.returncode == 0, done.stderr
    assert "linux/arm64" in done.stdout.decode()


def docker_config(folder: Path, host: str, user: str, password: str) -> dict[str, str]:
    """Write what `docker login` writes; return the variable that points to it."""
    secret = base64.b64encode(f"{user}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": secret}}}))
    return {"DOCKER_CONFIG": str(folder)}


def test_unknown_ca_is_refused(locked: RealRegistry, tmp_path: Path) -> None:
    output = refused(command("resolve", f"{locked.host}/demo/app:1.0", *store(tmp_path)), 5)

    assert "certificate" in output


def test_registry_that_requires_login_is_reported(
    locked: RealRegistry, tmp_path: Path, ca_file: Path
) -> None:
    words = ["--ca-file", str(ca_file), *store(tmp_path)]

    refused(command("resolve", f"{locked.host}/demo/app:1.0", *words), 4)


def test_docker_login_is_used_for_the_registry(
    locked: RealRegistry, tmp_path: Path, ca_file: Path
) -> None:
    assert locked.lock is not None
    login = docker_config(tmp_path, locked.host, locked.lock.user, locked.lock.password)
    words = ["-p", "linux/arm64", "--format", "digest", "--ca-file", str(ca_file)]

    done = command(
        "resolve", f"{locked.host}/demo/app:1.0", *words, *store(tmp_path), environment=login
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == entry_for(index_of("1.0"), "linux/arm64/v8")


@pytest.mark.parametrize("engine", ENGINES)
def test_documents_come_over_http2_and_layers_over_http1(
    locked: RealRegistry, tmp_path: Path, ca_file: Path, engine: str
) -> None:
    assert locked.lock is not None
    login = docker_config(tmp_path, locked.host, locked.lock.user, locked.lock.password)
    words = ["-p", "linux/arm64", "--ca-file", str(ca_file), *store(tmp_path)]
    log = locked.folder / "log"
    before = log.stat().st_size

    done = command(
        "pull",
        f"{locked.host}/demo/app:1.0",
        *words,
        environment={**login, "RESOLVER_HTTP": engine},
    )

    assert done.returncode == 0, done.stderr
    # A registry logs a request after it has answered it.
    used: set[tuple[str, str]] = set()
    deadline = time.monotonic() + 10
    while len(used) < 2 and time.monotonic() < deadline:
        text = log.read_bytes()[before:].decode()
        used = set(re.findall(r'GET /v2/demo/app/(manifests|blobs)/\S+ (HTTP/[0-9.]+)" 20', text))
    documents = "HTTP/2.0" if engine == "pyreqwest" else "HTTP/1.1"
    assert ("manifests", documents) in used
    assert ("blobs", "HTTP/1.1") in used


@pytest.mark.parametrize("engine", ENGINES)
def test_remembered_plain_http_gives_way_to_tls(
    locked: RealRegistry, tmp_path: Path, ca_file: Path, engine: str
) -> None:
    assert locked.lock is not None
    login = docker_config(tmp_path, locked.host, locked.lock.user, locked.lock.password)
    words = ["-p", "linux/arm64", "--format", "digest", "--ca-file", str(ca_file)]
    folder = tmp_path / "store"
    reference = f"{locked.host}/demo/app:1.0"
    environment = {**login, "RESOLVER_HTTP": engine}
    command("resolve", reference, *words, "--store", str(folder), environment=environment)
    (folder / "loopback.json").write_text(json.dumps({locked.host: ["http", time.time()]}))

    done = command("resolve", reference, *words, "--store", str(folder), environment=environment)

    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == entry_for(index_of("1.0"), "linux/arm64/v8")
    assert json.loads((folder / "loopback.json").read_text())[locked.host][0] == "https"


def test_wrong_password_is_refused_and_never_printed(
    locked: RealRegistry, tmp_path: Path, ca_file: Path
) -> None:
    login = docker_config(tmp_path, locked.host, "u5er", "Wr0ngPa55")
    words = ["--verbose", "--ca-file", str(ca_file), *store(tmp_path)]

    done = command("resolve", f"{locked.host}/demo/app:1.0", *words, environment=login)

    output = done.stderr.decode()
    assert (done.returncode, done.stdout) == (4, b""), output
    assert "Traceback" not in output
    hidden = ("Wr0ngPa55", base64.b64encode(b"u5er:Wr0ngPa55").decode())
    assert not any(secret in output for secret in hidden)
