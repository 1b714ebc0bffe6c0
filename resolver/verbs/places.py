"""Asking places what they hold of an image: the store, and whoever was named beside it."""

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
    """A place on this machine to take content from, read-only; what it gives is verified.

    Attributes:
        name: as the person wrote it.

    """

    name: str
    content: Content


def find_held(
    contents: Iterable[Descriptor], store: LocalStore, places: Sequence[ContentPlace] = ()
) -> dict[Digest, Location]:
    """Ask for every piece who has it: the store first, then the places in their order.

    Raises:
        StoreFault: the store cannot be read.
        Unavailable: a place that was named cannot be read.

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
    """A place that knows no ranges, as one that is asked for them: it always sends all."""

    def __init__(self, content: Content) -> None:
        self._content = content

    @contextmanager
    def open_range(self, descriptor: Descriptor, start: int, end: int) -> Iterator[RangeAnswer]:
        """Stream a blob from its first byte, whatever was asked for; the caller verifies."""
        del start, end
        with self._content.open(descriptor) as chunks:
            yield RangeAnswer(whole=True, end=descriptor.size, chunks=chunks)


def open_place(text: str) -> ContentPlace:
    """Open what a person named with `--from`: a folder or an archive that holds images.

    Folders are told apart by what is in them: an OCI layout, a store of `resolver`, or the content
    store of containerd; `oci:DIR`, `oci-archive:FILE` and `docker-archive:FILE` say it outright.

    Raises:
        Usage: it is none of these.
        NotFound, Unavailable, Untrusted: it cannot be read, or is malformed.

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
    from resolver.sources.local.containerd import BlobTree, find_tree  # noqa: PLC0415 - where it is one

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
