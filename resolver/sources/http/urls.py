"""URLs of registries, storage hosts and token servers: parsed strictly, shown without secrets."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from typing import Self
from urllib.parse import unquote, urljoin

from resolver.values import dataclass

#: Most characters of a URL; presigned storage links reach 4 KiB.
MAX_LENGTH = 16_384
PORTS = {"http": 80, "https": 443}

#: RFC 3986 allows visible ASCII without the backslash, on which parsers disagree.
_VISIBLE = re.compile(r"[!-\[\]-~]+")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_PORT = re.compile(r"[0-9]{1,5}")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
#: Parameters of presigned links and token requests. Source: AWS SigV4 query parameters, Google
#: Cloud Storage V4 signing, Azure SAS (`sig`), CloudFront (`Signature`, `Policy`);
#: docs/store-and-reliability.md, "Secret redaction".
_SECRET = re.compile(r"sig|token|credential|policy|password|key", re.IGNORECASE)
_MAX_HOST = 255
_MAX_PORT = 65_535


class BadUrl(ValueError):
    """Text that is not an acceptable URL; the message is the reason."""


@dataclass(frozen=True, slots=True, repr=False)
class Url:
    """An absolute http or https URL without userinfo and fragment.

    `str` and `repr` omit the query, which may contain a signature; `wire` includes it.

    Attributes:
        host: in lower case; an IPv6 address without its brackets.
        target: path and query as sent; starts with `/`.

    """

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an absolute URL.

        Raises:
            BadUrl: it is malformed, carries userinfo, or has another scheme than http and https.

        """
        if len(text) > MAX_LENGTH:
            raise BadUrl(f"it is longer than {MAX_LENGTH} characters")
        if not _VISIBLE.fullmatch(text):
            raise BadUrl("it is empty, or holds characters that no URL may hold")
        found = _SCHEME.fullmatch(text)
        if found is None:
            raise BadUrl("it has no scheme")
        scheme = found[1].lower()
        if scheme not in PORTS:
            raise BadUrl(f"its scheme is `{scheme[:20]}`, not https")
        if not found[2].startswith("//"):
            raise BadUrl("it has no host")
        rest = found[2][2:].partition("#")[0]
        end = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
        authority, target = rest[:end], rest[end:]
        if "@" in authority:
            raise BadUrl("it carries a user name or password")
        host, port = _host_and_port(authority, PORTS[scheme])
        return cls(scheme, host, port, target if target.startswith("/") else f"/{target}")

    def join(self, location: str) -> Self:
        """Resolve a reference, relative or absolute, against this URL.

        Raises:
            BadUrl: `parse` rejects the result.

        """
        # Before urljoin, which silently removes tabs and line breaks.
        if len(location) > MAX_LENGTH or not _VISIBLE.fullmatch(location):
            raise BadUrl("it is empty, too long, or holds characters that no URL may hold")
        if _SCHEME.fullmatch(location):
            # Not by urljoin, which treats `http:///x` as a path of this host, where others see a
            # host.
            return self.parse(location)
        if location.startswith("//"):
            return self.parse(f"{self.scheme}:{location}")
        return self.parse(urljoin(self.wire, location))

    def at(self, target: str) -> Self:
        """Return the URL of another path and query of the same origin."""
        return replace(self, target=target)

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials are bound to."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Host, and port unless it is the scheme's own; IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query without its `?`; empty when there is none."""
        return self.target.partition("?")[2]

    @property
    def signatures(self) -> tuple[str, ...]:
        """Secret values in the query, in the spellings that a server may repeat."""
        found: list[str] = []
        for part in self.query.split("&"):
            name, _, value = part.partition("=")
            if _SECRET.search(name) and value:
                found += [value, unquote(value)]
        return tuple(dict.fromkeys(found))

    @property
    def wire(self) -> str:
        """The whole URL, only for sending: the query may be secret."""
        return f"{self.scheme}://{self.authority}{self.target}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"


def is_host(text: str) -> bool:
    """Whether this is a valid host, with or without a port."""
    try:
        url = Url.parse(f"https://{text}/")
    except BadUrl:
        return False
    return url.target == "/" and "/" not in text


def _host_and_port(authority: str, default: int) -> tuple[str, int]:
    bracketed = authority.startswith("[")
    host, bracket, tail = authority[1:].partition("]") if bracketed else ("", "", "")
    if not bracketed:
        host, colon, digits = authority.partition(":")
        tail = colon + digits
    if bracketed and (not bracket or not _is_ipv6(host)):
        raise BadUrl("its host is not an IPv6 address")
    if not bracketed:
        _check_name(host)
    if tail in ("", ":"):
        return host.lower(), default
    if not tail.startswith(":") or not _PORT.fullmatch(tail[1:]):
        raise BadUrl("its port is not a number from 1 to 65535")
    port = int(tail[1:])
    if not 1 <= port <= _MAX_PORT:
        raise BadUrl("its port is not a number from 1 to 65535")
    return host.lower(), port


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        return False


def _check_name(host: str) -> None:
    """Refuse invalid host names and unusual spellings of IPv4 addresses.

    `getaddrinfo` accepts `2852039166`, `0xa9fea9fe` and `127.1`; address checks do not.
    """
    if len(host) > _MAX_HOST or not _NAME.fullmatch(host) or ".." in host:
        raise BadUrl("its host is not a host name")
    if not _NUMBER.fullmatch(host.rpartition(".")[2]):
        return
    try:
        ipaddress.IPv4Address(host)
    except ValueError as error:
        raise BadUrl("its host is an unusual spelling of an IP address") from error
