"""What the shelves over the store and over a layout share: names, and what they lead to.

Only what the names of a repository lead to is in it, as far as it is here.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import field
from typing import TYPE_CHECKING

from resolver.core.content import Document
from resolver.core.descriptor import DOCUMENT_TYPES, Descriptor
from resolver.core.digest import Digest
from resolver.core.manifest import MAX_DEPTH, MAX_DESCRIPTORS, Index, parse_document
from resolver.errors import NotFound, Untrusted
from resolver.flow.distribution import is_repository
from resolver.flow.regular import RegularFile
from resolver.flow.shelf import about
from resolver.values import dataclass

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from resolver.core.content import Content

#: Seconds after a change in which the next one might have the same time of change.
_BLURRED = 2.0


@dataclass(frozen=True, slots=True)
class Shown:
    """One name on a shelf, and what it leads to; without a tag it is had by digest only."""

    repository: str
    short: str
    tag: str
    root: Descriptor


@dataclass(slots=True)
class _Repository:
    """One repository; what its names lead to is looked up when somebody first asks."""

    tags: dict[str, Descriptor] = field(default_factory=dict)
    roots: dict[Digest, Descriptor] = field(default_factory=dict)
    reach: dict[Digest, Descriptor] | None = None


@dataclass(frozen=True, slots=True)
class _View:
    """A shelf as it was at one time."""

    content: Content
    repositories: dict[str, _Repository]
    listed: tuple[str, ...]
    state: object
    is_settled: bool


class ContentShelf(ABC):
    """A `Shelf` that looks again whenever the place behind it has changed."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._view: _View | None = None

    @abstractmethod
    def _changed(self) -> os.stat_result | None:
        """Say when the names last changed."""

    @abstractmethod
    def _look(self) -> tuple[Content, Iterable[Shown]]:
        """Read the names."""

    def repositories(self) -> list[str]:
        """List all repositories, by their full names."""
        return list(self._current().listed)

    def tags(self, repository: str) -> list[str] | None:
        """List the tags of one."""
        found = self._current().repositories.get(repository)
        return None if found is None else list(found.tags)

    def document(self, repository: str, name: str) -> Document | None:
        """Find a document by tag or digest, verified."""
        view = self._current()
        found = view.repositories.get(repository)
        if found is None:
            return None
        if ":" in name:
            descriptor = self._reach(view, found).get(Digest.parse(name))
        else:
            descriptor = found.tags.get(name)
        if descriptor is None or descriptor.media_type not in DOCUMENT_TYPES:
            return None
        return _read(view.content, descriptor)

    def blob(self, repository: str, digest: Digest) -> RegularFile | None:
        """Find a blob of the right size."""
        view = self._current()
        found = view.repositories.get(repository)
        descriptor = None if found is None else self._reach(view, found).get(digest)
        if descriptor is None or not view.content.has(descriptor):
            return None
        return RegularFile(self._folder, ("blobs", digest.algorithm, digest.hex))

    def referrers(self, repository: str, digest: Digest) -> list[Document]:
        """Find what speaks about a document."""
        view = self._current()
        found = view.repositories.get(repository)
        if found is None:
            return []
        reach = self._reach(view, found).values()
        wanted = (each for each in reach if each.media_type in DOCUMENT_TYPES)
        documents = (_read(view.content, each) for each in wanted)
        return list(about((each for each in documents if each is not None), digest))

    def _current(self) -> _View:
        with self._guard:
            status = self._changed()
            state = None if status is None else (status.st_mtime_ns, status.st_ino, status.st_size)
            view = self._view
            if view is None or view.state != state or not view.is_settled:
                age = time.time() - (0.0 if status is None else status.st_mtime)
                content, shown = self._look()
                view = _view(content, shown, state, is_settled=age > _BLURRED)
                self._view = view
            return view

    def _reach(self, view: _View, repository: _Repository) -> dict[Digest, Descriptor]:
        with self._guard:
            if repository.reach is None:
                reach: dict[Digest, Descriptor] = {}
                for root in repository.roots.values():
                    _walk(view.content, root, reach, 0)
                repository.reach = reach
            return repository.reach


def _view(content: Content, shown: Iterable[Shown], state: object, *, is_settled: bool) -> _View:
    """Put names in order; of two that claim one tag the first has it."""
    usable = [each for each in shown if is_repository(each.repository)]
    repositories: dict[str, _Repository] = {}
    owners: dict[str, set[str]] = {}
    for each in usable:
        repository = repositories.setdefault(each.repository, _Repository())
        repository.roots.setdefault(each.root.digest, each.root)
        if each.tag:
            repository.tags.setdefault(each.tag, each.root)
        if each.short:
            owners.setdefault(each.short, set()).add(each.repository)
    listed = tuple(sorted(repositories))
    for short, full in owners.items():
        if len(full) == 1 and short not in repositories:
            repositories[short] = repositories[next(iter(full))]
    return _View(content, repositories, listed, state, is_settled)


def _walk(
    content: Content, descriptor: Descriptor, reach: dict[Digest, Descriptor], depth: int
) -> None:
    """Note what a document leads to, as far as it is here; what is not is not served."""
    if descriptor.digest in reach or depth > MAX_DEPTH or len(reach) >= MAX_DESCRIPTORS:
        return
    reach[descriptor.digest] = descriptor
    document = _read(content, descriptor)
    if document is None:
        return
    what = f"`{descriptor.digest}`"
    try:
        parsed = parse_document(document.body, None, what, descriptor.media_type)
    except Untrusted:
        return
    if isinstance(parsed, Index):
        for child in parsed.manifests:
            _walk(content, child, reach, depth + 1)
        return
    for part in (*parsed.layers, *(() if parsed.config is None else (parsed.config,))):
        reach.setdefault(part.digest, part)


def _read(content: Content, descriptor: Descriptor) -> Document | None:
    """Read a document; None if it is not here, or is not what it must be."""
    if descriptor.media_type not in DOCUMENT_TYPES:
        return None
    try:
        return Document(descriptor, content.read(descriptor))
    except (NotFound, Untrusted):
        return None
