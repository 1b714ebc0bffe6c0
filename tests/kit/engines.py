"""Container engines for tests: an API on a Unix socket, and programs on PATH."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Engine(ThreadingMixIn, UnixStreamServer):
    """The API of an engine: `answers` has JSON or bytes by path; others are not found.

    Attributes:
        requests: the paths, in order.
        cut: end the next response after this many bytes.

    """

    daemon_threads = True
    answers: dict[str, object]
    requests: list[str]
    status: int = 200
    cut: int | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        engine = self.server
        assert isinstance(engine, Engine)
        engine.requests.append(self.path)
        known = engine.answers.get(self.path)
        body = known if isinstance(known, bytes) else json.dumps(known).encode()
        self.send_response(404 if known is None else engine.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if engine.cut is None else body[: engine.cut])
        self.close_connection = engine.cut is not None

    def log_message(self, *_words: object) -> None:
        pass

    def address_string(self) -> str:
        return "a socket file"


@contextmanager
def running_engine(folder: Path) -> Iterator[Engine]:
    """Run an engine at `folder/docker.sock`."""
    with Engine(str(folder / "docker.sock"), _Handler) as server:
        server.answers, server.requests = {}, []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def engine_at(folder: Path) -> dict[str, str]:
    """Return the variables that lead to the engine of a folder."""
    return {"DOCKER_HOST": f"unix://{folder / 'docker.sock'}"}


def program(folder: Path, name: str, script: str) -> dict[str, str]:
    """Install a program on the returned PATH; `$OUT` is the folder for its output."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    path = programs / name
    path.write_text(f"#!/bin/sh\nOUT='{folder}'\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}


#: Pulls as an engine does: what it has already is not fetched again.
_PULLS = """#!{python} -S
import json, pathlib, sys, urllib.request
out, words = pathlib.Path({folder!r}), sys.argv[1:]
with (out / "ran").open("a") as file:
    file.write(" ".join(words) + "\\n")
has = out / "has"
has.mkdir(exist_ok=True)

def get(base, kind, digest):
    path = has / digest.replace(":", "-")
    if kind == "manifests" or not path.exists():
        with urllib.request.urlopen(f"{{base}}/{{kind}}/{{digest}}") as answer:
            path.write_bytes(answer.read())
    return path.read_bytes()

if words[0] == "pull":
    name, _, digest = words[-1].partition("@")
    host, _, repository = name.partition("/")
    base = f"http://{{host}}/v2/{{repository}}"
    manifest = json.loads(get(base, "manifests", digest))
    for each in (manifest["config"], *manifest["layers"]):
        get(base, "blobs", each["digest"])
"""


def pulling_program(folder: Path, name: str) -> dict[str, str]:
    """Install a container tool that can pull; its arguments and blobs are kept in the folder."""
    environment = program(folder, name, "")
    script = _PULLS.format(python=sys.executable, folder=str(folder))
    (folder / "bin" / name).write_text(script)
    return environment
