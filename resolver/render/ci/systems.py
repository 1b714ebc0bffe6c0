"""CI systems: the actions that pass values, annotations and a summary to each.

GitHub Actions: outputs, the step summary, annotations. Source: docs.github.com, "Workflow commands
for GitHub Actions"; actions/runner, FileCommandManager.cs (files) and ActionCommand.cs (commands).

GitLab: a dotenv report, whose variables are set in later jobs. Source: docs.gitlab.com, "GitLab
CI/CD artifacts reports types", dotenv: one `NAME=value` per line, no empty lines, no comments, no
quoting, letters, digits and `_` in names.

Azure Pipelines: output variables, issues and a summary, as logging commands. Source:
learn.microsoft.com, "Logging commands"; azure-pipelines-agent, Command.cs.

Tekton: a file per result, in the folder of `$(results.NAME.path)`. All results share the
termination message of the container of the step, as JSON. Source: tekton.dev, "Tasks", "Emitting
Results"; tektoncd/pipeline, pkg/termination.

Buildkite: meta-data of the build and an annotation, through the agent's own program. Source:
buildkite.com/docs, "Using build meta-data" and "buildkite-agent annotate".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from resolver.render.ci.emit import LogLine, Note, RunProgram, Write, fit, lines
from resolver.render.ci.summary import Annotation, annotated, cut, summary
from resolver.render.ci.values import Value, values
from resolver.render.text import escape

if TYPE_CHECKING:
    from resolver.core.results.run import RunResult
    from resolver.render.ci.emit import Action, CiEnvironment


#: Bytes of all outputs of a job, counted in UTF-16. Source: github/docs, output-limitations.md.
MAX_OUTPUTS = 1_000_000
#: Bytes of a step's summary. Source: docs.github.com, "Adding a job summary": 1 MiB.
MAX_SUMMARY = 2**20
#: Annotations of one level that a step shows. Source: docs.github.com, "Workflow commands", limits.
MAX_ANNOTATIONS = 10


def github(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Write outputs and the summary to the files of the runner; print annotations."""
    taken, left = fit(values(result), MAX_OUTPUTS, _github_cost, "GitHub")
    outputs = "".join(github_output(value, environment.token) for value in taken)
    actions: list[Action] = [Write(environment.variables["GITHUB_OUTPUT"], outputs, append=True)]
    place = environment.variables.get("GITHUB_STEP_SUMMARY")
    if place:
        actions.append(Write(place, f"{summary(result)}\n", append=True, limit=MAX_SUMMARY))
    return (*actions, *_github_commands(annotated(result)), *left)


def github_output(value: Value, token: str) -> str:
    """Return an output, ended by a delimiter that does not occur in its text."""
    text = lines(value.text)
    delimiter = f"resolver_{token}"
    while delimiter in text:
        delimiter += "_"
    return f"{value.name}<<{delimiter}\n{text}\n{delimiter}\n"


def github_command(annotation: Annotation) -> str:
    """Return the command for an annotation."""
    facts = [("title", annotation.title)]
    if annotation.path:
        facts = [
            ("file", annotation.path),
            ("line", str(annotation.line)),
            ("col", str(annotation.column)),
            *facts,
        ]
    words = ",".join(f"{name}={_github_property(value)}" for name, value in facts)
    return f"::{annotation.level} {words}::{_github_data(lines(annotation.text))}\n"


def _github_commands(found: tuple[Annotation, ...]) -> tuple[Action, ...]:
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
    text = "".join(github_command(annotation) for annotation in shown)
    return (*((LogLine(text),) if text else ()), *notes)


def _github_cost(value: Value) -> int:
    return len(lines(value.text).encode("utf-16-le")) + 2 * len(value.name)


def _github_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_property(text: str) -> str:
    return _github_data(escape(text)).replace(":", "%3A").replace(",", "%2C")


#: Prefix of variables. Not `RESOLVER_`: a `RESOLVER_PLATFORM` of one step would configure
#: resolver in the next one.
PREFIX = "RESOLVED_"


def _variable(name: str) -> str:
    """Return the name of the variable for a value."""
    return PREFIX + name.upper()


def env_file(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Write all values to a file of shell variables."""
    text = "".join(f"{_variable(value.name)}={_quoted(value.text)}\n" for value in values(result))
    return (Write(environment.place, text),)


def _quoted(text: str) -> str:
    return "'" + lines(text).replace("'", "'\\''") + "'"


#: Bytes of the file. Source: docs.gitlab.com, "Instance limits", dotenv file size: 5 KB.
MAX_FILE = 5_120
#: Variables of a job: the lowest limit of GitLab.com; self-managed servers start with 150.
#: Source: gitlab-org/gitlab!73855, limits by plan.
MAX_VARIABLES = 50


def gitlab(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Write the values that fit, of a single line each."""
    given = tuple(_closed(value) for value in values(result))
    taken, left = fit(given, MAX_FILE, _gitlab_cost, "a dotenv report")
    kept, more = fit(taken, MAX_VARIABLES, lambda _value: 1, "a dotenv report")
    return (Write(environment.place, "".join(map(_line, kept))), *left, *more)


def _closed(value: Value) -> Value:
    """Escape `$` in JSON: runners expand `$NAME` in variables."""
    return Value(value.name, value.text.replace("$", "\\u0024")) if value.name == "json" else value


def _line(value: Value) -> str:
    return f"{_variable(value.name)}={value.text}\n"


def _gitlab_cost(value: Value) -> int | None:
    alone = "\n" not in value.text and "$" not in value.text and value.text == value.text.strip()
    return len(_line(Value(value.name, lines(value.text))).encode()) if alone else None


#: Characters of a variable, which the agent passes on in the environment; the limit of Windows,
#: used on all systems. Source: learn.microsoft.com, "Environment Variables" (Win32): 32,767.
MAX_AZURE_VALUE = 32_766
#: Levels of issues; there is none for a note.
_AZURE_LEVELS = {"error": "error", "warning": "warning"}


def azure(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Print variables and issues; write the summary to the temporary folder of the agent."""
    taken, left = fit(values(result), MAX_AZURE_VALUE, _azure_cost, "Azure")
    commands = [azure_variable(value) for value in taken]
    commands += [azure_issue(item) for item in annotated(result) if item.level in _AZURE_LEVELS]
    actions: list[Action] = []
    folder = environment.variables.get("AGENT_TEMPDIRECTORY")
    if folder:
        path = f"{folder.rstrip('/')}/resolver-{result.command}-{environment.token}.md"
        actions.append(Write(path, summary(result)))
        commands.append(f"##vso[task.uploadsummary]{_azure_data(path)}\n")
    return (*actions, LogLine("".join(commands)), *left)


def azure_variable(value: Value) -> str:
    """Return the command that sets a variable for later steps and jobs."""
    text = _azure_data(lines(value.text))
    return f"##vso[task.setvariable variable={value.name};isOutput=true]{text}\n"


def azure_issue(annotation: Annotation) -> str:
    """Return the command for an annotation."""
    facts = [("type", _AZURE_LEVELS[annotation.level])]
    if annotation.path:
        facts += [
            ("sourcepath", annotation.path),
            ("linenumber", str(annotation.line)),
            ("columnnumber", str(annotation.column)),
        ]
    facts.append(("code", annotation.code))
    words = ";".join(f"{name}={_azure_property(escape(value))}" for name, value in facts)
    return f"##vso[task.logissue {words}]{_azure_data(lines(annotation.text))}\n"


def _azure_cost(value: Value) -> int | None:
    return 0 if len(_azure_data(lines(value.text))) <= MAX_AZURE_VALUE else None


def _azure_data(text: str) -> str:
    """Escape the text of a command; the agent decodes `%AZP25` to `%` last."""
    return text.replace("%", "%AZP25").replace("\r", "%0D").replace("\n", "%0A")


def _azure_property(text: str) -> str:
    return _azure_data(text).replace(";", "%3B").replace("]", "%5D")


#: Bytes of a container's termination message. Source: tektoncd/pipeline, pkg/termination,
#: MaxContainerTerminationMessageLength.
MAX_MESSAGE = 4_096
#: Reserved for two entries of Tekton itself, about 60 bytes each: the start and the exit of the
#: step.
OWN_WORDS = 256


def tekton(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Write the results that fit; a task receives those that it declares."""
    taken, left = fit(values(result), MAX_MESSAGE - OWN_WORDS, tekton_cost, "Tekton")
    folder = environment.place.rstrip("/")
    return (*(Write(f"{folder}/{value.name}", lines(value.text)) for value in taken), *left)


def tekton_cost(value: Value) -> int:
    """Return the bytes of a result in the message, with a comma."""
    entry = {"key": value.name, "value": lines(value.text), "type": 1}
    return len(json.dumps(entry, separators=(",", ":"))) + 1


#: Bytes of one value of the meta-data: 100 kB. Source: "Using build meta-data".
MAX_BUILDKITE_VALUE = 100_000
#: Bytes of an annotation. Source: "buildkite-agent annotate": 1 MiB.
MAX_ANNOTATION = 2**20
AGENT = "buildkite-agent"


def buildkite(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Set the metadata `resolver:NAME` for each non-empty value, and annotate the build."""
    del environment
    taken, left = fit(values(result), MAX_BUILDKITE_VALUE, _buildkite_cost, "Buildkite")
    actions: list[Action] = [
        RunProgram((AGENT, "meta-data", "set", f"resolver:{value.name}"), lines(value.text))
        for value in taken
        if value.text.strip()
    ]
    style = "error" if result.status else "warning" if result.warnings else "info"
    words = (AGENT, "annotate", "--style", style, "--context", f"resolver-{result.command}")
    actions.append(RunProgram(words, cut(summary(result), MAX_ANNOTATION)))
    return (*actions, *left)


def _buildkite_cost(value: Value) -> int | None:
    return 0 if len(lines(value.text).encode()) <= MAX_BUILDKITE_VALUE else None
