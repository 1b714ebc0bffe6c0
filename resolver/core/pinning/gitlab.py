"""Finding image references in GitLab's pipelines: `image` and `services`.

Source: docs.gitlab.com, "CI/CD YAML syntax reference": `image`, `services`, `default`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.pinning.scalars import images_in
from resolver.core.pinning.tree import Mapping, Node, at, elements, entries, join

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pinning.spots import Mark

#: Keys of the top level that hold no job.
_NO_JOBS = frozenset({"include", "services", "spec", "stages", "variables", "workflow", "image"})


def find(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in one document."""
    yield from _holder(text, document, "")
    for name, job in entries(document):
        if name not in _NO_JOBS and isinstance(job, Mapping):
            yield from _holder(text, job, name)


def _holder(text: str, holder: Node, role: str) -> Iterator[Mark]:
    # `!reference` is neither a name nor a mapping that has one.
    yield from images_in(text, at(holder, "image"), join(role, "image"), "name")
    for index, service in elements(holder, "services"):
        yield from images_in(text, service, join(role, f"services[{index}]"), "name")
