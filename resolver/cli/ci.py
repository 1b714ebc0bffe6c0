"""Handing a command's answer over: to a CI system (`--emit`) and to files (`--report`).

Nothing is written unless asked. A command has no part in this but `Output.tell`: the decorator
`options.command` wraps it, so that one that fails hands over its failure.
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
from resolver.cli.output import HungUp, Output, presentable
from resolver.core.results.resolve import Failure
from resolver.core.results.run import Fault, RunResult
from resolver.errors import OutputFault, ResolverError, ToolFailed, ToolMissing, Usage
from resolver.render.ci.emit import (
    Act,
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

#: Options that name the file a question came from.
_SOURCES = ("policy", "lock_file", "lock", "file")
#: Arguments that name what is asked about.
_SUBJECTS = ("reference", "references", "repository", "images")


class CiOutput:
    """What a command has told so far, and to whom it goes in the end."""

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
        #: Prepares words from outside, as for every other way to a person.
        self.clean: Callable[[str], str] = presentable

    @classmethod
    def read(
        cls, command: str, emit: Sequence[str], report: Sequence[str], given: Mapping[str, object]
    ) -> CiOutput:
        """Read what was asked, before anybody is asked anything.

        Raises:
            Usage: there is no such system or form, it cannot be written to from here, or two of
                them would write the same file.

        """
        variables = dict(os.environ)
        systems, files = emits(tuple(emit), variables), reports(tuple(report))
        _refuse_shared(systems, files)
        return cls(command, systems, files, given, variables)

    def keep(self, answer: object) -> None:
        """Remember an answer."""
        self._answers.append(answer)

    def warned(self, warning: Warned) -> None:
        """Remember a warning, once."""
        self._warnings[replace(warning, message=self.clean(warning.message))] = None

    def failed(self, error: ResolverError) -> None:
        """Remember a failure, once."""
        if all(known is not error for known, _fault in self._faults):
            self._faults.append((error, self._fault(error)))

    def finish(self, status: int, output: Output) -> OutputFault | None:
        """Hand everything over; one that cannot be reached costs the others nothing.

        Gives the last of what went wrong, each of which is told: a file that cannot be written, a
        program that does not take what it is given.
        """
        ending = self._ending(status)
        jobs: list[Callable[[], tuple[Act, ...]]] = [
            partial(_reported, row, path, ending) for row, path in self._files
        ]
        for system, place in self._systems:
            desk = CiEnvironment(place, self._variables, secrets.token_hex(16))
            jobs.append(partial(emit, system, ending, desk))
        worst = None
        for job in jobs:
            try:
                for act in job():
                    _do(act, output, self._variables)
            except OutputFault as fault:
                output.failed(fault)
                worst = fault
        return worst

    def _ending(self, status: int) -> RunResult:
        told = [
            part for answer in self._answers for part in (answer, *getattr(answer, "failures", ()))
        ]
        subjects = {id(part.error): part for part in told if isinstance(part, Failure)}
        faults = []
        for error, fault in self._faults:
            about = subjects.get(id(error))
            faults.append(fault if about is None else _about(fault, about))
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
    """Give what was typed for these parameters, standard input aside."""
    for name in names:
        value = given.get(name)
        words = value if isinstance(value, list) else [value]
        yield from (word for word in words if isinstance(word, str) and word not in {"", "-"})


@contextmanager
def handing_over(hand: CiOutput, output: Output) -> Iterator[None]:
    """Hand over what happens in the block, whether it ends well or not.

    What cannot be handed over is told, and makes the status of a command that went well. The
    answer stands on stdout by then, so it is no error like others, of which JSON holds one.
    """
    try:
        yield
    except typer.Exit as stop:
        _after(hand, output, stop.exit_code)
        raise
    except ResolverError as error:
        hand.failed(error)
        _after(hand, output, error.kind.status)
        raise
    except HungUp:
        _after(hand, output, 0)
        raise
    _after(hand, output, 0)


def _after(hand: CiOutput, output: Output, status: int) -> None:
    fault = hand.finish(status, output)
    if fault is not None and not status:
        raise typer.Exit(fault.kind.status) from fault


def _refuse_shared(
    systems: Sequence[tuple[Emitter, str]], files: Sequence[tuple[Reporter, str]]
) -> None:
    """Refuse a file that is asked for twice: the last one written would be all there is."""
    asked = [(f"--emit {row.name}", place) for row, place in systems if place]
    asked += [(f"--report {row.name}", path) for row, path in files]
    taken: dict[Path, str] = {}
    for option, path in asked:
        place = Path(path).absolute()
        first = taken.setdefault(place, option)
        # A pipe or a terminal takes both, one after the other.
        if first is not option and (place.is_file() or not place.exists()):
            raise Usage(
                f"`{first}` and `{option}` would write the same file, `{path}`",
                "give each a file of its own",
            )


def _reported(row: Reporter, path: str, ending: RunResult) -> tuple[Act, ...]:
    return (Write(path, write_report(row, ending)),)


def _about(fault: Fault, failure: Failure) -> Fault:
    return replace(fault, subject=failure.reference, platform=failure.wanted or "")


def _do(act: Act, output: Output, environment: Mapping[str, str]) -> None:
    match act:
        case Write():
            _write(act)
        case LogLine():
            output.write(act.text)
        case Note():
            output.note(act.text)
        case RunProgram():
            _run(act, environment)
        case _:
            assert_never(act)


def _write(act: Write) -> None:
    """Write a file; one that is added to is kept to its limit.

    Raises:
        OutputFault: it cannot be written.

    """
    path = Path(act.path)
    try:
        text = act.text
        if act.limit is not None:
            from resolver.render.ci.annotations import cut

            used = path.stat().st_size if path.exists() else 0
            text = cut(text, act.limit - used)
        mode = "ab" if act.append else "wb"
        with open(path, mode, opener=_without_waiting) as stream:
            stream.write(text.encode("utf-8", "backslashreplace"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputFault(
            f"cannot write `{path}`: {reason}", "name a file in a folder that can be written"
        ) from error


def _without_waiting(path: str, flags: int) -> int:
    """Open a file to write; a FIFO that nobody reads is an error (ENXIO), not a reason to wait."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def _run(act: RunProgram, environment: Mapping[str, str]) -> None:
    """Give a program its input.

    Raises:
        OutputFault: there is no such program, or it does not take it.

    """
    from resolver.verbs.export.export import hand_over

    body = act.stdin.encode("utf-8", "backslashreplace")

    def write(put: Callable[[bytes], object]) -> int:
        put(body)
        return len(body)

    try:
        hand_over(act.words, write, environment)
    except ToolMissing as error:
        raise OutputFault(
            f"`{error.tool}` is not on PATH, so nothing was handed over",
            f"where it is, this gives it the first value: `{error.command} < VALUE`",
        ) from error
    except ToolFailed as error:
        detail = error.detail or f"it ended with status {error.status}"
        raise OutputFault(
            f"`{error.command}` did not take what it was given: {detail}",
            "only a job that an agent started may say something to its build",
        ) from error
