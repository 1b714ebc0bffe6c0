"""Found: what a search for images comes back with, and what is left of a quota."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence


#: Hits that may be asked for. Source: Docker Engine API, `/images/search`.
MAX_LIMIT = 100

_NUMBER = re.compile(r"[0-9]{1,9}")
_YES = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One repository that a search found.

    Attributes:
        name: as it is pulled, without the registry where that is Docker Hub.
        description: as its owner wrote it.
        stars: None where the registry counts none.
        is_official: one of Docker's own curated images; None where there are none.
    """

    name: str
    description: str
    stars: int | None
    is_official: bool | None


@dataclass(frozen=True, slots=True)
class Hits:
    """What a search found, in the registry's order.

    Attributes:
        registry: that was asked.
        by: `search` where it has one, `catalog` where names were compared here.
    """

    term: str
    registry: str
    by: str
    hits: tuple[SearchHit, ...]


@dataclass(frozen=True, slots=True)
class Quota:
    """How many pulls are left, as a registry says.

    Attributes:
        registry: that was asked.
        limit: pulls in a window; None where no limit is said.
        remaining: of these; None likewise.
        window: seconds; None where it says none.
        source: whom the pulls are counted for: an address, or an account's id; empty if not said.
    """

    registry: str
    limit: int | None
    remaining: int | None
    window: int | None
    source: str


@dataclass(frozen=True, slots=True)
class SearchFilters:
    """What of the hits is wanted, as `docker search --filter` has it."""

    stars: int = 0
    is_official: bool | None = None

    @classmethod
    def parse(cls, texts: Sequence[str]) -> SearchFilters:
        """Read `stars=3` and `is-official=true`.

        Raises:
            Usage: it is neither.
        """
        stars, is_official = 0, None
        for text in texts:
            name, _, value = text.partition("=")
            if name == "stars" and _NUMBER.fullmatch(value):
                stars = int(value)
            elif name == "is-official" and value.lower() in _YES:
                is_official = _YES[value.lower()]
            else:
                raise Usage(
                    f"`{text}` is no filter of a search",
                    "write `--filter stars=10`, or `--filter is-official=true`",
                )
        return cls(stars, is_official)

    def keep(self, hit: SearchHit) -> bool:
        """Whether a hit is wanted; what a registry does not say is not held against it."""
        enough = hit.stars is None or hit.stars >= self.stars
        return enough and self.is_official in {None, hit.is_official}


def read_limit(text: str) -> tuple[int | None, int | None]:
    """Read `100;w=21600`: pulls, and the seconds they are counted over; None for what is not said.

    Source: Docker documentation, "Docker Hub usage and limits", `ratelimit-limit`.
    """
    number, *parameters = (part.strip() for part in text.split(";"))
    window = None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "w" and _NUMBER.fullmatch(value.strip()):
            window = int(value)
    return (int(number) if _NUMBER.fullmatch(number) else None), window


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A login was kept.

    Attributes:
        registry: whose.
        username: the account.
        place: a helper's program, or a file's path.
        verified: the registry wanted a login, and took this one; False if it wanted none.
    """

    registry: str
    username: str
    place: str
    verified: bool


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """A login was forgotten.

    Attributes:
        registry: whose.
        places: where it was; empty when nobody was logged in.
    """

    registry: str
    places: tuple[str, ...]
