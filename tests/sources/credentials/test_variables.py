"""Environment variables of other tools, each against a real server or proxy on this machine.

`SSL_CERT_FILE` and `SSL_CERT_DIR` are in `test_tls.py`, `DOCKER_DEFAULT_PLATFORM` needs no network.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from resolver.errors import AuthenticationRequired, Unavailable
from resolver.session import Session
from tests.kit.certificates import authority
from tests.kit.images import build_image
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

IMAGE = build_image()
NAME = "registry.test"
USER, PASSWORD = "u5er", "S3cr3tPa55"


# --- proxies -------------------------------------------------------------------------------


class Tunnel:
    """A CONNECT proxy that maps every name to one port of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._lead, args=(link,), daemon=True).start()

    def _lead(self, link: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += link.recv(65_536)
        self.seen.append(head.decode("latin-1"))
        with socket.create_connection(("127.0.0.1", self._port)) as far, link:
            link.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pump, args=(far, link), daemon=True)
            back.start()
            _pump(link, far)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(65_536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.fixture
def certificate() -> ssl.SSLContext:
    """A certificate for a name that only a proxy can find."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().ca.issue_cert(NAME).configure_cert(context)
    return context


@contextmanager
def tunnelled(certificate: ssl.SSLContext) -> Iterator[tuple[FakeRegistry, Tunnel]]:
    with FakeRegistry(certificate) as registry:
        registry.serve("team/app", "1", IMAGE)
        tunnel = Tunnel(int(registry.host.rpartition(":")[2]))
        try:
            yield registry, tunnel
        finally:
            tunnel.close()


def resolved(folder: Path, host: str, **environment: str) -> str:
    """Resolve an image in a session with these variables and no others."""
    with Session(folder / "store", environment={"HOME": str(folder), **environment}) as session:
        return str(session.resolve(f"{host}/team/app:1", "linux/amd64").manifest.digest)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_https_uses_the_proxy_and_its_credentials(
    certificate: ssl.SSLContext, tmp_path: Path, variable: str
) -> None:
    with tunnelled(certificate) as (registry, tunnel):
        environment = {
            variable: f"http://{USER}:{PASSWORD}@{tunnel.host}",
            "SSL_CERT_FILE": str(authority().ca_file(tmp_path)),
        }
        assert resolved(tmp_path, NAME, **environment) == IMAGE.digest
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        assert tunnel.seen[0].startswith(f"CONNECT {NAME}:443 HTTP/1.1\r\n")
        assert f"basic {login}".lower() in tunnel.seen[0].lower()
        # The proxy's login is sent only to the proxy.
        assert all("proxy-authorization" not in seen.headers for seen in registry.log)


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_no_proxy_hosts_bypass_the_proxy(
    certificate: ssl.SSLContext, tmp_path: Path, variable: str
) -> None:
    with tunnelled(certificate) as (_, tunnel):
        environment = {"HTTPS_PROXY": f"http://{tunnel.host}", variable: f"other.test,{NAME}"}
        with pytest.raises(Unavailable):
            resolved(tmp_path, NAME, **environment)
        assert tunnel.seen == []


# --- credentials ---------------------------------------------------------------------------


def auths(host: str) -> str:
    secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": secret}}})


def variables(folder: Path, name: str, host: str) -> dict[str, str]:
    """Set one variable that provides the login of a host."""
    if name == "DOCKER_AUTH_CONFIG":
        return {name: auths(host)}
    file = folder / "config.json"
    file.write_text(auths(host))
    return {name: str(folder if name == "DOCKER_CONFIG" else file)}


@pytest.mark.parametrize(
    "name",
    ["DOCKER_CONFIG", "DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "RESOLVER_AUTH_FILE"],
)
def test_credentials_file_can_be_named_by_a_variable(tmp_path: Path, name: str) -> None:
    with FakeRegistry() as registry:
        registry.serve("team/app", "1", IMAGE)
        registry.bearer(credentials=(USER, PASSWORD))
        with pytest.raises(AuthenticationRequired):
            resolved(tmp_path, registry.host)
        environment = variables(tmp_path, name, registry.host)
        assert resolved(tmp_path, registry.host, **environment) == IMAGE.digest
        assert registry.log[-1].headers["authorization"].startswith("Bearer ")


def test_credentials_can_be_given_in_variables(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        registry.serve("team/app", "1", IMAGE)
        registry.basic(USER, PASSWORD)
        environment = {"RESOLVER_USERNAME": USER, "RESOLVER_PASSWORD": PASSWORD}
        assert resolved(tmp_path, registry.host, **environment) == IMAGE.digest


def test_anonymous_variable_sends_no_credentials(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        registry.serve("team/app", "1", IMAGE)
        registry.basic(USER, PASSWORD)
        environment = variables(tmp_path, "DOCKER_CONFIG", registry.host)
        with pytest.raises(AuthenticationRequired):
            resolved(tmp_path, registry.host, **environment, RESOLVER_ANONYMOUS="1")
        assert all("authorization" not in seen.headers for seen in registry.log)


# --- authorities ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "RESOLVER_CA_FILE"])
def test_ca_file_can_be_named_by_a_variable(tmp_path: Path, name: str) -> None:
    with FakeRegistry(authority().good()) as registry:
        registry.serve("team/app", "1", IMAGE)
        environment = {name: str(authority().ca_file(tmp_path))}
        assert resolved(tmp_path, registry.host, **environment) == IMAGE.digest
