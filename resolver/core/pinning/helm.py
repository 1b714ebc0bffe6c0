"""Finding image references in the values of a Helm chart.

Charts agree on no schema; these shapes are those that `helm create` and the large collections
use: `image: name:tag`, `sidecarImage: name:tag`, a name beside a tag (`image` and `imageTag`,
`imageName` and `imageTag`), and mappings of `registry`, `repository` or `name`, `tag` and `digest`.
Where a key for the digest is there, it is filled; else the digest follows the tag, which templates
put behind `:`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.pinning.keys import NOT_TEXT, composed, means_other, pair_of, value_slot
from resolver.core.pinning.likeness import is_bare_image, is_image_key, likeness
from resolver.core.pinning.scalars import TEMPLATE, image, span_of
from resolver.core.pinning.spots import Passed, Slot, Stray
from resolver.core.pinning.tree import Mapping, Node, Scalar, Sequence, at, join, scalar_at, text_at
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pinning.spots import Mark

#: A key below which every text with a tag is an image.
_MANY = "images"
_NO_TAG = "its tag is not in this file"
_WRITE_TAG = "write the tag, if the chart puts none behind it"
#: What the name of an image is called in a mapping below a key `image`.
_NAMES = ("repository", "name", "repo", "image")
#: The last word of a key that holds a name: `imageName`, `image_repository`.
_NAME_END = re.compile(r"_?(?:[Nn]ame|[Rr]epository|[Rr]epo)")
_IMAGE_END = re.compile(r"(.*?)_?[Ii]mage")


@dataclass(frozen=True, slots=True)
class _Keys:
    """Under which keys of a mapping the parts of one reference stand."""

    name: str
    tag: str
    digest: str = "digest"
    registry: str = "registry"


def find(text: str, document: Node, path: str = "") -> Iterator[Mark]:
    """Find the references in one document, wherever they are."""
    waiting: list[tuple[Node, str, str]] = [(document, path, "")]
    seen: set[int] = set()
    while waiting:
        node, path, key = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if key == _MANY:
            yield from _listed(text, node, path)
        if isinstance(node, Sequence):
            waiting += [(item, f"{path}[{index}]", key) for index, item in enumerate(node.items)]
        elif isinstance(node, Mapping):
            yield from _mapping(text, node, path, key)
            waiting += [(value, join(path, name), name) for name, value in node.items()]


def _listed(text: str, node: Node, path: str) -> Iterator[Mark]:
    """Read the names and tags below a key `images`, whatever each is called there."""
    held: list[tuple[Node, str]] = []
    if isinstance(node, Sequence):
        held = [(item, f"{path}[{index}]") for index, item in enumerate(node.items)]
    elif isinstance(node, Mapping):
        held = [(value, join(path, name)) for name, value in node.items() if not is_image_key(name)]
    for value, role in held:
        if isinstance(value, Scalar) and (
            likeness(value.value, "image") is not None or "@sha256:" in value.value
        ):
            yield image(text, value, role)


def _mapping(text: str, node: Mapping, path: str, key: str) -> Iterator[Mark]:
    if text_at(node, "repository") and (at(node, "tag") or at(node, "digest")):
        yield from _composed(text, node, path, _Keys("repository", "tag"))
        return
    if is_image_key(key) or key == _MANY:
        name = next((each for each in _NAMES if text_at(node, each)), None)
        if name is not None and (at(node, "tag") or at(node, "digest")):
            yield from _composed(text, node, path, _Keys(name, "tag"))
            return
        if name in {"repository", "repo", "name"}:
            is_sure = name != "name" or key == "image"
            yield from _whole(text, node, name, join(path, name), is_sure=is_sure)
    for name in dict.fromkeys(name for name, _ in node.items()):
        if is_image_key(name) or _is_repository(name):
            yield from _flat(text, node, name, path)


def _is_repository(key: str) -> bool:
    """Whether a key is called `imageRepository`, `sidecar_image_repo`."""
    end = _NAME_END.search(key)
    return end is not None and end.end() == len(key) and is_image_key(key[: end.start()])


def _flat(text: str, node: Mapping, key: str, path: str) -> Iterator[Mark]:
    """Read an image whose tag may have a key beside it."""
    written = scalar_at(node, key)
    if written is None or means_other(written):
        return  # A switch or a number: no image goes by such a name.
    role = join(path, key)
    if likeness(written.value, "image") is None and "@" not in written.value:
        keys = _beside(node, key)
        if keys is not None:
            yield from _composed(text, node, path if key == "image" else role, keys)
            return
    yield from _whole(text, node, key, role, is_sure=key == "image")


def _beside(node: Mapping, key: str) -> _Keys | None:
    """Find the keys of tag, digest and registry that go with the key of a name."""
    base = _NAME_END.sub("", key) if _is_repository(key) else key
    match = _IMAGE_END.fullmatch(base)
    stems = [base, *([match[1]] if match is not None and match[1] else [])]

    def first(word: str, fallback: str) -> str:
        names = [
            name
            for stem in stems
            for name in (f"{stem}{word.capitalize()}", f"{stem}_{word}", f"{stem}-{word}")
        ]
        return next((n for n in names if isinstance(at(node, n), Scalar)), fallback)

    # Istio's charts call the registry, and a path in it, `hub`.
    registry = "registry" if text_at(node, "registry") else "hub"
    tag = first("tag", "tag")
    if not isinstance(at(node, tag), Scalar):
        return None
    return _Keys(key, tag, first("digest", "digest"), first("registry", registry))


def _whole(text: str, node: Mapping, key: str, role: str, *, is_sure: bool) -> Iterator[Mark]:
    """Read a reference that is written in one key."""
    written = scalar_at(node, key)
    if written is None or ("://" in written.value and not is_sure):
        return
    value = written.value
    is_put_together = TEMPLATE in value or "$" in value
    has_tag = likeness(value, "image") is not None or "@" in value
    if not is_sure and not has_tag and not is_put_together and "/" not in value:
        return
    if not is_sure and not has_tag and not is_put_together and not is_bare_image(written):
        return
    if "://" in value or value.startswith(("/", ".")):
        return  # The place of charts, of sources or of a file.
    mark = image(text, written, role)
    if isinstance(mark, Stray) or mark.reference.tag or mark.reference.digest:
        yield mark
    else:
        # A chart may well put a tag of its own behind it.
        yield Stray(mark.start, value, mark.role, _NO_TAG, _WRITE_TAG)


def _composed(text: str, node: Mapping, path: str, keys: _Keys) -> Iterator[Mark]:
    """Read an image that is written in several keys."""
    name, registry = text_at(node, keys.name), text_at(node, keys.registry)
    tag, digest = at(node, keys.tag), text_at(node, keys.digest)
    if "://" in name or "@" in name or name.startswith(("/", ".")):
        return  # The place of charts or of sources.
    named = scalar_at(node, keys.name)
    if named is not None:
        yield Passed(named.start, "its tag has a key of its own")
    words = f"{registry.rstrip('/')}/{name}" if registry else name
    place = tag if isinstance(tag, Scalar) else node
    if isinstance(tag, Scalar) and tag.is_text:
        words += f":{tag.value}"
        if means_other(tag):
            yield Stray(place.start, words, path, *NOT_TEXT)
            return
    elif not digest:
        hint = f"write the tag, or pin it in the chart: `{join(path, keys.tag)}`"
        yield Stray(place.start, words, path, _NO_TAG, hint)
        return
    words += f"@{digest}" if digest else ""
    held = pair_of(node, keys.digest)
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
