"""Offers content to other clients as a read-only registry.

Plain HTTP without credentials, so it listens on this machine only unless told otherwise.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import IO, TYPE_CHECKING, ClassVar, Self, cast

from resolver.errors import ResolverError, Usage
from resolver.flow.distribution import Answer, answer, cut, problem
from resolver.flow.growing import Growing
from resolver.flow.hosts import is_meant
from resolver.flow.regular import RegularFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from resolver.flow.shelf import Shelf

_Request = socket.socket | tuple[bytes, socket.socket]

logger = logging.getLogger(__name__)

#: Answers method, target (path and query), and the values of `Via`; GET and HEAD only.
Answerer = Callable[[str, str, str], Answer]
#: Bytes that are read at once of what is still coming.
_CHUNK = 1 << 18
#: Seconds; how soon `close` is noticed.
_POLL = 0.05
#: Seconds without a byte from or to a client, after which its connection is dropped.
_PATIENCE = 60.0
#: Clients that are answered at the same time: each is a thread, and a file or two.
MAX_CONNECTIONS = 64
#: The first byte of a TLS handshake. Source: RFC 8446, 5.1.
_HANDSHAKE = b"\x16"
_NO_TLS = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


class Server:
    """A registry that is being served; leave its `with` block, or `close`, to stop it.

    Attributes:
        address: `host:port`, as it stands in an image reference.

    """

    def __init__(self, listener: _Listener, address: str) -> None:
        self._listener = listener
        self.address = address
        self._thread = threading.Thread(
            target=listener.serve_forever, args=(_POLL,), name=f"registry at {address}", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop at once, also in the middle of an answer; may be called again."""
        self._listener.shutdown()
        self._thread.join()
        self._listener.hang_up()
        self._listener.server_close()

    def wait(self) -> None:
        """Block until somebody closes it; an interrupt comes through."""
        self._thread.join()


def serve(
    shelf: Shelf | Answerer,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    names: Iterable[str] = (),
    connections: int = MAX_CONNECTIONS,
) -> Server:
    """Serve a shelf until the answer is closed.

    Args:
        shelf: or what answers in its place; asked from several threads.
        host: an address or a name of this machine.
        port: 0 = any free one.
        names: by which clients call this machine, besides `host`, `localhost` and addresses.
        connections: at the same time; one more is told to come again.

    Raises:
        Usage: nothing can listen there.

    """
    try:
        listener = _Listener(shelf, host, port)
        listener.names = frozenset(name.lower() for name in (host, *names))
        listener.connections = connections
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Usage(
            f"cannot listen on `{host}:{port}`: {reason}", "choose another address or port"
        ) from error
    number = listener.server_address[1]
    address = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
    logger.debug("serving at %s", address)
    return Server(listener, address)


class _Listener(ThreadingMixIn, TCPServer):
    """One thread per connection; not `ThreadingHTTPServer`, which looks its own name up in DNS."""

    allow_reuse_address = True
    request_queue_size = 128
    names: frozenset[str] = frozenset()
    connections = MAX_CONNECTIONS

    def __init__(self, shelf: Shelf | Answerer, host: str, port: int) -> None:
        self.answer = shelf if callable(shelf) else _from(shelf)
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def process_request(self, request: _Request, client_address: object) -> None:
        """Remember the connection, so that `hang_up` finds it."""
        link = cast("socket.socket", request)
        with self._guard:
            is_full = len(self._open) >= self.connections
            self._open.add(link)
        if is_full:
            logger.warning("%s is sent away: %d connections", client_address, self.connections)
            with contextlib.suppress(OSError):
                # A client that does not read must not keep others waiting.
                link.settimeout(0)
                link.send(_FULL)
            self.shutdown_request(link)
            return
        super().process_request(link, client_address)

    def shutdown_request(self, request: _Request) -> None:
        """Forget the connection, then end it."""
        link = cast("socket.socket", request)
        with self._guard:
            self._open.discard(link)
        super().shutdown_request(link)

    def handle_error(self, request: _Request, client_address: object) -> None:
        """Log what went wrong with one client instead of printing it."""
        del request
        logger.debug("connection of %s ended early: %r", client_address, sys.exception())

    def hang_up(self) -> None:
        """End every connection, so that its thread does."""
        with self._guard:
            for link in self._open:
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Turns requests into calls of `answer`, and answers into bytes."""

    server: _Listener
    protocol_version = "HTTP/1.1"
    server_version = "resolver"
    sys_version = ""
    timeout: ClassVar[float] = _PATIENCE
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer with content."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer without content."""
        self._answer()

    def refuse(self) -> None:
        """Answer what would change something; its body is not read, so the connection ends."""
        self.close_connection = True
        allow = ("Allow", "GET, HEAD")
        self._send(problem(405, "UNSUPPORTED", "this registry is read-only", allow))

    # The base class looks for these names.
    do_POST = refuse  # noqa: N815
    do_PUT = refuse  # noqa: N815
    do_PATCH = refuse  # noqa: N815
    do_DELETE = refuse  # noqa: N815

    def handle_one_request(self) -> None:
        """Answer one request; what begins to speak TLS is told at once that nobody does here.

        Clients that try https first would wait for as long as we would: a line may never end.
        """
        try:
            first = self.rfile.peek(1)[:1]  # type: ignore[attr-defined]  # it is a BufferedReader
        except OSError:
            first = _HANDSHAKE
        if first != _HANDSHAKE:
            super().handle_one_request()
            return
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.sendall(_NO_TLS)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer requests that the base class gives up on, as JSON."""
        del explain
        self.close_connection = True
        # After a line that could not be parsed these say nothing, or HTTP/0.9: no headers at all.
        self.command = self.command or "GET"
        self.request_version = self.protocol_version
        self._send(problem(code, "UNSUPPORTED", message or "this request is not understood"))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log quietly; `%r` keeps a client's control characters out of terminals."""
        logger.debug("%s %r", self.address_string(), format % args)

    def _answer(self) -> None:
        if self.headers.get("Transfer-Encoding") or self.headers.get("Content-Length", "0") != "0":
            # A body would be taken for the next request.
            self.close_connection = True
        if not self._is_meant():
            self.close_connection = True
            self._send(problem(421, "DENIED", "this registry is not known by this name"))
            return
        try:
            via = ", ".join(self.headers.get_all("Via", []))
            given = self.server.answer(self.command, self.path, via)
        except ResolverError:
            logger.warning("cannot answer %r", self.path, exc_info=True)
            given = problem(500, "UNKNOWN", "the content cannot be read here")
        if isinstance(given.content, RegularFile):
            self._answer_from_file(given, given.content)
        elif isinstance(given.content, Growing):
            with contextlib.closing(given.content):
                self._send(cut(given, self._range(), given.content.size))
        else:
            self._send(cut(given, self._range(), len(given.content)))

    def _is_meant(self) -> bool:
        """Say whether the client meant us; HTTP/1.0 has no `Host`, and no browser speaks it."""
        said = self.headers.get_all("Host", [])
        if not said and self.request_version == "HTTP/1.0":
            return True
        return len(said) == 1 and is_meant(said[0].strip(), self.server.names)

    def _answer_from_file(self, given: Answer, kept: RegularFile) -> None:
        try:
            file = kept.open()
        except FileNotFoundError:
            self._send(problem(404, "BLOB_UNKNOWN", "there is no such blob any more"))
        except OSError:
            logger.warning("cannot read %s", kept.path, exc_info=True)
            self._send(problem(500, "UNKNOWN", "the content cannot be read here"))
        else:
            with file:
                self._send(cut(given, self._range(), os.fstat(file.fileno()).st_size), file)

    def _range(self) -> str | None:
        # Source: RFC 9110, 14.2: ranges have no meaning for other methods.
        return self.headers.get("Range") if self.command == "GET" else None

    def _send(self, given: Answer, file: IO[bytes] | None = None) -> None:
        """Write an answer; `file` is what `content` names, already open."""
        content = given.content
        held = os.fstat(file.fileno()).st_size if file else 0
        size = held if isinstance(content, RegularFile) else len(content)
        first, count = given.span or (0, size)
        self.send_response(given.status)
        for name, value in given.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(count))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD" or not count:
            return
        if isinstance(content, Growing):
            self._send_growing(content, first, first + count)
        elif not isinstance(content, RegularFile):
            self.wfile.write(memoryview(content)[first : first + count])
        elif file is not None and self.connection.sendfile(file, first, count) < count:
            # The file has become shorter; an early end tells the client.
            self.close_connection = True

    def _send_growing(self, content: Growing, first: int, end: int) -> None:
        """Send what comes as it comes; what breaks off here breaks off there."""
        while first < end:
            try:
                chunk = content.read(first, min(_CHUNK, end - first))
            except (ResolverError, OSError):
                logger.debug("%r breaks off", self.path, exc_info=True)
                chunk = b""
            if not chunk:
                self.close_connection = True
                return
            self.wfile.write(chunk)
            first += len(chunk)


def _from(shelf: Shelf) -> Answerer:
    """Answer from a shelf, whatever the method: what is here costs nothing."""
    return lambda _method, target, _via: answer(shelf, target)
