"""Results of `search`, `repositories`, `quota`, `login` and `logout`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence


#: The largest `--limit`. Source: Docker Engine API, `/images/search`.
MAX_LIMIT = 100

_NUMBER = re.compile(r"[0-9]{1,9}")
_YES = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One repository of a search result.

    `stars`: None if the registry has none. `is_official`: whether it is a Docker Official Image;
    None on other registries.
    """

    name: str
    description: str
    stars: int | None
    is_official: bool | None


@dataclass(frozen=True, slots=True)
class Hits:
    """The result of a search, in the registry's order.

    `by`: `search` for the registry's own search, `catalog` if names were compared here.
    """

    term: str
    registry: str
    by: str
    hits: tuple[SearchHit, ...]


@dataclass(frozen=True, slots=True)
class Repositories:
    """The repositories that a registry lists, sorted."""

    registry: str
    prefix: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quota:
    """The pull limit that a registry states.

    `remaining`: pulls left; None if not stated. `window`: seconds; None if not stated. `source`:
    the address or account id that pulls are counted for; empty if not stated.
    """

    registry: str
    limit: int | None
    remaining: int | None
    window: int | None
    source: str


@dataclass(frozen=True, slots=True)
class SearchFilters:
    """Filters of a search, as in `docker search --filter`."""

    stars: int = 0
    is_official: bool | None = None

    @classmethod
    def parse(cls, texts: Sequence[str]) -> SearchFilters:
        """Parse `stars=3` and `is-official=true`."""
        stars, is_official = 0, None
        for text in texts:
            name, _, value = text.partition("=")
            if name == "stars" and _NUMBER.fullmatch(value):
                stars = int(value)
            elif name == "is-official" and value.lower() in _YES:
                is_official = _YES[value.lower()]
            else:
                raise Usage(
                    f"`{text}` is not a search filter",
                    "write `--filter stars=10`, or `--filter is-official=true`",
                )
        return cls(stars, is_official)

    def keep(self, hit: SearchHit) -> bool:
        """Whether a hit passes; values that the registry does not state pass."""
        enough = hit.stars is None or hit.stars >= self.stars
        return enough and self.is_official in {None, hit.is_official}


def read_limit(text: str) -> tuple[int | None, int | None]:
    """Parse `100;w=21600` as pulls and the seconds of their window; None for absent values.

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
    """A stored login.

    `place`: the credential helper's program, or the path of the file. `verified`: whether the
    registry accepted it; False if it requires no login.
    """

    registry: str
    username: str
    place: str
    verified: bool


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """A removed login, and where it was stored; no places if there was none."""

    registry: str
    places: tuple[str, ...]
