"""Pass the answer of a command to a CI system (`--emit`) and to report files (`--report`).

A command only calls `Output.show`; the decorator `options.command` does the rest, so that the
failure of a command is reported too. Nothing is written without these options.
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import typer

from resolver._version import __version__
from resolver.cli.output import Output, ReaderGone, open_without_waiting, presentable
from resolver.core.results.resolve import Failure
from resolver.core.results.run import Fault, RunResult
from resolver.errors import OutputFault, ResolverError, ToolFailed, ToolMissing, Usage
from resolver.render.ci.emit import (
    Action,
    CiEnvironment,
    Emitter,
    LogLine,
    Note,
    Reporter,
    RunProgram,
    Write,
    emit,
    emits,
    reports,
    write_report,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from resolver.core.results.events import Warned

#: Options that name the file that images were read from.
_SOURCES = ("policy", "lock_file", "lock", "file")
#: Arguments that name the subject of a command.
_SUBJECTS = ("reference", "references", "repository", "images")


class CiOutput:
    """The answers, failures and warnings of a command, and where to report them."""

    def __init__(
        self,
        command: str,
        systems: tuple[tuple[Emitter, str], ...],
        files: tuple[tuple[Reporter, str], ...],
        given: Mapping[str, object],
        variables: Mapping[str, str],
    ) -> None:
        self._command = command
        self._systems = systems
        self._files = files
        self._source = next(_texts(given, _SOURCES), "")
        subjects = [*_texts(given, _SUBJECTS)]
        self._subject = subjects[0] if len(subjects) == 1 else ""
        self._variables = variables
        self._answers: list[object] = []
        self._faults: list[tuple[ResolverError, Fault]] = []
        self._warnings: dict[Warned, None] = {}
        #: Redacts remote text, as for every other output.
        self.clean: Callable[[str], str] = presentable

    @classmethod
    def read(
        cls, command: str, emit: Sequence[str], report: Sequence[str], given: Mapping[str, object]
    ) -> CiOutput:
        """Parse `--emit` and `--report`, before any request."""
        variables = dict(os.environ)
        systems, files = emits(tuple(emit), variables), reports(tuple(report))
        _refuse_shared(systems, files)
        return cls(command, systems, files, given, variables)

    def keep(self, answer: object) -> None:
        """Record an answer."""
        self._answers.append(answer)

    def warned(self, warning: Warned) -> None:
        """Record a warning, once."""
        self._warnings[replace(warning, message=self.clean(warning.message))] = None

    def failed(self, error: ResolverError) -> None:
        """Record a failure, once."""
        if all(recorded is not error for recorded, _fault in self._faults):
            self._faults.append((error, self._fault(error)))

    def finish(self, status: int, output: Output) -> OutputFault | None:
        """Write all reports; a failure of one does not stop the others.

        Print each failure (a file that cannot be written, a program that fails), and return the
        last one.
        """
        result = self._result(status)
        jobs: list[Callable[[], tuple[Action, ...]]] = [
            partial(_reported, row, path, result) for row, path in self._files
        ]
        for system, place in self._systems:
            ci_environment = CiEnvironment(place, self._variables, secrets.token_hex(16))
            jobs.append(partial(emit, system, result, ci_environment))
        worst = None
        for job in jobs:
            try:
                for action in job():
                    _do(action, output, self._variables)
            except OutputFault as fault:
                output.failed(fault)
                worst = fault
        return worst

    def _result(self, status: int) -> RunResult:
        entries = [
            entry
            for answer in self._answers
            for entry in (answer, *getattr(answer, "failures", ()))
        ]
        failures = {id(entry.error): entry for entry in entries if isinstance(entry, Failure)}
        faults = []
        for error, fault in self._faults:
            failure = failures.get(id(error))
            faults.append(fault if failure is None else _with_subject(fault, failure))
        warnings = tuple(self._warnings)
        answers = tuple(self._answers)
        folder = str(Path.cwd())
        return RunResult(
            self._command,
            __version__,
            answers,
            tuple(faults),
            warnings,
            status,
            self._source,
            folder,
        )

    def _fault(self, error: ResolverError) -> Fault:
        hints = tuple(self.clean(hint) for hint in error.hints())
        message = self.clean(str(error))
        return Fault(error.code, error.word, error.kind.status, message, hints, self._subject)


def _texts(given: Mapping[str, object], names: tuple[str, ...]) -> Iterator[str]:
    """Yield the values given for these parameters, except standard input."""
    for name in names:
        value = given.get(name)
        words = value if isinstance(value, list) else [value]
        yield from (word for word in words if isinstance(word, str) and word not in {"", "-"})


@contextmanager
def deliver_on_exit(recorder: CiOutput, output: Output) -> Iterator[None]:
    """Write the reports when the block ends, with or without a failure.

    A report that cannot be written sets the exit status of a successful command. It is not
    raised: the answer is on stdout already, and JSON holds one error at most.
    """
    try:
        yield
    except typer.Exit as stop:
        _after(recorder, output, stop.exit_code)
        raise
    except ResolverError as error:
        recorder.failed(error)
        _after(recorder, output, error.kind.status)
        raise
    except ReaderGone:
        _after(recorder, output, 0)
        raise
    _after(recorder, output, 0)


def _after(recorder: CiOutput, output: Output, status: int) -> None:
    fault = recorder.finish(status, output)
    if fault is not None and not status:
        raise typer.Exit(fault.kind.status) from fault


def _refuse_shared(
    systems: Sequence[tuple[Emitter, str]], files: Sequence[tuple[Reporter, str]]
) -> None:
    """Refuse to write two reports to one file: the second would overwrite the first."""
    targets = [(f"--emit {row.name}", place) for row, place in systems if place]
    targets += [(f"--report {row.name}", path) for row, path in files]
    options: dict[Path, str] = {}
    for option, path in targets:
        place = Path(path).absolute()
        first = options.setdefault(place, option)
        # A pipe or a terminal can receive both, one after the other.
        if first is not option and (place.is_file() or not place.exists()):
            raise Usage(
                f"`{first}` and `{option}` would write the same file, `{path}`",
                "give each a file of its own",
            )


def _reported(row: Reporter, path: str, result: RunResult) -> tuple[Action, ...]:
    return (Write(path, write_report(row, result)),)


def _with_subject(fault: Fault, failure: Failure) -> Fault:
    return replace(fault, subject=failure.reference, platform=failure.wanted or "")


def _do(action: Action, output: Output, environment: Mapping[str, str]) -> None:
    match action:
        case Write():
            _write(action)
        case LogLine():
            output.write(action.text)
        case Note():
            output.note(action.text)
        case RunProgram():
            _run(action, environment)
        case _:
            assert_never(action)


def _write(action: Write) -> None:
    """Write or append to a file, within its size limit."""
    path = Path(action.path)
    try:
        text = action.text
        if action.limit is not None:
            from resolver.render.ci.summary import cut

            used = path.stat().st_size if path.exists() else 0
            text = cut(text, action.limit - used)
        mode = "ab" if action.append else "wb"
        with open(path, mode, opener=open_without_waiting) as stream:
            stream.write(text.encode("utf-8", "backslashreplace"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputFault(
            f"cannot write `{path}`: {reason}", "name a file in a writable folder"
        ) from error


def _run(action: RunProgram, environment: Mapping[str, str]) -> None:
    from resolver.verbs.export.export import hand_over

    body = action.stdin.encode("utf-8", "backslashreplace")

    def write(put: Callable[[bytes], object]) -> int:
        put(body)
        return len(body)

    try:
        hand_over(action.words, write, environment)
    except ToolMissing as error:
        raise OutputFault(
            f"`{error.tool}` is not on PATH, so no values were set",
            f"run this where it is installed: `{error.command} < VALUE`",
        ) from error
    except ToolFailed as error:
        detail = error.detail or f"it ended with status {error.status}"
        raise OutputFault(
            f"`{error.command}` failed: {detail}", "run it in a job that a Buildkite agent started"
        ) from error
