"""What looking into an image's layers found: the programs it starts, and some others in it.

Bytes of a layer that was not read to its end cannot be checked against its digest (R43). What is
found in them is an answer to "what is published there", and is never used for anything else;
`Program.verified` says which kind of answer it is.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.digest import Digest
    from resolver.core.executable import Executable
    from resolver.core.gathered import Part
    from resolver.errors import ResolverError


class Outcome(Enum):
    """How looking for what an image starts ended."""

    FOUND = "found"
    #: All layers were read, and it is in none.
    NOT_THERE = "not-there"
    #: It was found, and is no program of a format that is known here.
    NO_PROGRAM = "no-program"
    #: Not found in what was read, and not all was.
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Program:
    """A program in an image.

    Attributes:
        path: from the root of the image, without a leading slash, links followed.
        layer: the one that holds it.
        verified: whether that layer was read to its end, and is what its digests say.
    """

    path: str
    executable: Executable
    layer: Digest
    verified: bool


@dataclass(frozen=True, slots=True)
class Started:
    """Something that an image starts, and what came of looking for it.

    Attributes:
        words: as the config writes it, or the script whose interpreter this is.
        program: None unless it was found.
        is_certain: the container itself starts it; else another program does, as it seems.
    """

    words: str
    outcome: Outcome
    program: Program | None = None
    is_certain: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What looking into one image's layers found.

    Attributes:
        started: what it starts, then the interpreters that this needs; empty where nothing is
            named.
        sample: some other executables, from the start of the layers.
        failures: layers that could not be read, and why.
        bytes_read: of layers, as they are stored, for this image; shared ones count once.
    """

    part: Part
    started: tuple[Started, ...]
    sample: tuple[Program, ...]
    failures: tuple[tuple[Digest, ResolverError], ...]
    bytes_read: int
