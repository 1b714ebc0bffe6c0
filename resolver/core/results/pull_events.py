"""Events of a pull.

They may come from several threads, but the observer is called for one at a time. Order per piece:

    Started  (Waiting?  (PieceStarted  Resumed?  (Advanced | Restarted)*  PieceVerifying  Finished
                         | Reused) | Skipped)*  (ImageDone | Kept)*

They are separate from `events` because most commands do not need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.results.events import Event
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.oci.digest import Digest
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.plan import Piece


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The pull of one image begins.

    Attributes:
        pieces: of this image, children before parents; a piece shared with an earlier image is
            included, and has events only once.
    """

    image: str
    platform: Platform | None
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class PieceStarted(Event):
    """The transfer of a piece begins; `size` in bytes, `place` empty for its registry."""

    digest: Digest
    size: int
    place: str = ""


@dataclass(frozen=True, slots=True)
class Waiting(Event):
    """Another process fetches a piece; this one waits, and takes over if that one dies."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """A transfer is resumed.

    `have` bytes are here; of these, `copied` are of held layers, or were read by the plan.
    """

    digest: Digest
    have: int
    copied: int = 0


@dataclass(frozen=True, slots=True)
class Advanced(Event):
    """Bytes of a piece have arrived.

    `size`: since the previous event. `done`: in total so far, including an earlier run.
    """

    digest: Digest
    size: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Restarted(Event):
    """The partial content of a piece is unusable; it is fetched again from the first byte."""

    digest: Digest
    reason: str


@dataclass(frozen=True, slots=True)
class PieceVerifying(Event):
    """All bytes of a piece have arrived; its hash is being computed."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Reused(Event):
    """A piece was already held at `place`, empty for the store; nothing is fetched."""

    digest: Digest
    size: int
    place: str


@dataclass(frozen=True, slots=True)
class Skipped(Event):
    """A foreign layer is skipped, because registries may not distribute it."""

    digest: Digest
    size: int
    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """A piece is in the store, verified; `size` in bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class ImageDone(Event):
    """An image is complete and its name is durably recorded.

    `status`: `downloaded`, or `up-to-date` if nothing was fetched and the name was unchanged.
    """

    reference: str
    digest: Digest
    status: str


@dataclass(frozen=True, slots=True)
class Kept(Event):
    """A pull ended early; fetched content is kept, and the next pull resumes.

    `size`: bytes that the next pull need not fetch, including those of unfinished pieces.
    """

    pieces: int
    wanted: int
    size: int


@dataclass(frozen=True, slots=True)
class Brought(Event):
    """Layers were fetched into the store only to be read, and gc removes them later."""

    layers: int
    size: int
