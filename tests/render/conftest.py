"""A rule book and an answer of the tests' own, joined as any other would be."""

from __future__ import annotations

import pytest

from resolver.core import rule_book
from resolver.render import plain, report


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `tests.render.endings.Answered` an answer, and its rules known."""
    place = "tests.render.endings"
    monkeypatch.setitem(report.ELSEWHERE, place, place)
    monkeypatch.setitem(plain.ELSEWHERE, place, place)
    monkeypatch.setattr(rule_book, "BOOKS", (*rule_book.BOOKS, f"{place}:RULES"))
