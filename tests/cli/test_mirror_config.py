"""`resolver mirror-config`: files for other tools, and its errors."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.core.registry.endpoints import BY_DIGEST, EVERYTHING, Ability, Pulls
from resolver.core.results.events import ignore
from resolver.sources.mirrors.formats import choose, parse_hosts, parse_rules
from resolver.verbs.serve.tool_config import TOOLS, mirror_config

if TYPE_CHECKING:
    from resolver.core.registry.endpoints import HostChoice
    from tests.cli.conftest import Run


def test_mirror_config_for_containerd(run: Run) -> None:
    assert str(run("mirror-config", "containerd", "docker.io", "r.test:5000")) == snapshot("""\
status: 0
--- stdout
# /etc/containerd/certs.d/docker.io/hosts.toml
server = "https://registry-1.docker.io"

[host."http://HOST:PORT"]
  capabilities = ["pull", "resolve"]

# /etc/containerd/certs.d/r.test:5000/hosts.toml
server = "https://r.test:5000"

[host."http://HOST:PORT"]
  capabilities = ["pull", "resolve"]
--- stderr
note: put this into `/etc/containerd/certs.d/docker.io/hosts.toml`
note: put this into `/etc/containerd/certs.d/r.test:5000/hosts.toml`
note: Kubernetes needs `config_path` in containerd's own file, `ctr` needs `--hosts-dir`
""")


def test_mirror_config_for_docker(run: Run) -> None:
    assert str(run("mirror-config", "docker", "--at", "http://cache.test:5000")) == snapshot("""\
status: 0
--- stdout
{
  "registry-mirrors": [
    "http://cache.test:5000"
  ],
  "insecure-registries": [
    "cache.test:5000"
  ]
}
--- stderr
note: put this into `/etc/docker/daemon.json`
note: add these keys to the file, then `systemctl reload docker`
""")


def test_mirror_config_for_podman(run: Run) -> None:
    words = ["--mirror", "https://mirror.test/hub"]
    assert str(run("mirror-config", "podman", *words)) == snapshot("""\
status: 0
--- stdout
[[registry]]
prefix = "docker.io"
location = "docker.io"

[[registry.mirror]]
location = "mirror.test/hub"
pull-from-mirror = "digest-only"
--- stderr
note: put this into `/etc/containers/registries.conf.d/50-mirror.conf`
""")


def test_mirror_config_for_buildkit(run: Run) -> None:
    assert str(run("mirror-config", "buildkit", "ghcr.io")) == snapshot("""\
status: 0
--- stdout
[registry."ghcr.io"]
  mirrors = ["HOST:PORT"]

[registry."HOST:PORT"]
  http = true
--- stderr
note: put this into `/etc/buildkit/buildkitd.toml`
note: for buildx: `docker buildx create --driver-opt network=host --buildkitd-config FILE`
""")


@pytest.mark.parametrize("tool", TOOLS)
def test_mirror_config_json_lists_the_files_of_every_tool(run: Run, tool: str) -> None:
    seen = run("mirror-config", tool, "--json")
    output = json.loads(seen.stdout)
    assert (output["schema"], output["tool"]) == (1, tool)
    [file] = output["files"]
    assert file["path"].startswith("/etc/")
    assert file["content"] == run("mirror-config", tool).stdout


@pytest.mark.parametrize(("mirror", "abilities"), [(None, EVERYTHING), ("m.test", BY_DIGEST)])
def test_mirror_config_hosts_toml_is_read_back(
    mirror: str | None, abilities: frozenset[Ability]
) -> None:
    [file] = mirror_config("containerd", ["ghcr.io"], mirror)
    choice = parse_hosts(file.content.encode(), Path(file.path), "ghcr.io", "a/b")
    first, last = choice.endpoints
    assert first.abilities == abilities - {Ability.REFERRERS}
    assert (first.namespace, last.host, last.is_upstream) == ("ghcr.io", "ghcr.io", True)


def test_mirror_config_registries_conf_is_read_back() -> None:
    def read(registry: str, *words: str | None) -> HostChoice | None:
        [file] = mirror_config("podman", ["docker.io", "r.test:5000"], *words)
        return choose(parse_rules(file.content.encode(), file.path, ignore), registry, "a/b")

    for registry, spelled in (("docker.io", "docker.io"), ("r.test:5000", "r.test-5000")):
        choice = read(registry, None)
        assert choice is not None
        mirror, last = choice.endpoints
        assert f"{mirror.host}/{mirror.repository}" == f"127.0.0.1:5000/{spelled}/a/b"
        assert mirror.settings.plain_too
        assert last.is_upstream
    choice = read("docker.io", "https://m.test")
    assert choice is not None
    assert choice.endpoints[0].pulls is Pulls.BY_DIGEST


def test_mirror_config_buildkit_toml_has_plain_http_where_set(run: Run) -> None:
    output = tomllib.loads(run("mirror-config", "buildkit", "--mirror", "https://m.test/x").stdout)
    assert output == {"registry": {"docker.io": {"mirrors": ["m.test/x"]}}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["emacs"], "`emacs` is not a supported tool"),
        (["docker", "ghcr.io"], "Docker uses mirrors for `docker.io` alone"),
        (["docker", "--mirror", "a.test", "--at", "b.test"], "exclude each other"),
        (["podman", "--mirror", "ftp://a.test"], "is not the URL of a mirror"),
        (["podman", "--mirror", "https://a.test/?b=c"], "it has a query"),
        (["podman", "a b"], "is not an image reference"),
    ],
)
def test_mirror_config_rejects_invalid_options(run: Run, words: list[str], message: str) -> None:
    seen = run("mirror-config", *words)
    assert (seen.status, seen.stdout) == (2, "")
    assert message in seen.stderr
