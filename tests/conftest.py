"""A clean environment, no network, and reproducible property tests on CI."""

from __future__ import annotations

import ipaddress
import itertools
import os
import socket
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

settings.register_profile("dev", deadline=None)
# On CI the same examples every time, so that failures can be reproduced.
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

#: Variables that `resolver`, or what it honours, would read: by prefix, and by name in any case.
_PREFIXES = ("RESOLVER_", "_RESOLVER_", "DOCKER_", "XDG_", "GITHUB_", "REGISTRY_", "SSL_CERT_")
_NAMES = {
    "ALL_PROXY",
    "CI",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLUMNS",
    "FORCE_COLOR",
    "FTP_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LINES",
    "NO_COLOR",
    "NO_PROXY",
    "PY_COLORS",
    "REQUESTS_CA_BUNDLE",
    "REQUEST_METHOD",
    "SOURCE_DATE_EPOCH",
    "TF_BUILD",
}

#: Kept, so that the whole suite can run with the other HTTP library.
_ENGINE = "RESOLVER_HTTP"

_homes = itertools.count()

Answer = TypeVar("Answer")


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold the home folders of all tests of this worker."""
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, homes: Path) -> Path:
    """Give the test and its processes a separate home and a clean environment."""
    for name in tuple(os.environ):
        if name != _ENGINE and (name.startswith(_PREFIXES) or name.upper() in _NAMES):
            monkeypatch.delenv(name)
    home = homes / str(next(_homes))
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    for name, folder in (
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_DATA_HOME", "data"),
        ("XDG_RUNTIME_DIR", "run"),
        ("XDG_STATE_HOME", "state"),
    ):
        monkeypatch.setenv(name, str(home / folder))
    return home


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit Python's sockets to this machine; only localhost names resolve.

    An HTTP library that is not written in Python is not covered: its tests use
    127.0.0.1, and other addresses are refused before it is asked.
    """
    monkeypatch.setattr(socket.socket, "connect", _guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", _guarded(socket.socket.connect_ex))
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str | bytes | None, *args: object, **options: object) -> object:
        name = host.decode() if isinstance(host, bytes) else host
        if name is None or _is_ours(name) or _is_address(name):
            return look_up(host, *args, **options)  # type: ignore[arg-type]  # passed on as it came
        raise socket.gaierror(socket.EAI_NONAME, "tests know no names but localhost")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def _guarded(connect: Callable[..., Answer]) -> Callable[..., Answer]:
    """Wrap a connect function: connecting to another machine fails the test."""

    def guarded(self: socket.socket, address: object) -> Answer:
        if isinstance(address, tuple) and not _is_ours(str(address[0])):
            message = f"a test reaches out to {address[0]}:{address[1]}"
            raise AssertionError(message)
        return connect(self, address)

    return guarded


def _is_ours(host: str) -> bool:
    """Return whether a host is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_address(host) and ipaddress.ip_address(host.partition("%")[0]).is_loopback


def _is_address(host: str) -> bool:
    """Return whether this is an IP address and not a name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
