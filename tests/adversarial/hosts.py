"""Registries and hostile hosts that record every request."""

from __future__ import annotations

import base64
import json
import socket
import threading
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import patch

from tests.kit.outcomes import PASSWORD, USER
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    import ssl
    from contextlib import ExitStack
    from types import TracebackType

    from tests.adversarial.actor import Actor

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Hosts:
    """Creates hosts that end with the test; the requests to all of them are counted."""

    def __init__(self, act: Actor, stack: ExitStack) -> None:
        self._act = act
        self._stack = stack

    def registry(
        self,
        tls: ssl.SSLContext | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        strict: bool = True,
    ) -> FakeRegistry:
        """Start a registry; at its end, unexpected requests fail the test."""
        with at_port(port):
            made = FakeRegistry(tls, host, strict=strict)
        self._act.watched.append(made)
        return self._stack.enter_context(made)

    def evil(self, **how: Any) -> FakeRegistry:
        """Start a host that accepts any request."""
        return self.registry(**how, strict=False)


def at_port(port: int) -> Any:
    """Make fakes created in this block listen on this port instead of a free one."""
    create = socket.create_server

    def created(address: tuple[str, int], **how: Any) -> socket.socket:
        return create((address[0], port or address[1]), **how)

    return patch("tests.kit.wire_server.socket.create_server", created)


def answer(document: object, status: int = 200, **headers: str) -> Reply:
    """Make a JSON answer."""
    named = {"Content-Type": "application/json", **headers}
    return Reply(status, named, json.dumps(document).encode())


def login(*hosts: str, user: str = USER, password: str = PASSWORD) -> dict[str, object]:
    """Return a `config.json` with logins for these hosts."""
    coded = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"auths": {host: {"auth": coded} for host in hosts}}


class Recorder:
    """Accepts connections, records the first bytes of each and sends a fixed answer."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, reply: bytes = b"") -> None:
        self._listener = socket.create_server((host, port))
        self._reply = reply
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        self.received: list[bytes] = []
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            with link:
                link.settimeout(5)
                self.received.append(link.recv(65_536))
                link.sendall(self._reply)
