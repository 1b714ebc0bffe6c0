"""Logins: what came of keeping one, or of forgetting it."""

from __future__ import annotations

from resolver.values import dataclass


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
