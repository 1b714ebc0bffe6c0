"""Fixtures of the tests of sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.clients import ENGINES
from tests.kit.credentials import Machine
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Run the test with each HTTP library."""
    return str(request.param)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """Return an empty registry; an unexpected request fails the test."""
    with FakeRegistry() as fake:
        yield fake


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with a home, a PATH and no credentials."""
    return Machine(tmp_path)
