"""Record names of images that a mirror has fetched completely, so that they are listed and kept.

A lease keeps everything while the mirror runs; a complete image gets a name that outlives it.
"""

from __future__ import annotations

import threading
from dataclasses import field
from typing import TYPE_CHECKING, TypeVar

from resolver.core.oci.manifest import (
    Attached,
    Index,
    Manifest,
    kind_of,
    parse_config,
    parse_document,
    refers_to,
)
from resolver.core.results.events import Noted
from resolver.core.results.pull import PulledImage, PulledName
from resolver.errors import ResolverError, StoreFault
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.clock import Clock
    from resolver.core.oci.content import Document
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.reference import Reference
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Observer
    from resolver.store import LocalStore

Key = TypeVar("Key")
Value = TypeVar("Value")

#: Things of each kind that are remembered of a repository.
MAX_KNOWN = 20_000


@dataclass(frozen=True, slots=True)
class _Name:
    """A reference that a client requested, and the entries it leads to."""

    reference: str
    root: Descriptor
    platforms: dict[Digest, Platform | None]
    attached: dict[Digest, Attached]
    done: set[Digest] = field(default_factory=set)


@dataclass(slots=True)
class _Repository:
    names: dict[str, _Name] = field(default_factory=dict)
    manifests: dict[Digest, tuple[Descriptor, Manifest]] = field(default_factory=dict)
    sizes: dict[Digest, Descriptor] = field(default_factory=dict)


class Ledger:
    """Tracks the documents of images that clients requested; safe to share between threads."""

    def __init__(self, store: LocalStore, observe: Observer, clock: Clock) -> None:
        self._store = store
        self._observe = observe
        self._clock = clock
        self._lock = threading.Lock()
        self._repositories: dict[str, _Repository] = {}

    def read(self, reference: Reference, document: Document) -> None:
        """Record a document that a client requested by this reference."""
        root = document.descriptor
        try:
            parsed = parse_document(document.body, root.media_type, f"`{root.digest}`")
        except ResolverError:
            return
        with self._lock:
            known = self._repositories.get(reference.identity, _Repository())
            _keep(self._repositories, {reference.identity: known})
            if isinstance(parsed, Index):
                platforms = {each.digest: each.platform for each in parsed.manifests}
                attached = {
                    each.digest: Attached(kind, each, refers_to(each))
                    for each in parsed.manifests
                    if (kind := kind_of(each)) in {"attestation", "artifact"}
                }
                _keep(known.sizes, {each.digest: each for each in parsed.manifests})
            else:
                platforms, attached = {root.digest: None}, {}
                _keep(known.manifests, {root.digest: (root, parsed)})
                _keep(known.sizes, {each.digest: each for each in _needed(parsed)})
            by_tag = reference.digest is None
            if by_tag or not (root.digest in known.sizes or self._is_root(known, root.digest)):
                name = _Name(str(reference), root, platforms, attached)
                _keep(known.names, {name.reference: name})
        self.settle(reference)

    @staticmethod
    def _is_root(known: _Repository, digest: Digest) -> bool:
        return any(name.root.digest == digest for name in known.names.values())

    def descriptor(self, reference: Reference, digest: Digest) -> Descriptor | None:
        """Return the descriptor of some content from the documents of this repository."""
        with self._lock:
            known = self._repositories.get(reference.identity)
            return None if known is None else known.sizes.get(digest)

    def settle(self, reference: Reference) -> None:
        """Name what has become whole in a repository."""
        with self._lock:
            known = self._repositories.get(reference.identity)
            if known is None:
                return
            waiting = [
                (name, platform, known.manifests[digest])
                for name in known.names.values()
                for digest, platform in name.platforms.items()
                if digest in known.manifests and digest not in name.done
            ]
        for name, platform, (descriptor, manifest) in waiting:
            if all(self._store.has(each) for each in _needed(manifest)):
                self._name(name, platform, descriptor, manifest)
                name.done.add(descriptor.digest)

    def _name(
        self, name: _Name, platform: Platform | None, descriptor: Descriptor, manifest: Manifest
    ) -> None:
        now = int(self._clock.wall())
        beside = name.attached.get(descriptor.digest)
        if beside is None and name.root.is_index and not manifest.is_image:
            beside = Attached("artifact", descriptor)
        if beside is not None:
            record = PulledName(name.reference, name.root, (), now, (beside,))
        else:
            image = PulledImage(platform or self._platform(manifest), descriptor)
            record = PulledName(name.reference, name.root, (image,), now)
        try:
            self._store.name(record)
        except StoreFault as error:
            # It is served all the same; it is just not listed.
            self._observe(Noted(f"`{name.reference}` is not named in the store: {error}"))

    def _platform(self, manifest: Manifest) -> Platform | None:
        if manifest.config is None or not manifest.is_image:
            return None
        try:
            body = self._store.read(manifest.config)
            return parse_config(body, f"`{manifest.config.digest}`", None).platform
        except ResolverError:
            return None


def _needed(manifest: Manifest) -> tuple[Descriptor, ...]:
    return (*manifest.layers, *(() if manifest.config is None else (manifest.config,)))


def _keep(known: dict[Key, Value], new: Mapping[Key, Value]) -> None:
    """Add to what is known; the oldest is forgotten where it is too much."""
    known |= new
    while len(known) > MAX_KNOWN:
        known.pop(next(iter(known)))
