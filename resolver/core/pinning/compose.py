"""Finding image references in a compose file: `services.*.image`, and Dockerfiles within.

The `image` of a service that is built here is left alone: it names what is made, not what is taken.
Source: github.com/compose-spec/compose-spec, 05-services.md, "image"; 12-interpolation.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.pinning import compose_dockerfile
from resolver.core.pinning.scalars import image_at
from resolver.core.pinning.tree import Node, at, entries, scalar_at, text_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pinning.spots import Spot, Stray


def find(text: str, document: Node) -> Iterator[Spot | Stray]:
    """Find the references in one document."""
    for name, service in entries(document, "services"):
        if at(service, "build") is not None:
            recipe = scalar_at(service, "build", "dockerfile_inline")
            if recipe is not None:
                role = f"services.{name}.build.dockerfile_inline"
                yield from compose_dockerfile.find(text, recipe, role)
            continue
        platform = text_at(service, "platform")
        mark = image_at(
            text,
            service,
            "image",
            f"services.{name}.image",
            platform="" if "$" in platform else platform,
        )
        if mark is not None:
            yield mark
