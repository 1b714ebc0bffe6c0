"""Reading documents: from the store where it has them, else from their source, once.

The budget of requests is kept here (issue "resolve"): a tag the store does not know costs one GET
by tag, since the answer is the document and its digest at once; a tag it knows costs one HEAD,
which Docker Hub does not count (protocol.md 11); content named by digest costs nothing twice.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from resolver.core.content import Document, Refers
from resolver.core.descriptor import Descriptor
from resolver.core.digest import Digest
from resolver.core.events import Warned, ignore
from resolver.core.manifest import parse_document
from resolver.errors import DigestMismatch, ManifestNotFound, NotInStore
from resolver.store import NameRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.content import Source
    from resolver.core.events import Observer
    from resolver.core.reference import Reference
    from resolver.store import LocalStore


class Reader:
    """Documents of one repository or one local place.

    Args:
        open_source: called at most when the store cannot answer, so that a reader of a fully
            held image never builds a client.
        store: None for local places, whose content needs no second copy.
        place: for messages.

    """

    def __init__(
        self,
        open_source: Callable[[], Source] | None,
        store: LocalStore | None,
        place: str,
        observe: Observer = ignore,
    ) -> None:
        self._open_source = open_source
        self._store = store
        self._place = place
        self._observe = observe
        self._source: Source | None = None

    def named(self, reference: Reference) -> Document:
        """Read what a registry reference points at.

        Raises:
            NotFound: the registry has no such tag or digest.
            NotInStore: only the store may answer, and it does not know.
            Untrusted, Unavailable, Denied: as the source says.

        """
        if reference.digest is not None:
            return self._by_digest(reference, reference.digest)
        return self._by_tag(reference)

    def local(self, name: str) -> Document:
        """Read what a name means in a local place; empty when it has one entry only."""
        return self._need("its index").document(name)

    def read(self, descriptor: Descriptor, what: str) -> bytes:
        """Read a document that another one points at, verified.

        Raises:
            NotInStore: only the store may answer, and it does not hold it.
            Untrusted: other bytes came, or more than the limit; or the algorithm of the digest is
                not known, so that nothing could be verified.

        """
        descriptor.digest.require_verifiable(what)
        if descriptor.data is not None:
            return descriptor.data
        held = self.held(descriptor)
        if held is not None:
            return held
        body = self._need(what).read(descriptor)
        self._keep(Document(descriptor, body))
        return body

    @property
    def may_ask(self) -> bool:
        """Whether anything but the store may be asked."""
        return self._open_source is not None

    def held(self, descriptor: Descriptor) -> bytes | None:
        """Read a document only if that costs no request."""
        if self._store is None:
            return None
        return self._store.load(descriptor.digest, descriptor.size)

    def current(self, tag: str, known: Digest) -> Digest:
        """Say where a tag points now: by one HEAD if that is `known` still.

        Another digest is told only when its bytes are here: what a header says is wrong with some
        registries (quirk q-089), and a wrong "it has moved" is worse than one more request.
        """
        stated = self._need("where its tag points now").resolve(tag).digest
        if stated == known:
            return known
        document = self._moved(tag, stated, known)
        self._keep(document)
        same = Digest.of(document.body, known.algorithm) == known
        return known if same else document.descriptor.digest

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """List what refers to a manifest; none where the place has no such lists.

        Raises:
            NotInStore: only the store may answer, and it keeps no such lists.
            Denied, Unavailable, LimitExceeded: as the source says.

        """
        source = self._need(f"what refers to `{digest}`")
        return source.referrers(digest) if isinstance(source, Refers) else ()

    def warn(self, warning: Warned) -> None:
        """Tell whoever hears of this reader's warnings."""
        self._observe(warning)

    def tell_warnings(self) -> None:
        """Hand on what the source wants people to know."""
        if self._source is not None:
            for text in self._source.warnings():
                self._observe(Warned("registry-warning", f"`{self._place}` says: {text}"))

    def _by_digest(self, reference: Reference, digest: Digest) -> Document:
        if self._store is not None:
            body = self._store.load(digest)
            if body is not None:
                return _stored(body, digest, None, str(reference))
        document = self._need(f"`{digest}`").document(str(digest))
        self._keep(document)
        return document

    def _by_tag(self, reference: Reference) -> Document:
        known = self._store.recall(str(reference)) if self._store is not None else None
        body = None
        if known is not None and self._store is not None:
            body = self._store.load(known.root.digest, known.root.size)
        if known is None or body is None:
            document = self._need("the tag").document(reference.name)
        elif self._open_source is None:
            return _stored(body, known.root.digest, known.root.media_type, str(reference))
        else:
            root, stated = known.root.digest, self._need("").resolve(reference.name).digest
            if stated == root:
                return _stored(body, root, known.root.media_type, str(reference))
            if stated == Digest.of(body, stated.algorithm):
                # The same bytes, by the digest that the registry knows them by now.
                document = _stored(body, stated, known.root.media_type, str(reference))
            else:
                document = self._moved(reference.name, stated, root)
        self._keep(document)
        self._remember(reference, document.descriptor)
        return document

    def _moved(self, tag: str, stated: Digest, before: Digest) -> Document:
        """Read what a tag points at, of which a HEAD has said another digest than before.

        By that digest, so that a tag that moves again cannot mix two images. By the tag where
        nothing is to be had so: the header was wrong (q-089), or of another algorithm.
        """
        source = self._need("")
        if stated.algorithm == before.algorithm:
            with suppress(DigestMismatch, ManifestNotFound):
                return source.document(str(stated))
        return source.document(tag)

    def _keep(self, document: Document) -> None:
        if self._store is not None:
            self._store.try_add(document, self._observe)

    def _remember(self, reference: Reference, root: Descriptor) -> None:
        if self._store is not None:
            self._store.try_remember(NameRecord(str(reference), root), self._observe)

    def _need(self, what: str) -> Source:
        """Open the source, or say that nobody may be asked."""
        if self._source is None:
            if self._open_source is None:
                store = str(self._store.root) if self._store is not None else ""
                raise NotInStore(self._place, what, store)
            self._source = self._open_source()
        return self._source


def _stored(body: bytes, digest: Digest, media_type: str | None, what: str) -> Document:
    """Wrap bytes that the store has verified; the type is decided anew where nobody noted it."""
    kind = media_type
    if kind is None:
        kind = parse_document(body, None, what).media_type
    return Document(Descriptor(kind, digest, len(body)), body)
