"""Entries: everything an index names, nested indexes as what is inside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.descriptor import INDEX_TYPES
from resolver.core.manifest import MAX_DEPTH, Index, parse_document
from resolver.errors import LimitExceeded
from resolver.flow.choose import MAX_VISITED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.descriptor import Descriptor
    from resolver.flow.reader import Reader


def entries_of(
    reader: Reader, index: Index, text: str
) -> Iterator[tuple[tuple[int, ...], Descriptor]]:
    """Give every entry that is no index, with its positions from the root down.

    Nested indexes count as the entries inside them, in their place, and each of them once.

    Args:
        reader: of the place that the index is in.
        index: where to begin.
        text: the name that led here, for messages.

    Raises:
        LimitExceeded: nested deeper than 8, or more than 1,000 of them.
        ResolverError: a nested index cannot be read.
    """
    return _walk(reader, index, text, (), set())


def _walk(
    reader: Reader, index: Index, text: str, path: tuple[int, ...], seen: set[str]
) -> Iterator[tuple[tuple[int, ...], Descriptor]]:
    if len(path) >= MAX_DEPTH:
        raise LimitExceeded("the depth of nested indexes", MAX_DEPTH, len(path) + 1, "levels")
    for position, entry in enumerate(index.manifests):
        here = (*path, position)
        if entry.media_type not in INDEX_TYPES:
            yield here, entry
        elif str(entry.digest) not in seen:
            seen.add(str(entry.digest))
            if len(seen) > MAX_VISITED:
                raise LimitExceeded("nested indexes", MAX_VISITED, len(seen), "documents")
            what, kind = f"the index `{entry.digest}` inside `{text}`", entry.media_type
            inner = parse_document(reader.read(entry, what), kind, what, kind)
            if isinstance(inner, Index):
                yield from _walk(reader, inner, text, here, seen)
