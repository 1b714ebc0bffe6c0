"""Following a registry to another place, by hand (protocol.md 15, reliability.md R19)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import RedirectRefused, ServerFault
from resolver.sources.urls import BadUrl

if TYPE_CHECKING:
    from resolver.sources.exchange import Headers
    from resolver.sources.urls import Url

#: Source: reliability.md section 5; containerd, regclient and distribution stop at 10.
MAX_REDIRECTS = 5
FOLLOWED = frozenset({301, 302, 303, 307, 308})
_FIRST, _LAST = 300, 399


def is_redirect(status: int) -> bool:
    """Whether a status is a 3xx, which is either followed or refused, never an answer."""
    return _FIRST <= status <= _LAST


def next_url(current: Url, status: int, headers: Headers, registry: Url) -> Url:
    """Find out where a redirect leads; addresses are not judged here.

    Only if the registry is plain http itself may other places be.

    Raises:
        ServerFault: the status is no redirect to follow.
        RedirectRefused: where it leads must not be gone to.

    """
    if status not in FOLLOWED:
        raise ServerFault(f"`{current.authority}` answered {status}, which is no answer to a GET")
    locations = headers.all("location")
    if len(locations) != 1:
        raise RedirectRefused(
            f"`{current.authority}` answered {status} with {len(locations)} `Location` headers"
        )
    try:
        target = current.join(locations[0])
    except BadUrl as error:
        raise RedirectRefused(
            f"`{current.authority}` redirects to a URL that is refused: {error}"
        ) from error
    if target.scheme == "http" and registry.scheme == "https":
        raise RedirectRefused(
            f"`{current.authority}` redirects from https to plain http at `{target.authority}`",
            "what is asked for over https is not fetched in the open",
        )
    return target


def leads_away(current: Url, status: int, headers: Headers, registry: Url) -> bool:
    """Say whether a redirect leaves the origin it comes from, or leads nowhere."""
    try:
        return next_url(current, status, headers, registry).origin != current.origin
    except (RedirectRefused, ServerFault):
        return True
