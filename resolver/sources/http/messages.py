"""What goes over the wire and what comes back, as values that know no HTTP library."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import field
from enum import Enum
from typing import TYPE_CHECKING, Self

from resolver.errors import LimitExceeded
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from resolver.errors import ResolverError
    from resolver.sources.credentials.chain import Secret
    from resolver.sources.http.host_options import HostOptions
    from resolver.sources.http.urls import Url

#: Bytes read of an answer that is an error. Source: reliability.md section 5.
MAX_ERROR_BODY = 8_192
_LENGTH = re.compile(r"[0-9]{1,19}")


class Purpose(Enum):
    """Why something is asked; decides about redirects and retries."""

    RESOURCE = "resource"
    PING = "ping"
    TOKEN = "token"  # noqa: S105 - the name of a purpose


@dataclass(frozen=True, slots=True)
class Headers:
    """Header lines in the order in which they came; names are matched in any case."""

    lines: tuple[tuple[str, str], ...] = ()

    def all(self, name: str) -> tuple[str, ...]:
        """Give the value of every line of this name."""
        wanted = name.lower()
        return tuple(value for key, value in self.lines if key.lower() == wanted)

    def get(self, name: str) -> str | None:
        """Give the value of the first line of this name."""
        return next(iter(self.all(name)), None)

    @property
    def content_length(self) -> int | None:
        """Bytes announced; None when that is absent or unreadable."""
        text = self.get("content-length")
        return int(text) if text is not None and _LENGTH.fullmatch(text) else None

    @property
    def content_type(self) -> str | None:
        """The media type as sent, with its parameters."""
        return self.get("content-type")

    @property
    def encoded(self) -> str | None:
        """The content coding, when it is another one than `identity`."""
        text = (self.get("content-encoding") or "").strip().lower()
        return text if text not in ("", "identity") else None


@dataclass(frozen=True, slots=True)
class Call:
    """One request to be sent.

    Attributes:
        registry: origin of the registry on whose behalf this is sent.
        authorization: value of the header; goes to the origin of `url` and nowhere else.
        body: a form; may hold a token.
        patience: seconds the whole answer may take; None for a stream.
        way: what is particular about the registry's host; counts for its own origin alone.
        stays: a redirect to another origin is the answer, and not followed.

    """

    purpose: Purpose
    method: str
    url: Url
    registry: Url
    headers: tuple[tuple[str, str], ...] = ()
    authorization: Secret | None = None
    body: bytes | None = field(default=None, repr=False)
    patience: float | None = None
    way: HostOptions | None = None
    stays: bool = False

    @property
    def own_way(self) -> HostOptions | None:
        """Give the way, unless this goes elsewhere: to storage, or to a token server."""
        return self.way if self.url.origin == self.registry.origin else None


class RetryableFailure(Exception):
    """An exchange failed; says what to tell, and whether trying again makes sense.

    Attributes:
        error: what is raised when nobody tries again.
        transient: the same request may succeed later.
        retry_after: seconds the server asked to wait.
        unconnected: nobody even took the connection, for as long as that may take.

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
    """An answer whose body has not been read yet; close it, or use it in a `with` block.

    Attributes:
        url: where it came from, after redirects.
        direct: no redirect was followed on the way.
        body: filled by `read`.

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
        """Run something when this is closed; the last one given runs first."""
        self._closing.callback(action)

    def close(self) -> None:
        """Give the connection back, or drop it when the body was not read to its end."""
        self._closing.close()

    def chunks(self) -> Iterator[bytes]:
        """Stream the body as it comes."""
        return self._chunks

    def watch(self, guard: Callable[[Iterator[bytes]], Iterator[bytes]]) -> None:
        """Let something look at every chunk before anybody else does."""
        self._chunks = guard(self._chunks)

    def read(self, limit: int, what: str) -> bytes:
        """Read the whole body; what is announced too long is refused before it is read.

        Raises:
            LimitExceeded: it is, or says it is, longer than `limit` bytes.
            Trouble: it ended early, or took too long.

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
        """Read the beginning of an error's body; a body that breaks off is no second error.

        Reading to the end also lets the connection serve the next request.
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
        """Read a short rest, so that the connection can be used again; a long one is dropped."""
        announced = self.headers.content_length
        if announced is None or announced <= MAX_ERROR_BODY:
            self.read_some()
