"""Checkups: what `doctor` found out about a machine, row by row."""

from __future__ import annotations

from enum import Enum

from resolver.core.findings import Finding, Rule, Severity
from resolver.values import dataclass

Fact = str | int | bool | None | tuple[str, ...]


class State(Enum):
    """How well something is; the order of the members is the order of weight."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


#: What belongs together, in the order it is told, and what an error there means.
GROUPS = (
    ("installation", "Python, or a package that is needed, is missing, too old or broken"),
    ("store", "the local store cannot be read or written"),
    ("logins", "a file of logins cannot be used"),
    ("registries", "where a registry is asked cannot be said, or it does not answer"),
    ("network", "certificates, proxies or the clock keep registries from being asked"),
    ("tools", "a tool to hand images to cannot be looked for"),
    ("terminal", "the terminal cannot be looked at"),
    ("variables", "a variable has a value that cannot be used"),
)
#: For reports: one rule per group.
RULES = tuple(
    Rule(
        f"doctor-{group}",
        Severity.ERROR,
        title,
        "Type `resolver doctor` on the machine itself: it says what is there, and what to do.",
    )
    for group, title in GROUPS
)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at.

    Attributes:
        group: what it belongs to: `store`.
        name: what it is: `free space`.
        state: an error keeps some command from working; a warning may; a note is only said.
        found: what is there, in words; text from elsewhere as it is, the printer escapes it.
        hint: what to type or to do; empty when there is nothing.
        facts: the same for machines; a name and a value each.

    """

    group: str
    name: str
    state: State
    found: str
    hint: str = ""
    facts: tuple[tuple[str, Fact], ...] = ()


@dataclass(frozen=True, slots=True)
class Checkup:
    """All that was looked at, in the order of the checks.

    Attributes:
        version: of resolver.

    """

    version: str
    rows: tuple[Row, ...]

    def count(self, state: State) -> int:
        """Count the rows of one state."""
        return sum(row.state is state for row in self.rows)

    @property
    def state(self) -> State:
        """Give the worst of all rows, where a note is as good as none."""
        heavy = (State.ERROR, State.WARNING)
        return next((each for each in heavy if self.count(each)), State.OK)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Give what is wrong, for reports; warnings stay out, as they change no status."""
        return tuple(
            Finding(
                f"doctor-{row.group}",
                Severity.ERROR,
                f"{row.name}: {row.found}",
                row.group,
                hint=row.hint,
            )
            for row in self.rows
            if row.state is State.ERROR
        )


@dataclass(frozen=True, slots=True)
class Console:
    """Where a command line runs: which of its streams are terminals, and which CI system it is.

    Attributes:
        system: as `--emit auto` would find it; empty for none.

    """

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    system: str = ""
