"""Finding image references in Kubernetes manifests: `image` of anything under containers.

Any kind of object counts, custom ones too: what holds containers is told by its shape.
Source: Kubernetes API reference v1.31, PodSpec: containers, initContainers, ephemeralContainers;
Volume: image.reference (KEP-4639). Argo Workflows, Field Reference, "Template": container, script,
sidecars. Tekton Pipelines API, TaskSpec: steps, stepTemplate, sidecars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.pinning.scalars import image_at
from resolver.core.pinning.tree import Mapping, Node, Scalar, Sequence, at, elements, join, text_at
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pinning.spots import Spot, Stray


@dataclass(frozen=True, slots=True)
class _Shape:
    """Keys under which containers stand: lists of them, and single ones."""

    lists: tuple[str, ...]
    single: tuple[str, ...] = ()


_PODS = _Shape(("containers", "initContainers", "ephemeralContainers"))
#: Objects that have more, by the group of their `apiVersion`.
_MORE = {
    "argoproj.io": _Shape((*_PODS.lists, "sidecars"), ("container", "script")),
    "tekton.dev": _Shape((*_PODS.lists, "steps", "sidecars"), ("stepTemplate",)),
}


def fits(document: Node) -> bool:
    """Whether a document is an object of Kubernetes."""
    return isinstance(at(document, "apiVersion"), Scalar) and isinstance(
        at(document, "kind"), Scalar
    )


def find(text: str, document: Node) -> Iterator[Spot | Stray]:
    """Find the references in one document, wherever its containers are."""
    waiting: list[tuple[Node, str, _Shape]] = [(document, "", _PODS)]
    seen: set[int] = set()
    while waiting:
        node, path, shape = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Sequence):
            waiting += [(item, f"{path}[{index}]", shape) for index, item in enumerate(node.items)]
        elif isinstance(node, Mapping):
            shape = _shape(node) or shape
            yield from _mapping(text, node, path, shape)
            waiting += [(value, join(path, name), shape) for name, value in node.items()]


def _shape(node: Mapping) -> _Shape | None:
    """Tell by its group where an object keeps containers; None for what is no object."""
    version = text_at(node, "apiVersion")
    return _MORE.get(version.partition("/")[0], _PODS) if version else None


def _mapping(text: str, node: Mapping, path: str, shape: _Shape) -> Iterator[Spot | Stray]:
    for name in shape.lists:
        for index, container in elements(node, name):
            yield from _image(text, container, join(path, f"{name}[{index}].image"), "image")
    for name in shape.single:
        yield from _image(text, at(node, name), join(path, f"{name}.image"), "image")
    for index, volume in elements(node, "volumes"):
        role = join(path, f"volumes[{index}].image.reference")
        yield from _image(text, at(volume, "image"), role, "reference")


def _image(text: str, holder: Node | None, role: str, key: str) -> Iterator[Spot | Stray]:
    mark = image_at(text, holder, key, role)
    if mark is not None:
        yield mark
