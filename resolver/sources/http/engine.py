"""The interface of the HTTP engines, and what they are given.

An engine sends one request and returns its response: no redirects, cookies, decoding or retries.
`pyreqwest_engine` serves where pyreqwest is installed (TLS and bodies run outside the GIL),
`httpx_engine` everywhere else; neither imports the other's library. See docs/wire-protocol.md,
"HTTP client".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.sources.http.addresses import Proxy
    from resolver.sources.http.messages import Call, StreamedResponse, Trust

#: Names of the engines, the preferred one first.
ENGINES: Final = ("pyreqwest", "httpx")


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Settings of connections; times in seconds.

    Attributes:
        trust: TLS trust and client certificate.
        connections: idle connections to keep to each host.
        own: the host has settings of its own.
        plain_http: http was chosen by `--plain-http`; for hints.

    """

    trust: Trust
    connect_timeout: float
    read_timeout: float
    connections: int
    own: bool = False
    plain_http: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach a host.

    Attributes:
        settings: of its connections.
        proxy: None to connect directly.
        pin: host, checked address and port; None to use the system's resolver.

    """

    settings: ConnectionSettings
    proxy: Proxy | None = None
    pin: tuple[str, str, int] | None = None


class Engine(Protocol):
    """Sends requests; safe to share between threads."""

    def open(self, call: Call, route: Route, *, answered: bool) -> StreamedResponse:
        """Send one request and return its response once the headers have arrived.

        `answered` means that the server is known to use the scheme of the URL; for hints.

        Raises:
            RetryableFailure: there is no usable response; also while the body is read.

        """
        ...

    def close(self) -> None:
        """Close connections; active requests fail, and later ones open new connections."""
        ...
