"""Local places that hold content: the store, and those named with `--from`."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.oci.content import RangeAnswer
from resolver.core.oci.target import LayoutTarget, StoreTarget, parse_target, refuse_foreign
from resolver.core.results.plan import Location
from resolver.errors import InvalidReference, Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from resolver.core.oci.content import Content
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.store import LocalStore


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

    A folder is recognised by its content: an OCI layout, a store of `resolver`, or the content
        store
    of containerd. `oci:DIR`, `oci-archive:FILE` and `docker-archive:FILE` name the kind.

    Raises:
        Usage: the path is none of these.
        NotFound, Unavailable, Untrusted: the place cannot be read, or is malformed.

    """
    kind, colon, _ = text.partition(":")
    if colon and kind in {"oci", "oci-archive", "docker-archive", "oci-layout"}:
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
