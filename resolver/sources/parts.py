"""Parts of blobs: what an answer to `Range` may be, and what it must not (R16, R17)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.ranged import RangeAnswer, read_content_range
from resolver.errors import RangeRefused, SizeMismatch, StorageRefused

if TYPE_CHECKING:
    from resolver.core.descriptor import Descriptor
    from resolver.sources.exchange import Answer

_WHOLE = 200
#: Not satisfiable, and not implemented.
_NO_RANGES = frozenset({416, 501})
#: What storage says of a link that is too old. Source: S3 and Azure 403, GCS 400, and 410.
_LINK_EXPIRED = frozenset({400, 401, 403, 410})


def refuse_what_is_no_part(answer: Answer, what: str, *, part: bool) -> None:
    """Refuse an answer that another request may get around; `part`, that a range was asked for.

    Raises:
        RangeRefused: ranges are not given out here; all of it may be.
        StorageRefused: the registry's link to its storage is not honoured; a new one may be.
    """
    place = answer.url.authority
    if part and answer.status in _NO_RANGES:
        raise RangeRefused(f"`{place}` answered {answer.status} to a range of {what}")
    if not answer.direct and answer.status in _LINK_EXPIRED:
        # The link is the registry's proof, not ours (protocol.md 7.2).
        raise StorageRefused(f"the storage `{place}` answered {answer.status} for {what}")


def read_part(
    answer: Answer, descriptor: Descriptor, asked: tuple[int, int] | None, what: str
) -> RangeAnswer:
    """Check what a blob's answer says that it brings, before a byte of it is read (R16, R17).

    `asked` is the first byte that was asked for and the one behind the last; None for all.

    Raises:
        RangeRefused: it brings another part, or several.
        SizeMismatch: it says that the blob is longer or shorter.
    """
    headers, size = answer.headers, descriptor.size
    coding = headers.encoded or ""
    announced = headers.content_length
    if answer.status == _WHOLE:
        if announced not in (None, size) and not coding:
            raise SizeMismatch(what, size, announced or 0)
        return RangeAnswer(whole=True, end=size, chunks=answer.chunks(), coding=coding)
    place = answer.url.authority
    if asked is None:
        raise RangeRefused(f"`{place}` answered with a part of {what}, and all was asked for")
    end = read_content_range(headers.all("content-range"), *asked, size)
    is_several = (headers.content_type or "").strip().lower().startswith("multipart/")
    if end is None or is_several:
        raise RangeRefused(f"`{place}` answered with another part of {what} than was asked for")
    if announced not in (None, end - asked[0]):
        raise RangeRefused(f"`{place}` announces {announced} bytes for a part of {end - asked[0]}")
    return RangeAnswer(whole=False, end=end, chunks=answer.chunks(), coding=coding)
