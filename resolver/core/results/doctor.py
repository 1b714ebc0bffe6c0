"""Results of `doctor`."""

from __future__ import annotations

import re
from enum import Enum

from resolver.core.lint.findings import Finding, Rule, Severity
from resolver.values import dataclass

Fact = str | int | bool | None | tuple[str, ...]


class CheckupState(Enum):
    """The state of a row, in ascending severity."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


#: Groups of rows, in the order of output, and the meaning of an error in each.
GROUPS = (
    ("installation", "Python or a required package is missing, too old or broken"),
    ("store", "the local store cannot be read or written"),
    ("logins", "a credentials file cannot be used"),
    ("registries", "the endpoint of a registry is unknown, or it does not respond"),
    ("network", "certificates, proxies or the clock make registries unreachable"),
    ("tools", "the tools that `export` uses cannot be checked"),
    ("terminal", "the terminal cannot be checked"),
    ("variables", "a variable has a value that cannot be used"),
)
#: For reports: one rule per group.
RULES = tuple(
    Rule(
        f"doctor-{group}",
        Severity.ERROR,
        title,
        "Run `resolver doctor` on the machine itself for details and hints.",
    )
    for group, title in GROUPS
)


@dataclass(frozen=True, slots=True)
class CheckupRow:
    """One checked item.

    `state`: an error breaks some command; a warning may; a note is informational. `found`: a
    description; may contain remote text, which is escaped on output.
    """

    group: str
    name: str
    state: CheckupState
    found: str
    hint: str = ""
    facts: tuple[tuple[str, Fact], ...] = ()


@dataclass(frozen=True, slots=True)
class Checkup:
    """The result of `doctor`, in the order of the checks."""

    version: str
    rows: tuple[CheckupRow, ...]

    def count(self, state: CheckupState) -> int:
        """Count the rows of one state."""
        return sum(row.state is state for row in self.rows)

    @property
    def state(self) -> CheckupState:
        """The worst state of all rows; notes count as OK."""
        heavy = (CheckupState.ERROR, CheckupState.WARNING)
        return next((severity for severity in heavy if self.count(severity)), CheckupState.OK)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The errors, for reports; warnings do not affect the exit status and are omitted."""
        return tuple(
            Finding(
                f"doctor-{row.group}",
                Severity.ERROR,
                f"{row.name}: {row.found}",
                row.group,
                hint=row.hint,
            )
            for row in self.rows
            if row.state is CheckupState.ERROR
        )


@dataclass(frozen=True, slots=True)
class Console:
    """Which streams are terminals, the detected CI system, and whether the answer has colours."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    system: str = ""
    colour: bool = False


#: `name>=1.2,<2`, with optional blanks, and a condition after a semicolon.
#: Source: packaging.python.org, "Dependency specifiers".
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[ ]*\(?([^;()]*)\)?[ ]*(;.*)?")
_EXTRA = re.compile(r"\bextra\b")
_BOUND = re.compile(r"[ ]*(>=|<)[ ]*([0-9][0-9A-Za-z.]*)[ ]*")
_NUMBERS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})*")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A required package; `bounds` as in `>=0.28,<1`, in any order.

    Attributes:
        on_some: required on some platforms only; which ones is not evaluated.

    """

    name: str
    bounds: str
    on_some: bool = False


def read_requirement(text: str) -> Requirement | None:
    """Parse one requirement of a distribution; None for one of an extra."""
    found = _REQUIREMENT.fullmatch(text)
    if found is None or (found[3] and _EXTRA.search(found[3])):
        return None
    return Requirement(found[1], found[2].strip(), on_some=bool(found[3]))


def is_outside(version: str, bounds: str) -> bool:
    """Whether a version is outside of bounds; False if it cannot be parsed."""
    here = _numbers(version)
    if here is None:
        return False
    for part in bounds.split(","):
        bound = _BOUND.fullmatch(part)
        limit = _numbers(bound[2]) if bound is not None else None
        if bound is None or limit is None:
            continue
        if (here < limit) is (bound[1] == ">="):
            return True
    return False


def _numbers(text: str) -> tuple[int, ...] | None:
    """Parse the release of a version without trailing zeros: `2.0` is `2`."""
    found = _NUMBERS.match(text)
    if found is None:
        return None
    numbers = [int(digits) for digits in found.group().split(".")]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
