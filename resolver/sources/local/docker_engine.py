"""What a running Docker engine has, for information: it gives no layer out as a registry would.

An engine unpacks what it pulls and forgets the compressed bytes, so all it can say is which
layers, by the digest of their unpacked form, it would not need again.

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

#: Where an engine listens unless `DOCKER_HOST` says otherwise.
_SOCKET = "/var/run/docker.sock"
#: Seconds to wait for an answer; an engine on this machine that takes longer is no help.
_PATIENCE = 2.0
#: Bytes of an answer, and images that are looked at.
_MAX_ANSWER, _MAX_IMAGES = 16 << 20, 500
_OK = 200
_ID = re.compile(r"sha256:[0-9a-f]{64}")


class _Unreachable(Exception):
    """There is no engine, or not one that answers."""


class _Local(http.client.HTTPConnection):
    """HTTP through a socket file."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(self._path)


def unpacked_layers(environment: Mapping[str, str]) -> frozenset[Digest]:
    """Ask the engine of this machine for the unpacked layers it has; none if there is no engine.

    Only a socket file is asked: an engine elsewhere has nothing to do with this machine.
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
    """Give the identities of the newest images; what is no identity becomes part of no path."""
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
