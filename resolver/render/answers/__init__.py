"""Answers: the report (facts and tables) and the plain values of each kind of result.

A module here has `report(answer, *, explain, full)`, `plain(answer)` and `pairs(answer)` (digest
and name of each image, or None). To add an answer, write its module and add a row to `ANSWERS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: The module that renders an answer, by the module that defines the answer.
#: Imported on use: a command needs only its own.
ANSWERS = {
    "resolver.core.check.check": "resolver.render.answers.check",
    "resolver.core.compare.compare": "resolver.render.answers.compare",
    "resolver.core.lint.lint": "resolver.render.answers.lint",
    "resolver.core.lockfile.drift": "resolver.render.answers.lock",
    "resolver.core.lockfile.lock": "resolver.render.answers.lock",
    "resolver.core.pin.result": "resolver.render.answers.pin",
    "resolver.core.registry.tags": "resolver.render.answers.account",
    "resolver.core.results.account": "resolver.render.answers.account",
    "resolver.core.results.doctor": "resolver.render.answers.doctor",
    "resolver.core.results.export": "resolver.render.answers.export",
    "resolver.core.results.matrix": "resolver.render.answers.matrix",
    "resolver.core.results.plan": "resolver.render.answers.plan",
    "resolver.core.results.pull": "resolver.render.answers.plan",
    "resolver.core.results.store": "resolver.render.answers.store",
}


def renderer_of(answer: object) -> Any:
    """Return the module that renders an answer."""
    return import_module(ANSWERS[type(answer).__module__])
