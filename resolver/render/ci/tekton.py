"""Tekton: a file per result, in the folder of `$(results.NAME.path)`.

All results share the termination message of the container of the step, as JSON.
Source: tekton.dev, "Tasks", "Emitting Results"; tektoncd/pipeline, pkg/termination.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from resolver.render.ci.emit import Write, fit, lines
from resolver.render.ci.values import values

if TYPE_CHECKING:
    from resolver.core.results.run import RunResult
    from resolver.render.ci.emit import Action, CiEnvironment
    from resolver.render.ci.values import Value

#: Bytes of a container's termination message. Source: tektoncd/pipeline, pkg/termination,
#: MaxContainerTerminationMessageLength.
MAX_MESSAGE = 4_096
#: Reserved for two entries of Tekton itself, about 60 bytes each: the start and the exit of the
#: step.
OWN_WORDS = 256


def emit(result: RunResult, environment: CiEnvironment) -> tuple[Action, ...]:
    """Write the results that fit; a task receives those that it declares."""
    taken, left = fit(values(result), MAX_MESSAGE - OWN_WORDS, cost, "Tekton")
    folder = environment.place.rstrip("/")
    return (*(Write(f"{folder}/{value.name}", lines(value.text)) for value in taken), *left)


def cost(value: Value) -> int:
    """Return the bytes of a result in the message, with a comma."""
    entry = {"key": value.name, "value": lines(value.text), "type": 1}
    return len(json.dumps(entry, separators=(",", ":"))) + 1
