"""What `Transport` is told and asked, and what it answers, as values."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from resolver._version import __version__
from resolver.core.oci.manifest import MAX_DOCUMENT
from resolver.core.registry.endpoints import USUAL
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from resolver.core.registry.endpoints import HostSettings
    from resolver.sources.http.messages import Headers
    from resolver.sources.http.urls import Url

#: Requests at once to one host, where nobody says. Source: architecture.md 2.3.
JOBS_PER_HOST = 8
#: Source: distribution, docs/content/spec/auth/scope.md, "registry".
CATALOG_SCOPE = "registry:catalog:*"
HOME_PAGE = "https://pypi.org/project/multiarch-resolver/"


@dataclass(frozen=True, slots=True)
class Scope:
    """On whose behalf something is asked.

    Attributes:
        registry: identity of the registry, `host[:port]`, which credentials are filed under.
        repository: without the registry; empty for a question about no repository.
        catalog: whether the question is about the list of all repositories.

    """

    registry: str
    repository: str
    catalog: bool = False

    @property
    def scopes(self) -> tuple[str, ...]:
        """What a token for the question must allow, and all that is ever asked for (R29)."""
        if self.catalog:
            return (CATALOG_SCOPE,)
        return (f"repository:{self.repository}:pull",) if self.repository else ()

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}"


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """What decides how registries are reached; times in seconds.

    Attributes:
        ca_file: authorities in PEM form, on top of the system's.
        plain_http: speak http, not https, to every registry.
        jobs_per_host: requests at once to one host.
        attempts: in all, for one question.
        max_wait: a server that asks to wait longer is given up at once.
        deadline: for one question, waits included; streams are not bound by it.
        environment: for proxies and `SSL_CERT_FILE`; nothing else is read.
        engine: a name in `engine.ENGINES`.
        via: by which a mirror knows its own requests again (RFC 9110, 7.6.3); empty for none.

    """

    ca_file: Path | None = None
    plain_http: bool = False
    tls_skip_verify: bool = False
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    jobs_per_host: int = JOBS_PER_HOST
    attempts: int = 5
    max_wait: float = 60.0
    deadline: float = 120.0
    user_agent: str = f"resolver/{__version__} (+{HOME_PAGE})"
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    engine: str = "pyreqwest"
    via: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A question to a registry.

    Attributes:
        host: of its API, `host[:port]`.
        target: path and query.
        what: the thing asked for, for messages.
        limit: bytes of the answer's body.
        headers: beside those that every request has.
        settings: what is particular about the host.
        attempts: in all; None for the usual number.
        stays: a redirect to another origin is an answer here, and not followed.

    """

    method: str
    host: str
    asker: Scope
    target: str
    what: str
    limit: int = MAX_DOCUMENT
    headers: tuple[tuple[str, str], ...] = ()
    settings: HostSettings = USUAL
    attempts: int | None = None
    stays: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer; of one that is an error, the first 8 KiB.

    Attributes:
        url: where it came from, after redirects.
        registry: the registry's own origin.

    """

    status: int
    headers: Headers
    body: bytes
    url: Url
    registry: Url
