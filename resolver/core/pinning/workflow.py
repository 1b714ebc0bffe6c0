"""Finding image references in GitHub workflows and actions.

Source: docs.github.com, "Workflow syntax for GitHub Actions": `jobs.<id>.container`,
`jobs.<id>.services`, `steps[*].uses`; "Metadata syntax for GitHub Actions": `runs.image`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.pinning.scalars import image
from resolver.core.pinning.spots import Passed, Stray
from resolver.core.pinning.tree import Mapping, Node, Scalar, at, elements, entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pinning.spots import Mark, Spot

_SCHEME = "docker://"
_MATRIX = re.compile(r"\$\{\{[ ]*matrix\.([A-Za-z_][A-Za-z0-9_-]*)[ ]*\}\}")
#: Inputs of the actions that build: what they write.
#: Source: github.com/docker/build-push-action and metadata-action, "inputs".
_WRITTEN = frozenset({"images", "tags"})


def fits(document: Node) -> bool:
    """Whether a document is a workflow."""
    return isinstance(at(document, "jobs"), Mapping) and at(document, "on") is not None


def find(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in one document."""
    for name, job in entries(document, "jobs"):
        role = f"jobs.{name}"
        yield from _image(text, job, at(job, "container"), role, f"{role}.container")
        for service, value in entries(job, "services"):
            yield from _image(text, job, value, role, f"{role}.services.{service}")
        yield from _steps(text, job, role)
    runs = at(document, "runs")
    yield from _uses(text, at(runs, "image"), "runs.image")
    yield from _steps(text, runs, "runs")


def _steps(text: str, holder: Node | None, role: str) -> Iterator[Mark]:
    for index, step in elements(holder, "steps"):
        yield from _uses(text, at(step, "uses"), f"{role}.steps[{index}].uses")
        for name, value in entries(step, "with"):
            if name in _WRITTEN and isinstance(value, Scalar):
                yield Passed(value.start, "it names what a build writes")


def _image(text: str, job: Node, value: Node | None, path: str, role: str) -> Iterator[Mark]:
    """Read an image that may be a name, or a mapping that has one."""
    if isinstance(value, Mapping):
        value, role = at(value, "image"), f"{role}.image"
    if not isinstance(value, Scalar) or not value.is_text:
        return
    chosen = _MATRIX.fullmatch(value.value)
    named = _in_matrix(job, chosen[1], path) if chosen is not None else []
    if named:
        yield Passed(value.start, "the matrix names the images")
    else:
        named = [(value, role)]
    for scalar, where in named:
        # Without the scheme too: both are taken.
        scheme = _SCHEME if scalar.value.startswith(_SCHEME) else ""
        yield _read(text, scalar, where, scheme)


def _in_matrix(job: Node, name: str, path: str) -> list[tuple[Scalar, str]]:
    """Find the values of a variable of a matrix; none where they are not all written there."""
    matrix = at(job, "strategy", "matrix")
    named: list[tuple[Node | None, str]] = [
        (value, f"{path}.strategy.matrix.{name}[{index}]")
        for index, value in elements(matrix, name)
    ]
    for index, more in elements(matrix, "include"):
        value = at(more, name)
        named += [(value, f"{path}.strategy.matrix.include[{index}].{name}")] if value else []
    found = [
        (value, where) for value, where in named if isinstance(value, Scalar) and value.is_text
    ]
    return found if len(found) == len(named) else []


def _uses(text: str, value: Node | None, role: str) -> Iterator[Mark]:
    if isinstance(value, Scalar) and value.value.startswith(_SCHEME):
        yield _read(text, value, role, _SCHEME)


def _read(text: str, value: Scalar, role: str, scheme: str) -> Spot | Stray:
    if "${{" in value.value:
        reason = "it is an expression, which is known when the workflow runs"
        hint = "write the reference out, or pin it where the expression gets it from"
        return Stray(value.start, value.value, role, reason, hint)
    return image(text, value, role, scheme=scheme)
