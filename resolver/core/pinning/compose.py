"""Finding image references in a compose file: `services.*.image`.

A service that is built here is left alone: its `image` names what is made, not what is taken.
Source: github.com/compose-spec/compose-spec, 05-services.md, "image"; 12-interpolation.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.pinning.scalars import image
from resolver.core.pinning.spots import Spot, Stray
from resolver.core.pinning.tree import Node, at, entries, scalar_at, text_at

if TYPE_CHECKING:
    from collections.abc import Iterator


def find(text: str, document: Node) -> Iterator[Spot | Stray]:
    """Find the references in one document."""
    for name, service in entries(document, "services"):
        written = scalar_at(service, "image")
        if written is None or at(service, "build") is not None:
            continue
        role = f"services.{name}.image"
        if "$" in written.value:
            reason = "it is put together from variables"
            hint = "write the reference out, or pin the variable where it is set"
            yield Stray(written.start, written.value, role, reason, hint)
        else:
            platform = text_at(service, "platform")
            yield image(text, written, role, platform="" if "$" in platform else platform)
