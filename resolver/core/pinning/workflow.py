"""Finding image references in GitHub workflows and actions.

Source: docs.github.com, "Workflow syntax for GitHub Actions": `jobs.<id>.container`,
`jobs.<id>.services`, `steps[*].uses`; "Metadata syntax for GitHub Actions": `runs.image`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.pinning.scalars import image
from resolver.core.pinning.spots import Spot, Stray
from resolver.core.pinning.tree import Mapping, Node, Scalar, at, elements, entries

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCHEME = "docker://"


def fits(document: Node) -> bool:
    """Whether a document is a workflow."""
    return isinstance(at(document, "jobs"), Mapping) and at(document, "on") is not None


def find(text: str, document: Node) -> Iterator[Spot | Stray]:
    """Find the references in one document."""
    for name, job in entries(document, "jobs"):
        role = f"jobs.{name}"
        yield from _image(text, at(job, "container"), f"{role}.container")
        for service, value in entries(job, "services"):
            yield from _image(text, value, f"{role}.services.{service}")
        yield from _steps(text, job, role)
    runs = at(document, "runs")
    yield from _uses(text, at(runs, "image"), "runs.image")
    yield from _steps(text, runs, "runs")


def _steps(text: str, holder: Node | None, role: str) -> Iterator[Spot | Stray]:
    for index, step in elements(holder, "steps"):
        yield from _uses(text, at(step, "uses"), f"{role}.steps[{index}].uses")


def _image(text: str, value: Node | None, role: str) -> Iterator[Spot | Stray]:
    """Read an image that may be a name, or a mapping that has one."""
    if isinstance(value, Mapping):
        value, role = at(value, "image"), f"{role}.image"
    if isinstance(value, Scalar) and value.is_text:
        # Without the scheme too: both are taken.
        scheme = _SCHEME if value.value.startswith(_SCHEME) else ""
        yield _read(text, value, role, scheme)


def _uses(text: str, value: Node | None, role: str) -> Iterator[Spot | Stray]:
    if isinstance(value, Scalar) and value.value.startswith(_SCHEME):
        yield _read(text, value, role, _SCHEME)


def _read(text: str, value: Scalar, role: str, scheme: str) -> Spot | Stray:
    if "${{" in value.value:
        reason = "it is an expression, which is known when the workflow runs"
        hint = "write the reference out, or pin it where the expression gets it from"
        return Stray(value.start, value.value, role, reason, hint)
    return image(text, value, role, scheme=scheme)
