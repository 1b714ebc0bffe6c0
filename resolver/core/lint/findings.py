"""Rules and findings, common to lint, check, lock, pin and doctor.

Every report (SARIF, JUnit, a table) supports all of them through these types.
"""

from __future__ import annotations

from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from resolver.core.results.resolve import Failure
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable


class Severity(Enum):
    """The severity of a finding, in ascending order."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"

    def __lt__(self, other: Severity) -> bool:
        order = list(Severity)
        return order.index(self) < order.index(other)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    `id`: stable, lower case with dashes: `entry-without-platform`. `severity`: of its findings,
    unless a finding says otherwise.
    """

    id: str
    severity: Severity
    title: str
    explanation: str


@dataclass(frozen=True, slots=True)
class FindingPlace:
    """A location in a file; line and column are counted from 1, the column in characters."""

    path: str
    line: int
    column: int = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a rule.

    Attributes:
        message: one sentence, no full stop; may contain remote text, which is escaped on output.
        platform: of the build, as written; empty for the image as a whole.
        place: the location in a file; None for content of a registry.
    """

    rule: str
    severity: Severity
    message: str
    subject: str
    platform: str = ""
    digest: str = ""
    hint: str = ""
    place: FindingPlace | None = None


class _HasFindings(Protocol):
    @property
    def findings(self) -> tuple[Finding, ...]: ...


Result = TypeVar("Result", bound=_HasFindings)


class ImageResults(Generic[Result]):
    """The results for several images, in the order requested; a failure for each unreadable one."""

    __slots__ = ()
    images: tuple[Result | Failure, ...]

    @property
    def looked_at(self) -> tuple[Result, ...]:
        """The images that could be read."""
        return tuple(image for image in self.images if not isinstance(image, Failure))

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The references that failed."""
        return tuple(image for image in self.images if isinstance(image, Failure))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, image by image."""
        return tuple(finding for image in self.looked_at for finding in image.findings)


#: Tables of rules as `module:TABLE`, imported only when a report explains a finding.
BOOKS: tuple[str, ...] = (
    "resolver.core.lint.lint:RULES",
    "resolver.core.check.check:RULES",
    "resolver.core.lockfile.drift:RULES",
    "resolver.core.pin.decide:RULES",
    "resolver.core.results.doctor:RULES",
    "resolver.core.results.attestations:RULES",
)


def rules(ids: Iterable[str]) -> tuple[Rule, ...]:
    """Return rules by id, in order and without duplicates; an unknown id gets a bare rule."""
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
