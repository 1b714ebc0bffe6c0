"""Answers: the report (facts and tables) and the plain values of each kind of result.

A module here has `report(answer, *, explain, full)`, `plain(answer)` and, for answers with images,
`pairs(answer)` (digest and name of each). It has the name of the module that defines the answer, or
a row in `ANSWERS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: The module that renders an answer, where its name differs from the module of the answer.
ANSWERS = {
    "resolver.core.lockfile.drift": "resolver.render.answers.lock",
    "resolver.core.pin.decide": "resolver.render.answers.pin",
    "resolver.core.registry.tags": "resolver.render.answers.account",
    "resolver.core.results.pull": "resolver.render.answers.plan",
}


def renderer_of(answer: object) -> Any:
    """Return the module that renders an answer; a command imports only its own."""
    module = type(answer).__module__
    return import_module(ANSWERS.get(module, f"{__name__}.{module.rpartition('.')[2]}"))
