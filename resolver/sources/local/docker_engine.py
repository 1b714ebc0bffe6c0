"""Layers of a running Docker engine, for information only.

An engine unpacks pulled layers and discards the compressed bytes, so only the digests of unpacked
layers are available.

Source: Docker Engine API v1.43, `GET /images/json` and `GET /images/{name}/json`; every engine
since 17.x answers both without a version in the path.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.oci.digest import Digest
from resolver.errors import InvalidDigest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Default socket of an engine.
_SOCKET = "/var/run/docker.sock"
#: Seconds to wait for a response.
_PATIENCE = 2.0
#: Most bytes of a response, and most images read.
_MAX_ANSWER, _MAX_IMAGES = 16 << 20, 500
_OK = 200
_ID = re.compile(r"sha256:[0-9a-f]{64}")


class _Unreachable(Exception):
    """There is no responding engine."""


class _Local(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(self._path)


def unpacked_layers(environment: Mapping[str, str]) -> frozenset[Digest]:
    """Return the unpacked layers of the local engine; none without an engine.

    Only a Unix socket is used: a remote engine is not on this machine.
    """
    path = _socket_path(environment)
    if path is None:
        return frozenset()
    connection = _Local(path)
    try:
        found: set[Digest] = set()
        for name in _images(_ask(connection, "/images/json")):
            found.update(_layers(_ask(connection, f"/images/{name}/json")))
        return frozenset(found)
    except _Unreachable:
        return frozenset()
    finally:
        connection.close()


def _socket_path(environment: Mapping[str, str]) -> str | None:
    host = environment.get("DOCKER_HOST") or f"unix://{_SOCKET}"
    scheme, _, path = host.partition("://")
    if scheme != "unix":
        return None
    try:
        return path if stat.S_ISSOCK(Path(path).stat().st_mode) else None
    except (OSError, ValueError):
        return None


def _ask(connection: _Local, target: str) -> object:
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read(_MAX_ANSWER + 1)
    except (OSError, http.client.HTTPException) as error:
        raise _Unreachable from error
    if answer.status != _OK or len(body) > _MAX_ANSWER:
        raise _Unreachable
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _Unreachable from error


def _images(listed: object) -> Iterator[str]:
    """Iterate over the IDs of the newest images; invalid IDs never enter a path."""
    if not isinstance(listed, list):
        return
    for entry in listed[:_MAX_IMAGES]:
        name = entry.get("Id") if isinstance(entry, dict) else None
        if isinstance(name, str) and _ID.fullmatch(name):
            yield name


def _layers(described: object) -> Iterator[Digest]:
    root = described.get("RootFS") if isinstance(described, dict) else None
    layers = root.get("Layers") if isinstance(root, dict) else None
    for text in layers if isinstance(layers, list) else ():
        try:
            yield Digest.parse(str(text))
        except InvalidDigest:
            continue
