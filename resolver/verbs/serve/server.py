"""Serve content to other clients as a registry, read-only unless a `Responder` takes writes.

Plain HTTP, by default on this machine only.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Self, cast

from resolver.errors import ResolverError, Usage
from resolver.verbs.serve.api import Conditions, Later, ServerResponse, answer, cut, problem
from resolver.verbs.serve.connections import (
    MAX_CONNECTIONS,
    BadHead,
    Connections,
    Exchange,
    Head,
    Link,
    Peer,
    RequestBody,
    Waits,
)
from resolver.verbs.serve.shared_fetch import PartialBlobReader, RegularFile

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable
    from types import TracebackType

    from resolver.verbs.serve.api import Shelf


_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::[0-9]{1,5})?")


def is_meant(header: str, names: Collection[str]) -> bool:
    """Whether a request with this `Host` header may be answered.

    Args:
        header: as received; the port is ignored, since forwarding changes it.
        names: names of this server, in lower case, besides addresses and `localhost`, which DNS
            cannot redirect.

    """
    found = _HOST.fullmatch(header)
    if found is None:
        return False
    host = found[1].lower().rstrip(".")
    if host in names or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


logger = logging.getLogger(__name__)

#: Answers method, target (path and query), the values of `Via`, and the peer; GET and HEAD only.
#: May raise `Later` when the answer would block its thread.
Answerer = Callable[[str, str, str, Peer], ServerResponse]
#: Answers every request of a registry that can be written to; may read the body.
Responder = Callable[[Head, RequestBody], "Generator[Waits | float, None, ServerResponse]"]
#: Builds the error response for a target whose content cannot be sent.
Refuser = Callable[[str, ResolverError], ServerResponse]
#: Bytes that are read at once of what is still coming, and bytes that are sent of one answer
#: before another one has its turn.
_CHUNK, _TURN = 1 << 16, 1 << 20
#: Seconds between two looks at what is still coming: the first one, and the longest.
_SOON, _LATER = 0.02, 0.32
#: Bytes of an answer that may stay in memory for a client that does not take them.
_SMALL = 1 << 16
_WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_NO_CONTENT, _NOT_MODIFIED = 204, 304


class Server:
    """A running registry; leave its `with` block, or call `close`, to stop it.

    Attributes:
        address: `host:port`, as in an image reference.

    """

    def __init__(self, connections: Connections, address: str) -> None:
        self._connections = connections
        self.address = address
        self._thread = threading.Thread(
            target=connections.run, name=f"registry at {address}", daemon=True
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
        self._connections.close()
        self._thread.join()

    def wait(self) -> None:
        """Block until the server is closed; an interrupt comes through."""
        self._thread.join()


def serve(  # noqa: PLR0913 - each is one thing that a caller decides
    shelf: Shelf | Answerer,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    names: Iterable[str] = (),
    connections: int = MAX_CONNECTIONS,
    refuse: Refuser | None = None,
    respond: Responder | None = None,
) -> Server:
    """Serve a shelf until the returned server is closed.

    Args:
        shelf: the content, or a function that answers; used from several threads.
        host: an address or a name of this machine.
        port: 0 for any free one.
        names: further names that clients use for this machine, besides `host`, `localhost` and
            addresses.
        connections: the limit; further clients wait until one closes or is idle.
        refuse: builds the response when promised content cannot be sent; by default with 500.
        respond: answers all requests instead of `shelf`, and makes the registry writable.

    Raises:
        Usage: the address cannot be listened on.

    """
    answerer = shelf if callable(shelf) else _from(shelf)
    known = frozenset(name.lower() for name in (host, *names))
    try:
        opened = Connections(
            lambda link, head: _exchange(
                link, head, respond or _reader(link, answerer), known, refuse or _broken
            ),
            host,
            port,
            connections,
        )
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Usage(
            f"cannot listen on `{host}:{port}`: {reason}", "choose another address or port"
        ) from error
    address = f"[{host}]:{opened.port}" if ":" in host else f"{host}:{opened.port}"
    logger.debug("serving at %s", address)
    return Server(opened, address)


def _exchange(
    link: Link,
    head: Head | BadHead,
    respond: Responder,
    names: frozenset[str],
    refuse: Refuser,
) -> Exchange:
    """Answer one request; return whether the connection stays open."""
    if isinstance(head, BadHead):
        return (yield from _send(link, None, _malformed(link, head)))
    refused = _refusal(head, names)
    if refused is not None:
        return (yield from _send(link, None, refused))
    body = RequestBody(link, head)
    try:
        given = yield from respond(head, body)
        # What is left of a body would be taken for the next request.
        seen = head if body.is_over else _closing(head)
        if isinstance(given.content, PartialBlobReader):
            with contextlib.closing(given.content) as growing:
                if head.method == "GET":
                    # Until there is something to send a refusal still has a status.
                    yield from _patiently(growing.has_begun)
                return (yield from _send(link, seen, cut(given, _conditions(head), growing.size)))
        if isinstance(given.content, RegularFile):
            return (yield from _from_file(link, seen, given, given.content))
    except BadHead as error:
        given, seen = _malformed(link, error), _closing(head)
    except ResolverError as error:
        given, seen = refuse(head.target, error), head if body.is_over else _closing(head)
    given = cut(given, _conditions(head), len(cast("bytes", given.content)))
    if len(cast("bytes", given.content)) <= _SMALL:
        return (yield from _send(link, seen, given))
    # A client that does not read must not keep it in memory: it goes into a file without a name.
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(cast("bytes", given.content))
        given = replace(given, content=RegularFile("", ()))
        return (yield from _send(link, seen, given, file))


def _malformed(link: Link, error: BadHead) -> ServerResponse:
    logger.debug("a request of %s is refused: %s", link.address, error)
    return problem(error.status, "UNSUPPORTED", str(error))


def _closing(head: Head) -> Head:
    """Return a head after whose answer the connection closes."""
    return replace(head, headers=(*head.headers, ("connection", "close")))


def _reader(link: Link, answerer: Answerer) -> Responder:
    """Answer from an answerer, and refuse everything that would change something."""

    def respond(head: Head, _body: RequestBody) -> Generator[Waits | float, None, ServerResponse]:
        if head.method in _WRITING:
            allowed = ("Allow", "GET, HEAD")
            return problem(405, "UNSUPPORTED", "this registry is read-only", allowed)
        return (yield from _asked(link, head, answerer))

    return respond


def _asked(
    link: Link, head: Head, answerer: Answerer
) -> Generator[Waits | float, None, ServerResponse]:
    """Get the answer, as often as it is put off."""
    pause = _SOON
    while True:
        try:
            via = head.joined("via") or ""
            return answerer(head.method, head.target, via, link.address)
        except Later:
            yield pause
            pause = min(2 * pause, _LATER)


def _patiently(is_so: Callable[[], bool]) -> Generator[Waits | float, None, None]:
    pause = _SOON
    while not is_so():
        yield pause
        pause = min(2 * pause, _LATER)


def _broken(target: str, error: ResolverError) -> ServerResponse:
    logger.warning("cannot answer %r", target, exc_info=error)
    return problem(500, "UNKNOWN", "the content cannot be read here")


def _refusal(head: Head, names: frozenset[str]) -> ServerResponse | None:
    """Refuse what is not meant for this server; None for the rest."""
    if head.method not in ("GET", "HEAD", *_WRITING):
        return problem(501, "UNSUPPORTED", "this method is not supported")
    # HTTP/1.0 has no `Host`, and browsers do not use it.
    is_ours = head.is_old and not head.hosts
    if not is_ours and not (len(head.hosts) == 1 and is_meant(head.hosts[0], names)):
        return problem(421, "DENIED", "this registry is not known by this name")
    if head.method in _WRITING and head.all("origin"):
        # Browsers send it with every request of a page that may change something.
        return problem(403, "DENIED", "web pages cannot write to this registry")
    return None


def _conditions(head: Head) -> Conditions:
    spans, validators = head.all("range"), head.all("if-range")
    # Source: RFC 9110, 14.2: ranges have no meaning for other methods, and 5.3: neither header is
    # a list, so that two of them are none.
    is_one = head.method == "GET" and len(spans) == 1
    return Conditions(
        spans[0] if is_one else None,
        ", ".join(validators) if validators else None,
        head.joined("if-match"),
        head.joined("if-none-match"),
    )


def _from_file(link: Link, head: Head, given: ServerResponse, kept: RegularFile) -> Exchange:
    try:
        file = kept.open()
    except FileNotFoundError:
        gone = problem(404, "BLOB_UNKNOWN", "this blob has been removed")
        return (yield from _send(link, head, gone))
    except OSError:
        logger.warning("cannot read %s", kept.path, exc_info=True)
        failed = problem(500, "UNKNOWN", "the content cannot be read here")
        return (yield from _send(link, head, failed))
    with file:
        size = os.fstat(file.fileno()).st_size
        return (yield from _send(link, head, cut(given, _conditions(head), size), file))


def _send(
    link: Link, head: Head | None, given: ServerResponse, file: IO[bytes] | None = None
) -> Exchange:
    """Write a response.

    Args:
        link: the connection.
        head: of the request; None to close the connection afterwards.
        given: the response.
        file: the open file of its `content`.

    """
    content = given.content
    held = os.fstat(file.fileno()).st_size if file else 0
    size = held if isinstance(content, RegularFile) else len(content)
    first, count = given.span or (0, size)
    keeps = head is not None and head.keeps
    lines = _head(given, count, keeps=keeps)
    if given.status == _NOT_MODIFIED or (head is not None and head.method == "HEAD") or not count:
        yield from _send_bytes(link, lines)
    elif isinstance(content, bytes):
        yield from _send_bytes(link, lines + content[first : first + count])
    else:
        yield from _send_bytes(link, lines)
        if isinstance(content, PartialBlobReader):
            return (yield from _send_growing(link, content, first, first + count)) and keeps
        if file is not None:
            return (yield from _send_file(link, file, first, first + count)) and keeps
    return keeps


def _head(given: ServerResponse, count: int, *, keeps: bool) -> bytes:
    try:
        phrase = HTTPStatus(given.status).phrase
    except ValueError:
        phrase = ""
    headers = [("Server", "resolver"), ("Date", formatdate(usegmt=True)), *given.headers]
    if given.status not in (_NO_CONTENT, _NOT_MODIFIED):
        headers.append(("Content-Length", str(count)))
    if not keeps:
        headers.append(("Connection", "close"))
    lines = [f"HTTP/1.1 {given.status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def _send_bytes(link: Link, content: bytes) -> Generator[Waits | float, None, None]:
    """Send what is in memory, which is little."""
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[link.sock.send(rest) :]
        except BlockingIOError:
            yield Waits.WRITABLE


def _send_file(
    link: Link, file: IO[bytes], first: int, end: int
) -> Generator[Waits | float, None, bool]:
    """Send a part of a file; False if it was truncated: a short body shows the client."""
    turn = first + _TURN
    while first < end:
        try:
            count = os.sendfile(link.sock.fileno(), file.fileno(), first, min(end - first, _TURN))
        except BlockingIOError:
            yield Waits.WRITABLE
            turn = first + _TURN
            continue
        if not count:
            return False
        first += count
        if first >= turn and first < end:
            yield Waits.TURN
            turn = first + _TURN
    return True


def _send_growing(
    link: Link, content: PartialBlobReader, first: int, end: int
) -> Generator[Waits | float, None, bool]:
    """Send what comes as it comes; what breaks off here breaks off there."""
    pause, turn = _SOON, first + _TURN
    while first < end:
        try:
            chunk = content.take(first, min(_CHUNK, end - first))
        except (ResolverError, OSError):
            logger.debug("an answer to %s breaks off", link.address, exc_info=True)
            return False
        if chunk is None:
            yield pause
            pause = min(2 * pause, _LATER)
            continue
        if not chunk:
            return False
        pause = _SOON
        try:
            first += link.sock.send(chunk)
            link.moved = time.monotonic()
        except BlockingIOError:
            # It is read again then: a client that does not read holds no memory.
            del chunk
            yield Waits.WRITABLE
            turn = first + _TURN
            continue
        if first >= turn and first < end:
            yield Waits.TURN
            turn = first + _TURN
    return True


def _from(shelf: Shelf) -> Answerer:
    """Answer from a shelf, whatever the method: what is here costs nothing."""
    return lambda _method, target, _via, _peer: answer(shelf, target)
