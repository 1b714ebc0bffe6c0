"""Handing over: which systems and report files there are, and what is to be done for each.

Everything here is a value: `cli.ci` writes the files, speaks the lines and runs the programs.
To add a system or a report, write a module with one function and give it a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from resolver.errors import Usage
from resolver.render.text import escape
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.results.run import RunResult
    from resolver.render.ci.values import Value


@dataclass(frozen=True, slots=True)
class Write:
    """Text for a file.

    Attributes:
        append: to what the file holds; else it is replaced.
        limit: bytes that the file may hold; what is too much is cut at a line, and that said.

    """

    path: str
    text: str
    append: bool = False
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """Lines for the log, which a CI system reads as commands; escaped, ends with a line break."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """What a person should know about the handing over: what was left out, and why."""

    text: str


@dataclass(frozen=True, slots=True)
class RunProgram:
    """A program to run, with this on its standard input."""

    words: tuple[str, ...]
    stdin: str


Action = Write | LogLine | Note | RunProgram


@dataclass(frozen=True, slots=True)
class CiEnvironment:
    """What an emitter may know of where it runs.

    Attributes:
        place: what stood behind the `=`; empty where nothing is due.
        variables: the environment.
        token: 32 random hex digits, for a delimiter or a file name that nobody can foresee.

    """

    place: str
    variables: Mapping[str, str]
    token: str


class Emitter(NamedTuple):
    """One CI system.

    Attributes:
        takes: `FILE` or `DIR` if it is told where to write; empty if its own variables say it.
        needs: variables without which nothing can be handed over.
        detected: a variable that is set in its jobs, for `auto`; empty if there is none.
        usual: where `auto` writes.
        place: `module:function`; the function makes the actions.

    """

    name: str
    takes: str
    needs: tuple[str, ...]
    detected: str
    usual: str
    place: str


#: What stands for stdout elsewhere; ours is for the answer, and no report comes between.
_STDOUT = "-"

#: Every system that `--emit` knows.
EMITTERS = {
    row.name: row
    for row in (
        Emitter(
            "github", "", ("GITHUB_OUTPUT",), "GITHUB_ACTIONS", "", "resolver.render.ci.github:emit"
        ),
        Emitter(
            "gitlab", "FILE", (), "GITLAB_CI", "resolver.env", "resolver.render.ci.gitlab:emit"
        ),
        Emitter("azure", "", (), "TF_BUILD", "", "resolver.render.ci.azure:emit"),
        Emitter("tekton", "DIR", (), "", "", "resolver.render.ci.tekton:emit"),
        Emitter("buildkite", "", (), "BUILDKITE", "", "resolver.render.ci.buildkite:emit"),
        Emitter("env", "FILE", (), "", "", "resolver.render.ci.gitlab:emit_env_file"),
    )
}


class Reporter(NamedTuple):
    """One form of report file: `module:function`, imported when it is asked for."""

    name: str
    place: str


#: Every form that `--report` knows.
REPORTS = {
    row.name: row
    for row in (
        Reporter("sarif", "resolver.render.ci.sarif:sarif"),
        Reporter("junit", "resolver.render.ci.junit:junit"),
        Reporter("codequality", "resolver.render.ci.codequality:codequality"),
        Reporter("markdown", "resolver.render.ci.annotations:summary"),
    )
}


def emits(words: tuple[str, ...], variables: Mapping[str, str]) -> tuple[tuple[Emitter, str], ...]:
    """Read `--emit`: each system, and where it wants its file.

    Raises:
        Usage: there is no such system, a place is missing or too much, or the variables that the
            system hands to its jobs are not set.

    """
    found: dict[tuple[Emitter, str], None] = {}
    for word in words:
        if word == "auto":
            found |= dict.fromkeys(_detected(variables))
        else:
            found[_emitter(word)] = None
    for row, _place in found:
        missing = [name for name in row.needs if not variables.get(name)]
        if missing:
            raise Usage(
                f"`--emit {row.name}` needs `{missing[0]}`, which is not set",
                "its jobs have it; elsewhere write a file of your own: `--emit env=resolver.env`",
            )
    return tuple(found)


def reports(words: tuple[str, ...]) -> tuple[tuple[Reporter, str], ...]:
    """Read `--report`: each form, and its file.

    Raises:
        Usage: there is no such form, or no file.

    """
    found: dict[tuple[Reporter, str], None] = {}
    for word in words:
        name, _, path = word.partition("=")
        row = REPORTS.get(name)
        if row is None:
            raise Usage(f"there is no report `{name}`", f"choose one of {', '.join(REPORTS)}")
        if path in {"", _STDOUT}:
            raise Usage(f"`--report {name}` names no file", f"write `--report {name}=FILE`")
        found[row, path] = None
    return tuple(found)


def emit(row: Emitter, result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Say what is to be done to hand an result over to a system."""
    module, _, function = row.place.partition(":")
    made: tuple[Action, ...] = getattr(import_module(module), function)(result, environment)
    return made


def write_report(row: Reporter, result: RunResult) -> str:
    """Write a report of an result."""
    module, _, function = row.place.partition(":")
    draw: Callable[[RunResult], str] = getattr(import_module(module), function)
    return draw(result)


def _emitter(word: str) -> tuple[Emitter, str]:
    name, equals, place = word.partition("=")
    row = EMITTERS.get(name)
    if row is None:
        known = ", ".join((*EMITTERS, "auto"))
        raise Usage(f"there is no `--emit {name}`", f"choose one of {known}")
    if row.takes and place in {"", _STDOUT}:
        raise Usage(f"`--emit {name}` does not say where to", f"write `--emit {name}={row.takes}`")
    if equals and not row.takes:
        raise Usage(f"`--emit {name}` takes no place", f"write `--emit {name}`")
    return row, place


def _detected(variables: Mapping[str, str]) -> list[tuple[Emitter, str]]:
    """Find out whose job this is; most likely nobody's."""
    off = {"", "0", "false"}
    return [
        (row, row.usual)
        for row in EMITTERS.values()
        if row.detected and variables.get(row.detected, "").lower() not in off
    ]


#: What one value costs of a system's room; None: it cannot be given at all.
Cost = Callable[["Value"], int | None]


def fit(
    values: Iterable[Value], room: int, cost: Cost, system: str
) -> tuple[tuple[Value, ...], tuple[Note, ...]]:
    """Take values in order while there is room; a small one may still follow a large one."""
    taken, left = [], []
    for value in values:
        price = cost(value)
        if price is None or price > room:
            left.append(value.name)
        else:
            room -= price
            taken.append(value)
    if not left:
        return tuple(taken), ()
    names = ", ".join(f"`{name}`" for name in left)
    return tuple(taken), (
        Note(f"{system} does not take {names}: too large for it, or not one line"),
    )


def lines(text: str) -> str:
    """Escape a text of several lines; line breaks are all that stays of its controls."""
    return "\n".join(escape(line) for line in text.split("\n"))
