"""Shelves over the store, and over an OCI layout in a folder.

An image has its full name as repository, `docker.io/library/ubuntu`, and its path alone,
`library/ubuntu`, where no other registry has the same: so that two registries' images are never
taken for each other.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import DOCUMENT_TYPES, MAX_DESCRIPTORS, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import MAX_DEPTH, Index, parse_document
from resolver.core.oci.reference import Reference, is_tag
from resolver.errors import LimitExceeded, Malformed, NotFound, StoreFault, Untrusted
from resolver.sources.local.layout import IMAGE_NAME, REF_NAME, LayoutSource, names_of
from resolver.sources.local.tree import FolderTree
from resolver.values import dataclass
from resolver.verbs.export.bundle import Completeness, Pruner, held_entry
from resolver.verbs.serve.api import about, is_repository
from resolver.verbs.serve.shared_fetch import RegularFile

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from resolver.core.oci.content import Content
    from resolver.core.results.pull import PulledName
    from resolver.store import LocalStore


logger = logging.getLogger(__name__)

#: Seconds after a change in which the next one might have the same time of change.
_BLURRED = 2.0


@dataclass(frozen=True, slots=True)
class Shown:
    """One name on a shelf, with its root; one without a tag is served by digest only.

    Attributes:
        record: what was pulled under the name; None if it was not recorded.
    """

    repository: str
    short: str
    tag: str
    root: Descriptor
    record: PulledName | None = None


@dataclass(frozen=True, slots=True)
class Partial:
    """A tag that is served with fewer entries than its index lists.

    Attributes:
        tag: as `repository:tag`.
        served: the index of complete entries; None if there are none, and the tag is not served.
        made: bodies of the rewritten indexes.
        left_out: the entries that are incomplete.
    """

    tag: str
    original: Descriptor
    served: Descriptor | None
    made: Mapping[Digest, bytes]
    left_out: tuple[Descriptor, ...]


@dataclass(slots=True)
class _Repository:
    tags: dict[str, Descriptor] = field(default_factory=dict)
    roots: dict[Digest, Descriptor] = field(default_factory=dict)
    made: dict[Digest, Document] = field(default_factory=dict)
    reach: dict[Digest, Descriptor] | None = None


@dataclass(frozen=True, slots=True)
class _View:
    content: Content
    repositories: dict[str, _Repository]
    listed: tuple[str, ...]
    partial: tuple[Partial, ...]
    state: object
    is_settled: bool


class ContentShelf(ABC):
    """A `Shelf` that looks again whenever the place behind it has changed."""

    #: Whether name records state what was pulled, so that nothing else changes what is held.
    _is_noted = False

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._view: _View | None = None
        self._pruned: dict[Shown, Partial] = {}

    @abstractmethod
    def _changed(self) -> os.stat_result | None:
        """Return the time at which the names last changed."""

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
            digest = Digest.parse(name)
            descriptor = self._reach(view, found).get(digest)
            made = found.made.get(digest)
        else:
            descriptor = found.tags.get(name)
            made = None if descriptor is None else found.made.get(descriptor.digest)
        if made is not None:
            return made
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
        """List the manifests that refer to a document."""
        view = self._current()
        found = view.repositories.get(repository)
        if found is None:
            return []
        reach = self._reach(view, found).values()
        wanted = (each for each in reach if each.media_type in DOCUMENT_TYPES)
        documents = (_read(view.content, each) for each in wanted)
        return list(about((each for each in documents if each is not None), digest))

    def partial(self) -> tuple[Partial, ...]:
        """List the tags that are answered with less than their index lists."""
        return self._current().partial

    def _prune(self, content: Content, shown: Shown) -> Partial:
        """Remove incomplete entries from an index, so that clients request no missing content."""
        name, root = f"{shown.repository}:{shown.tag}", shown.root
        try:
            pruner = Pruner(content, held_entry(shown.record, Completeness(content)))
            served = pruner.prune(root)
        except (NotFound, Untrusted, StoreFault, LimitExceeded) as error:
            logger.warning("cannot read what is here of %s: %s", name, error)
            return Partial(name, root, root, {}, ())
        return Partial(name, root, served, pruner.made, tuple(pruner.left_out))

    def _served(self, content: Content, shown: Iterable[Shown]) -> dict[Shown, Partial]:
        """Prune every tag's index; what was pruned before is remembered."""
        found = {
            each: self._pruned.get(each) or self._prune(content, each)
            for each in shown
            if each.tag and each.root.is_index
        }
        self._pruned = found
        return found

    def _current(self) -> _View:
        with self._guard:
            status = self._changed()
            state = None if status is None else (status.st_mtime_ns, status.st_ino, status.st_size)
            view = self._view
            if view is None or view.state != state or not view.is_settled:
                age = time.time() - (0.0 if status is None else status.st_mtime)
                content, found = self._look()
                shown = tuple(found)
                if view is None or view.state != state:
                    self._pruned = self._pruned if self._is_noted else {}
                served = self._served(content, shown)
                view = _view(content, shown, served, state, is_settled=age > _BLURRED)
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


def _view(
    content: Content,
    shown: Iterable[Shown],
    served: Mapping[Shown, Partial],
    state: object,
    *,
    is_settled: bool,
) -> _View:
    """Sort names; the first of two with the same tag gets it."""
    usable = [each for each in shown if is_repository(each.repository)]
    repositories: dict[str, _Repository] = {}
    owners: dict[str, set[str]] = {}
    for each in usable:
        repository = repositories.setdefault(each.repository, _Repository())
        repository.roots.setdefault(each.root.digest, each.root)
        root: Descriptor | None = each.root
        entry = served.get(each)
        if entry is not None:
            root = entry.served
            for digest, body in entry.made.items():
                made = replace(each.root, digest=digest, size=len(body), data=None)
                kind = parse_document(body, None, f"`{digest}`").media_type
                repository.made[digest] = Document(replace(made, media_type=kind), body)
        if each.tag and root is not None:
            repository.tags.setdefault(each.tag, root)
        if each.short:
            owners.setdefault(each.short, set()).add(each.repository)
    listed = tuple(sorted(repositories))
    for short, full in owners.items():
        if len(full) == 1 and short not in repositories:
            repositories[short] = repositories[next(iter(full))]
    partial = tuple(entry for entry in served.values() if entry.served != entry.original)
    return _View(content, repositories, listed, partial, state, is_settled)


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
    for entry in (*parsed.layers, *(() if parsed.config is None else (parsed.config,))):
        reach.setdefault(entry.digest, entry)


def _read(content: Content, descriptor: Descriptor) -> Document | None:
    if descriptor.media_type not in DOCUMENT_TYPES:
        return None
    try:
        return Document(descriptor, content.read(descriptor))
    except (NotFound, Untrusted):
        return None


_NO_NAME = re.compile(r"[^a-z0-9]+")


class StoreShelf(ContentShelf):
    """The images pulled into a store, as a `Shelf`.

    The tag of an incomplete index serves a shorter index; the original digest serves the original
    bytes.

    Args:
        claim: protects served content from removal, see docs/store-and-reliability.md, "Leases".
        only: canonical references; None for all.
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

    All its tags are in one repository named after the folder; entries with a full name, as Docker,
    containerd and `resolver export` write it, are served under that name too.
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
        """Remove a tag that several entries share: it is ambiguous."""
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
    """Return the repository that an image is served as; a port follows `-` instead of `:`."""
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
