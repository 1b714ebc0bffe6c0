"""Requests to the embedded registry."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.verbs.serve.server import Server


@dataclass(frozen=True)
class Response:
    """A response of the server; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of the first error."""
        return str(json.loads(self.body)["errors"][0]["code"])


def ask(
    server: Server, target: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Response:
    """Send one request on a separate connection."""
    link = http.client.HTTPConnection(server.address, timeout=20)
    try:
        link.request(method, target, headers=dict(headers or {}))
        answer = link.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Response(answer.status, named, answer.read())
    finally:
        link.close()


def exchange(server: Server, request: bytes) -> bytes:
    """Send raw bytes and read until the server ends the connection."""
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as link:
        link.sendall(request)
        link.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: link.recv(65_536), b""))
