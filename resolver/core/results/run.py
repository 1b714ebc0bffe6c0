"""Endings: what one command came to, for whoever it is handed over to.

A CI system, a report file: each is told of the same answers, failures and warnings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.lint.findings import Finding
    from resolver.core.results.events import Warned


@dataclass(frozen=True, slots=True)
class Fault:
    """A question that has no answer, in words from which secrets are taken out already.

    Attributes:
        code: of the error, stable: `platform-not-offered`.
        word: the error's class: `NETWORK`, `PLATFORM`.
        status: the exit status of its kind.
        subject: the reference it is about, where that is known.
        platform: as asked for; empty where none was.

    """

    code: str
    word: str
    status: int
    message: str
    hints: tuple[str, ...] = ()
    subject: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a command ended.

    Attributes:
        command: its name: `resolve`.
        version: of resolver.
        answers: in the order they were told; a question of several that failed is a `Failure`.
        status: the exit status.
        source: the file that named what was asked about, as typed; empty if there is none.
        folder: where the command ran; places in files are told from there.

    """

    command: str
    version: str
    answers: tuple[object, ...]
    faults: tuple[Fault, ...]
    warnings: tuple[Warned, ...]
    status: int
    source: str = ""
    folder: str = ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that rules found, over all answers; an answer has `findings`, or it has none."""
        return tuple(
            finding for answer in self.answers for finding in getattr(answer, "findings", ())
        )
