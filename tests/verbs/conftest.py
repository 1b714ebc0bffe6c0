"""Fixtures of the tests of verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resolver.session import Session
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """Return an empty registry; an unexpected request fails the test."""
    with FakeRegistry() as fake:
        yield fake


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Return a session with a store of its own."""
    with Session(tmp_path / "store") as opened:
        yield opened
