"""What a served registry takes its content from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from resolver.core.content import Document
from resolver.core.descriptor import Descriptor
from resolver.core.digest import Digest
from resolver.core.strict_json import read_object
from resolver.errors import ResolverError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.demo import Sample
    from resolver.flow.regular import RegularFile


class Shelf(Protocol):
    """Content by repository; asked from several threads at once.

    Repositories and names are checked against their grammar before a shelf is asked. A shelf that
    cannot read what it holds raises a `ResolverError`; the client is then told that it failed.
    """

    def repositories(self) -> list[str]:
        """List all repositories, in any order."""
        ...

    def tags(self, repository: str) -> list[str] | None:
        """List the tags, in any order; None when there is no such repository."""
        ...

    def document(self, repository: str, name: str) -> Document | None:
        """Find a manifest or an index by tag, or by digest in text form."""
        ...

    def blob(self, repository: str, digest: Digest) -> bytes | RegularFile | None:
        """Find a config or a layer: its bytes, or a file of exactly these."""
        ...

    def referrers(self, repository: str, digest: Digest) -> list[Document]:
        """Find the manifests whose `subject` is this digest; see `about`."""
        ...


class MemoryShelf:
    """A `Shelf` over the sample images."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._tags: dict[str, dict[str, Digest]] = {}
        self._documents: dict[str, dict[Digest, Document]] = {}
        self._blobs: dict[str, dict[Digest, bytes]] = {}
        for sample in samples:
            self._add(sample)

    def _add(self, sample: Sample) -> None:
        self._tags.setdefault(sample.repository, {})[sample.tag] = sample.root.digest
        self._blobs.setdefault(sample.repository, {}).update(sample.blobs)
        documents = self._documents.setdefault(sample.repository, {})
        for digest, (media_type, body) in sample.documents.items():
            documents[digest] = Document(Descriptor(media_type, digest, len(body)), body)

    def repositories(self) -> list[str]:
        """List all repositories."""
        return list(self._tags)

    def tags(self, repository: str) -> list[str] | None:
        """List the tags of one."""
        tags = self._tags.get(repository)
        return None if tags is None else list(tags)

    def document(self, repository: str, name: str) -> Document | None:
        """Find a document by tag or digest."""
        digest = Digest.parse(name) if ":" in name else self._tags.get(repository, {}).get(name)
        return None if digest is None else self._documents.get(repository, {}).get(digest)

    def blob(self, repository: str, digest: Digest) -> bytes | None:
        """Find a blob."""
        return self._blobs.get(repository, {}).get(digest)

    def referrers(self, repository: str, digest: Digest) -> list[Document]:
        """Find what speaks about a document."""
        return list(about(self._documents.get(repository, {}).values(), digest))


def about(documents: Iterable[Document], digest: Digest) -> Iterator[Document]:
    """Pick the documents whose `subject` has this digest; unreadable ones have none."""
    for document in documents:
        subject = fields(document).get("subject")
        if isinstance(subject, dict) and subject.get("digest") == str(digest):
            yield document


def fields(document: Document) -> dict[str, object]:
    """Read a document's fields; none when it is no JSON object."""
    try:
        return read_object(document.body, f"`{document.descriptor.digest}`")
    except ResolverError:
        return {}
