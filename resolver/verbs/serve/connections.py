"""Accept connections for a small HTTP/1.1 server: any number are open, and few threads answer.

One thread watches all connections. It reads the heads of requests, so that a client that sends
little or nothing costs a socket and no thread. A complete head goes to a pool of workers. A
response that must wait, for a slow client or for content that is being fetched, returns its worker
to the pool meanwhile.

No client is rejected at the limit: new ones wait in the listen queue of the kernel, while the
longest-idle connections are closed.

Source: RFC 9112 (framing; 2.2, 5.1, 6.1, 6.3 and 11.2 on request smuggling), RFC 9110, 7.2.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import resource
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Generator
from enum import Enum
from typing import TYPE_CHECKING, Final

from resolver.values import dataclass
from resolver.verbs.threads import DaemonPool

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

#: Connections that are open at the same time; one more waits in the listen queue.
MAX_CONNECTIONS: Final = 1_000
#: Threads that answer.
_WORKERS: Final = 64
_BACKLOG: Final = 1_024
#: Bytes of one head, of its first line, and its header lines.
MAX_HEAD, _MAX_LINE, _MAX_HEADERS = 32_768, 16_384, 100
#: Seconds from the first byte of a head (of a new connection: from its beginning) to the last.
HEAD_TIME: Final = 10.0
#: Seconds without a request, or without a byte of an answer that could be sent.
PATIENCE: Final = 60.0
#: Seconds for which a client may go on sending after an answer that ends the connection.
_LINGER: Final = 1.0
#: Seconds after which a connection may be closed in favour of one that waits: without a request,
#: with an answer that its client does not take or that does not come, in the middle of a head.
_IDLE, _STALLED, _SLOW = 0.5, 10.0, 2.0
#: Seconds between two looks at deadlines, and at whether there is room again.
_TICK, _RETRY = 0.25, 0.05
#: The first byte of a TLS handshake. Source: RFC 8446, 5.1.
_HANDSHAKE = b"\x16"
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
# Source: RFC 9110, 5.1 and 5.5. No white space is allowed between a name and its colon.
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)[\s\S]")
#: What is missing when no connection can be taken although one waits.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_LENGTH = re.compile(r"[0-9]{1,19}")
# Source: RFC 9112, 7.1 and 7.1.1: a size in hex, and extensions, which are ignored.
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
#: Bytes between the end of a chunk and CR LF.
_MAX_CHUNK_END = 0
#: Bytes of a body that are read at once, and after which other connections have their turn.
_PIECE, _BODY_TURN = 1 << 18, 4 << 20
#: The only expectation there is. Source: RFC 9110, 10.1.1.
_CONTINUE = "100-continue"
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)


class BadHead(Exception):
    """A request that is not understood, or whose end is not clear; the connection ends."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request.

    Attributes:
        method: as received.
        target: path and query.
        hosts: the values of `Host`, or the host of the target.
        is_old: HTTP/1.0, where a connection closes unless the client requests otherwise.
        headers: names in lower case, with their values, in order.

    """

    method: str
    target: str
    hosts: tuple[str, ...]
    is_old: bool
    headers: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """Return every value of a header; `name` in lower case."""
        return [value for each, value in self.headers if each == name]

    def joined(self, name: str) -> str | None:
        """Return the values of a header as one list; None if it is absent."""
        values = self.all(name)
        return ", ".join(values) if values else None

    @property
    def keeps(self) -> bool:
        """Whether the connection goes on after the answer."""
        options = {entry.strip().lower() for entry in ",".join(self.all("connection")).split(",")}
        return "close" not in options and (not self.is_old or "keep-alive" in options)


def parse_head(raw: bytes) -> Head:
    """Read the head of a request, without the empty line at its end.

    Raises:
        BadHead: the head is malformed, its body length is ambiguous, or it is a GET or HEAD with a
            body.

    """
    first, *lines = raw.split(b"\r\n")
    if len(first) > _MAX_LINE:
        raise BadHead(414, "the request line is too long")
    line = _LINE.fullmatch(first)
    if line is None:
        raise BadHead(400, "this request is invalid")
    if line[3] != b"1":
        raise BadHead(505, "this server supports HTTP/1.1")
    if len(lines) > _MAX_HEADERS:
        raise BadHead(431, "the request has too many headers")
    headers: list[tuple[str, str]] = []
    for each in lines:
        header = _HEADER.fullmatch(each)
        if header is None:
            raise BadHead(400, "a header of the request is malformed")
        headers.append((header[1].decode("ascii").lower(), header[2].decode("latin-1")))
    method, target = line[1].decode("ascii"), line[2].decode("ascii")
    is_old = line[4] == b"0"
    head = Head(method, target, (), is_old, tuple(headers))
    _check_framing(head)
    # Source: RFC 9112, 3.2.2: a target in absolute form overrides `Host`.
    absolute = _ABSOLUTE.fullmatch(target)
    hosts = tuple(head.all("host"))
    if absolute is not None:
        target, hosts = absolute[2] or "/", (absolute[1],) if len(hosts) <= 1 else hosts
    return Head(method, target, hosts, is_old, head.headers)


def _check_framing(head: Head) -> None:
    """Refuse what two programs in a row could take for two different requests."""
    lengths, codings = head.all("content-length"), head.all("transfer-encoding")
    if len(lengths) > 1 or any(not _LENGTH.fullmatch(each) for each in lengths):
        raise BadHead(400, "the request has no single valid Content-Length")
    if codings and (lengths or head.is_old or len(codings) > 1):
        raise BadHead(400, "the length of the request is ambiguous")
    if head.method in ("GET", "HEAD") and (codings or any(int(each) for each in lengths)):
        raise BadHead(400, f"a {head.method} request has no body here")


class Waits(Enum):
    """What an answer waits for, besides a number of seconds."""

    WRITABLE = "until the client takes more"
    READABLE = "until more of the request body comes"
    TURN = "until the others had their turn"


#: A running response: yields what it waits for, and returns whether the connection stays open.
Exchange = Generator[Waits | float, None, bool]


class _State(Enum):
    IDLE = "no byte of a request has come"
    HEAD = "a part of a head has come"
    BUSY = "a worker has it"
    SENDING = "the client does not take more"
    RECEIVING = "a part of the request body has come"
    WAITING = "more is coming"
    LEAVING = "everything is sent, and the client may still be sending"


#: The other end of a connection: its address, and its port.
Peer = tuple[str, int]
NOBODY: Final[Peer] = ("", 0)


class Link:
    """One connection, owned by the watching thread or by one worker."""

    def __init__(self, sock: socket.socket, address: tuple[str, int]) -> None:
        self.sock = sock
        self.address = address
        self.buffer = bytearray()
        self.checked = 0
        self.state = _State.IDLE
        self.since = time.monotonic()
        self.deadline = self.since + HEAD_TIME
        self.is_new = True
        #: When a request, or the last byte of its answer that was taken, came through.
        self.moved = self.since
        self.exchange: Exchange | None = None
        self.is_over = False

    def enter(self, state: _State, seconds: float) -> None:
        """Note a new state, which may last so long."""
        self.state = state
        self.since = time.monotonic()
        self.deadline = self.since + seconds

    @property
    def idle_since(self) -> float:
        """When it last did what it is there for; a wait is entered again and again."""
        return self.moved if self.state is _State.WAITING else self.since

    def end(self) -> None:
        """Close the socket and release its resources."""
        if self.exchange is not None:
            self.exchange.close()
            self.exchange = None
        self.sock.close()


class RequestBody:
    """The body of a request, read as it comes; a GET or HEAD has none.

    Attributes:
        received: bytes so far.
        is_over: whether all of it was read.

    """

    def __init__(self, link: Link, head: Head) -> None:
        self._link = link
        lengths = head.all("content-length")
        self._is_chunked = bool(head.all("transfer-encoding"))
        #: Bytes left, of the body or of its current chunk.
        self._rest = int(lengths[0]) if lengths else 0
        self._expects = not head.is_old and (head.joined("expect") or "").lower() == _CONTINUE
        self._unyielded = 0
        self.length = int(lengths[0]) if lengths else None if self._is_chunked else 0
        self.received = 0
        self.is_over = not self._is_chunked and not self._rest

    def read(self) -> Generator[Waits, None, bytes]:
        """Return the next bytes; none at the end.

        Raises:
            BadHead: a chunk is malformed.
            ConnectionResetError: the client has disconnected before the end.

        """
        if self.is_over:
            return b""
        if self._expects:
            # Source: RFC 9110, 10.1.1: the client waits for it before it sends the body.
            self._expects = False
            yield from self._invite()
        if self._unyielded >= _BODY_TURN:
            self._unyielded = 0
            yield Waits.TURN
        if self._is_chunked and not self._rest:
            yield from self._next_chunk()
            if self.is_over:
                return b""
        piece = self._buffered(self._rest) or (yield from self._receive(min(self._rest, _PIECE)))
        self._rest -= len(piece)
        self.received += len(piece)
        self._unyielded += len(piece)
        if not self._is_chunked:
            self.is_over = not self._rest
        elif not self._rest:
            yield from self._line(_MAX_CHUNK_END)
        return piece

    def read_all(self, limit: int) -> Generator[Waits, None, bytes | None]:
        """Return the whole body; None, with the rest unread, if it has more than `limit` bytes."""
        found = bytearray()
        if (self.length or 0) > limit:
            return None
        while piece := (yield from self.read()):
            found += piece
            if len(found) > limit:
                return None
        return bytes(found)

    def drain(self, limit: int) -> Generator[Waits, None, None]:
        """Read and drop a body of at most `limit` bytes, so that the connection can go on."""
        if self._expects or (self.length or 0) > limit:
            return
        while not self.is_over and self.received <= limit:
            yield from self.read()

    def _invite(self) -> Generator[Waits, None, None]:
        rest = memoryview(b"HTTP/1.1 100 Continue\r\n\r\n")
        while rest:
            try:
                rest = rest[self._link.sock.send(rest) :]
            except BlockingIOError:
                yield Waits.WRITABLE

    def _buffered(self, most: int) -> bytes:
        """Take bytes that came behind the head."""
        piece = bytes(self._link.buffer[:most])
        del self._link.buffer[:most]
        return piece

    def _receive(self, most: int) -> Generator[Waits, None, bytes]:
        while True:
            try:
                piece = self._link.sock.recv(most)
            except BlockingIOError:
                yield Waits.READABLE
                continue
            if not piece:
                raise ConnectionResetError("the request body is incomplete")
            return piece

    def _next_chunk(self) -> Generator[Waits, None, None]:
        """Read the size of the next chunk; after the last one, the trailer. RFC 9112, 7.1."""
        line = yield from self._line(_MAX_LINE)
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise BadHead(400, "a chunk of the request has no valid size")
        self._rest = int(size[1], 16)
        if self._rest:
            return
        for _ in range(_MAX_HEADERS):
            if not (yield from self._line(_MAX_LINE)):
                self.is_over = True
                return
        raise BadHead(431, "the request has too many trailers")

    def _line(self, limit: int) -> Generator[Waits, None, bytes]:
        buffer = self._link.buffer
        while (end := buffer.find(b"\n", 0, limit + 2)) < 0 and len(buffer) <= limit + 1:
            buffer += yield from self._receive(_MAX_LINE)
        line = bytes(buffer[: end + 1])
        if not line.endswith(b"\r\n"):
            raise BadHead(400, "a chunk of the request is malformed")
        del buffer[: end + 1]
        return line[:-2]


#: What can be closed in favour of a client that waits, dearest last, and from which age on.
_DISPENSABLE: Final[tuple[tuple[_State, Callable[[], float]], ...]] = (
    (_State.LEAVING, lambda: 0.0),
    (_State.IDLE, lambda: _IDLE),
    (_State.SENDING, lambda: _STALLED),
    (_State.HEAD, lambda: _SLOW),
    (_State.RECEIVING, lambda: _STALLED),
    (_State.WAITING, lambda: _STALLED),
)


class Connections:
    """Listens, and has every request answered.

    Args:
        answer: begins the answer to a head, or to what is wrong with one; run by a worker.
        host: an address or a name of this machine.
        port: 0 = any free one.
        most: connections at the same time.

    Raises:
        OSError, OverflowError: the address cannot be used.

    """

    def __init__(
        self,
        answer: Callable[[Link, Head | BadHead], Exchange],
        host: str,
        port: int,
        most: int = MAX_CONNECTIONS,
    ) -> None:
        self._answer = answer
        self._most = min(most, _room_for_files())
        self._listener = _listen(host, port)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._links: set[Link] = set()
        self._returned: deque[tuple[Link, Waits | float | None]] = deque()
        self._is_closing = False
        self._is_paused = False
        self._delayed = 0
        self._wake, self._waker = socket.socketpair()
        self._wake.settimeout(0)
        self._waker.settimeout(0)
        self._workers = DaemonPool(_WORKERS, "resolver-serve")
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def run(self) -> None:
        """Watch until `close` is called; in a thread of its own."""
        looked = time.monotonic()
        try:
            while not self._is_closing:
                patience = _RETRY if self._is_paused or self._delayed else _TICK
                for key, _ in self._selector.select(patience):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.data is None:
                        self._wake.recv(4_096)
                    elif key.data in self._links:
                        # It may have been closed for the one that was let in just before.
                        self._ready(key.data)
                self._take_back()
                now = time.monotonic()
                if now - looked >= _RETRY:
                    looked = now
                    self._look_at_the_time(now)
                if self._is_paused:
                    self._accept()
        finally:
            self._hang_up()

    def close(self) -> None:
        """Have `run` end; may be called again, from any thread."""
        self._is_closing = True
        self._alarm()

    # --- coming and going ------------------------------------------------------------------

    def _accept(self) -> None:
        """Let clients in while there is room, or while room can be made."""
        # One more than the limit: only then is it known that a client waits.
        while len(self._links) <= self._most or self._make_room():
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                self._pause(paused=False)
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    continue  # This client has gone already.
                logger.warning("a client has to wait: %s", error.strerror)
                self._make_room()
                break
            sock.settimeout(0)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(sock, address[:2])
            self._links.add(link)
            self._watch(link, selectors.EVENT_READ)
        self._pause(paused=True)

    def _pause(self, *, paused: bool) -> None:
        """Leave clients in the listen queue, or take them again."""
        if paused is self._is_paused:
            return
        self._is_paused = paused
        if paused:
            logger.debug("%d connections are open; others wait", len(self._links))
            self._selector.unregister(self._listener)
        else:
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _make_room(self) -> bool:
        """Close the connection that is missed least; False when each is at work."""
        now = time.monotonic()
        for state, age in _DISPENSABLE:
            found = [each for each in self._links if each.state is state]
            oldest = min(found, key=lambda each: each.idle_since, default=None)
            if oldest is not None and now - oldest.idle_since >= age():
                self._drop(oldest)
                return True
        return False

    def _drop(self, link: Link) -> None:
        """End a connection that no worker has."""
        if link.state is _State.WAITING:
            self._delayed -= 1
        self._forget(link)
        self._links.discard(link)
        link.end()

    def _forget(self, link: Link) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(link.sock)

    def _look_at_the_time(self, now: float) -> None:
        """End what takes too long, and go on with what has waited long enough."""
        for link in [each for each in self._links if each.deadline <= now]:
            if link.state is _State.WAITING:
                self._delayed -= 1
                self._resume(link)
            elif link.state is _State.HEAD:
                self._refuse(link, BadHead(408, "the request was not complete in time"))
            elif link.state is not _State.BUSY:
                self._drop(link)

    # --- reading ---------------------------------------------------------------------------

    def _ready(self, link: Link) -> None:
        """Go on with a connection that can be read from, or written to."""
        if link.state in (_State.SENDING, _State.RECEIVING):
            self._resume(link)
            return
        try:
            data = link.sock.recv(MAX_HEAD)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(link)
        elif link.state is not _State.LEAVING:
            if link.state is _State.IDLE:
                # The time of a new connection has begun with it.
                rest = link.deadline - time.monotonic() if link.is_new else HEAD_TIME
                link.enter(_State.HEAD, rest)
                link.is_new = False
            link.buffer += data
            self._read(link)

    def _read(self, link: Link) -> None:
        """Pass a complete head to a worker."""
        buffer = link.buffer
        while buffer.startswith(b"\r\n"):
            # Source: RFC 9112, 2.2: an empty line before a request is passed over.
            del buffer[:2]
        if buffer.startswith(_HANDSHAKE):
            self._refuse(link, BadHead(400, "TLS is not supported here: use plain HTTP"))
            return
        start = max(0, link.checked - 3)
        end = buffer.find(b"\r\n\r\n", start)
        bare = _BARE_LINE_END.search(buffer, start, len(buffer) if end < 0 else end)
        link.checked = len(buffer)
        if bare is not None:
            self._refuse(link, BadHead(400, "a line of the request does not end in CR LF"))
        elif end < 0 or end > MAX_HEAD:
            is_line = b"\r\n" not in buffer[:_MAX_LINE]
            if is_line and len(buffer) > _MAX_LINE:
                self._refuse(link, BadHead(414, "the request line is too long"))
            elif len(buffer) > MAX_HEAD:
                self._refuse(link, BadHead(431, "the head of the request is too long"))
        else:
            raw = bytes(buffer[:end])
            del buffer[: end + 4]
            link.checked = 0
            self._begin(link, raw)

    def _begin(self, link: Link, raw: bytes) -> None:
        try:
            head: Head | BadHead = parse_head(raw)
        except BadHead as error:
            head = error
        self._start(link, head)

    def _refuse(self, link: Link, error: BadHead) -> None:
        link.buffer.clear()
        self._start(link, error)

    def _start(self, link: Link, head: Head | BadHead) -> None:
        link.exchange = self._answer(link, head)
        link.moved = time.monotonic()
        self._resume(link)

    def _resume(self, link: Link) -> None:
        """Pass a connection to a worker."""
        self._forget(link)
        link.enter(_State.BUSY, PATIENCE)
        self._workers.submit(lambda: self._work(link))

    # --- answering -------------------------------------------------------------------------

    def _work(self, link: Link) -> None:
        """Go on with an answer until it waits, or ends; run by a worker."""
        waits: Waits | float | None = None
        try:
            waits = next(link.exchange) if link.exchange is not None else None
        except StopIteration as end:
            link.exchange = None
            link.is_over = not end.value
        except OSError as error:
            # The client has disconnected; there is nothing to report.
            logger.debug("connection of %s ended early: %r", link.address, error)
            link.exchange, link.is_over = None, True
        except Exception:
            logger.exception("an answer to %s failed", link.address)
            link.exchange, link.is_over = None, True
        self._returned.append((link, waits))
        self._alarm()

    def _take_back(self) -> None:
        """Watch the connections that workers have returned."""
        for link, waits in self._came_back():
            if waits is Waits.TURN:
                self._resume(link)
            elif waits is Waits.WRITABLE:
                link.enter(_State.SENDING, PATIENCE)
                self._watch(link, selectors.EVENT_WRITE)
            elif waits is Waits.READABLE:
                link.enter(_State.RECEIVING, PATIENCE)
                self._watch(link, selectors.EVENT_READ)
            elif waits is not None:
                self._delayed += 1
                link.enter(_State.WAITING, waits)
            elif link.is_over:
                self._leave(link)
            else:
                link.enter(_State.IDLE, PATIENCE)
                if link.buffer:
                    # The next request came behind the one before.
                    link.enter(_State.HEAD, HEAD_TIME)
                    self._watch(link, selectors.EVENT_READ)
                    self._read(link)
                else:
                    self._watch(link, selectors.EVENT_READ)

    def _came_back(self) -> Iterator[tuple[Link, Waits | float | None]]:
        while self._returned:
            yield self._returned.popleft()

    def _leave(self, link: Link) -> None:
        """Let the client read the answer: to close while it still sends would take it away."""
        link.enter(_State.LEAVING, _LINGER)
        try:
            link.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(link)
        else:
            self._watch(link, selectors.EVENT_READ)

    def _watch(self, link: Link, events: int) -> None:
        self._selector.register(link.sock, events, link)

    def _alarm(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self._waker.send(b"!")

    def _hang_up(self) -> None:
        """End every connection at once, those of workers too."""
        self._listener.close()
        for link in self._links:
            with contextlib.suppress(OSError):
                link.sock.shutdown(socket.SHUT_RDWR)
        is_quiet = self._workers.close(_LINGER)
        for link in self._links:
            if is_quiet or link.state is not _State.BUSY:
                link.end()
        self._selector.close()
        self._wake.close()
        self._waker.close()


def _listen(host: str, port: int) -> socket.socket:
    """Open the socket; not through `socketserver`, which looks its own name up in DNS."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    return listener


def _room_for_files() -> int:
    """Return how many connections this process may open: each takes one or two files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, (soft - 100) // 3)
