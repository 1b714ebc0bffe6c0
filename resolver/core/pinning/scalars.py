"""References in scalars of YAML: where exactly the text stands, whatever its quotes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.pinning.spots import Spot, Stray, inline
from resolver.core.pinning.tree import Mapping, Scalar, at, scalar_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pinning.tree import Node

#: How templates of Helm, Argo and Jinja begin; without quotes YAML takes them for mappings.
TEMPLATE = "{{"
#: How variables of shells and pipelines begin, and parameters of CircleCI.
_VARIABLES = ("$", "<<")
#: What may stand before a reference where other sources than images could be meant.
SCHEMES = ("docker-image://", "docker://", "oci://")
TOGETHER = (
    "it is put together from variables",
    "write the reference out, or pin the variable where it is set",
)


def span_of(text: str, scalar: Scalar) -> tuple[int, int] | None:
    """Find the characters of a scalar's value in the file; None if it is written in another way.

    Escapes, folded lines and doubled quotes are other ways.
    """
    raw, value = text[scalar.start : scalar.end], scalar.value
    if scalar.style in {"|", ">"}:
        wanted = value.strip()
        if not wanted or raw.count(wanted) != 1:
            return None
        start = scalar.start + raw.index(wanted)
        return start, start + len(wanted)
    if not raw.endswith(f"{scalar.style}{value}{scalar.style}"):
        return None
    end = scalar.end - len(scalar.style)
    return end - len(value), end


def image(
    text: str, scalar: Scalar, role: str, *, platform: str = "", scheme: str = ""
) -> Spot | Stray:
    """Read a scalar that is an image reference, behind a scheme where there must be one."""
    return image_within(text, scalar, len(scheme), role, platform=platform)


def image_within(
    text: str, scalar: Scalar, offset: int, role: str, *, platform: str = ""
) -> Spot | Stray:
    """Read the reference that a scalar ends with, from an offset in its value."""
    if is_put_together(scalar.value):
        return Stray(scalar.start, scalar.value, role, *TOGETHER)
    span = span_of(text, scalar)
    if span is None:
        reason = "it is written with escapes, or over several lines"
        return Stray(scalar.start, scalar.value, role, reason, "write it on one line, as it is")
    quote = "|" if scalar.style in {"|", ">"} else scalar.style
    return inline(text, span[0] + offset, span[1], role, quote=quote, platform=platform)


def is_put_together(value: str) -> bool:
    """Whether a value has variables or templates in it."""
    return TEMPLATE in value or any(each in value for each in _VARIABLES)


def scheme_of(value: str) -> str:
    """Give the scheme before a reference; empty where there is none."""
    return next((scheme for scheme in SCHEMES if value.startswith(scheme)), "")


def images_in(
    text: str, node: Node | None, role: str, key: str = "image"
) -> Iterator[Spot | Stray]:
    """Read an image that may be a name, or a mapping that has it under a key."""
    if isinstance(node, Mapping):
        mark = image_at(text, node, key, f"{role}.{key}")
        if mark is not None:
            yield mark
    elif isinstance(node, Scalar) and node.is_text:
        yield image(text, node, role, scheme=scheme_of(node.value))


def image_at(
    text: str, holder: Node | None, key: str, role: str, *, platform: str = ""
) -> Spot | Stray | None:
    """Read the image that a key of a mapping names; None where it names none."""
    written = scalar_at(holder, key)
    if written is not None:
        return image(text, written, role, platform=platform)
    value = at(holder, key)
    if isinstance(value, Mapping) and text.startswith(TEMPLATE, value.start):
        line = text[value.start :].splitlines()[0]
        return Stray(value.start, line[: line.rfind("}") + 1] or line, role, *TOGETHER)
    return None
