"""Find out whether a registry takes a login, before it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.hosts import USUAL, api_host
from resolver.errors import AuthenticationFailed, AuthenticationRequired, ServerFault, Usage
from resolver.sources.questions import Asker, Request

if TYPE_CHECKING:
    from resolver.core.hosts import HostSettings
    from resolver.sources.questions import Response
    from resolver.sources.transport import Transport

_OK, _NOT_FOUND, _FORBIDDEN = 200, 404, 403


def is_wanted(transport: Transport, registry: str, settings: HostSettings = USUAL) -> bool:
    """Ask a registry with the credentials that the transport has; False if it wanted none.

    `settings` are what is particular about its host. It is asked itself, never a mirror of it.

    Raises:
        AuthenticationFailed: it, or its token server, does not take them.
        Usage: it answers, and is no registry.
        Denied, Unavailable: as every request.
    """
    asker = Asker(registry, "")
    what = f"the API of `{registry}`"
    request = Request("GET", api_host(registry), asker, "/v2/", what, settings=settings)
    try:
        response = transport.fetch(request)
    except (AuthenticationFailed, AuthenticationRequired) as error:
        raise _refused(registry) from error
    if response.status == _FORBIDDEN:
        raise _refused(registry)
    if response.status == _NOT_FOUND:
        raise Usage(f"`{registry}` answers, and is no registry", "check its name and port")
    if response.status != _OK:
        raise ServerFault(f"`{registry}` answered {response.status} to a login", "try again later")
    return transport.has_shown_credentials(asker)


def knock(transport: Transport, registry: str, settings: HostSettings = USUAL) -> Response:
    """Ask a registry itself for its API, once and without a login; any answer will do.

    Raises:
        Unavailable: nobody answers there.
    """
    what = f"the API of `{registry}`"
    asker = Asker(registry, "")
    request = Request("GET", api_host(registry), asker, "/v2/", what, settings=settings)
    return transport.knock(request)


def _refused(registry: str) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"`{registry}` does not take this user name and password; nothing was kept",
        "check both; some registries want an access token in place of the password",
    )
