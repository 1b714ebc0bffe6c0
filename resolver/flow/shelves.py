"""Shelves over the store, and over an OCI layout in a folder.

An image has its full name as repository, `docker.io/library/ubuntu`, and its path alone,
`library/ubuntu`, where no other registry has the same: so that two registries' images are never
taken for each other.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.reference import Reference
from resolver.core.reference_grammar import is_tag
from resolver.errors import Malformed
from resolver.flow.content_shelf import ContentShelf, Shown
from resolver.sources.layout import IMAGE_NAME, REF_NAME, LayoutSource, names_of
from resolver.sources.tree import FolderTree

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Iterator

    from resolver.core.content import Content
    from resolver.core.descriptor import Descriptor
    from resolver.core.digest import Digest
    from resolver.core.pulled_name import PulledName
    from resolver.store import LocalStore

_NO_NAME = re.compile(r"[^a-z0-9]+")


class StoreShelf(ContentShelf):
    """What was pulled into a store, as a `Shelf`.

    A tag whose index is not here whole is answered with an index of what is; its own digest is
    answered with its own bytes.

    Args:
        store: what is pulled meanwhile is served too.
        claim: is told what is offered, so that nobody removes it (R36).
        only: canonical references; None = all there are.

    """

    _is_noted = True

    def __init__(
        self,
        store: LocalStore,
        claim: Callable[[Iterable[Digest]], None],
        only: Collection[str] | None = None,
    ) -> None:
        super().__init__(str(store.root))
        self._store = store
        self._claim = claim
        self._only = only
        self._claimed: set[Digest] = set()

    def _changed(self) -> os.stat_result | None:
        return _status(self._store.root / "names")

    def _look(self) -> tuple[Content, Iterable[Shown]]:
        shown: list[Shown] = []
        needed: set[Digest] = set()
        for record in sorted(self._store.pulled_names(), key=lambda each: each.reference):
            if self._only is None or record.reference in self._only:
                needed.add(record.root.digest)
                needed.update(image.manifest.digest for image in record.images)
                needed.update(each.manifest.digest for each in record.attached)
                shown += _by_reference(record.reference, record.root, record)
                shown += _referrers(record)
        if needed - self._claimed:
            self._claim(needed - self._claimed)
            self._claimed |= needed
        return self._store, shown


class LayoutShelf(ContentShelf):
    """An OCI layout in a folder, as a `Shelf`.

    Every tag of it is in one repository named like the folder, and what has a full name, as
    Docker, containerd and `resolver export` write it, under that too.

    Raises:
        NotFound, Untrusted, Unavailable: it cannot be read, or is no layout.

    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        #: `repository:tag` of tags that several entries have; they are had by digest only.
        self.ambiguous: tuple[str, ...] = ()
        self.name = _NO_NAME.sub("-", Path(path).resolve().name.lower()).strip("-") or "layout"
        self._current()
        LayoutSource(FolderTree(path)).refuse_links()

    def _changed(self) -> os.stat_result | None:
        return _status(Path(self._folder) / "index.json")

    def _look(self) -> tuple[Content, Iterable[Shown]]:
        source = LayoutSource(FolderTree(self._folder))
        shown: list[Shown] = []
        for entry in source.entries:
            own = tuple(names_of(entry, REF_NAME))
            tags = [name for name in own if is_tag(name)]
            shown += [Shown(self.name, "", tag, entry) for tag in tags or [""]]
            full = list(names_of(entry, IMAGE_NAME)) or [name for name in own if not is_tag(name)]
            for name in full:
                shown += _by_reference(name, entry)
        return source, self._told_apart(shown)

    def _told_apart(self, shown: list[Shown]) -> list[Shown]:
        """Take a tag from entries that share it: nobody can say which of them is meant."""
        roots: dict[tuple[str, str], set[Digest]] = {}
        for each in shown:
            roots.setdefault((each.repository, each.tag), set()).add(each.root.digest)
        shared = {key for key, digests in roots.items() if key[1] and len(digests) > 1}
        self.ambiguous = tuple(sorted(f"{repository}:{tag}" for repository, tag in shared))
        return [
            replace(each, tag="") if (each.repository, each.tag) in shared else each
            for each in shown
        ]


def served_name(reference: Reference) -> str:
    """Say under which repository an image is served; a port is set off with `-`, not `:`."""
    return f"{spelled(reference.registry)}/{reference.repository}"


def spelled(registry: str) -> str:
    """Spell a registry as the first part of a repository, which has no colon."""
    lowered = registry.lower().translate({ord("["): None, ord("]"): None, ord(":"): "-"})
    # A name begins with a letter or digit: `[::1]:5000` becomes `1-5000`.
    return lowered.lstrip("-")


def _referrers(record: PulledName) -> Iterator[Shown]:
    """Show what refers to an image from outside its index; under a tag where cosign keeps it."""
    identity = Reference.parse(record.reference).identity
    for each in record.attached:
        if each.kind == "referrer":
            name = f":{each.tag}" if each.tag else f"@{each.manifest.digest}"
            yield from _by_reference(f"{identity}{name}", each.manifest)


def _by_reference(text: str, root: Descriptor, record: PulledName | None = None) -> Iterator[Shown]:
    try:
        reference = Reference.parse(text)
    except Malformed:
        return
    tag = "" if reference.digest is not None and reference.tag is None else reference.tag
    yield Shown(
        served_name(reference),
        reference.repository,
        reference.name if tag is None else tag,
        root,
        record,
    )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
