"""Write the configuration files that point other tools at a mirror.

Sources: containerd's page on hosts.toml; docs.docker.com, "Registry as a pull through cache";
containers-registries.conf(5); moby/buildkit docs/buildkitd.toml.md.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from resolver.core.oci.reference import HUB, Reference
from resolver.core.registry.endpoints import api_host
from resolver.errors import Usage
from resolver.sources.http.addresses import is_loopback
from resolver.sources.http.urls import BadUrl, Url
from resolver.values import dataclass
from resolver.verbs.serve.catalog import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Default address of `resolver serve`.
USUAL = "http://127.0.0.1:5000"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """One file, and where it belongs."""

    path: str
    content: str
    advice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MirrorWish:
    """The mirror, and the registries to use it for.

    Attributes:
        hosts: registries, `host[:port]`.
        url: of the mirror, without the path of its API.
        ours: the mirror is `resolver serve`, which serves several registries.
        tags: the mirror may resolve tags.
    """

    hosts: tuple[str, ...]
    url: Url
    ours: bool
    tags: bool

    @property
    def base(self) -> str:
        """The mirror as a URL, without a last slash."""
        return f"{self.url.scheme}://{self.place}"

    @property
    def place(self) -> str:
        """Host, port and path of the mirror, without a scheme."""
        return f"{self.url.authority}{self.url.path.rstrip('/')}"

    @property
    def is_open(self) -> bool:
        """Whether the mirror uses plain HTTP."""
        return self.url.scheme == "http"


def mirror_config(
    tool: str,
    hosts: Sequence[str],
    mirror: str | None,
    at: str | None = None,
    *,
    tags: bool = False,
) -> tuple[ConfigFile, ...]:
    """Write the configuration that points a tool at a mirror.

    Without `hosts`, mirror Docker Hub; without `mirror`, point at `resolver serve` at `at`. `tags`
    lets another mirror resolve tags too; `resolver serve` always may.
    """
    if tool not in TOOLS:
        known = ", ".join(f"`{name}`" for name in TOOLS)
        raise Usage(f"`{tool}` is not a supported tool", f"choose {known}")
    if mirror is not None and at is not None:
        raise Usage("`--mirror` and `--at` exclude each other", "name one of them")
    wanted = tuple(dict.fromkeys(hosts)) or (HUB,)
    for host in wanted:
        Reference(host, "library/any").check_endpoint()
    text = mirror or at or USUAL
    try:
        url = Url.parse(text if "://" in text else f"https://{text}")
    except BadUrl as error:
        raise Usage(f"`{text}` is not the URL of a mirror: {error}", f"write `{USUAL}`") from error
    if url.query:
        raise Usage(f"`{text}` is not the URL of a mirror: it has a query", f"write `{USUAL}`")
    return TOOLS[tool](MirrorWish(wanted, url, mirror is None, tags or mirror is None))


def _containerd(setup: MirrorWish) -> tuple[ConfigFile, ...]:
    allowed = '["pull", "resolve"]' if setup.tags else '["pull"]'
    advice = ("Kubernetes needs `config_path` in containerd's own file, `ctr` needs `--hosts-dir`",)
    return tuple(
        ConfigFile(
            f"/etc/containerd/certs.d/{host}/hosts.toml",
            f'server = "https://{api_host(host)}"\n\n[host."{setup.base}"]\n'
            f"  capabilities = {allowed}\n",
            advice,
        )
        for host in setup.hosts
    )


def _docker(setup: MirrorWish) -> tuple[ConfigFile, ...]:
    if setup.hosts != (HUB,):
        raise Usage(
            "Docker uses mirrors for `docker.io` alone",
            "name no host, or pull by the mirror's own name: "
            f"`docker pull {setup.place}/{setup.hosts[-1]}/REPOSITORY`",
        )
    settings: dict[str, list[str]] = {"registry-mirrors": [setup.base]}
    if setup.is_open and not is_loopback(setup.url.host):
        settings["insecure-registries"] = [setup.url.authority]
    return (
        ConfigFile(
            "/etc/docker/daemon.json",
            json.dumps(settings, indent=2) + "\n",
            ("add these keys to the file, then `systemctl reload docker`",),
        ),
    )


def _podman(setup: MirrorWish) -> tuple[ConfigFile, ...]:
    tables = []
    for host in setup.hosts:
        # Without `ns=`: the registry is part of the name.
        place = f"{setup.place}/{spelled(host)}" if setup.ours else setup.place
        lines = [
            "[[registry]]",
            f'prefix = "{host}"',
            f'location = "{host}"',
            "",
            "[[registry.mirror]]",
            f'location = "{place}"',
        ]
        lines += ["insecure = true"] if setup.is_open else []
        lines += [] if setup.tags else ['pull-from-mirror = "digest-only"']
        tables.append("\n".join(lines) + "\n")
    path = "/etc/containers/registries.conf.d/50-mirror.conf"
    return (ConfigFile(path, "\n".join(tables)),)


def _buildkit(setup: MirrorWish) -> tuple[ConfigFile, ...]:
    tables = [f'[registry."{host}"]\n  mirrors = ["{setup.place}"]\n' for host in setup.hosts]
    if setup.is_open:
        tables.append(f'[registry."{setup.url.authority}"]\n  http = true\n')
    advice = (
        "for buildx: `docker buildx create --driver-opt network=host --buildkitd-config FILE`",
    )
    return (ConfigFile("/etc/buildkit/buildkitd.toml", "\n".join(tables), advice),)


#: Supported tools. To add one, write a function and add a row.
TOOLS: dict[str, Callable[[MirrorWish], tuple[ConfigFile, ...]]] = {
    "containerd": _containerd,
    "docker": _docker,
    "podman": _podman,
    "buildkit": _buildkit,
}
