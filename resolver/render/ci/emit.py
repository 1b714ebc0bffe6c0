"""CI systems (`--emit`) and report files (`--report`), and the actions each of them needs.

Actions are values: `cli.ci` writes the files, prints the lines and runs the programs. To add a
system or a report, write a function in `systems` or `reports` and add a row.
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
        append: add to the file instead of replacing it.
        limit: bytes of the file at most; longer text is cut at a line, with a notice.
    """

    path: str
    text: str
    append: bool = False
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """Lines for the log with commands of a CI system; escaped, ends with a line break."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A note for the user: what was left out, and why."""

    text: str


@dataclass(frozen=True, slots=True)
class RunProgram:
    """A program to run, and its standard input."""

    words: tuple[str, ...]
    stdin: str


Action = Write | LogLine | Note | RunProgram


@dataclass(frozen=True, slots=True)
class CiEnvironment:
    """The environment of an emitter.

    Attributes:
        place: the file or folder after `=`; empty if the system needs none.
        token: 32 random hex digits, for an unpredictable delimiter or file name.
    """

    place: str
    variables: Mapping[str, str]
    token: str


class Emitter(NamedTuple):
    """One CI system.

    Attributes:
        takes: `FILE` or `DIR` if the option needs one; empty if variables name it.
        detected: a variable set in its jobs, for `auto`; empty if there is none.
        usual: where `auto` writes.
        place: `module:function` that makes the actions.
    """

    name: str
    takes: str
    needs: tuple[str, ...]
    detected: str
    usual: str
    place: str


#: Usually stands for stdout; refused, since stdout is for the answer.
_STDOUT = "-"

#: Every system of `--emit`.
EMITTERS = {
    row.name: row
    for row in (
        Emitter(
            "github",
            "",
            ("GITHUB_OUTPUT",),
            "GITHUB_ACTIONS",
            "",
            "resolver.render.ci.systems:github",
        ),
        Emitter(
            "gitlab", "FILE", (), "GITLAB_CI", "resolver.env", "resolver.render.ci.systems:gitlab"
        ),
        Emitter("azure", "", (), "TF_BUILD", "", "resolver.render.ci.systems:azure"),
        Emitter("tekton", "DIR", (), "", "", "resolver.render.ci.systems:tekton"),
        Emitter("buildkite", "", (), "BUILDKITE", "", "resolver.render.ci.systems:buildkite"),
        Emitter("env", "FILE", (), "", "", "resolver.render.ci.systems:env_file"),
    )
}


class Reporter(NamedTuple):
    """One form of report file: `module:function`, imported on use."""

    name: str
    place: str


#: Every form of `--report`.
REPORTS = {
    row.name: row
    for row in (
        Reporter("sarif", "resolver.render.ci.reports:sarif"),
        Reporter("junit", "resolver.render.ci.reports:junit"),
        Reporter("codequality", "resolver.render.ci.reports:codequality"),
        Reporter("markdown", "resolver.render.ci.summary:summary"),
    )
}


def emits(words: tuple[str, ...], variables: Mapping[str, str]) -> tuple[tuple[Emitter, str], ...]:
    """Parse `--emit`: each system, and its file or folder."""
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
                "it is set in jobs; elsewhere, write a file: `--emit env=resolver.env`",
            )
    return tuple(found)


def reports(words: tuple[str, ...]) -> tuple[tuple[Reporter, str], ...]:
    """Parse `--report`: each form, and its file."""
    found: dict[tuple[Reporter, str], None] = {}
    for word in words:
        name, _, path = word.partition("=")
        row = REPORTS.get(name)
        if row is None:
            raise Usage(f"unknown report `{name}`", f"choose one of {', '.join(REPORTS)}")
        if path in {"", _STDOUT}:
            raise Usage(f"`--report {name}` names no file", f"write `--report {name}=FILE`")
        found[row, path] = None
    return tuple(found)


def emit(row: Emitter, result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Return the actions that report a result to a CI system."""
    module, _, function = row.place.partition(":")
    made: tuple[Action, ...] = getattr(import_module(module), function)(result, environment)
    return made


def write_report(row: Reporter, result: RunResult) -> str:
    """Return the text of a report file."""
    module, _, function = row.place.partition(":")
    draw: Callable[[RunResult], str] = getattr(import_module(module), function)
    return draw(result)


def _emitter(word: str) -> tuple[Emitter, str]:
    name, equals, place = word.partition("=")
    row = EMITTERS.get(name)
    if row is None:
        known = ", ".join((*EMITTERS, "auto"))
        raise Usage(f"unknown CI system `--emit {name}`", f"choose one of {known}")
    if row.takes and place in {"", _STDOUT}:
        raise Usage(f"`--emit {name}` needs a path", f"write `--emit {name}={row.takes}`")
    if equals and not row.takes:
        raise Usage(f"`--emit {name}` takes no path", f"write `--emit {name}`")
    return row, place


def _detected(variables: Mapping[str, str]) -> list[tuple[Emitter, str]]:
    off = {"", "0", "false"}
    return [
        (row, row.usual)
        for row in EMITTERS.values()
        if row.detected and variables.get(row.detected, "").lower() not in off
    ]


#: How much of a limit a value uses; None if the system cannot take it.
Cost = Callable[["Value"], int | None]


def fit(
    values: Iterable[Value], room: int, cost: Cost, system: str
) -> tuple[tuple[Value, ...], tuple[Note, ...]]:
    """Take values in order while they fit; skip those that do not."""
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
    return tuple(taken), (Note(f"{names} left out for {system}: too large, or not a single line"),)


def lines(text: str) -> str:
    """Escape a text of several lines; of its control characters, only line breaks stay."""
    return "\n".join(escape(line) for line in text.split("\n"))
