"""Plain values of answers about this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.found import Hits, Quota
from resolver.core.login import LoggedIn, LoggedOut
from resolver.render.escape import escape

if TYPE_CHECKING:
    from resolver.render.plain import Plain


def plain(answer: object) -> Plain:
    """Turn an answer into plain values; never a secret."""
    match answer:
        case LoggedIn():
            return {
                "registry": answer.registry,
                "username": answer.username,
                "place": answer.place,
                "verified": answer.verified,
            }
        case LoggedOut():
            return {"registry": answer.registry, "places": list(answer.places)}
        case Hits():
            return {
                "term": answer.term,
                "registry": answer.registry,
                "by": answer.by,
                "hits": [
                    {
                        "name": hit.name,
                        "description": escape(hit.description),
                        "stars": hit.stars,
                        "official": hit.is_official,
                    }
                    for hit in answer.hits
                ],
            }
        case Quota():
            return {
                "registry": answer.registry,
                "limit": answer.limit,
                "remaining": answer.remaining,
                "window": answer.window,
                "source": answer.source,
            }
        case _:
            raise AssertionError(answer)


def pairs(answer: object) -> None:
    """Say that these answers name no images."""
    del answer
