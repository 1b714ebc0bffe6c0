"""Pruning: an index without the entries that are not here, or not wanted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.attached import kind_of, refers_to
from resolver.core.descriptor import MANIFEST_TYPES, OCI_ARTIFACT
from resolver.core.digest import Digest
from resolver.core.manifest import MAX_DEPTH, Index, Manifest, parse_document
from resolver.core.plan import is_foreign
from resolver.core.strict_json import read_object
from resolver.errors import LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.content import Content
    from resolver.core.descriptor import Descriptor
    from resolver.core.pulled_name import PulledName


class Pruner:
    """Leaves entries out of an index, and out of the indexes inside it.

    Args:
        content: holds the indexes.
        keep: whether an entry that is no index stays.

    Attributes:
        made: the indexes that had to be written anew.
        left_out: the entries that do not stay, in the order of the walk.

    """

    def __init__(self, content: Content, keep: Callable[[Descriptor], bool]) -> None:
        self._content = content
        self._stays = keep
        self.made: dict[Digest, bytes] = {}
        self.left_out: list[Descriptor] = []

    def prune(self, root: Descriptor, depth: int = 0) -> Descriptor | None:
        """Prune an index; unchanged, it is `root` itself, and None if nothing stays.

        All that it says besides stays as it is, and so does the order of its entries.

        Raises:
            LimitExceeded: indexes are nested deeper than 8.
            NotFound, Untrusted: as `Content.read` and `parse_document`.

        """
        what = f"`{root.digest}` in the store"
        if depth > MAX_DEPTH:
            raise LimitExceeded(what, MAX_DEPTH, depth, "levels")
        body = self._content.read(root)
        index = parse_document(body, None, what, root.media_type)
        document = read_object(body, what)
        written = document["manifests"]
        if not isinstance(index, Index) or not isinstance(written, list):
            return root
        stay: list[object] = []
        changed = False
        for entry, raw in zip(index.manifests, written, strict=True):
            kept = self._keep(entry, depth)
            changed |= kept is not entry
            if kept is not None:
                stay.append(raw if kept is entry else _with(raw, kept))
        if changed and not stay:
            return None
        return self._write(root, {**document, "manifests": stay}) if changed else root

    def _keep(self, entry: Descriptor, depth: int) -> Descriptor | None:
        if entry.is_index:
            kept = self.prune(entry, depth + 1) if self._content.has(entry) else None
            if kept is None:
                self.left_out.append(entry)
            return kept
        if self._stays(entry):
            return entry
        self.left_out.append(entry)
        return None

    def _write(self, root: Descriptor, document: dict[str, object]) -> Descriptor:
        body = json.dumps(document, separators=(",", ":")).encode()
        digest = Digest.of(body)
        self.made[digest] = body
        return replace(root, digest=digest, size=len(body), data=None)


def _with(raw: object, kept: Descriptor) -> dict[str, object]:
    """Write the entry of an index that was pruned itself; `data` would be the old one's."""
    said = raw if isinstance(raw, dict) else {}
    entry = {name: value for name, value in said.items() if name != "data"}
    return {**entry, "digest": str(kept.digest), "size": kept.size}


class Completeness:
    """Says whether content holds all of an entry; remembers what it has looked at.

    Layers that registries may not hold are not missed (`is_foreign`).
    """

    def __init__(self, content: Content) -> None:
        self._content = content
        self._known: dict[Digest, bool] = {}

    def is_whole(self, entry: Descriptor) -> bool:
        """Say whether a manifest and all its parts are here, or what an index lists besides.

        Raises:
            StoreFault, Untrusted, Unavailable: a manifest is damaged or cannot be read.

        """
        known = self._known.get(entry.digest)
        if known is None:
            known = self._known[entry.digest] = self._look(entry)
        return known

    def is_artifact(self, entry: Descriptor) -> bool:
        """Say whether the manifest shows that an entry is no image, where it is here."""
        if entry.media_type not in MANIFEST_TYPES or not self._content.has(entry):
            return False
        what = f"`{entry.digest}`"
        document = parse_document(self._content.read(entry), None, what, entry.media_type)
        return isinstance(document, Manifest) and not document.is_image

    def _look(self, entry: Descriptor) -> bool:
        if not self._content.has(entry):
            return False
        if entry.media_type not in MANIFEST_TYPES | {OCI_ARTIFACT}:
            return True
        what = f"`{entry.digest}`"
        document = parse_document(self._content.read(entry), None, what, entry.media_type)
        if isinstance(document, Index):
            return False
        return all(is_foreign(part) or self._content.has(part) for part in parts_of(document))


def parts_of(manifest: Manifest) -> tuple[Descriptor, ...]:
    """Give the blobs of a manifest."""
    return manifest.layers if manifest.config is None else (manifest.config, *manifest.layers)


def held_entry(record: PulledName | None, here: Completeness) -> Callable[[Descriptor], bool]:
    """Make the rule by which an entry stays in an index of what is held.

    Images stay if they were pulled under this name; what is attached to them, and artifacts, if
    all of it is here.

    Args:
        record: what was pulled; None where nobody noted it, as in a layout.
        here: what is here.

    """
    if record is None:
        return here.is_whole
    images = {image.manifest.digest for image in record.images}
    noted = images | {each.manifest.digest for each in record.attached}

    def keep(entry: Descriptor) -> bool:
        if entry.digest not in noted:
            about = refers_to(entry)
            if about is not None and about not in images:
                return False
            if about is None and kind_of(entry) == "image" and not here.is_artifact(entry):
                return False
        return here.is_whole(entry)

    return keep
