"""Writes replies byte by byte, and stops where a script says so."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.kit.messages import ReaderGone, Reply, Seen

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Iterable, Iterator, Sequence

#: Bytes; small, so that `Seen.sent` follows what the client really takes.
SEND_BUFFER = 65_536
#: Seconds that a test's event is waited for before looking whether the server closes.
TICK = 0.02


class Sender:
    """Writes one reply to one connection."""

    def __init__(
        self, link: socket.socket, seen: Seen, reply: Reply, closing: threading.Event
    ) -> None:
        self._link = link
        self._seen = seen
        self._reply = reply
        self._closing = closing

    def send(self) -> bool:
        """Write the reply; return whether the connection can carry another."""
        reply = self._reply
        self._wait(reply.delay)
        if reply.silent:
            return False
        self._seen.status = reply.status
        if reply.raw is not None:
            self._write(reply.raw, counted=True)
            return False
        bodiless = self._seen.method == "HEAD" or reply.status in (204, 304)
        length = self._length()
        goes_on = self._goes_on(length, bodiless=bodiless)
        self._write(self._head(length, goes_on=goes_on), counted=False)
        if not bodiless and not self._body():
            return False
        if not goes_on and not reply.reset and isinstance(self._link, ssl.SSLSocket):
            # Without a close_notify an honest end would look like a cut.
            self._link.settimeout(1)
            with contextlib.suppress(OSError, ValueError):
                self._link.unwrap()
        return goes_on

    def _length(self) -> int | None:
        reply = self._reply
        if reply.content_length is False or (reply.chunked and reply.content_length is None):
            return None
        if reply.content_length is not None:
            return reply.content_length
        return None if reply.chunks is not None else len(reply.body)

    def _goes_on(self, length: int | None, *, bodiless: bool) -> bool:
        reply = self._reply
        asked = self._seen.headers.get("connection", "").lower()
        if reply.close or reply.reset or asked == "close" or self._seen.version == "HTTP/1.0":
            return False
        if bodiless or reply.chunked:
            return True
        return length is not None and reply.chunks is None and length == len(reply.body)

    def _head(self, length: int | None, *, goes_on: bool) -> bytes:
        reply = self._reply
        reason = reply.reason
        if reason is None:
            known = {status.value for status in HTTPStatus}
            reason = HTTPStatus(reply.status).phrase if reply.status in known else "Scripted"
        named = reply.headers
        pairs = list(named.items()) if isinstance(named, Mapping) else list(named)
        names = {name.lower() for name, _ in pairs}
        if length is not None and "content-length" not in names:
            pairs.append(("Content-Length", str(length)))
        if reply.chunked:
            pairs.append(("Transfer-Encoding", "chunked"))
        if (reply.close or (length is None and not goes_on)) and "connection" not in names:
            pairs.append(("Connection", "close"))
        lines = [f"HTTP/1.1 {reply.status} {reason}", *(f"{key}: {value}" for key, value in pairs)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _body(self) -> bool:
        """Write the body; return whether it was sent completely."""
        reply = self._reply
        stops = [reply.hold_after] if reply.hold else []
        if reply.truncate is not None:
            stops.append(reply.truncate)
        pieces: Iterable[bytes] = (reply.body,) if reply.chunks is None else reply.chunks
        for part in split(pieces, stops):
            if not self._pass(self._seen.sent):
                return False
            if reply.chunked:
                self._write(f"{len(part):x}\r\n".encode(), counted=False)
            self._write(part, counted=True)
            if reply.chunked:
                self._write(b"\r\n", counted=False)
        if not self._pass(self._seen.sent):
            return False
        if reply.chunked:
            self._write(b"0\r\n\r\n", counted=False)
        return True

    def _pass(self, position: int) -> bool:
        """Run the script of this byte of the body; return whether to continue."""
        if self._reply.hold is not None and position == self._reply.hold_after:
            self._wait(self._reply.hold)
        return position != self._reply.truncate

    def _wait(self, event: threading.Event | None) -> None:
        while event is not None and not event.wait(TICK):
            if self._closing.is_set():
                raise ReaderGone

    def _write(self, content: bytes | memoryview, *, counted: bool) -> None:
        rest = memoryview(content)
        while rest:
            part = rest[:SEND_BUFFER]
            # Counted first, because a client that has received a byte may read the counter.
            self._seen.sent += len(part) if counted else 0
            count = 0
            try:
                count = self._link.send(part)
            finally:
                self._seen.sent -= len(part) - count if counted else 0
            rest = rest[count:]


def split(pieces: Iterable[bytes], stops: Sequence[int]) -> Iterator[memoryview]:
    """Cut pieces further, so that a part begins at every stop; stops count from the first byte."""
    position = 0
    for piece in pieces:
        view = memoryview(piece)
        inside = sorted({stop - position for stop in stops if 0 < stop - position < len(piece)})
        for begin, end in pairwise([0, *inside, len(piece)]):
            if begin < end:
                yield view[begin:end]
        position += len(piece)
