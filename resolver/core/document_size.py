"""How large a document may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import LimitExceeded

if TYPE_CHECKING:
    from resolver.core.descriptor import Descriptor

#: Bytes of a manifest, an index or a config. Source: reliability.md 5; distribution-spec asks for
#: at least 4 megabytes.
MAX_DOCUMENT = 4_194_304


def oversize(descriptor: Descriptor, reference: str) -> LimitExceeded | None:
    """Say why a document cannot be read, judging by what names it; None if nothing speaks for that.

    Args:
        descriptor: of a manifest, as an index lists it.
        reference: whose it is, for the message.
    """
    if descriptor.size <= MAX_DOCUMENT:
        return None
    what = f"the manifest `{descriptor.digest}` of `{reference}`"
    return LimitExceeded(what, MAX_DOCUMENT, descriptor.size)


def refuse_oversize(body: bytes, what: str) -> None:
    """Check the size of a document.

    Raises:
        LimitExceeded: over 4 MiB.
    """
    if len(body) > MAX_DOCUMENT:
        raise LimitExceeded(what, MAX_DOCUMENT, len(body))
