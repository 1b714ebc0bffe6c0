"""Fixtures of the tests of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resolver.store import LocalStore

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.core.results.events import Event


@pytest.fixture
def events() -> list[Event]:
    """Return the events that the store reports."""
    return []


@pytest.fixture
def store(tmp_path: Path, events: list[Event]) -> LocalStore:
    """Return a store that does not exist yet; syncing is off since it is slow."""
    return LocalStore(tmp_path / "store", fsync=False, observe=events.append)
