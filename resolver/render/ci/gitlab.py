"""GitLab: a dotenv report, which later jobs get as variables.

Source: docs.gitlab.com, "GitLab CI/CD artifacts reports types", dotenv: one `NAME=value` a line,
no empty lines, no comments, no quoting, letters, digits and `_` in names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.ci.emit import Write, fit, lines
from resolver.render.ci.values import Value, values

if TYPE_CHECKING:
    from resolver.core.results.run import RunResult
    from resolver.render.ci.emit import Action, CiEnvironment


#: Before the name of a value. Not `RESOLVER_`: those variables are questions to us, and a
#: `RESOLVER_PLATFORM` from one step would change what the next one answers.
PREFIX = "RESOLVED_"


def variable(name: str) -> str:
    """Name the variable for a value."""
    return PREFIX + name.upper()


def emit_env_file(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Write every value."""
    text = "".join(f"{variable(value.name)}={_quoted(value.text)}\n" for value in values(result))
    return (Write(environment.place, text),)


def _quoted(text: str) -> str:
    return "'" + lines(text).replace("'", "'\\''") + "'"


#: Bytes of the file. Source: docs.gitlab.com, "Instance limits", dotenv file size: 5 KB.
MAX_FILE = 5_120
#: Variables of a pipeline's job; the least that a plan of GitLab.com allows, where a server of
#: one's own starts with 150. Source: gitlab-org/gitlab!73855, limits by plan.
MAX_VARIABLES = 50


def emit(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Write the values that fit; one of several lines does not, the JSON of all of them may."""
    given = tuple(_closed(value) for value in values(result))
    taken, left = fit(given, MAX_FILE, _cost, "a dotenv report")
    kept, more = fit(taken, MAX_VARIABLES, lambda _value: 1, "a dotenv report")
    return (Write(environment.place, "".join(map(_line, kept))), *left, *more)


def _closed(value: Value) -> Value:
    """Keep `$` out of JSON: a runner replaces `$NAME` in variables."""
    return Value(value.name, value.text.replace("$", "\\u0024")) if value.name == "json" else value


def _line(value: Value) -> str:
    return f"{variable(value.name)}={value.text}\n"


def _cost(value: Value) -> int | None:
    alone = "\n" not in value.text and "$" not in value.text and value.text == value.text.strip()
    return len(_line(Value(value.name, lines(value.text))).encode()) if alone else None
