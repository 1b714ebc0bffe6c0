"""A store, a registry and a process pool for the tests of this folder."""

from __future__ import annotations

import base64
import json
import logging
import os
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.clock import SystemClock
from tests.faults.crew import Crew
from tests.faults.ground import Ground
from tests.faults.samples import img_a, img_a2, small
from tests.kit.outcomes import PASSWORD, USER
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

_OURS = ("RESOLVER_", "_RESOLVER_", "DOCKER_", "XDG_", "COVERAGE", "COV_", "HTTP", "http", "CI")


@pytest.fixture(scope="session")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """Return the process pool of all tests."""
    home = tmp_path_factory.mktemp("crew")
    variables = {n: v for n, v in os.environ.items() if not n.startswith(_OURS)}
    variables |= {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "PYTHONHASHSEED": "0",
    }
    with Crew(variables) as found:
        yield found


@pytest.fixture
def ground(tmp_path: Path, crew: Crew, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """Return a missing store and a registry with img-a that requires a password."""
    if sys.platform != "linux":
        pytest.skip("faults are injected in the ways of Linux")
    with FakeRegistry() as registry:
        registry.basic(USER, PASSWORD)
        secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        known = json.dumps({"auths": {registry.host: {"auth": secret}}})
        monkeypatch.setenv("DOCKER_AUTH_CONFIG", known)
        registry.serve("img-a", "1", img_a())
        registry.serve("img-a", "2", img_a2())
        yield Ground(tmp_path, registry, crew, {"DOCKER_AUTH_CONFIG": known})
    # `-vv` sets a handler for its process; this process goes on to other tests.
    logging.getLogger("resolver").handlers = []


@pytest.fixture
def tiny(ground: Ground) -> Ground:
    """Serve an image of one small layer, and another that shares no content with it."""
    ground.registry.serve("small", "1", small())
    ground.registry.serve("small", "2", small(1))
    return ground


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the waits before retries instead of waiting; return the longest possible of each."""
    found: list[float] = []

    def sleep(_clock: SystemClock, seconds: float, _stop: threading.Event) -> None:
        found.append(seconds)

    monkeypatch.setattr(SystemClock, "sleep", sleep)
    monkeypatch.setattr(SystemClock, "chance", lambda _clock: 1.0)
    return found
