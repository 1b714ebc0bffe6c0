"""Which addresses a registry may lead to (reliability.md R22).

A registry chooses where its token server, its storage and its redirects are. Without a check it
could make a build machine ask the cloud's metadata service, or a host of the inner network. What
is checked is dialled: the caller pins the connection to the addresses that come out of here.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from resolver.errors import AddressRefused, ConnectionFailed

if TYPE_CHECKING:
    from resolver.sources.http.urls import Url

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Turns a host and a port into addresses in text form; raises OSError like `getaddrinfo`.
Lookup = Callable[[str, int], tuple[str, ...]]

#: Never dialled because a registry says so, wherever that registry is: instance metadata.
#: Source: AWS EC2 User Guide, "Instance metadata"; Alibaba Cloud ECS, "Instance metadata".
_METADATA = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200")
)
#: Source: RFC 6052 (well-known prefix) and RFC 8215 (local-use prefix).
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
#: Source: RFC 791; 0.0.0.0/8 reaches this host on Linux.
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")


class Zone(Enum):
    """Where an address leads, as far as its number tells."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    FORBIDDEN = "link-local, metadata, multicast or unspecified"


def zone_of(address: Address) -> Zone:
    """Say where an address leads; forms that carry an IPv4 address lead where that one does."""
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
    """Read a host that is an address; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine without asking anybody: `localhost`, 127/8, ::1."""
    if host == "localhost":
        return True
    address = literal(host)
    return address is not None and _embedded(address) is None and address.is_loopback


def look_up(host: str, port: int) -> tuple[str, ...]:
    """Ask the system for the addresses of a name, best first."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


class AddressPolicy:
    """Checks where a registry leads before anybody goes there; safe to share between threads."""

    def __init__(self, lookup: Lookup = look_up) -> None:
        self._lookup = lookup
        self._registries: dict[tuple[str, int], Zone] = {}

    def check(
        self, url: Url, registry: Url, *, proxied: bool, registry_proxied: bool
    ) -> tuple[str, ...]:
        """Decide whether `registry` may lead to `url`, and to which addresses.

        Behind a proxy names are the proxy's to resolve, so only the host as written is judged.

        Returns:
            The addresses to dial, best first; empty when the host is one itself or a proxy asks.

        Raises:
            AddressRefused: an address is not acceptable; one bad address refuses all.
            ConnectionFailed: the name has no address.

        """
        written = literal(url.host)
        zone = self._zone_of_registry(registry, proxied=registry_proxied)
        if written is not None:
            if _embedded(written) is not None and zone is Zone.PUBLIC:
                # Nobody honest writes an IPv4 address this way.
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
            # Only the system's resolver does not know it: judge as strictly as can be.
            return Zone.PUBLIC
        # One public address makes it public, else its owner could add a private one to get in.
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
    """Give the IPv4 address inside a v4-mapped, NAT64 or 6to4 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if any(address in network for network in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour
