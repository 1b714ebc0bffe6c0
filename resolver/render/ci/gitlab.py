"""GitLab: a dotenv report, whose variables are set in later jobs.

Source: docs.gitlab.com, "GitLab CI/CD artifacts reports types", dotenv: one `NAME=value` per line,
no empty lines, no comments, no quoting, letters, digits and `_` in names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.ci.emit import Write, fit, lines
from resolver.render.ci.values import Value, values

if TYPE_CHECKING:
    from resolver.core.results.run import RunResult
    from resolver.render.ci.emit import Action, CiEnvironment


#: Prefix of variables. Not `RESOLVER_`: a `RESOLVER_PLATFORM` of one step would configure
#: resolver in the next one.
PREFIX = "RESOLVED_"


def variable(name: str) -> str:
    """Return the name of the variable for a value."""
    return PREFIX + name.upper()


def emit_env_file(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Write all values to a file of shell variables."""
    text = "".join(f"{variable(value.name)}={_quoted(value.text)}\n" for value in values(result))
    return (Write(environment.place, text),)


def _quoted(text: str) -> str:
    return "'" + lines(text).replace("'", "'\\''") + "'"


#: Bytes of the file. Source: docs.gitlab.com, "Instance limits", dotenv file size: 5 KB.
MAX_FILE = 5_120
#: Variables of a job: the lowest limit of GitLab.com; self-managed servers start with 150.
#: Source: gitlab-org/gitlab!73855, limits by plan.
MAX_VARIABLES = 50


def emit(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Write the values that fit, of a single line each."""
    given = tuple(_closed(value) for value in values(result))
    taken, left = fit(given, MAX_FILE, _cost, "a dotenv report")
    kept, more = fit(taken, MAX_VARIABLES, lambda _value: 1, "a dotenv report")
    return (Write(environment.place, "".join(map(_line, kept))), *left, *more)


def _closed(value: Value) -> Value:
    """Escape `$` in JSON: runners expand `$NAME` in variables."""
    return Value(value.name, value.text.replace("$", "\\u0024")) if value.name == "json" else value


def _line(value: Value) -> str:
    return f"{variable(value.name)}={value.text}\n"


def _cost(value: Value) -> int | None:
    alone = "\n" not in value.text and "$" not in value.text and value.text == value.text.strip()
    return len(_line(Value(value.name, lines(value.text))).encode()) if alone else None
