"""Finding image references in a compose file: services, volumes, build contexts and arguments.

The `image` of a service that is built here is left alone: it names what is made, not what is taken.
Source: github.com/compose-spec/compose-spec, 05-services.md, "image", "volumes"; build.md,
"additional_contexts", "args"; 12-interpolation.md; 11-extension.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.pinning import compose_dockerfile
from resolver.core.pinning.likeness import is_image_key, likeness
from resolver.core.pinning.scalars import image_at, image_within, scheme_of
from resolver.core.pinning.spots import Passed
from resolver.core.pinning.tree import (
    Mapping,
    Node,
    Scalar,
    Sequence,
    at,
    elements,
    entries,
    scalar_at,
    text_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pinning.spots import Mark

_BUILT = "it names what is built here"
_FRAGMENT = "x-"


def find(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in one document."""
    for name, service in entries(document, "services"):
        yield from _service(text, service, f"services.{name}")
    for name, fragment in entries(document):
        if name.startswith(_FRAGMENT):
            yield from _fragment(text, fragment, name)


def _service(text: str, service: Node, role: str) -> Iterator[Mark]:
    for index, volume in elements(service, "volumes"):
        if text_at(volume, "type") == "image":
            mark = image_at(text, volume, "source", f"{role}.volumes[{index}].source")
            if mark is not None:
                yield mark
    build = at(service, "build")
    if build is not None:
        built = scalar_at(service, "image")
        if built is not None:
            yield Passed(built.start, _BUILT)
        yield from build_inputs(text, build, f"{role}.build")
        return
    platform = text_at(service, "platform")
    platform = "" if "$" in platform else platform
    mark = image_at(text, service, "image", f"{role}.image", platform=platform)
    if mark is not None:
        yield mark


def _fragment(text: str, fragment: Node, name: str) -> Iterator[Mark]:
    """Read an extension: a service that others merge in, or several of them."""
    if not isinstance(fragment, Mapping):
        return
    yield from _service(text, fragment, name)
    for key, inner in fragment.items():
        if isinstance(inner, Mapping) and (at(inner, "image") or at(inner, "build")):
            yield from _service(text, inner, f"{name}.{key}")


def build_inputs(text: str, build: Node, role: str) -> Iterator[Mark]:
    """Read what a build takes: contexts, arguments, and a Dockerfile within.

    Bake files have the same keys, some with another spelling.
    Source: docs.docker.com, "Bake file reference": target.contexts, args, dockerfile-inline.
    """
    for key, program in (("dockerfile_inline", "compose"), ("dockerfile-inline", "bake")):
        recipe = scalar_at(build, key)
        if recipe is not None:
            yield from compose_dockerfile.find(text, recipe, f"{role}.{key}", program)
    for key in ("additional_contexts", "contexts"):
        for _name, scalar, path, offset in _pairs(at(build, key), f"{role}.{key}"):
            scheme = scheme_of(scalar.value[offset:])
            if scheme:
                yield image_within(text, scalar, offset + len(scheme), path)
    for name, scalar, path, offset in _pairs(at(build, "args"), f"{role}.args"):
        value = scalar.value[offset:]
        scheme = scheme_of(value)
        is_image = likeness(value, name) is not None or "@sha256:" in value
        if is_image and (is_image_key(name) or scheme):
            yield image_within(text, scalar, offset + len(scheme), path)


def _pairs(node: Node | None, path: str) -> Iterator[tuple[str, Scalar, str, int]]:
    """Give names and values of a mapping, or of a list of `name=value`.

    Each with its path, and where in the scalar the value begins.
    """
    if isinstance(node, Mapping):
        for name, value in node.items():
            if isinstance(value, Scalar):
                yield name, value, f"{path}.{name}", 0
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            if isinstance(item, Scalar) and "=" in item.value:
                name = item.value.partition("=")[0]
                yield name, item, f"{path}[{index}]", len(name) + 1
