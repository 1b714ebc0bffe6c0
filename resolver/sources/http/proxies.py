"""Which proxy a request goes through: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.

Own code, because httpx ignores IPv4 networks in `NO_PROXY` and fails on IPv6 ones (protocol.md 16).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import field
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from resolver.core.results.events import Noted
from resolver.core.results.pull_events import ignore
from resolver.errors import InvalidConfiguration
from resolver.sources.credentials.secrets import Secret
from resolver.sources.http.addresses import is_loopback, literal
from resolver.sources.http.urls import BadUrl, Url
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.results.pull_events import Observer

_PORT = re.compile(r"[0-9]{1,5}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and who it wants to hear from.

    Attributes:
        url: without userinfo.
        password: None when the URL names no user.

    """

    url: Url
    username: str = field(default="", repr=False)
    password: Secret | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """What the environment says about proxies, read once.

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
            InvalidConfiguration: a variable holds no usable proxy URL; its value is not shown.

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
        """Give the proxy for a URL; None to go there directly."""
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
        # The cause would show the value, which may hold a password.
        raise InvalidConfiguration(name, "", "it is not the URL of a proxy") from None
    if not at:
        return Proxy(url)
    username, _, password = userinfo.partition(":")
    return Proxy(url, unquote(username), Secret(unquote(password)))


def _matches(entry: str, url: Url) -> bool:
    """Compare one entry of NO_PROXY. Source: golang.org/x/net/http/httpproxy, Config.NoProxy."""
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
