"""Where a registry is asked: its endpoints in order, and what is particular about each host.

One model for what containerd's `hosts.toml`, containers' `registries.conf`, our own `config.yaml`
and `--mirror` say (protocol.md 13). Values only: who reads them is in `sources`.
"""

from __future__ import annotations

from enum import Enum

from resolver.core.reference import HUB_API
from resolver.core.reference_grammar import HUB
from resolver.values import dataclass


class Ability(Enum):
    """What an endpoint may be asked for. Source: containerd docs/hosts.md, `capabilities`."""

    PULL = "pull"
    RESOLVE = "resolve"
    REFERRERS = "referrers"


EVERYTHING = frozenset(Ability)
#: Whatever comes can be checked against a digest.
BY_DIGEST = frozenset({Ability.PULL})
#: What belongs to an image that was asked for by digest: its content and what refers to it.
OF_DIGEST = frozenset({Ability.PULL, Ability.REFERRERS})


class Pulls(Enum):
    """For which references an endpoint is used, whatever belongs to the image behind them.

    Source: containers-registries.conf(5), `pull-from-mirror`.
    """

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
    """What is particular about one host; the defaults are those of every host.

    Attributes:
        scheme: `https` or `http`; empty for the usual rule (https, unless it is this machine).
        skip_verify: certificates are not checked.
        plain_too: plain http will do where no TLS is spoken.
        ca: files of authorities in PEM form, on top of the system's.
        clients: certificates to prove oneself by.
        headers: sent to this host and nowhere else; values may be secrets.
        connect_timeout, read_timeout: in seconds; None for the usual ones.
        rate: requests per second at most.
        jobs: requests at once at most.

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
        """Whether somebody said whom to believe there, or how to prove oneself."""
        return bool(self.ca or self.clients or self.skip_verify)


USUAL = HostSettings()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place where one repository can be asked for.

    Attributes:
        host: `host[:port]` of the API.
        repository: the name it goes by there.
        credentials: the registry whose login is used; never that of another host.
        prefix: of every path, before the repository; begins with `/` unless it is empty.
        abilities: what it may be asked for.
        pulls: for which references it is used at all.
        namespace: value of `ns=`, by which one mirror tells upstreams apart; empty for none.
        is_upstream: the registry itself, not a mirror of it.

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
        """How people know it; without a scheme where that is found out."""
        scheme = f"{self.settings.scheme}://" if self.settings.scheme else ""
        return f"{scheme}{self.host}{self.prefix.removesuffix('/v2')}"


@dataclass(frozen=True, slots=True)
class HostChoice:
    """Where one repository is asked for, and who said so.

    Attributes:
        registry, repository: the logical name, under which everything is kept and shown.
        endpoints: in order; the registry itself is usually the last.
        source: the file, option or variable that decided; empty when none did.
        form: of the source: `option`, `config.yaml`, `hosts.toml`, `registries.conf`, or empty.
        blocked: the registry itself is not to be asked; then `endpoints` are its mirrors, if any.

    """

    registry: str
    repository: str
    endpoints: tuple[Endpoint, ...]
    source: str = ""
    form: str = ""
    blocked: bool = False

    @property
    def is_closed(self) -> bool:
        """Whether nobody is to be asked: the registry is blocked and has no mirror."""
        return self.blocked and not self.endpoints

    @property
    def is_plain(self) -> bool:
        """Whether the registry itself is all there is."""
        return len(self.endpoints) == 1 and self.endpoints[0].is_upstream


def used_for(endpoints: tuple[Endpoint, ...], *, by_digest: bool) -> tuple[Endpoint, ...]:
    """Give the endpoints that are used for a reference by digest, or by tag."""
    left_out = Pulls.BY_TAG if by_digest else Pulls.BY_DIGEST
    return tuple(each for each in endpoints if each.pulls is not left_out)


def api_host(registry: str) -> str:
    """Give the host that answers the API of a registry. Source: protocol.md 1.5."""
    return HUB_API if registry == HUB else registry


def is_same_registry(host: str, registry: str) -> bool:
    """Whether a host is the registry itself, by its name or by its API's."""
    return host in (registry, api_host(registry))


def upstream(registry: str, repository: str, settings: HostSettings = USUAL) -> Endpoint:
    """Give the registry itself as an endpoint."""
    return Endpoint(api_host(registry), repository, registry, is_upstream=True, settings=settings)


def matches_prefix(name: str, prefix: str) -> bool:
    """Whether a `prefix` of registries.conf is meant for `host/path[:tag][@digest]`.

    `*.example.com` means sub-domains of any depth, and nothing may follow it. What follows any
    other prefix must begin a new part: `/`, `@`, or a `:` that introduces a tag. Upstream also
    lets `example.com` match `example.com:5000`, and calls that unintended (quirk q-096).

    Source: containers/image v5 pkg/sysregistriesv2, refMatchingPrefix; protocol.md 13.2.
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
    """Put `location` in the place of `prefix`; with a wildcard, in the place of the host.

    Source: containers/image v5 pkg/sysregistriesv2, rewriteReference.
    """
    if not location:
        return name
    if prefix.startswith("*."):
        return location + name[len(name.partition("/")[0]) :]
    return location + name[len(prefix) :]
