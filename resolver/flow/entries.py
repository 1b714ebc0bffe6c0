"""Entries: everything an index names, nested indexes as what is inside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.descriptor import INDEX_TYPES
from resolver.core.events import Warned
from resolver.core.manifest import MAX_DEPTH, Index, parse_document
from resolver.errors import LimitExceeded, ResolverError
from resolver.flow.choose import MAX_VISITED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.descriptor import Descriptor
    from resolver.core.manifest import Manifest
    from resolver.flow.reader import Reader

    Broken = dict[tuple[int, ...], ResolverError]


def entries_of(
    reader: Reader,
    index: Index,
    text: str,
    broken: Broken | None = None,
    nested: dict[tuple[int, ...], Descriptor] | None = None,
) -> Iterator[tuple[tuple[int, ...], Descriptor]]:
    """Give every entry that is no index, with its positions from the root down.

    An index whose digest cannot be verified is given as an entry: it cannot be read.

    Nested indexes count as the entries inside them, in their place, and each of them once.

    Args:
        reader: of the place that the index is in.
        index: where to begin.
        text: the name that led here, for messages.
        broken: is told, by position, why a nested index could not be read, which is then given
            like any other entry; None to have the failure raised.
        nested: receives the nested indexes that were read, by position.

    Raises:
        LimitExceeded: nested deeper than 8, or more than 1,000 of them.
        ResolverError: a nested index cannot be read.
    """
    return _walk(reader, index, text, (), (set(), broken, nested))


def _walk(
    reader: Reader,
    index: Index,
    text: str,
    path: tuple[int, ...],
    memory: tuple[set[str], Broken | None, dict[tuple[int, ...], Descriptor] | None],
) -> Iterator[tuple[tuple[int, ...], Descriptor]]:
    seen, broken, nested = memory
    if len(path) >= MAX_DEPTH:
        raise LimitExceeded("the depth of nested indexes", MAX_DEPTH, len(path) + 1, "levels")
    for position, entry in enumerate(index.manifests):
        here = (*path, position)
        if entry.media_type not in INDEX_TYPES or not entry.digest.is_verifiable:
            yield here, entry
        elif str(entry.digest) not in seen:
            seen.add(str(entry.digest))
            if len(seen) > MAX_VISITED:
                raise LimitExceeded("nested indexes", MAX_VISITED, len(seen), "documents")
            try:
                inner = _inner(reader, entry, text)
            except ResolverError as error:
                if broken is None:
                    raise
                broken[here] = error
                yield here, entry
                continue
            if isinstance(inner, Index):
                if nested is not None:
                    nested[here] = entry
                yield from _walk(reader, inner, text, here, memory)


def left_out(entry: Descriptor, text: str) -> Warned:
    """Say that an entry of an index cannot be used because its digest cannot be verified."""
    said = f" for `{entry.platform}`" if entry.platform is not None else ""
    return Warned(
        "unverifiable-entry",
        f"the entry `{entry.digest}`{said} of `{text}` cannot be used: "
        f"`{entry.digest.algorithm}` digests cannot be verified",
    )


def _inner(reader: Reader, entry: Descriptor, text: str) -> Index | Manifest:
    what, kind = f"the index `{entry.digest}` inside `{text}`", entry.media_type
    return parse_document(reader.read(entry, what), kind, what, kind)
