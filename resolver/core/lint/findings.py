"""Findings: what a rule has to say about an image or a file.

Lint, check, lock and pin speak this one language, so that every report (SARIF, JUnit, a table)
knows each of them.
"""

from __future__ import annotations

from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable


class Severity(Enum):
    """How much a finding weighs; the order of the members is the order of weight."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"

    def __lt__(self, other: Severity) -> bool:
        """Return whether this weighs less."""
        order = list(Severity)
        return order.index(self) < order.index(other)


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that is looked for.

    Attributes:
        id: stable, lower case with dashes: `entry-without-platform`.
        severity: of its findings, unless a finding says otherwise.
        title: what it finds, in a few words.
        explanation: why that matters and what to do, in sentences.
    """

    id: str
    severity: Severity
    title: str
    explanation: str


@dataclass(frozen=True, slots=True)
class FindingPlace:
    """Where in a file something stands; line and column count from 1, the column in characters."""

    path: str
    line: int
    column: int = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found.

    Attributes:
        rule: the rule's id.
        message: one sentence, no full stop; text from elsewhere as it is, the printer escapes.
        subject: the reference, or the file, that it is about.
        platform: which build of the image, as written; empty for the image as a whole.
        digest: of the document it is about; empty where there is none.
        hint: what to do or to type; empty when there is nothing useful to say.
        place: where in a file; None for what was found in a registry.
    """

    rule: str
    severity: Severity
    message: str
    subject: str
    platform: str = ""
    digest: str = ""
    hint: str = ""
    place: FindingPlace | None = None


#: Where rules are written down: `module:TABLE`, a tuple of `Rule` or of rows that have a `rule`. A
#: set of rules joins with a row here; its module is imported when a report explains a finding, and
#: at no other time.
BOOKS: tuple[str, ...] = (
    "resolver.core.lint.lint:RULES",
    "resolver.core.check.check:RULES",
    "resolver.core.lockfile.drift:RULES",
    "resolver.core.pin.decide:RULES",
    "resolver.core.results.doctor:RULES",
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
