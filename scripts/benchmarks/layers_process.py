"""Serve an OCI layout as a registry, as fast as this machine can, and count what is sent.

    python layers_process.py FOLDER AUTHORITY

Prints its port on the first line, and behind it a second one for TLS; the certificate of the
authority that vouches for that one is written to the file AUTHORITY.
Every repository holds the same. `GET /_count`, in the open, answers `{"requests": …, "heads": …,
"bytes": …}` and starts counting anew; `bytes` are those of bodies. It answers `Range` with 206.

Bodies go from file to socket inside the system, or through TLS outside the interpreter.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import re
import socket
import ssl
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes of a request head, at most; our clients send about 400.
HEAD_LIMIT = 65_536
#: The first byte of a TLS connection. Source: RFC 8446, 5.1, "handshake(22)".
TLS_GREETING = b"\x16"
#: Bytes written to TLS at once.
_SLICE = 1 << 20
_BACKLOG = 128
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")
_NAME = "org.opencontainers.image.ref.name"
_BLOB = "application/octet-stream"


class Layout:
    """The content and the counters; thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs" / "sha256"
        index = json.loads((folder / "index.json").read_text("utf-8"))
        self._tags = {one["annotations"][_NAME]: one["digest"] for one in index["manifests"]}
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, **counts: int) -> None:
        """Increment a counter."""
        with self._lock:
            self._counts.update(counts)

    def take_counts(self) -> bytes:
        """Return and reset the counters."""
        with self._lock:
            counts = json.dumps(dict(self._counts)).encode()
            self._counts.clear()
        return counts

    def find(self, path: str) -> tuple[str, str, Path] | None:
        """Return media type, digest and file for a path."""
        _, _, kind, name = path.rsplit("/", 3) if path.count("/") > 3 else ("", "", "", "")  # noqa: PLR2004 - /v2/NAME/KIND/REFERENCE
        digest = self._tags.get(name, name)
        file = self._blobs / digest.removeprefix("sha256:")
        if kind not in {"blobs", "manifests"} or not digest.startswith("sha256:"):
            return None
        if not file.is_file():
            return None
        if kind == "blobs":
            return _BLOB, digest, file
        return json.loads(file.read_bytes())["mediaType"], digest, file


class Client:
    """One connection."""

    def __init__(self, link: socket.socket, layout: Layout) -> None:
        self._link = link
        self._layout = layout
        self._unread = b""

    def serve(self) -> None:
        """Answer requests until the client closes."""
        with self._link, contextlib.suppress(OSError):
            for head in self._heads():
                self._answer(head)
            self._link.shutdown(socket.SHUT_RDWR)

    def _heads(self) -> Iterator[str]:
        while True:
            while b"\r\n\r\n" not in self._unread:
                chunk = self._link.recv(HEAD_LIMIT)
                self._unread += chunk
                if self._unread[:1] == TLS_GREETING:
                    # Answer as a Go server does, so that a client which tries TLS first falls
                    # back as fast as with a real registry.
                    self._link.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                    return
                if not chunk or len(self._unread) > HEAD_LIMIT:
                    return
            head, _, self._unread = self._unread.partition(b"\r\n\r\n")
            yield head.decode("latin-1")

    def _answer(self, head: str) -> None:
        request, *lines = head.split("\r\n")
        method, target, _ = request.split(" ", 2)
        path = target.partition("?")[0]
        if path == "/_count":
            self._say(200, self._layout.take_counts())
            return
        self._layout.count(requests=1, heads=int(method == "HEAD"))
        blob = self._layout.find(path)
        if path == "/v2/":
            self._say(200, b"{}")
        elif blob is None:
            self._say(404, b'{"errors": [{"code": "NAME_UNKNOWN"}]}', silent=method == "HEAD")
        else:
            pairs = [line.partition(":") for line in lines]
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            self._send(blob, "" if method == "HEAD" else headers.get("range", ""), method)

    def _say(self, status: int, body: bytes, *, silent: bool = False) -> None:
        head = f"HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        self._link.sendall(head.encode() + (b"" if silent else body))

    def _send(self, blob: tuple[str, str, Path], requested: str, method: str) -> None:
        media_type, digest, file = blob
        with file.open("rb") as content:
            size = os.fstat(content.fileno()).st_size
            start, end, status, more = 0, size, 200, ""
            span = _RANGE.fullmatch(requested)
            if span is not None:
                start, end = int(span[1]), min(int(span[2] or size - 1) + 1, size)
                status, more = 206, f"Content-Range: bytes {start}-{end - 1}/{size}\r\n"
            head = (
                f"HTTP/1.1 {status} Answer\r\nContent-Type: {media_type}\r\n{more}"
                f"Accept-Ranges: bytes\r\nDocker-Content-Digest: {digest}\r\n"
                f"Content-Length: {end - start}\r\n\r\n"
            )
            self._link.sendall(head.encode())
            if method == "HEAD" or start == end:
                return
            self._layout.count(bytes=end - start)
            if not isinstance(self._link, ssl.SSLSocket):
                self._link.sendfile(content, start, end - start)
                return
            with (
                mmap.mmap(content.fileno(), 0, prot=mmap.PROT_READ) as whole,
                memoryview(whole) as view,
            ):
                for at in range(start, end, _SLICE):
                    with view[at : min(at + _SLICE, end)] as part:
                        self._link.sendall(part)


def _certified(authority: Path) -> ssl.SSLContext:
    """Make a certificate for this machine, and write its authority to a file."""
    trust = trustme.CA()
    trust.cert_pem.write_to_path(str(authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.issue_cert("127.0.0.1").configure_cert(context)
    return context


def _listen(server: socket.socket, layout: Layout, context: ssl.SSLContext | None) -> None:
    def begin(link: socket.socket) -> None:
        with contextlib.suppress(OSError):
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Client(context.wrap_socket(link, server_side=True) if context else link, layout).serve()

    while True:
        link, _ = server.accept()
        threading.Thread(target=begin, args=(link,), daemon=True).start()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("authority", type=Path)
    chosen = parser.parse_args()
    layout, context = Layout(chosen.folder), _certified(chosen.authority)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as plain,
        socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as guarded,
    ):
        threading.Thread(target=_listen, args=(guarded, layout, context), daemon=True).start()
        print(plain.getsockname()[1], guarded.getsockname()[1], flush=True)
        _listen(plain, layout, None)


if __name__ == "__main__":
    main()
