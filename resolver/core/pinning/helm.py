"""Finding image references in the values of a Helm chart.

Charts agree on no schema; these shapes are those that `helm create` and the large collections
use: `image: name:tag`, and mappings of `registry`, `repository`, `tag` and `digest`. Where a key
`digest` is there, it is filled; else the digest follows the tag, which templates put behind `:`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.pinning.keys import NOT_TEXT, composed, means_other, pair_of, value_slot
from resolver.core.pinning.scalars import image, span_of
from resolver.core.pinning.spots import Slot, Spot, Stray
from resolver.core.pinning.tree import Mapping, Node, Scalar, Sequence, at, join, scalar_at, text_at

if TYPE_CHECKING:
    from collections.abc import Iterator


def find(text: str, document: Node) -> Iterator[Spot | Stray]:
    """Find the references in one document, wherever they are."""
    waiting: list[tuple[Node, str]] = [(document, "")]
    seen: set[int] = set()
    while waiting:
        node, path = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Sequence):
            waiting += [(item, f"{path}[{index}]") for index, item in enumerate(node.items)]
        elif isinstance(node, Mapping):
            yield from _mapping(text, node, path)
            waiting += [(value, join(path, name)) for name, value in node.items()]


def _mapping(text: str, node: Mapping, path: str) -> Iterator[Spot | Stray]:
    if text_at(node, "repository") and (at(node, "tag") or at(node, "digest")):
        yield from _composed(text, node, "repository", path)
        return
    written = scalar_at(node, "image")
    if written is None or means_other(written):
        return  # A switch or a number: no image goes by such a name.
    name = written.value.rpartition("/")[2]
    if isinstance(at(node, "tag"), Scalar) and ":" not in name and "@" not in name:
        yield from _composed(text, node, "image", path)
    else:
        yield image(text, written, join(path, "image"))


def _composed(text: str, node: Mapping, key: str, path: str) -> Iterator[Spot | Stray]:
    """Read an image that is written in several keys."""
    name, registry = text_at(node, key), text_at(node, "registry")
    tag, digest = at(node, "tag"), text_at(node, "digest")
    if "://" in name or "@" in name or name.startswith(("/", ".")):
        return  # The place of charts or of sources.
    words = f"{registry.rstrip('/')}/{name}" if registry else name
    place = tag if isinstance(tag, Scalar) else node
    if isinstance(tag, Scalar) and tag.is_text:
        words += f":{tag.value}"
        if means_other(tag):
            yield Stray(place.start, words, path, *NOT_TEXT)
            return
    elif not digest:
        reason = "its tag is not in this file"
        hint = f"write the tag, or pin it in the chart: `{join(path, 'tag')}`"
        yield Stray(place.start, words, path, reason, hint)
        return
    words += f"@{digest}" if digest else ""
    held = pair_of(node, "digest")
    if held is not None:
        slot = value_slot(text, *held)
    else:
        # A digest that is merged in from elsewhere is not this image's own.
        slot = _behind(text, tag) if isinstance(tag, Scalar) and not digest else None
    yield composed(text, place, words, path, slot)


def _behind(text: str, tag: Scalar) -> Slot | None:
    """Give the place of a digest that follows a tag."""
    span = span_of(text, tag)
    if span is None:
        return None
    at_sign = text.find("@", *span)
    if at_sign == -1:
        return Slot(span[1], span[1])
    # Without the digest, the rest might be a number.
    bare = means_other(tag, text[span[0] : at_sign])
    return Slot(at_sign, span[1], cut=None if bare else (at_sign, span[1]))
