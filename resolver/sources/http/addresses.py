"""Network addresses: the policy for redirects and token servers, and the proxy settings.

A registry chooses its token server, storage and redirects. Unchecked, it could make a build machine
contact the cloud's metadata service or an internal host. The caller pins the connection to the
addresses that were checked. See docs/wire-protocol.md, "Address policy".
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import field
from enum import Enum
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from resolver.core.results.events import Noted, ignore
from resolver.errors import AddressRefused, ConnectionFailed, InvalidConfiguration
from resolver.sources.credentials.secrets import Secret
from resolver.sources.http.urls import BadUrl, Url
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.results.events import Observer

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Resolves a host and port to addresses as text; raises OSError like `getaddrinfo`.
Lookup = Callable[[str, int], tuple[str, ...]]

#: Instance metadata: never contacted on behalf of any registry.
#: Source: AWS EC2 User Guide, "Instance metadata"; Alibaba Cloud ECS, "Instance metadata".
_METADATA = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200")
)
#: Source: RFC 6052 (well-known prefix) and RFC 8215 (local-use prefix).
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
#: Source: RFC 791; 0.0.0.0/8 reaches this host on Linux.
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")


class Zone(Enum):
    """Network zone of an address."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    FORBIDDEN = "link-local, metadata, multicast or unspecified"


def zone_of(address: Address) -> Zone:
    """Return the zone of an address; an embedded IPv4 address decides."""
    inner = _embedded(address)
    if inner is not None:
        return zone_of(inner)
    unspecified = address.is_unspecified or (
        isinstance(address, ipaddress.IPv4Address) and address in _THIS_NETWORK
    )
    if address in _METADATA or address.is_link_local or address.is_multicast or unspecified:
        return Zone.FORBIDDEN
    if address.is_loopback:
        return Zone.LOOPBACK
    # fec0::/10 was the private range of IPv6 before fc00::/7 (RFC 3879); Python calls it global.
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return Zone.PUBLIC if address.is_global and not site_local else Zone.PRIVATE


def literal(host: str) -> Address | None:
    """Return the address that a host is; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine without a lookup: `localhost`, 127/8, ::1."""
    if host == "localhost":
        return True
    address = literal(host)
    return address is not None and _embedded(address) is None and address.is_loopback


def look_up(host: str, port: int) -> tuple[str, ...]:
    """Return the addresses of a name from the system's resolver, best first."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


class AddressPolicy:
    """Checks addresses that a registry leads to; safe to share between threads."""

    def __init__(self, lookup: Lookup = look_up) -> None:
        self._lookup = lookup
        self._registries: dict[tuple[str, int], Zone] = {}

    def check(
        self, url: Url, registry: Url, *, proxied: bool, registry_proxied: bool
    ) -> tuple[str, ...]:
        """Return the addresses of `url` that `registry` may lead to.

        A proxy resolves names itself, so only the host as written is checked then.

        Returns:
            The addresses to dial, best first; empty if the host is an address or a proxy is used.

        Raises:
            AddressRefused: any of the addresses is not allowed.
            ConnectionFailed: the name has no address.

        """
        written = literal(url.host)
        zone = self._zone_of_registry(registry, proxied=registry_proxied)
        if written is not None:
            if _embedded(written) is not None and zone is Zone.PUBLIC:
                # Only used to disguise an address.
                raise _refused(url, registry, str(written), "an IPv4 address in disguise")
            _judge(url, registry, written, zone)
            return ()
        if proxied:
            if is_loopback(url.host):
                _judge(url, registry, ipaddress.IPv4Address("127.0.0.1"), zone)
            return ()
        addresses = self._addresses(url)
        for text in addresses:
            _judge(url, registry, ipaddress.ip_address(text), zone)
        return addresses

    def _zone_of_registry(self, registry: Url, *, proxied: bool) -> Zone:
        key = (registry.host, registry.port)
        known = self._registries.get(key)
        if known is None:
            known = self._find_zone(registry, proxied=proxied)
            self._registries[key] = known
        return known

    def _find_zone(self, registry: Url, *, proxied: bool) -> Zone:
        written = literal(registry.host)
        if written is not None:
            return zone_of(written)
        if is_loopback(registry.host):
            return Zone.LOOPBACK
        if proxied:
            return Zone.PUBLIC
        try:
            zones = {zone_of(ipaddress.ip_address(text)) for text in self._addresses(registry)}
        except ConnectionFailed:
            # Unknown to the system's resolver: apply the strictest policy.
            return Zone.PUBLIC
        # One public address makes it public; otherwise its owner could add a private one to get in.
        return Zone.PUBLIC if Zone.PUBLIC in zones else Zone.PRIVATE

    def _addresses(self, url: Url) -> tuple[str, ...]:
        try:
            found = self._lookup(url.host, url.port)
        except (OSError, UnicodeError) as error:
            raise ConnectionFailed(
                f"cannot find the address of `{url.host}`", "check the name and the DNS server"
            ) from error
        if not found:
            raise ConnectionFailed(f"`{url.host}` has no address")
        return found


def _judge(url: Url, registry: Url, address: Address, zone: Zone) -> None:
    target = zone_of(address)
    if target is Zone.FORBIDDEN or (zone is Zone.PUBLIC and target is not Zone.PUBLIC):
        raise _refused(url, registry, str(address), target.value)


def _refused(url: Url, registry: Url, address: str, kind: str) -> AddressRefused:
    return AddressRefused(
        f"`{registry.authority}` leads to `{url.authority}`, whose address `{address}` is refused: "
        f"{kind}",
        "a registry on the internet must not lead into a private network; "
        "use the registry's own private address if it is yours",
    )


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address inside a v4-mapped, NAT64 or 6to4 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if any(address in network for network in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour


_PORT = re.compile(r"[0-9]{1,5}")


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy and its login.

    Attributes:
        url: without userinfo.
        password: None if the URL has no user.

    """

    url: Url
    username: str = field(default="", repr=False)
    password: Secret | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Proxy settings from the environment.

    Attributes:
        exceptions: entries of `NO_PROXY`, in lower case.

    """

    http: Proxy | None = None
    https: Proxy | None = None
    exceptions: tuple[str, ...] = ()

    @classmethod
    def load(cls, environment: Mapping[str, str], observe: Observer = ignore) -> Self:
        """Read the variables; lower case wins, as in Python and curl.

        Raises:
            InvalidConfiguration: a variable is not a usable proxy URL; its value is not shown.

        """

        def read(name: str) -> str:
            lower, upper = environment.get(name.lower()), environment.get(name)
            if name == "HTTP_PROXY" and "REQUEST_METHOD" in environment:
                # In a CGI program a request header `Proxy:` becomes HTTP_PROXY (CVE-2016-5385).
                upper = None
            if lower is not None and upper is not None and lower != upper:
                observe(Noted(f"`{name.lower()}` and `{name}` differ; the lower-case one is used"))
            return (upper if lower is None else lower) or ""

        every = read("ALL_PROXY")
        return cls(
            http=_read_proxy("HTTP_PROXY", read("HTTP_PROXY") or every),
            https=_read_proxy("HTTPS_PROXY", read("HTTPS_PROXY") or every),
            exceptions=tuple(read("NO_PROXY").lower().replace(",", " ").split()),
        )

    def find(self, url: Url) -> Proxy | None:
        """Return the proxy for a URL; None for a direct connection."""
        proxy = self.http if url.scheme == "http" else self.https
        if proxy is None or is_loopback(url.host):
            return None
        if any(_matches(entry, url) for entry in self.exceptions):
            return None
        return proxy


def _read_proxy(name: str, text: str) -> Proxy | None:
    if not text:
        return None
    if not _SCHEME.match(text):
        text = f"http://{text}"
    scheme, _, rest = text.partition("://")
    authority = rest.partition("/")[0]
    userinfo, at, host = authority.rpartition("@")
    if scheme.lower() not in ("http", "https"):
        raise InvalidConfiguration(name, "", "only http and https proxies are supported")
    try:
        url = Url.parse(f"{scheme}://{host}/")
    except BadUrl:
        # The cause would show the value, which may contain a password.
        raise InvalidConfiguration(name, "", "it is not the URL of a proxy") from None
    if not at:
        return Proxy(url)
    username, _, password = userinfo.partition(":")
    return Proxy(url, unquote(username), Secret(unquote(password)))


def _matches(entry: str, url: Url) -> bool:
    """Match an entry of NO_PROXY. Source: golang.org/x/net/http/httpproxy, Config.NoProxy."""
    if entry == "*":
        return True
    address = literal(url.host)
    if "/" in entry:
        return address is not None and _in_network(address, entry)
    name, port = _split(entry)
    if port is not None and port != url.port:
        return False
    if address is not None:
        return literal(name) == address
    # `*.example.com` and `.example.com` mean sub-domains only.
    suffix = name.removeprefix("*")
    return url.host.endswith(suffix if suffix.startswith(".") else f".{name}") or url.host == name


def _in_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, entry: str) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def _split(entry: str) -> tuple[str, int | None]:
    """Split `host:port`, `[v6]:port`, and leave a bare IPv6 address whole."""
    if entry.startswith("["):
        host, _, tail = entry[1:].partition("]")
        return host, _port(tail.removeprefix(":"))
    if entry.count(":") > 1:
        return entry, None
    host, _, digits = entry.partition(":")
    return host, _port(digits)


def _port(digits: str) -> int | None:
    return int(digits) if _PORT.fullmatch(digits) else None
