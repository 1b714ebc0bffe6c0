"""Whether there can be such a host and port at all; no look-up, no network.

The grammar of references takes any digits as a port and any hex digits as an IPv6 address.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

#: Source: reliability.md R1; the port counts.
MAX_HOST = 255
MAX_PORT = 65_535
#: A longer label cannot be looked up. Source: RFC 1035, 2.3.4.
MAX_LABEL = 63

_UPPER = re.compile(r"[A-Z]")


def endpoint_problem(registry: str) -> str | None:
    """Say why `host[:port]`, valid by the grammar, cannot exist; None when it can."""
    host, port = _split_port(registry)
    if port is not None and not _is_port(port):
        return f"the port `{port[:12]}` is not in 1..{MAX_PORT}"
    if len(registry) > MAX_HOST:
        return f"the registry has {len(registry)} characters, at most {MAX_HOST} can be"
    if host.startswith("["):
        return _address_problem(host)
    if any(len(label) > MAX_LABEL for label in host.split(".")):
        return f"a part of the host name has more than {MAX_LABEL} characters"
    if is_accidental_host(registry):
        return f"for its upper-case letters `{host}` is taken for a registry"
    return None


def is_accidental_host(registry: str) -> bool:
    """Whether only upper-case letters make this a host: `Owner/app`.

    Docker looks for `app` on a host `Owner`, which nobody means.
    """
    return "." not in registry and ":" not in registry and _UPPER.search(registry) is not None


def _split_port(registry: str) -> tuple[str, str | None]:
    host, colon, port = registry.rpartition(":")
    if not colon or registry.endswith("]"):
        return registry, None
    return host, port


def _is_port(text: str) -> bool:
    digits = text.lstrip("0")
    return 0 < len(digits) <= len(str(MAX_PORT)) and int(digits) <= MAX_PORT


def _address_problem(host: str) -> str | None:
    try:
        IPv6Address(host[1:-1])
    except AddressValueError:
        return f"`{host[:45]}` is not an IPv6 address"
    return None
