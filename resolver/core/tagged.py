"""Tags: the names a repository has, as one answer."""

from __future__ import annotations

from resolver.values import dataclass


@dataclass(frozen=True, slots=True)
class Tags:
    """Tags of a repository, in the registry's order."""

    repository: str
    names: tuple[str, ...]
