"""Locking: what references mean now, to be written down; and whether what was still holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.content import Document
from resolver.core.descriptor import OCI_INDEX, Descriptor
from resolver.core.lock_check import Drift, Pair, drift_of, gone, pairs_of
from resolver.core.locked import by_entry, narrow, narrowed, pick
from resolver.core.locked import record as record_of
from resolver.core.manifest import Index
from resolver.core.platform import Platform
from resolver.core.reference import Reference
from resolver.errors import LockIncomplete, NotFound, NotLocked, PlatformNotOffered, PlatformUnknown
from resolver.flow import resolve as resolving
from resolver.flow.choose import MAX_PROBES
from resolver.flow.gather import gather_platforms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.answer import Resolution
    from resolver.core.events import Warned
    from resolver.core.lock import LockedImage, LockedPlatform
    from resolver.core.locked import Wanted
    from resolver.core.platform import PlatformTable
    from resolver.flow.reader import Reader
    from resolver.flow.resolve import Asked, Wish


def record(
    reader: Reader, asked: Asked, written: str, only: Sequence[Wanted], table: PlatformTable
) -> tuple[LockedImage, tuple[Warned, ...]]:
    """Note what a name means, from its index alone, or from the config of a single image.

    Args:
        reader: of the place the image is in.
        asked: the name, with its document.
        written: the name as somebody typed it.
        only: platforms to keep to; empty for all that are offered.
        table: to choose by.

    Raises:
        PlatformNotOffered: one of `only` is not offered.
        ResolverError: a document cannot be read.

    """
    image, warned = record_of(
        gather_platforms(reader, asked, table, jobs=1, limit=MAX_PROBES).sound(), written
    )
    return (narrowed(image, only, table) if only else image), warned


def check(
    reader: Reader, image: LockedImage, wanted: Sequence[Wanted], table: PlatformTable
) -> Drift:
    """Ask where a reference points now, by one HEAD; only if it moved, what moved in it.

    Args:
        reader: of the place the image is in.
        image: as it was locked.
        wanted: platforms that count; empty for all that were locked.
        table: to choose by.

    Raises:
        ResolverError: nobody can be asked, or what came is not what it claims.

    """
    wanted = wanted or [(Platform.parse(key),) for key in image.only]
    reference = Reference.parse(image.reference)
    try:
        current = reader.current(reference.name, image.digest)
    except NotFound:
        return gone(image)
    if current == image.digest:
        return drift_of(image, current, ())
    # By the digest just heard of, so that what is compared is what the registry spoke of.
    asked = resolving.ask(reader, reference.with_digest(current))
    asked = replace(asked, text=image.reference)
    now, _ = record(reader, asked, image.written, (), table)
    pairs = [
        Pair(str(each[0]), pick(image, each, table), pick(now, each, table)) for each in wanted
    ]
    return drift_of(image, current, tuple(pairs) if wanted else pairs_of(image, now))


def resolve_locked(
    image: LockedImage, wish: Wish, table: PlatformTable, reader: Reader, place: str
) -> Resolution:
    """Answer from a record alone, as if its platforms were the whole index; nobody is asked.

    Args:
        image: the record.
        wish: what is wanted; `verify` and `strict` ask for more than a record has.
        table: to choose by.
        reader: one that asks nobody.
        place: the lock file, for messages.

    Raises:
        NotLocked: it has no such platform.
        LockIncomplete: it does not say sizes and types.

    """
    root = image.root
    entries = [_descriptor(one) for one in by_entry(image)]
    whole = [entry for entry in entries if entry is not None]
    if root is None or len(whole) < len(entries):
        hint = f"write a whole one: `resolver lock {image.written}`"
        raise LockIncomplete(image.reference, place, hint)
    if narrow(image, wish.platforms):
        wish = replace(wish, exact=True)
    prefix = f"{Reference.parse(image.reference).identity}@"
    document = Document(root, b"")
    try:
        if image.is_index:
            index = Index(OCI_INDEX, tuple(whole))
            asked = resolving.Asked(image.reference, prefix, document, index)
            return resolving.resolve(reader, asked, wish, table)
        platform = whole[0].platform if whole else None
        return resolving.resolve_single(image.reference, prefix, root, platform, wish, table)
    except (PlatformNotOffered, PlatformUnknown) as error:
        wanted = " or ".join(str(platform) for platform in wish.platforms)
        offered = ", ".join(f"`{entry.platform}`" for entry in whole) or "no platform"
        hint = f"see what there is now: `resolver lock --check`, `resolver lock {image.written}`"
        raise NotLocked(
            image.reference, place, wanted, f"it was locked for {offered}", hint
        ) from error


def _descriptor(one: LockedPlatform) -> Descriptor | None:
    if not one.media_type or one.size is None:
        return None
    return Descriptor(one.media_type, one.digest, one.size, one.platform)
