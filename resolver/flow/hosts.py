"""Whose requests a server on this machine answers: those that were meant for it.

A page in somebody's browser may let its own name lead to 127.0.0.1 and then read what is served
there (DNS rebinding). Its requests still carry its own name, in `Host`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::[0-9]{1,5})?")


def is_meant(header: str, names: Collection[str]) -> bool:
    """Say whether a `Host` header may be answered.

    Args:
        header: as it came; a port is not looked at, since forwarding changes it.
        names: by which this server is known, in lower case; addresses and `localhost` need not
            be among them: nobody can let them lead elsewhere.

    """
    found = _HOST.fullmatch(header)
    if found is None:
        return False
    host = found[1].lower().rstrip(".")
    if host in names or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
