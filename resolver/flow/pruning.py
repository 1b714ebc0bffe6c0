"""Pruning: an index without the entries that are not here."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.digest import Digest
from resolver.core.manifest import MAX_DEPTH, Index, parse_document
from resolver.core.strict_json import read_object
from resolver.errors import LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from resolver.core.content import Content
    from resolver.core.descriptor import Descriptor

#: What an attestation speaks about. Source: BuildKit, docs/attestations/attestation-storage.md.
SUBJECT = "vnd.docker.reference.digest"


class Pruner:
    """Leaves entries out of an index, and out of the indexes inside it.

    Args:
        content: holds the indexes.
        images: digests of what stays.
        is_whole: whether all of an attestation is here; one stays if so, and if what it speaks
            about stays.

    Attributes:
        made: the indexes that had to be written anew.

    """

    def __init__(
        self,
        content: Content,
        images: Collection[Digest],
        is_whole: Callable[[Descriptor], bool],
    ) -> None:
        self._content = content
        self._images = images
        self._is_whole = is_whole
        self.made: dict[Digest, bytes] = {}

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
        if not stay:
            return None
        return self._write(root, {**document, "manifests": stay}) if changed else root

    def _keep(self, entry: Descriptor, depth: int) -> Descriptor | None:
        if entry.is_index:
            return self.prune(entry, depth + 1) if self._content.has(entry) else None
        subject = entry.annotation(SUBJECT)
        if subject is None:
            return entry if entry.digest in self._images else None
        stays = any(subject == str(image) for image in self._images)
        return entry if stays and self._is_whole(entry) else None

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
