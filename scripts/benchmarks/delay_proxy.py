"""A TCP proxy that delays and throttles the connections to a server on this machine.

    python delay_proxy.py PORT ROUND_TRIP_MS [MB_PER_SECOND [LINK_MB_PER_SECOND]]

Prints its own port on the first line. Every byte takes half a round trip in each direction, in
order. With a rate, each direction of each connection is as narrow as that; connections do not take
from each other, unless the link that they share has a rate too. A connection costs one round trip
before its first byte, as a TCP handshake does (the one on loopback costs nothing).

It must not be what is measured: eight connections of 40 MB/s are carried at 99 % of that, for a
quarter of a core. (`splice` through a pipe was tried, and takes as much: at this grain it is the
wake-ups that cost, not the copies.)
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import select
import socket
import threading
import time
from dataclasses import dataclass

#: Bytes read at once, at most; also the granularity of the rate.
CHUNK = 262_144
_BACKLOG = 128
_MEGA = 1_000_000


@dataclass(frozen=True, slots=True)
class Distance:
    """A round trip in seconds, and a rate in bytes per second; 0 disables either."""

    round_trip: float
    rate: float = 0.0


class Link:
    """The way from the server that all connections share; `rate` is in bytes per second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._left = 0.0

    def pass_on(self, size: int, due: float) -> float:
        """Return when some bytes that are ready at `due` have passed."""
        if not self._rate:
            return due
        with self._lock:
            self._left = max(self._left, due) + size / self._rate
            return self._left


class _Way:
    """One direction of a connection: one thread reads, another writes on time."""

    def __init__(
        self,
        source: socket.socket,
        target: socket.socket,
        distance: Distance,
        opened: float,
        link: Link | None = None,
    ) -> None:
        self._link = link
        self._source = source
        self._target = target
        self._distance = distance
        #: When the last byte that was read leaves the near end; no byte leaves before `opened`.
        self._left = opened
        self._due: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def run(self) -> None:
        """Forward bytes until one side closes."""
        giving = threading.Thread(target=self._give, daemon=True)
        giving.start()
        with contextlib.suppress(OSError):
            while self._take():
                pass
        self._due.put((time.monotonic() + self._distance.round_trip / 2, b""))
        giving.join()

    def _take(self) -> bool:
        was_ready = bool(select.select([self._source], [], [], 0)[0])
        chunk = self._source.recv(CHUNK)
        if not was_ready:
            # Start at now after an idle time; otherwise continue, however late this thread is.
            self._left = max(self._left, time.monotonic())
        if not chunk:
            return False
        if self._distance.rate:
            self._left += len(chunk) / self._distance.rate
        if self._link is not None:
            self._left = self._link.pass_on(len(chunk), self._left)
        self._due.put((self._left + self._distance.round_trip / 2, chunk))
        if self._distance.rate or self._link is not None:
            _sleep_until(self._left)
        return True

    def _give(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, chunk = self._due.get()
                _sleep_until(due)
                if not chunk:
                    self._target.shutdown(socket.SHUT_WR)
                    return
                self._target.sendall(chunk)
        # The receiver has closed: stop the sender as well.
        with contextlib.suppress(OSError):
            self._source.shutdown(socket.SHUT_RDWR)


def _sleep_until(due: float) -> None:
    wait = due - time.monotonic()
    if wait > 0:
        time.sleep(wait)


def join(near: socket.socket, port: int, distance: Distance, link: Link) -> None:
    """Forward one connection in both directions until it closes."""
    opened = time.monotonic() + distance.round_trip
    with near, socket.create_connection(("127.0.0.1", port)) as far:
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_Way(far, near, distance, opened, link).run, daemon=True)
        back.start()
        _Way(near, far, distance, opened).run()
        back.join()


def main() -> None:
    """Forward connections until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("round_trip_ms", type=float)
    parser.add_argument("rate_mb", type=float, nargs="?", default=0.0)
    parser.add_argument("link_mb", type=float, nargs="?", default=0.0)
    chosen = parser.parse_args()
    distance = Distance(chosen.round_trip_ms / 1000, chosen.rate_mb * _MEGA)
    link = Link(chosen.link_mb * _MEGA)
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            near, _ = server.accept()
            words = (near, chosen.port, distance, link)
            threading.Thread(target=join, args=words, daemon=True).start()


if __name__ == "__main__":
    main()
