"""Planning: from names and platforms to every piece that is needed, and who has it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.manifest import Manifest
from resolver.core.plan import Content, PlannedImage, plan
from resolver.errors import LimitExceeded, StoreFault
from resolver.flow.choose import read_manifest
from resolver.flow.held import find_held
from resolver.flow.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from resolver.core.answer import Resolution
    from resolver.core.descriptor import Descriptor
    from resolver.core.digest import Digest
    from resolver.core.plan import Plan
    from resolver.core.platform import PlatformTable
    from resolver.flow.held import Place
    from resolver.flow.reader import Reader
    from resolver.flow.resolve import Asked, Wish
    from resolver.store import LocalStore

#: Pieces of one operation. Source: reliability.md R11.
MAX_PIECES = 20_000


def plan_images(
    reader: Reader, asked: Asked, wishes: Iterable[Wish], table: PlatformTable
) -> tuple[PlannedImage, ...]:
    """Find the images that one name means for some platforms, and what they are made of.

    Index and manifests are read, and kept in the store; configs and layers are not. Two wishes
    that come out at the same image are one image.

    Raises:
        PlatformNotOffered, PlatformUnknown: as `flow.resolve.resolve`.
        ResolverError: a document cannot be read.

    """
    found: dict[Digest, PlannedImage] = {}
    for wish in wishes:
        answer = resolve(reader, asked, replace(wish, reads=True), table)
        if answer.manifest.digest not in found:
            found[answer.manifest.digest] = _image(reader, asked, answer)
    return tuple(found.values())


def make_plan(
    images: Iterable[PlannedImage],
    store: LocalStore,
    places: Sequence[Place] = (),
    *,
    foreign: bool = False,
) -> Plan:
    """Find out what of some images is held, and so what there is to fetch; nothing is asked.

    Args:
        images: of one reference or of many.
        store: where they are to be in the end.
        places: others to take content from, in order of preference.
        foreign: fetch also what publishers do not let registries hold.

    Raises:
        LimitExceeded: they have more than 20,000 pieces.
        StoreFault: the store cannot be read.
        Unavailable: a place that was named cannot be.

    """
    known = tuple(_with_name(image, store) for image in images)
    contents = {each.descriptor.digest: each for image in known for each in image.contents}
    if len(contents) > MAX_PIECES:
        raise LimitExceeded("what is to be pulled", MAX_PIECES, len(contents), "pieces")
    held = find_held((each.descriptor for each in contents.values()), store, places)
    return plan(known, held, foreign=foreign)


def _image(reader: Reader, asked: Asked, answer: Resolution) -> PlannedImage:
    manifest, indexes = asked.parsed, tuple(_indexes(asked, answer))
    if not isinstance(manifest, Manifest):
        manifest = read_manifest(reader, answer.manifest, asked.text)
    contents = [Content(layer, "layer") for layer in manifest.layers]
    if manifest.config is not None:
        contents.append(Content(manifest.config, "config"))
    contents.append(Content(answer.manifest, "manifest"))
    contents.extend(Content(index, "index") for index in indexes)
    unique: dict[Digest, Content] = {}
    for content in contents:
        unique.setdefault(content.descriptor.digest, content)
    return PlannedImage(
        reference=answer.reference,
        pinned=answer.pinned,
        root=asked.document.descriptor,
        manifest=answer.manifest,
        platform=answer.platform,
        layers=manifest.layers,
        contents=tuple(unique.values()),
        up_to_date=False,
        warnings=answer.warnings,
    )


def _indexes(asked: Asked, answer: Resolution) -> Iterator[Descriptor]:
    """Give the indexes on the way to the chosen manifest, the innermost first."""
    if answer.index is None:
        return
    by_path = {each.path: each.descriptor for each in answer.considered}
    chosen = next((each.path for each in answer.considered if each.chosen), ())
    for depth in range(len(chosen) - 1, 0, -1):
        yield by_path[chosen[:depth]]
    yield asked.document.descriptor


def _with_name(image: PlannedImage, store: LocalStore) -> PlannedImage:
    """Say whether the store's name for the reference is this very image already."""
    try:
        name = store.pulled(image.reference)
    except StoreFault:
        # It is written anew in the end, and that says what is wrong.
        return image
    same = name is not None and name.root.digest == image.root.digest
    held = {each.manifest.digest for each in name.images} if name is not None else set()
    return replace(image, up_to_date=same and image.manifest.digest in held)
