"""Finding image references in kustomizations: `images`, whose digest has a key of its own.

Kustomize writes `newName:newTag@digest`; before 5.0 the digest alone, in place of the tag.
Source: kubectl.docs.kubernetes.io, Kustomization, "images"; kustomize api/v0.17, imagetag updater.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.pinning import helm
from resolver.core.pinning.keys import (
    NOT_TEXT,
    composed,
    is_own,
    line_cut,
    means_other,
    new_slot,
    pair_of,
    value_slot,
)
from resolver.core.pinning.spots import Stray
from resolver.core.pinning.tree import Mapping, Node, Scalar, at, elements, scalar_at, text_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pinning.spots import Mark, Slot


def fits(document: Node) -> bool:
    """Whether a document is a kustomization, or a component of one."""
    return text_at(document, "kind") in {"Kustomization", "Component"} and text_at(
        document, "apiVersion"
    ).startswith("kustomize.config.k8s.io/")


def find(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in one document."""
    for index, entry in elements(document, "images"):
        if isinstance(entry, Mapping):
            yield from _entry(text, entry, f"images[{index}]")
    for index, chart in elements(document, "helmCharts"):
        values = at(chart, "valuesInline")
        if values is not None:
            yield from helm.find(text, values, f"helmCharts[{index}].valuesInline")


def _entry(text: str, entry: Mapping, role: str) -> Iterator[Mark]:
    tag, digest = text_at(entry, "newTag"), text_at(entry, "digest")
    name = text_at(entry, "newName") or text_at(entry, "name")
    if not name or not (tag or digest):
        return  # Which tag it is, the manifests say.
    words = (f"{name}:{tag}" if tag else name) + (f"@{digest}" if digest else "")
    held = scalar_at(entry, "newTag")
    if held is not None and means_other(held):
        yield Stray(held.start, words, role, *NOT_TEXT)
        return
    slot = _slot(text, entry)
    yield composed(text, _last(text, entry), words, role, slot)


def _slot(text: str, entry: Mapping) -> Slot | None:
    """Find the place of the digest: its key where there is one, else behind the tag."""
    held = pair_of(entry, "digest")
    if held is None:
        if at(entry, "digest") is not None:
            return None
        after = pair_of(entry, "newTag") or pair_of(entry, "newName") or pair_of(entry, "name")
        return new_slot(text, entry, *after) if after is not None else None
    slot = value_slot(text, *held)
    if slot is None or held[1].style:
        return slot  # Quotes were there before, perhaps empty: they stay.
    return replace(slot, cut=line_cut(text, entry, *held))


def _last(text: str, entry: Mapping) -> Scalar | Mapping:
    """Find what stands for the entry where people are told about it."""
    for key in ("newTag", "newName", "name"):
        held = pair_of(entry, key)
        if held is not None and is_own(text, *held):
            return held[1]
    return entry
