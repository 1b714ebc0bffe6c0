"""Parts of content: what is asked for with `Range`, and what an answer says that it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from resolver.core.descriptor import Descriptor
    from resolver.core.digest import Digest

#: Source: RFC 9110, 14.4. A position has 19 digits at most: it is below 2^63.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """A stretch of a blob on its way.

    Attributes:
        whole: the place ignored the range: this is the blob from its first byte.
        end: the first byte that does not come any more; `chunks` may bring more than that when
            the place is at fault, and whoever reads must look.
        coding: the content coding that the place claims; empty for none.

    """

    whole: bool
    end: int
    chunks: Iterator[bytes]
    coding: str = ""


class RangedSource(Protocol):
    """A place that gives out parts of blobs."""

    def open_range(
        self, descriptor: Descriptor, start: int, end: int
    ) -> AbstractContextManager[RangeAnswer]:
        """Stream a blob from byte `start` to just before byte `end`; the caller verifies.

        Raises:
            RangeRefused: another part came, or none.
            StorageRefused: a link that the registry gave out has expired.
            NotFound, Denied, Unavailable, Untrusted: as `Content.open`.

        """
        ...


@runtime_checkable
class Distrusting(Protocol):
    """A place that has its content from several others."""

    def distrust(self, digest: Digest) -> bool:
        """Hear that what was given for a digest is not it; say whether others can be asked."""
        ...


def read_content_range(values: tuple[str, ...], start: int, end: int, size: int) -> int | None:
    """Give the byte behind the last one that an answer brings; None if it is not what was asked.

    Args:
        values: every `Content-Range` header of the answer.
        start: the first byte that was asked for.
        end: the one behind the last that was.
        size: of the whole blob, in bytes.

    Source: RFC 9110, 14.4 and 15.3.7; protocol.md 7.2. A server may send less than was asked for.
    """
    if len(values) != 1:
        return None
    found = _CONTENT_RANGE.fullmatch(values[0].strip(" \t"))
    if found is None:
        return None
    first, last = int(found[1]), int(found[2])
    if found[3] != "*" and int(found[3]) != size:
        return None
    return last + 1 if first == start and start <= last < end else None
