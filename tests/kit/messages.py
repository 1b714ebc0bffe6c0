"""Requests as received by a fake, and scripted replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, BinaryIO, Literal, Self
from urllib.parse import parse_qs, unquote

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

#: Bytes of one line of a request.
LINE_LIMIT = 1_048_576

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


class ReaderGone(Exception):
    """The client has closed the connection."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One scripted answer, with its defects.

    Attributes:
        headers: a mapping, or pairs when a name repeats; written as they are.
        chunks: the body in pieces; may be endless. Replaces `body`.
        content_length: None = the truth (none for `chunks`), False = no such header, a number =
            that number, and the connection ends after the body when it is a lie.
        chunked: use `Transfer-Encoding: chunked`.
        close: send `Connection: close`, and close.
        delay: nothing is sent before this event is set.
        hold: the body stops after `hold_after` bytes until this event is set.
        truncate: the connection ends after this many bytes of the body.
        reset: end with RST, not FIN; without `truncate` or `silent`, after the whole answer.
        silent: no answer at all, the connection just ends.
        raw: these exact bytes instead of an answer, then the connection ends.
    """

    status: int = 200
    headers: Headers = ()
    body: bytes = b""
    chunks: Iterable[bytes] | None = None
    content_length: int | Literal[False] | None = None
    chunked: bool = False
    close: bool = False
    delay: threading.Event | None = None
    hold: threading.Event | None = None
    hold_after: int = 0
    truncate: int | None = None
    reset: bool = False
    silent: bool = False
    raw: bytes | None = None
    reason: str | None = None

    @classmethod
    def endless(
        cls,
        piece: bytes = b" " * 16_384,
        *,
        status: int = 200,
        headers: Headers = (),
        chunked: bool = False,
    ) -> Self:
        """Repeat `piece` until the client hangs up; no Content-Length."""
        return cls(status, headers, chunks=repeat(piece), chunked=chunked)


@dataclass(slots=True)
class Seen:
    """One request as received, and the number of bytes sent in reply.

    Attributes:
        path: percent-decoded, without the query; `raw_target` is verbatim.
        query: verbatim, without `?`; see `parameters`.
        headers: names in lower case, repeated ones joined with ", "; `raw_headers` is verbatim.
        connection: 1 for the first connection, and so on.
        status: of the answer; 0 until there is one, and for silence.
        sent: bytes of the answer's body handed to the network (framing not counted); never less
            than what the client has, and exact once the answer is `done`.
        done: the answer is out, or the connection ended.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    raw_target: str
    raw_headers: list[tuple[str, str]] = field(default_factory=list)
    connection: int = 0
    version: str = "HTTP/1.1"
    status: int = 0
    sent: int = 0
    done: bool = False

    @property
    def parameters(self) -> dict[str, list[str]]:
        """The query, decoded; each name with all its values."""
        return parse_qs(self.query, keep_blank_values=True)

    @property
    def form(self) -> dict[str, list[str]]:
        """The body as a form, as token requests by POST send it."""
        return parse_qs(self.body.decode("utf-8"), keep_blank_values=True)

    @property
    def authorization(self) -> str | None:
        """The `Authorization` header of the client."""
        return self.headers.get("authorization")


def read_request(reader: BinaryIO, connection: int) -> Seen | None:
    """Read one request; None when the client has hung up."""
    line = reader.readline(LINE_LIMIT)
    if not line:
        return None
    words = line.decode("latin-1").rstrip("\r\n").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        raise ReaderGone(f"no request line: {line!r}")
    method, target, version = words
    pairs: list[tuple[str, str]] = []
    while (line := reader.readline(LINE_LIMIT)) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").rstrip("\r\n").partition(":")
        pairs.append((name, value.strip()))
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    if "transfer-encoding" in headers:
        raise ReaderGone("a request body in chunks is not understood here")
    body = reader.read(int(headers.get("content-length", "0")))
    # A proxy request names the whole URL.
    local = target if target.startswith("/") else "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = local.partition("?")
    return Seen(
        method, unquote(path), query, headers, body, target, pairs, connection, version=version
    )


#: What `on` takes: a fixed reply, or a function that may decline with None.
Answer = Reply | Callable[[Seen], Reply | None]


@dataclass(slots=True)
class Script:
    """Replies for one method and path, in order."""

    method: str
    path: str
    answers: tuple[Answer, ...]
    times: int | None
    used: int = 0

    def matches(self, seen: Seen) -> bool:
        """Return whether this script answers a request; `path` with `?` is matched verbatim."""
        here = seen.raw_target if "?" in self.path else seen.path
        open_ = self.times is None or self.used < self.times
        return open_ and self.method in ("*", seen.method) and here == self.path

    def next(self) -> Answer:
        """Take the next answer; the last one repeats."""
        self.used += 1
        return self.answers[min(self.used, len(self.answers)) - 1]
