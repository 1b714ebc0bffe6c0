"""Azure Pipelines: output variables, issues and a summary, as logging commands.

Source: learn.microsoft.com, "Logging commands"; azure-pipelines-agent, Command.cs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.ci.emit import LogLine, Write, fit, lines
from resolver.render.ci.summary import Annotation, annotated, summary
from resolver.render.ci.values import values
from resolver.render.text import escape

if TYPE_CHECKING:
    from resolver.core.results.run import RunResult
    from resolver.render.ci.emit import Action, CiEnvironment
    from resolver.render.ci.values import Value

#: Characters of a variable, which the agent passes on in the environment; the limit of Windows,
#: used on all systems. Source: learn.microsoft.com, "Environment Variables" (Win32): 32,767.
MAX_VALUE = 32_766
#: Levels of issues; there is none for a note.
_LEVELS = {"error": "error", "warning": "warning"}


def emit(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Print variables and issues; write the summary to the temporary folder of the agent."""
    taken, left = fit(values(result), MAX_VALUE, _cost, "Azure")
    commands = [variable(value) for value in taken]
    commands += [issue(item) for item in annotated(result) if item.level in _LEVELS]
    actions: list[Action] = []
    folder = environment.variables.get("AGENT_TEMPDIRECTORY")
    if folder:
        path = f"{folder.rstrip('/')}/resolver-{result.command}-{environment.token}.md"
        actions.append(Write(path, summary(result)))
        commands.append(f"##vso[task.uploadsummary]{_data(path)}\n")
    return (*actions, LogLine("".join(commands)), *left)


def variable(value: Value) -> str:
    """Return the command that sets a variable for later steps and jobs."""
    return (
        f"##vso[task.setvariable variable={value.name};isOutput=true]{_data(lines(value.text))}\n"
    )


def issue(annotation: Annotation) -> str:
    """Return the command for an annotation."""
    facts = [("type", _LEVELS[annotation.level])]
    if annotation.path:
        facts += [
            ("sourcepath", annotation.path),
            ("linenumber", str(annotation.line)),
            ("columnnumber", str(annotation.column)),
        ]
    facts.append(("code", annotation.code))
    words = ";".join(f"{name}={_property(escape(value))}" for name, value in facts)
    return f"##vso[task.logissue {words}]{_data(lines(annotation.text))}\n"


def _cost(value: Value) -> int | None:
    return 0 if len(_data(lines(value.text))) <= MAX_VALUE else None


def _data(text: str) -> str:
    """Escape the text of a command; the agent decodes `%AZP25` to `%` last."""
    return text.replace("%", "%AZP25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(";", "%3B").replace("]", "%5D")
