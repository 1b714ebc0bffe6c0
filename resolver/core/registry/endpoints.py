"""Endpoints of a registry in order, and the settings of each host.

One model for containerd's `hosts.toml`, containers' `registries.conf`, our own `config.yaml` and
`--mirror` (docs/wire-protocol.md, "Mirrors"). `sources` reads the files.
"""

from __future__ import annotations

from enum import Enum

from resolver.core.oci.reference import HUB, HUB_API
from resolver.values import dataclass


class Ability(Enum):
    """What a host may be used for. Source: containerd, "Registry Configuration", `capabilities`."""

    PULL = "pull"
    RESOLVE = "resolve"
    REFERRERS = "referrers"


EVERYTHING = frozenset(Ability)
#: The content can be verified against a digest.
BY_DIGEST = frozenset({Ability.PULL})
#: What is needed of an image by digest: its content and its referrers.
OF_DIGEST = frozenset({Ability.PULL, Ability.REFERRERS})


class Pulls(Enum):
    """The references of an endpoint. Source: containers-registries.conf(5), `pull-from-mirror`."""

    ALL = "all"
    BY_DIGEST = "digest-only"
    BY_TAG = "tag-only"


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """A client certificate in PEM form; `key` is empty when one file holds both."""

    certificate: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Settings of one host.

    Attributes:
        scheme: `https` or `http`; empty for the default (https, except on this machine).
        plain_too: fall back to plain HTTP if the host does not support TLS.
        headers: sent only to this host; values may be secrets.
        connect_timeout, read_timeout: in seconds; None for the defaults.
    """

    scheme: str = ""
    skip_verify: bool = False
    plain_too: bool = False
    ca: tuple[str, ...] = ()
    clients: tuple[ClientFiles, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    connect_timeout: float | None = None
    read_timeout: float | None = None
    rate: float | None = None
    jobs: int | None = None

    def __repr__(self) -> str:
        return f"HostSettings(scheme={self.scheme!r}, skip_verify={self.skip_verify!r})"

    @property
    def has_tls(self) -> bool:
        """Whether TLS trust or a client certificate is configured for this host."""
        return bool(self.ca or self.clients or self.skip_verify)


USUAL = HostSettings()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One host that serves a repository.

    Attributes:
        host: `host[:port]` of the API.
        credentials: the registry whose login is used; never that of another host.
        prefix: of every path, before the repository; begins with `/` unless it is empty.
        namespace: value of `ns=`, which identifies the upstream to a mirror; empty for none.
        is_upstream: whether it is the registry itself, not a mirror.
    """

    host: str
    repository: str
    credentials: str
    prefix: str = "/v2"
    abilities: frozenset[Ability] = EVERYTHING
    pulls: Pulls = Pulls.ALL
    namespace: str = ""
    is_upstream: bool = False
    settings: HostSettings = USUAL

    @property
    def url(self) -> str:
        """The URL for people; without a scheme if that is not configured."""
        scheme = f"{self.settings.scheme}://" if self.settings.scheme else ""
        return f"{scheme}{self.host}{self.prefix.removesuffix('/v2')}"


@dataclass(frozen=True, slots=True)
class HostChoice:
    """The endpoints of one repository, and the configuration they come from.

    Attributes:
        registry, repository: the logical name, used for storage and output.
        endpoints: in order; the registry itself is usually the last.
        source: the file, option or variable with the configuration; empty if there is none.
        form: of the source: `option`, `config.yaml`, `hosts.toml`, `registries.conf`, or empty.
        blocked: the registry itself must not be used; `endpoints` are its mirrors, if any.
    """

    registry: str
    repository: str
    endpoints: tuple[Endpoint, ...]
    source: str = ""
    form: str = ""
    blocked: bool = False

    @property
    def is_closed(self) -> bool:
        """Whether the registry is blocked and has no mirror."""
        return self.blocked and not self.endpoints

    @property
    def is_plain(self) -> bool:
        """Whether the registry itself is the only endpoint."""
        return len(self.endpoints) == 1 and self.endpoints[0].is_upstream


def used_for(endpoints: tuple[Endpoint, ...], *, by_digest: bool) -> tuple[Endpoint, ...]:
    """Return the endpoints used for references by digest, or by tag."""
    left_out = Pulls.BY_TAG if by_digest else Pulls.BY_DIGEST
    return tuple(endpoint for endpoint in endpoints if endpoint.pulls is not left_out)


def api_host(registry: str) -> str:
    """Return the API host of a registry (docs/wire-protocol.md, "API host")."""
    return HUB_API if registry == HUB else registry


def is_same_registry(host: str, registry: str) -> bool:
    """Whether a host is the registry itself, by its name or by its API's."""
    return host in (registry, api_host(registry))


def upstream(registry: str, repository: str, settings: HostSettings = USUAL) -> Endpoint:
    """Return the registry itself as an endpoint."""
    return Endpoint(api_host(registry), repository, registry, is_upstream=True, settings=settings)


def matches_prefix(name: str, prefix: str) -> bool:
    """Whether a `prefix` of registries.conf matches `host/path[:tag][@digest]`.

    `*.example.com` matches subdomains of any depth, and must be the whole prefix. Any other prefix
    must end at a component: before `/`, `@`, or the `:` of a tag. Upstream also lets `example.com`
    match `example.com:5000`, and calls that unintended.

    Source: containers/image v5 pkg/sysregistriesv2, refMatchingPrefix; docs/wire-protocol.md,
    "registries.conf".
    """
    if prefix.startswith("*."):
        host = name.partition("/")[0].partition("@")[0].partition(":")[0]
        return host.endswith(prefix[1:]) and len(host) > len(prefix) - 1
    if not name.startswith(prefix) or not prefix:
        return False
    rest = name[len(prefix) :]
    if not rest or rest[0] in "/@":
        return True
    return rest[0] == ":" and "/" in prefix


def rewrite(name: str, prefix: str, location: str) -> str:
    """Replace `prefix` by `location`, the host for a wildcard, as containers/image does."""
    if not location:
        return name
    if prefix.startswith("*."):
        return location + name[len(name.partition("/")[0]) :]
    return location + name[len(prefix) :]
