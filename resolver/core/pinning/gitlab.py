"""Finding image references in GitLab's pipelines: `image` and `services`.

Source: docs.gitlab.com, "CI/CD YAML syntax reference": `image`, `services`, `default`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.pinning.scalars import image
from resolver.core.pinning.tree import Mapping, Node, Scalar, at, elements, entries, join

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pinning.spots import Spot, Stray

#: Keys of the top level that hold no job.
_NO_JOBS = frozenset({"include", "services", "spec", "stages", "variables", "workflow", "image"})


def find(text: str, document: Node) -> Iterator[Spot | Stray]:
    """Find the references in one document."""
    yield from _holder(text, document, "")
    for name, job in entries(document):
        if name not in _NO_JOBS and isinstance(job, Mapping):
            yield from _holder(text, job, name)


def _holder(text: str, holder: Node, role: str) -> Iterator[Spot | Stray]:
    yield from _image(text, at(holder, "image"), join(role, "image"))
    for index, service in elements(holder, "services"):
        yield from _image(text, service, join(role, f"services[{index}]"))


def _image(text: str, value: Node | None, role: str) -> Iterator[Spot | Stray]:
    """Read an image that may be a name, or a mapping that has one; `!reference` is neither."""
    if isinstance(value, Mapping):
        value, role = at(value, "name"), f"{role}.name"
    if isinstance(value, Scalar) and value.is_text:
        yield image(text, value, role)
