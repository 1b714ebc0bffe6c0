"""A rule book and an answer of the tests' own, joined as any other would be."""

from __future__ import annotations

import pytest

from resolver.core.lint import findings
from resolver.render import answers


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `tests.render.endings.Answered` an answer, and its rules known."""
    place = "tests.render.endings"
    monkeypatch.setitem(answers.ANSWERS, place, place)
    monkeypatch.setattr(findings, "BOOKS", (*findings.BOOKS, f"{place}:RULES"))
