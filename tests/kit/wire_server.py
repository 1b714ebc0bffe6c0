"""A small HTTP/1.1 server that can misbehave byte by byte, and records every request.

Own code on sockets, because the standard library's server writes well-formed answers only.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from typing import TYPE_CHECKING

from tests.kit.messages import ReaderGone, Reply, Seen, read_request
from tests.kit.sender import SEND_BUFFER, TICK, Sender

if TYPE_CHECKING:
    from collections.abc import Callable


class WireServer:
    """Accepts connections, reads requests, logs them and sends what `answer` replies.

    Every thread is joined and every socket closed when `close` returns.
    """

    def __init__(
        self, answer: Callable[[Seen], Reply], tls: ssl.SSLContext | None, host: str
    ) -> None:
        self._answer = answer
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._host = host
        self.changed = threading.Condition(threading.RLock())
        self.log: list[Seen] = []
        self.connections = 0
        self.handshake_failures: list[str] = []
        self.failures: list[BaseException] = []
        self.closing = threading.Event()
        self._open: dict[int, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, name=f"fake:{self.port}")
        self._acceptor.start()

    def close(self) -> None:
        """End every connection."""
        if self.closing.is_set():
            return
        self.closing.set()
        # A closed listener does not wake `accept` everywhere; a connection does.
        with contextlib.suppress(OSError):
            socket.create_connection((self._host, self.port), timeout=1).close()
        self._acceptor.join()
        self._listener.close()
        with self.changed:
            links = list(self._open.values())
        for link in links:
            # Not SSLSocket.shutdown: it drops the TLS state under the reading thread.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(link, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def wait_for(self, predicate: Callable[[], bool], timeout: float = 5.0) -> bool:
        """Wait until `predicate` holds, at most `timeout` seconds; return whether it does."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while not predicate():
                if time.monotonic() > deadline:
                    return False
                self.changed.wait(TICK)
        return True

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            if self.closing.is_set():
                link.close()
                return
            self._begin(link)

    def _begin(self, plain: socket.socket) -> None:
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = plain
            if self._tls is not None:
                link = self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        except OSError:
            plain.close()
            return
        with self.changed:
            self.connections += 1
            number = self.connections
            self._open[number] = link
        thread = threading.Thread(target=self._serve, args=(link, number), name=f"fake#{number}")
        self._threads.append(thread)
        thread.start()

    def _serve(self, link: socket.socket, number: int) -> None:
        try:
            with link:
                self._converse(link, number)
        except (ReaderGone, OSError):
            pass
        except Exception as failure:  # noqa: BLE001 - a thread's failure is raised by the owner
            self.failures.append(failure)
        finally:
            with self.changed:
                del self._open[number]
                self.changed.notify_all()

    def _converse(self, link: socket.socket, number: int) -> None:
        if isinstance(link, ssl.SSLSocket):
            try:
                link.do_handshake()
            except OSError as failure:
                with self.changed:
                    self.handshake_failures.append(str(failure))
                return
        with link.makefile("rb") as reader:
            while (seen := read_request(reader, number)) is not None:
                if not self._exchange(link, seen):
                    return

    def _exchange(self, link: socket.socket, seen: Seen) -> bool:
        """Answer one request; return whether the connection continues."""
        with self.changed:
            self.log.append(seen)
            self.changed.notify_all()
        try:
            try:
                reply = self._answer(seen)
            except Exception as failure:  # noqa: BLE001 - a script's own failed assertion too
                self.failures.append(failure)
                reply = Reply(599, body=repr(failure).encode())
            going = Sender(link, seen, reply, self.closing).send()
        finally:
            with self.changed:
                seen.done = True
                self.changed.notify_all()
        if going:
            return True
        hang_up(link, reset=reply.reset)
        return False


def hang_up(link: socket.socket, *, reset: bool) -> None:
    """End the connection so that the client sees FIN, or RST."""
    with contextlib.suppress(OSError):
        if reset:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            socket.socket.shutdown(link, socket.SHUT_WR)
