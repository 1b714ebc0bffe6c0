"""What a pull says while it goes on: events like those of `core.events`.

They may come from several threads; whoever observes them sees one at a time, in an order that
makes sense per piece:

    Started  (Waiting?  (PieceStarted  Resumed?  (Advanced | Restarted)*  PieceVerifying  Finished
                         | Reused) | Skipped)*  (ImageDone | Kept)*

They stand apart because asking, which is most of what is done, knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.oci.digest import Digest
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Noted, Warned
    from resolver.core.results.plan import Piece


@dataclass(frozen=True, slots=True)
class Started:
    """The pull of one image begins.

    Attributes:
        image: the canonical reference.
        pieces: of this image, children before parents; a piece that an image before it brings
            is among them too, and told about once.

    """

    image: str
    platform: Platform | None
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class PieceStarted:
    """A piece is fetched from now on; `size` in bytes, `place` empty for its registry."""

    digest: Digest
    size: int
    place: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another process fetches a piece: this one waits for it, and takes over if it dies."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Resumed:
    """A piece was begun earlier: `have` of its bytes are here already."""

    digest: Digest
    have: int


@dataclass(frozen=True, slots=True)
class Advanced:
    """Bytes of a piece have arrived.

    Attributes:
        size: how many since the event before.
        done: how many are here by now; those of an earlier run included.
        total: how many the piece has.

    """

    digest: Digest
    size: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Restarted:
    """What was here of a piece cannot be used: it is fetched again from its first byte."""

    digest: Digest
    reason: str


@dataclass(frozen=True, slots=True)
class PieceVerifying:
    """All bytes of a piece are here; its hash is being finished."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Reused:
    """A piece was held: nothing is fetched. `place` names who holds it; empty for the store."""

    digest: Digest
    size: int
    place: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A piece is left out on purpose, because its publisher does not let registries hold it."""

    digest: Digest
    size: int
    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """A piece is in the store, verified; `size` in bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class ImageDone:
    """An image is complete, and its name says so durably.

    Attributes:
        reference: canonical.
        digest: of what the reference points at.
        status: `downloaded`, or `up-to-date` where nothing had to be fetched and the name was
            already this.

    """

    reference: str
    digest: Digest
    status: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A pull has ended early; what had come by then stays, and the next pull goes on from it.

    Attributes:
        pieces: that are whole.
        wanted: that were to be fetched.
        size: bytes that the next pull need not fetch, those of unfinished pieces included.

    """

    pieces: int
    wanted: int
    size: int


@dataclass(frozen=True, slots=True)
class Brought:
    """Layers were fetched into the store only to be read; `size` in bytes of all of them.

    No pulled image needs them, so a collection removes them once they are old enough.
    """

    layers: int
    size: int


if TYPE_CHECKING:
    Event = (
        Warned
        | Noted
        | Started
        | PieceStarted
        | Resumed
        | Advanced
        | Restarted
        | PieceVerifying
        | Reused
        | Skipped
        | Finished
        | ImageDone
        | Waiting
        | Kept
        | Brought
    )
else:
    # Only ever named in annotations.
    Event = Any
Observer = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Observe nothing."""
