"""Running out of memory or threads is one error line and not a bug report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resolver.cli import app
from resolver.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("raised", "limited", "status", "word"),
    [
        (MemoryError(), False, 8, "memory"),
        (SystemError("error return without exception set"), True, 8, "memory"),
        (SystemError("error return without exception set"), False, app.DEFECT, "bug in resolver"),
        (RuntimeError("can't start new thread"), False, 8, "threads"),
        (RuntimeError("can't allocate lock"), False, 8, "memory"),
        (RuntimeError("dictionary changed size"), True, app.DEFECT, "bug in resolver"),
    ],
)
def test_resource_exhaustion_is_not_reported_as_a_bug(
    raised: Exception,
    limited: bool,
    status: int,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(Session, "resolve", fail)
    monkeypatch.setattr(app, "_is_limited", lambda: limited)
    run: Callable[[list[str]], int] = app.run

    assert run(["resolve", "app:1"]) == status

    error = capsys.readouterr().err
    assert word in error.splitlines()[0]
    assert len(error.splitlines()) == 2
