"""Buildkite: meta-data of the build and an annotation, through the agent's own program.

Source: buildkite.com/docs, "Using build meta-data" and "buildkite-agent annotate".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.ci.emit import RunProgram, fit, lines
from resolver.render.ci.summary import cut, summary
from resolver.render.ci.values import values

if TYPE_CHECKING:
    from resolver.core.results.run import RunResult
    from resolver.render.ci.emit import Action, CiEnvironment
    from resolver.render.ci.values import Value

#: Bytes of one value of the meta-data: 100 kB. Source: "Using build meta-data".
MAX_VALUE = 100_000
#: Bytes of an annotation. Source: "buildkite-agent annotate": 1 MiB.
MAX_ANNOTATION = 2**20
AGENT = "buildkite-agent"


def emit(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Set the metadata `resolver:NAME` for each non-empty value, and annotate the build."""
    del environment
    taken, left = fit(values(result), MAX_VALUE, _cost, "Buildkite")
    actions: list[Action] = [
        RunProgram((AGENT, "meta-data", "set", f"resolver:{value.name}"), lines(value.text))
        for value in taken
        if value.text.strip()
    ]
    style = "error" if result.status else "warning" if result.warnings else "info"
    words = (AGENT, "annotate", "--style", style, "--context", f"resolver-{result.command}")
    actions.append(RunProgram(words, cut(summary(result), MAX_ANNOTATION)))
    return (*actions, *left)


def _cost(value: Value) -> int | None:
    return 0 if len(lines(value.text).encode()) <= MAX_VALUE else None
