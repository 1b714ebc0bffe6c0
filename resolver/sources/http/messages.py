"""Requests, responses and options of the transport, as values without an HTTP library."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import field
from enum import Enum
from typing import TYPE_CHECKING, Protocol, Self

from resolver._version import __version__
from resolver.core.oci.manifest import MAX_DOCUMENT
from resolver.core.registry.endpoints import USUAL
from resolver.errors import LimitExceeded
from resolver.values import dataclass

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    import httpx

    from resolver.core.registry.endpoints import ClientFiles, HostSettings
    from resolver.errors import ResolverError
    from resolver.sources.credentials.secrets import Secret
    from resolver.sources.http.urls import Url

#: Most bytes read of an error response.
MAX_ERROR_BODY = 8_192
_LENGTH = re.compile(r"[0-9]{1,19}")


class Purpose(Enum):
    """Purpose of a request; decides redirects and retries."""

    RESOURCE = "resource"
    PING = "ping"
    TOKEN = "token"  # noqa: S105 - the name of a purpose


@dataclass(frozen=True, slots=True)
class Headers:
    """Header lines in received order; names are case-insensitive."""

    lines: tuple[tuple[str, str], ...] = ()

    def all(self, name: str) -> tuple[str, ...]:
        """Return the value of every line of this name."""
        wanted = name.lower()
        return tuple(value for key, value in self.lines if key.lower() == wanted)

    def get(self, name: str) -> str | None:
        """Return the value of the first line of this name."""
        return next(iter(self.all(name)), None)

    @property
    def content_length(self) -> int | None:
        """Stated length in bytes; None if absent or invalid."""
        text = self.get("content-length")
        return int(text) if text is not None and _LENGTH.fullmatch(text) else None

    @property
    def content_type(self) -> str | None:
        """The media type as sent, with its parameters."""
        return self.get("content-type")

    @property
    def encoded(self) -> str | None:
        """The content coding; None for `identity`."""
        text = (self.get("content-encoding") or "").strip().lower()
        return text if text not in ("", "identity") else None


@dataclass(frozen=True, slots=True)
class Call:
    """One request on the wire.

    Attributes:
        registry: origin of the registry that this is sent for.
        authorization: header value; sent to the origin of `url` only.
        body: a form, which may contain a token, or a document to upload.
        stream: opens the body of an upload; each attempt calls it again.
        patience: timeout of the whole response in seconds; None for a stream.
        options: of the registry's host; apply to its own origin only.
        stays: return a redirect to another origin instead of following it.

    """

    purpose: Purpose
    method: str
    url: Url
    registry: Url
    headers: tuple[tuple[str, str], ...] = ()
    authorization: Secret | None = None
    body: bytes | None = field(default=None, repr=False)
    stream: Callable[[], Iterator[bytes]] | None = field(default=None, repr=False)
    patience: float | None = None
    options: HostOptions | None = None
    stays: bool = False

    @property
    def own_options(self) -> HostOptions | None:
        """Return the host options, unless the URL is at another origin, such as storage."""
        return self.options if self.url.origin == self.registry.origin else None

    def header_lines(self) -> list[tuple[str, str]]:
        """Return all header lines to send, secrets included."""
        lines = list(self.headers)
        if self.own_options is not None:
            # `Authorization` comes from the authentication flow, if there is one.
            own = [(name, value.reveal()) for name, value in self.own_options.headers]
            proven = self.authorization is not None
            lines += [pair for pair in own if not (proven and pair[0].lower() == "authorization")]
        if self.authorization is not None:
            lines.append(("Authorization", self.authorization.reveal()))
        return lines


class RetryableFailure(Exception):
    """A failed exchange, with its error and whether to retry.

    Attributes:
        error: raised if there is no retry.
        transient: the same request may succeed later.
        retry_after: seconds requested by the server.
        unconnected: the connection attempt timed out.

    """

    def __init__(
        self,
        error: ResolverError,
        *,
        transient: bool = False,
        retry_after: float | None = None,
        unconnected: bool = False,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.transient = transient
        self.retry_after = retry_after
        self.unconnected = unconnected


class StreamedResponse:
    """A response whose body is unread; close it or use it in a `with` block.

    Attributes:
        url: final URL, after redirects.
        direct: no redirect was followed.
        body: set by `read`.

    """

    def __init__(self, status: int, headers: Headers, url: Url, chunks: Iterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self.url = url
        self.direct = True
        self.body = b""
        self._chunks = chunks
        self._read = False
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def on_close(self, action: Callable[[], None]) -> None:
        """Add an action for `close`; the last one added runs first."""
        self._closing.callback(action)

    def close(self) -> None:
        """Release the connection, or drop it if the body was not read completely."""
        self._closing.close()

    def chunks(self) -> Iterator[bytes]:
        """Stream the body."""
        return self._chunks

    def watch(self, guard: Callable[[Iterator[bytes]], Iterator[bytes]]) -> None:
        """Wrap the stream of chunks in `guard`."""
        self._chunks = guard(self._chunks)

    def read(self, limit: int, what: str) -> bytes:
        """Read the whole body; refuse a stated length over the limit before reading.

        Raises:
            LimitExceeded: the body or its stated length exceeds `limit` bytes.
            RetryableFailure: it ended early or took too long.

        """
        announced = self.headers.content_length
        if announced is not None and announced > limit:
            raise LimitExceeded(what, limit, announced)
        parts: list[bytes] = []
        count = 0
        for chunk in self._chunks:
            count += len(chunk)
            if count > limit:
                raise LimitExceeded(what, limit, f"at least {count}")
            parts.append(chunk)
        self._read = True
        self.body = b"".join(parts)
        return self.body

    def read_some(self, limit: int = MAX_ERROR_BODY) -> bytes:
        """Read the start of an error body; an interrupted body is not another error.

        Reading to the end keeps the connection reusable.
        """
        if self._read:
            return self.body
        self._read = True
        parts: list[bytes] = []
        count = 0
        try:
            for chunk in self._chunks:
                parts.append(chunk)
                count += len(chunk)
                if count > limit:
                    break
        except RetryableFailure:
            pass
        self.body = b"".join(parts)[:limit]
        return self.body

    def drain(self) -> None:
        """Read a short remaining body, so that the connection can be reused."""
        announced = self.headers.content_length
        if announced is None or announced <= MAX_ERROR_BODY:
            self.read_some()


#: Most concurrent requests to one host, unless `--jobs` is given.
JOBS_PER_HOST = 64


#: Source: distribution, docs/content/spec/auth/scope.md, "registry".
CATALOG_SCOPE = "registry:catalog:*"


HOME_PAGE = "https://pypi.org/project/multiarch-resolver/"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a request is for: the key of credentials and tokens.

    Attributes:
        registry: identity of the registry, `host[:port]`; key of its credentials.
        repository: without the registry; empty for requests to the registry itself.
        catalog: whether the request lists all repositories.
        push: whether the request writes to the repository.
        mount: the repository that a blob is mounted from; empty for none.

    """

    registry: str
    repository: str
    catalog: bool = False
    push: bool = False
    mount: str = ""

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes of a token request: only those that the request needs."""
        if self.catalog:
            return (CATALOG_SCOPE,)
        if not self.repository:
            return ()
        own = f"repository:{self.repository}:pull{',push' if self.push else ''}"
        return (own, f"repository:{self.mount}:pull") if self.mount else (own,)

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}"


class SchemeMemory(Protocol):
    """Whether registries on this machine use https or http, beyond this process."""

    def recall_scheme(self, host: str, now: float) -> str | None:
        """Return the scheme of a host within the last hour; `now` is in seconds since 1970."""
        ...

    def remember_schemes(self, schemes: Mapping[str, str], now: float) -> None:
        """Keep schemes by host if possible."""
        ...


class SharedLimits(Protocol):
    """Limits of each host that several processes share, so that it sees one client."""

    def take(self, host: str, most: int | None, stop: threading.Event) -> Callable[[], None]:
        """Wait until one more request to a host may be under way; call the result after it.

        `most` is the limit of requests that is configured for the host, if there is one.
        """
        ...

    def share(self, host: str) -> float:
        """Return the part of the host's rate that this process may use, up to 1."""
        ...

    def hold(self, host: str, seconds: float) -> None:
        """Tell the other processes that a host asked for a delay."""
        ...


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """Options of the transport; times in seconds.

    Attributes:
        ca_file: certificate authorities in PEM form, in addition to the system's.
        plain_http: use http for every registry.
        jobs_per_host: most concurrent requests to one host.
        attempts: total attempts per request.
        max_wait: give up if the server requests a longer wait.
        deadline: of one request, waits included; does not apply to streams.
        environment: for proxies and `SSL_CERT_FILE` only.
        engine: `pyreqwest` or `httpx`; empty for the best one that is installed.
        client: sends the requests instead of an engine of its own.
        schemes: remembers whether registries on this machine use https; None for no memory.
        via: identifies the requests of a mirror (RFC 9110, 7.6.3); empty for none.
        shared: limits that other processes share; None for none.

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
    engine: str = ""
    client: httpx.Client | None = None
    schemes: SchemeMemory | None = None
    via: str = ""
    shared: SharedLimits | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a registry.

    Attributes:
        host: of its API, `host[:port]`.
        target: path and query.
        what: the requested resource, for messages.
        limit: most bytes of the response body.
        headers: additional headers.
        settings: of the host.
        attempts: in total; None for the default.
        stays: return a redirect to another origin instead of following it.
        body: a document to upload.
        stream: opens the body of an upload of `length` bytes; each attempt calls it again.
        location: where to send it, if not to `target`: the URL of an upload session.

    """

    method: str
    host: str
    scope: Scope
    target: str
    what: str
    limit: int = MAX_DOCUMENT
    headers: tuple[tuple[str, str], ...] = ()
    settings: HostSettings = USUAL
    attempts: int | None = None
    stays: bool = False
    body: bytes | None = field(default=None, repr=False)
    stream: Callable[[], Iterator[bytes]] | None = field(default=None, repr=False)
    length: int = 0
    location: Url | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response; for errors the first 8 KiB of the body.

    Attributes:
        url: final URL, after redirects.
        registry: origin of the registry.

    """

    status: int
    headers: Headers
    body: bytes
    url: Url
    registry: Url


#: Variables that name certificate authorities, as in OpenSSL.
CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, slots=True)
class Trust:
    """TLS trust and client certificate.

    Attributes:
        extra: certificates in PEM form, in addition to the system's.
        skip: accept any certificate (`--tls-skip-verify`).
        client: client certificate, checked to be usable; None for none.

    """

    extra: tuple[bytes, ...] = ()
    skip: bool = False
    client: ClientFiles | None = None


@dataclass(frozen=True, slots=True)
class HostOptions:
    """Connection options for one host.

    Attributes:
        trust: for this host only, including the general trust.
        headers: sent to its own origin only.
        connect_timeout, read_timeout: in seconds.
        rate: most requests per second; None for no limit.
        jobs: most concurrent requests; None for the default.

    """

    trust: Trust
    connect_timeout: float
    read_timeout: float
    headers: tuple[tuple[str, Secret], ...] = field(default=(), repr=False)
    rate: float | None = None
    jobs: int | None = None
