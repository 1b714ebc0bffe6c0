"""The rule book: every rule there is, found by its id when a report has to explain one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from resolver.core.findings import Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Where rules are written down: `module:TABLE`, a tuple of `Rule` or of rows that have a `rule`. A
#: set of rules joins with a row here; its module is imported when a report explains a finding, and
#: at no other time.
BOOKS: tuple[str, ...] = (
    "resolver.core.lint:RULES",
    "resolver.core.check:RULES",
    "resolver.core.lock_check:RULES",
    "resolver.core.pinning.rules:RULES",
    "resolver.core.checkup:RULES",
)


def rules(ids: Iterable[str]) -> tuple[Rule, ...]:
    """Find these rules, in this order, each once; one that nobody knows is named by its id."""
    wanted = tuple(dict.fromkeys(ids))
    known = {rule.id: rule for rule in _all()} if wanted else {}
    return tuple(known.get(name, _unknown(name)) for name in wanted)


def _all() -> Iterable[Rule]:
    for place in BOOKS:
        module, _, table = place.partition(":")
        for row in getattr(import_module(module), table):
            yield getattr(row, "rule", row)


def _unknown(name: str) -> Rule:
    return Rule(name, Severity.WARNING, name, "")
