"""GitHub Actions: outputs, the step summary, annotations.

Source: docs.github.com, "Workflow commands for GitHub Actions"; actions/runner,
FileCommandManager.cs (files) and ActionCommand.cs (commands).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.ci.emit import LogLine, Note, Write, fit, lines
from resolver.render.ci.summary import Annotation, annotated, summary
from resolver.render.ci.values import values
from resolver.render.text import escape

if TYPE_CHECKING:
    from resolver.core.results.run import RunResult
    from resolver.render.ci.emit import Action, CiEnvironment
    from resolver.render.ci.values import Value

#: Bytes of all outputs of a job, counted in UTF-16. Source: github/docs, output-limitations.md.
MAX_OUTPUTS = 1_000_000
#: Bytes of a step's summary. Source: docs.github.com, "Adding a job summary": 1 MiB.
MAX_SUMMARY = 2**20
#: Annotations of one level that a step shows. Source: docs.github.com, "Workflow commands", limits.
MAX_ANNOTATIONS = 10


def emit(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Write outputs and the summary to the files of the runner; print annotations."""
    taken, left = fit(values(result), MAX_OUTPUTS, _cost, "GitHub")
    outputs = "".join(output(value, environment.token) for value in taken)
    actions: list[Action] = [Write(environment.variables["GITHUB_OUTPUT"], outputs, append=True)]
    place = environment.variables.get("GITHUB_STEP_SUMMARY")
    if place:
        actions.append(Write(place, f"{summary(result)}\n", append=True, limit=MAX_SUMMARY))
    return (*actions, *_commands(annotated(result)), *left)


def output(value: Value, token: str) -> str:
    """Return an output, ended by a delimiter that does not occur in its text."""
    text = lines(value.text)
    delimiter = f"resolver_{token}"
    while delimiter in text:
        delimiter += "_"
    return f"{value.name}<<{delimiter}\n{text}\n{delimiter}\n"


def command(annotation: Annotation) -> str:
    """Return the command for an annotation."""
    facts = [("title", annotation.title)]
    if annotation.path:
        facts = [
            ("file", annotation.path),
            ("line", str(annotation.line)),
            ("col", str(annotation.column)),
            *facts,
        ]
    words = ",".join(f"{name}={_property(value)}" for name, value in facts)
    return f"::{annotation.level} {words}::{_data(lines(annotation.text))}\n"


def _commands(found: tuple[Annotation, ...]) -> tuple[Action, ...]:
    shown: list[Annotation] = []
    more: dict[str, int] = {}
    for annotation in found:
        level = annotation.level
        if sum(item.level == level for item in shown) < MAX_ANNOTATIONS:
            shown.append(annotation)
        else:
            more[level] = more.get(level, 0) + 1
    notes = tuple(
        Note(
            f"{count} more annotations of level {level}: GitHub shows {MAX_ANNOTATIONS} of a level"
        )
        for level, count in more.items()
    )
    text = "".join(command(annotation) for annotation in shown)
    return (*((LogLine(text),) if text else ()), *notes)


def _cost(value: Value) -> int:
    return len(lines(value.text).encode("utf-16-le")) + 2 * len(value.name)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(escape(text)).replace(":", "%3A").replace(",", "%2C")
