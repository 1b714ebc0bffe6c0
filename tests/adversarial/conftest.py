"""Fixtures of the attack tests: hosts, a command runner and Docker's config file."""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.adversarial.actor import Actor
from tests.adversarial.hosts import Hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Actor]:
    """Run commands with a home and a store in this test's folder."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    monkeypatch.chdir(home)
    yield Actor(tmp_path)
    # `-vv` sets a handler for its process; this process goes on to other tests.
    logging.getLogger("resolver").handlers = []


@pytest.fixture
def hosts(act: Actor) -> Iterator[Hosts]:
    """Create registries and hostile hosts that end with the test."""
    with ExitStack() as stack:
        yield Hosts(act, stack)


@pytest.fixture
def docker_config(act: Actor, monkeypatch: pytest.MonkeyPatch) -> Callable[[object], Path]:
    """Return a function that writes `$DOCKER_CONFIG/config.json` from bytes or from JSON."""
    folder = act.folder / "home" / "docker"

    def write(content: object) -> Path:
        folder.mkdir(exist_ok=True)
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        path = folder / "config.json"
        path.write_bytes(body)
        path.chmod(0o600)
        act.given.add(path)
        monkeypatch.setenv("DOCKER_CONFIG", str(folder))
        return path

    return write
