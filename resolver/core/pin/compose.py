"""Find image references in a compose file: services, volumes, build contexts and arguments.

The `image` of a service with `build` is skipped, because it names the output.
Source: github.com/compose-spec/compose-spec, 05-services.md, "image", "volumes"; build.md,
"additional_contexts", "args"; 12-interpolation.md; 11-extension.md.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.parse.yaml_tree import (
    Mapping,
    Node,
    Sequence,
    YamlScalar,
    at,
    elements,
    entries,
    scalar_at,
    text_at,
)
from resolver.core.pin import dockerfile
from resolver.core.pin.edits import (
    ImageSpot,
    Passed,
    Stray,
    Unparsable,
    image_at,
    image_within,
    scheme_of,
)
from resolver.core.pin.likeness import is_image_key, likeness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pin.edits import Mark


_LITERAL = "|"


def find_inline_dockerfiles(
    text: str, scalar: YamlScalar, role: str, program: str = "compose"
) -> Iterator[ImageSpot | Stray]:
    """Find the references of an inline Dockerfile."""
    moved = Moved.read(text, scalar)
    if moved is None:
        reason = "its Dockerfile is not a block scalar"
        yield Stray(scalar.start, role, role, reason, f"begin it with `{_LITERAL}`")
        return
    try:
        held = dockerfile.find(scalar.value)
    except Unparsable as error:
        yield Stray(scalar.start, role, role, f"its Dockerfile cannot be read: {error}")
        return
    for stray in held.strays:
        yield replace(stray, start=moved.to(stray.start), role=f"{role} {stray.role}")
    for spot in held.spots:
        if spot.is_argument:
            # Variables are substituted before a builder reads it.
            words = text[moved.to(spot.start) : moved.to(spot.end)]
            reason = f"{program} substitutes a variable for it"
            yield Stray(
                moved.to(spot.start), words, f"{role} {spot.role}", reason, "write it literally"
            )
        else:
            yield moved.spot(spot, role)


class Moved:
    """The offset in the file of each line of a block scalar."""

    def __init__(self, starts: list[int], places: list[int]) -> None:
        self._starts = starts
        self._places = places

    @classmethod
    def read(cls, text: str, scalar: YamlScalar) -> Moved | None:
        """Match the lines of a value with those of the file; None if they differ."""
        if scalar.style != _LITERAL:
            return None
        place = text.find("\n", scalar.start) + 1
        starts, places, start = [], [], 0
        for line in scalar.value.split("\n"):
            raw = text[place:].partition("\n")[0].removesuffix("\r")
            indent = len(raw) - len(line)
            if line and (indent < 0 or raw[:indent].strip(" ") or raw[indent:] != line):
                return None
            starts.append(start)
            places.append(place + max(indent, 0))
            start += len(line) + 1
            place = text.find("\n", place) + 1 or len(text)
        return cls(starts, places)

    def to(self, offset: int) -> int:
        """Translate an offset of the value to the file."""
        line = bisect_right(self._starts, offset) - 1
        return self._places[line] + offset - self._starts[line]

    def spot(self, spot: ImageSpot, role: str) -> ImageSpot:
        """Translate a reference, which never spans lines."""
        slot = spot.slot
        cut = None if slot.cut is None else (self.to(slot.cut[0]), self.to(slot.cut[1]))
        return replace(
            spot,
            start=self.to(spot.start),
            end=self.to(spot.end),
            role=f"{role} {spot.role}",
            slot=replace(slot, start=self.to(slot.start), end=self.to(slot.end), cut=cut),
            before=None if spot.before is None else self.to(spot.before),
        )


_BUILT = "it names a build output"
_FRAGMENT = "x-"


def find_compose(text: str, document: Node) -> Iterator[Mark]:
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
    """Read an extension field: a service that others merge, or several of them."""
    if not isinstance(fragment, Mapping):
        return
    yield from _service(text, fragment, name)
    for key, inner in fragment.items():
        if isinstance(inner, Mapping) and (at(inner, "image") or at(inner, "build")):
            yield from _service(text, inner, f"{name}.{key}")


def build_inputs(text: str, build: Node, role: str) -> Iterator[Mark]:
    """Read the inputs of a build: contexts, arguments, and an inline Dockerfile.

    Bake files have the same keys, some with another spelling.
    Source: docs.docker.com, "Bake file reference": target.contexts, args, dockerfile-inline.
    """
    for key, program in (("dockerfile_inline", "compose"), ("dockerfile-inline", "bake")):
        recipe = scalar_at(build, key)
        if recipe is not None:
            yield from find_inline_dockerfiles(text, recipe, f"{role}.{key}", program)
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


def _pairs(node: Node | None, path: str) -> Iterator[tuple[str, YamlScalar, str, int]]:
    """Yield name, scalar, path and offset of each value of a mapping or `name=value` list."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if isinstance(value, YamlScalar):
                yield name, value, f"{path}.{name}", 0
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            if isinstance(item, YamlScalar) and "=" in item.value:
                name = item.value.partition("=")[0]
                yield name, item, f"{path}[{index}]", len(name) + 1
