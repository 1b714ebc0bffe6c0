"""Dimensions: every way in which two builds can differ, as one table."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.builds import Build

#: What `--fail-on` can name. `files` and `packages` are seen with `--files` alone.
Aspect = Literal["size", "layers", "config", "history", "platforms", "files", "packages"]
ASPECTS: tuple[Aspect, ...] = (
    "size", "layers", "config", "history", "platforms", "files", "packages",
)  # fmt: skip

#: Bytes or a count; a text; words in order; a set of names, or a mapping, as sorted pairs.
Value = int | str | tuple[str, ...] | tuple[tuple[str, str], ...]


class Unit(Enum):
    """How a value is to be read."""

    BYTES = "bytes"
    COUNT = "count"
    TEXT = "text"
    WORDS = "words"
    NAMES = "names"
    PAIRS = "pairs"


@dataclass(frozen=True, slots=True)
class Dimension:
    """One way to look at a build.

    Attributes:
        name: stable; what `--ignore` and JSON call it.
        title: for people.
        aspect: what `--fail-on` calls it.
        drifts: a difference is told as drift; others have a place of their own in the answer.
        look: gives the value; empty where the build says nothing.
    """

    name: str
    title: str
    unit: Unit
    aspect: Aspect
    look: Callable[[Build], Value]
    drifts: bool = True


def _env(build: Build) -> tuple[tuple[str, str], ...]:
    """Take the environment as pairs; of a name that is set twice the last counts, as when run."""
    pairs = (entry.partition("=") for entry in build.config.env)
    return tuple(sorted({name: value for name, _, value in pairs}.items()))


def _created(build: Build) -> str:
    return build.config.created


#: Every dimension there is. To add one, add a row: `--ignore`, every output format and the
#: contract test read this table, and nothing else knows a dimension by name.
DIMENSIONS = (
    Dimension("size", "compressed size", Unit.BYTES, "size", lambda b: b.size, drifts=False),
    Dimension(
        "layers", "layers", Unit.COUNT, "layers", lambda b: len(b.manifest.layers), drifts=False
    ),
    Dimension("created", "created", Unit.TEXT, "config", _created, drifts=False),
    Dimension("entrypoint", "entrypoint", Unit.WORDS, "config", lambda b: b.config.entrypoint),
    Dimension("cmd", "command", Unit.WORDS, "config", lambda b: b.config.cmd),
    Dimension("env", "environment", Unit.PAIRS, "config", _env),
    Dimension("user", "user", Unit.TEXT, "config", lambda b: b.config.user),
    Dimension("workdir", "working directory", Unit.TEXT, "config", lambda b: b.config.working_dir),
    Dimension("ports", "ports", Unit.NAMES, "config", lambda b: b.config.exposed_ports),
    Dimension("volumes", "volumes", Unit.NAMES, "config", lambda b: b.config.volumes),
    Dimension("labels", "labels", Unit.PAIRS, "config", lambda b: b.config.labels),
    Dimension("stop-signal", "stop signal", Unit.TEXT, "config", lambda b: b.config.stop_signal),
    Dimension("healthcheck", "health check", Unit.TEXT, "config", lambda b: b.config.healthcheck),
    Dimension("author", "author", Unit.TEXT, "config", lambda b: b.config.author),
    Dimension("os.version", "os.version", Unit.TEXT, "config", lambda b: b.config.os_version),
    Dimension("annotations", "annotations", Unit.PAIRS, "config", lambda b: b.annotations),
)

NAMES = frozenset(dimension.name for dimension in DIMENSIONS)
