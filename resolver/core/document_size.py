"""How large a document may be."""

from __future__ import annotations

from resolver.errors import LimitExceeded

#: Bytes of a manifest, an index or a config. Source: reliability.md 5; distribution-spec asks for
#: at least 4 megabytes.
MAX_DOCUMENT = 4_194_304


def refuse_oversize(body: bytes, what: str) -> None:
    """Check the size of a document.

    Raises:
        LimitExceeded: over 4 MiB.
    """
    if len(body) > MAX_DOCUMENT:
        raise LimitExceeded(what, MAX_DOCUMENT, len(body))
