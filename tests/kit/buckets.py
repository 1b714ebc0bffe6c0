"""Buckets of S3 on this machine: moto's and s3rver's servers, and one that misbehaves."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

BUCKET = "images"
#: Seconds that a server may take to answer for the first time.
PATIENCE = 30
SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]+)")
DATE = "Sat, 01 Mar 2025 10:00:00 GMT"


def settings(host: str) -> dict[str, str]:
    """Return the variables for a client of a server; `SECRET` must not show up anywhere."""
    return {
        "AWS_ENDPOINT_URL": f"http://{host}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "S3RVER",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        return int(link.getsockname()[1])


@contextmanager
def server(command: list[str], port: int) -> Iterator[str]:
    """Run a server of S3 until the block ends, with one bucket; yield its `HOST:PORT`."""
    host = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                create = HTTPConnection(host, timeout=PATIENCE)
                create.request("PUT", f"/{BUCKET}")
                create.getresponse().read()
                create.close()
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield host
    finally:
        process.kill()
        process.wait()


@contextmanager
def moto() -> Iterator[str]:
    """Run moto's server."""
    port = free_port()
    with server(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port
    ) as host:
        yield host


def s3rver_command() -> str | None:
    """Return the program of npm's s3rver; None where it is not installed."""
    inside = Path(sys.prefix) / "npm/node_modules/.bin/s3rver"
    return str(inside) if inside.exists() else shutil.which("s3rver")


@contextmanager
def s3rver(program: str, folder: Path) -> Iterator[str]:
    """Run s3rver, which takes every signature here."""
    port = free_port()
    options = ["-d", str(folder), "-a", "127.0.0.1", "-p", str(port), "--configure-bucket", BUCKET]
    with server([program, *options, "--allow-mismatched-signatures"], port) as host:
        yield host


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that has gone: it has not waited for an answer."""


class Bucket:
    """A bucket in memory.

    Attributes:
        objects: by key, with the bucket's name.
        log: `METHOD KEY` of each request.
        fault: called with method, key and the handler before a request is answered; it answers
            itself and returns True to misbehave.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.log: list[str] = []
        self.fault: Callable[[str, str, BaseHTTPRequestHandler], bool] = lambda *_: False
        self.released = threading.Event()
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Write nothing."""

            def do_HEAD(self) -> None:
                self.answer("HEAD")

            def do_GET(self) -> None:
                self.answer("GET")

            def do_PUT(self) -> None:
                self.answer("PUT")

            def answer(self, method: str) -> None:
                key = self.path.partition("?")[0].lstrip("/")
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                bucket.log.append(f"{method} {key}")
                if not bucket.fault(method, key, self):
                    bucket.serve(method, key, body, self)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def serve(self, method: str, key: str, body: bytes, to: BaseHTTPRequestHandler) -> None:
        """Answer as S3 does."""
        found = self.objects.get(key)
        if method == "PUT":
            taken = found is not None and to.headers.get("if-none-match") == "*"
            if not taken:
                self.objects[key] = body
            reply(to, 412 if taken else 200, b"", {"ETag": '"1"'})
        elif found is None:
            reply(to, 404, b"")
        else:
            head = {"ETag": '"1"', "Last-Modified": DATE}
            wanted = _RANGE.fullmatch(to.headers.get("range", ""))
            if wanted is None:
                reply(to, 200, found, head)
                return
            first, last = int(wanted[1]), min(int(wanted[2]), len(found) - 1)
            head["Content-Range"] = f"bytes {first}-{last}/{len(found)}"
            reply(to, 206, found[first : last + 1], head)


def reply(
    to: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    """Send a response; one of HEAD has the length of the body alone."""
    to.send_response(status)
    for name, value in (headers or {}).items():
        to.send_header(name, value)
    to.send_header("Content-Length", str(len(body)))
    to.end_headers()
    if to.command != "HEAD":
        to.wfile.write(body)
