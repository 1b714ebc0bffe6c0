"""A rule book and an answer for render tests, registered like any other."""

from __future__ import annotations

import pytest

from resolver.core.lint import findings
from resolver.render import answers


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `tests.kit.run_results.Answered` an answer, and its rules known."""
    place = "tests.kit.run_results"
    monkeypatch.setitem(answers.ANSWERS, place, place)
    monkeypatch.setattr(findings, "BOOKS", (*findings.BOOKS, f"{place}:RULES"))
