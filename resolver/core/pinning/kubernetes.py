"""Finding image references in Kubernetes manifests: `image` of anything under containers.

Any kind of object counts, custom ones too: what holds containers is told by its shape.
Source: Kubernetes API reference v1.31, PodSpec: containers, initContainers, ephemeralContainers;
Volume: image.reference (KEP-4639).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.pinning.scalars import image
from resolver.core.pinning.tree import (
    Mapping,
    Node,
    Scalar,
    Sequence,
    at,
    elements,
    join,
    scalar_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pinning.spots import Spot, Stray

_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")


def fits(document: Node) -> bool:
    """Whether a document is an object of Kubernetes."""
    return isinstance(at(document, "apiVersion"), Scalar) and isinstance(
        at(document, "kind"), Scalar
    )


def find(text: str, document: Node) -> Iterator[Spot | Stray]:
    """Find the references in one document, wherever its containers are."""
    waiting: list[tuple[Node, str]] = [(document, "")]
    seen: set[int] = set()
    while waiting:
        node, path = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Sequence):
            waiting += [(item, f"{path}[{index}]") for index, item in enumerate(node.items)]
            continue
        if not isinstance(node, Mapping):
            continue
        for name in _CONTAINERS:
            for index, container in elements(node, name):
                yield from _image(text, container, join(path, f"{name}[{index}].image"), "image")
        for index, volume in elements(node, "volumes"):
            role = join(path, f"volumes[{index}].image.reference")
            yield from _image(text, at(volume, "image"), role, "reference")
        waiting += [(value, join(path, name)) for name, value in node.items()]


def _image(text: str, holder: Node | None, role: str, key: str) -> Iterator[Spot | Stray]:
    written = scalar_at(holder, key)
    if written is not None:
        yield image(text, written, role)
