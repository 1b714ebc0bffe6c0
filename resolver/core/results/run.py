"""The result of one command, for CI systems and report files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.lint.findings import Finding
    from resolver.core.results.events import Warned


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of a command, with secrets removed from its texts.

    `platform`: as requested; empty if none was.
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
    """The outcome of a command.

    Attributes:
        answers: in the order of output; a `Failure` for each reference that failed.
        source: the file that listed the references, as typed; empty if there is none.
        folder: the working directory; paths of files are relative to it.
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
        """The findings of all answers that have any."""
        return tuple(
            finding for answer in self.answers for finding in getattr(answer, "findings", ())
        )
