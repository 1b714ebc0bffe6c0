"""Find content in local places, and fetch one piece from a place, a registry or a publisher."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from resolver.core.oci.content import RangeAnswer
from resolver.core.oci.manifest import MAX_DOCUMENT
from resolver.core.oci.target import LayoutTarget, StoreTarget, parse_target, refuse_foreign
from resolver.core.results.events import Noted, Warned
from resolver.core.results.plan import ContentState, Location, is_foreign
from resolver.core.results.pull_events import PieceStarted
from resolver.errors import InvalidReference, NotFound, Unavailable, Untrusted, Usage
from resolver.values import dataclass
from resolver.verbs.transfer import Stopped, Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from resolver.core.oci.content import Content, RangedSource, Source
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.results.plan import Piece, PlannedImage
    from resolver.store import LocalStore
    from resolver.verbs.transfer import TransferContext


@dataclass(frozen=True, slots=True, eq=False)
class ContentPlace:
    """A place on this machine to read content from; its bytes are verified by the reader.

    Attributes:
        name: as the user wrote it.

    """

    name: str
    content: Content


def find_held(
    contents: Iterable[Descriptor], store: LocalStore, places: Sequence[ContentPlace] = ()
) -> dict[Digest, Location]:
    """Find a location for each descriptor: the store first, then the places in order.

    Raises:
        StoreFault: the store cannot be read.
        Unavailable: a place cannot be read.

    """
    found: dict[Digest, Location] = {}
    for descriptor in contents:
        if descriptor.digest in found:
            continue
        held = _look(descriptor, store, places)
        if held is not None:
            found[descriptor.digest] = held
    return found


def _look(
    descriptor: Descriptor, store: LocalStore, places: Sequence[ContentPlace]
) -> Location | None:
    if store.held(descriptor):
        return Location()
    for place in places:
        if place.content.has(descriptor):
            return Location(place.name)
    have = store.partial(descriptor)
    return Location(have=have) if have else None


class WholeSource:
    """Adapts content without ranges to a ranged source: it always sends everything."""

    def __init__(self, content: Content) -> None:
        self._content = content

    @contextmanager
    def open_range(self, descriptor: Descriptor, start: int, end: int) -> Iterator[RangeAnswer]:
        """Stream a blob from its first byte, whatever the range; the caller verifies it."""
        del start, end
        with self._content.open(descriptor) as chunks:
            yield RangeAnswer(whole=True, end=descriptor.size, chunks=chunks)


def open_place(text: str) -> ContentPlace:
    """Open a place named with `--from`: a folder or an archive that holds images.

    A folder is recognised by its content: an OCI layout, a store of `resolver`, or the
    content store of containerd. `oci:DIR`, `oci-archive:FILE` and `docker-archive:FILE` name
    the kind.

    Raises:
        Usage: the path is none of these.
        NotFound, Unavailable, Untrusted: the place cannot be read, or is malformed.

    """
    from resolver.sources import SOURCES  # noqa: PLC0415 - only for `--from`

    kind, colon, _ = text.partition(":")
    if colon and kind in {*SOURCES, "oci-layout"}:
        return ContentPlace(text, _layout(text))
    path = Path(text)
    if path.is_file():
        return ContentPlace(text, _layout(f"oci-archive:{text}"))
    if (path / "oci-layout").is_file():
        return ContentPlace(text, _layout(f"oci:{text}"))
    from resolver.sources.local.containerd import BlobTree, find_tree  # noqa: PLC0415

    tree = find_tree(path)
    if tree is not None:
        return ContentPlace(text, BlobTree(tree))
    if not path.exists():
        refuse_foreign(text)
    raise Usage(
        f"`{text}` holds no images that can be read here",
        "name an OCI layout, an archive of one, a store, or containerd's content folder "
        "(`/var/lib/containerd/io.containerd.content.v1.content`)",
    )


def _layout(text: str) -> Content:
    from resolver.sources import open_local, settle  # noqa: PLC0415 - where one was named

    target = parse_target(text)
    if not isinstance(target, LayoutTarget):
        kind = "store" if isinstance(target, StoreTarget) else "registry"
        raise InvalidReference(text, f"it names a {kind}, and a local place was expected")
    return open_local(settle(target))


class Elsewhere(Protocol):
    """A repository that can also fetch from a publisher's own server."""

    def open_elsewhere(
        self, descriptor: Descriptor, url: str
    ) -> AbstractContextManager[RangeAnswer]:
        """Stream a blob from a URL of its descriptor, without credentials."""
        ...


class BlobFetcher:
    """Fetches pieces into the store; safe to share between threads.

    Args:
        shared: what all transfers share.
        source_of: opens the repository of an image.
        places: local places that may have the content.

    """

    def __init__(
        self,
        shared: TransferContext,
        source_of: Callable[[PlannedImage], Source],
        places: Sequence[ContentPlace],
    ) -> None:
        self._shared = shared
        self._source_of = source_of
        self._places = {place.name: place.content for place in places}
        self._lock = threading.Lock()
        self._sources: dict[str, Source] = {}

    def bring(
        self, piece: Piece, images: Sequence[PlannedImage], is_wanted: Callable[[], bool]
    ) -> bool:
        """Fetch a piece; return False when another process has fetched it meanwhile.

        Args:
            piece: the piece.
            images: the images that need it; each repository may have it.
            is_wanted: polled during the transfer; False ends it.

        Raises:
            ResolverError: no place has it, or its content is wrong.
            Stopped: `is_wanted` returned False.

        """
        brought = self._bring(piece, images, is_wanted)
        if brought and piece.descriptor.has_chunks:
            from resolver.verbs.chunks import keep_index  # noqa: PLC0415 - for such layers alone

            keep_index(self._shared.store, piece.descriptor, piece.reuse, self._shared.emit)
        return brought

    def _bring(
        self, piece: Piece, images: Sequence[PlannedImage], is_wanted: Callable[[], bool]
    ) -> bool:
        descriptor = piece.descriptor
        if descriptor.data is not None:
            # Checked against its digest when the document was read.
            self._started(piece)
            self._shared.store.add(descriptor, (descriptor.data,))
            return True
        if piece.state is ContentState.HELD and piece.place:
            brought = self._from_place(piece, piece.place, is_wanted)
            if brought is not None:
                return brought
        failure: NotFound | None = None
        for source in self._repositories(images):
            try:
                return self._from_source(piece, source, is_wanted)
            except NotFound as error:
                # Whether a blob exists depends on the repository (docs/wire-protocol.md, "Blob
                # downloads").
                failure = failure or error
        elsewhere = self._from_publisher(piece, images, is_wanted)
        if elsewhere is not None:
            return elsewhere
        if failure is None:
            raise NotFound(f"no image needs `{descriptor.digest}`")
        raise failure

    def _repositories(self, images: Sequence[PlannedImage]) -> list[Source]:
        """Open the repositories of some images, each once."""
        found: dict[str, Source] = {}
        for image in images:
            key = image.pinned.partition("@")[0] or image.reference
            with self._lock:
                if key not in self._sources:
                    self._sources[key] = self._source_of(image)
                found[key] = self._sources[key]
        return list(found.values())

    def _from_place(self, piece: Piece, name: str, is_wanted: Callable[[], bool]) -> bool | None:
        """Copy from a place; None if it does not have it after all, or something else."""
        content = self._places.get(name)
        if content is None:
            return None
        try:
            source = WholeSource(content)
            return self._transfer(piece, source, is_wanted, name)
        except (NotFound, Unavailable, Untrusted) as error:
            message = f"`{name}` cannot be used for `{piece.descriptor.digest}`: {error}"
            self._shared.emit(Warned("place-unusable", message))
            return None

    def _from_source(self, piece: Piece, source: Source, is_wanted: Callable[[], bool]) -> bool:
        if piece.role != "layer" and piece.descriptor.size <= MAX_DOCUMENT:
            return self._document(piece, source, is_wanted)
        return self._transfer(piece, ranged(source), is_wanted)

    def _transfer(
        self, piece: Piece, source: RangedSource, is_wanted: Callable[[], bool], place: str = ""
    ) -> bool:
        return Transfer(
            self._shared,
            piece.descriptor,
            source,
            is_wanted,
            started=lambda: self._started(piece, place),
            reuse=None if place else piece.reuse,
            places=self._places,
        ).run()

    def _started(self, piece: Piece, place: str = "") -> None:
        """Report the start of a transfer, unless another process fetches the piece."""
        descriptor = piece.descriptor
        self._shared.emit(PieceStarted(descriptor.digest, descriptor.size, place))

    def _document(self, piece: Piece, source: Source, is_wanted: Callable[[], bool]) -> bool:
        """Read what is small in one go: it is verified in memory, and compression undone."""
        descriptor = piece.descriptor

        def waiting() -> None:
            if self._shared.stop.is_set() or not is_wanted():
                raise Stopped

        with self._shared.store.receive(descriptor, waiting=waiting) as receiving:
            if receiving is None:
                return False
            self._started(piece)
            receiving.write(0, source.read(descriptor))
            receiving.finish()
            return True

    def _from_publisher(
        self, piece: Piece, images: Sequence[PlannedImage], is_wanted: Callable[[], bool]
    ) -> bool | None:
        """Try the servers that a foreign layer names (docs/wire-protocol.md, "Foreign layers")."""
        if not (self._shared.options.foreign and is_foreign(piece.descriptor)):
            return None
        failure: Unavailable | NotFound | None = None
        for source in self._repositories(images):
            if not hasattr(source, "open_elsewhere"):
                continue
            for url in piece.descriptor.urls:
                place = _Publisher(cast("Elsewhere", source), url)
                try:
                    return self._transfer(piece, place, is_wanted)
                except (NotFound, Unavailable) as error:
                    self._shared.emit(Noted(f"{error}"))
                    failure = error
        if failure is not None:
            raise failure
        return None


class _Publisher:
    """One URL of a foreign layer; it always sends all."""

    def __init__(self, source: Elsewhere, url: str) -> None:
        self._source = source
        self._url = url

    def open_range(
        self, descriptor: Descriptor, start: int, end: int
    ) -> AbstractContextManager[RangeAnswer]:
        """Stream the layer from its first byte."""
        del start, end
        return self._source.open_elsewhere(descriptor, self._url)


def ranged(source: Content) -> RangedSource:
    """Return a ranged source: a registry has ranges, a folder needs none."""
    if hasattr(source, "open_range"):
        return cast("RangedSource", source)
    return WholeSource(source)
