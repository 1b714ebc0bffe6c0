"""Paths without the words that name an architecture, so that two platforms' files meet.

`usr/lib/x86_64-linux-gnu/libz.so` and `usr/lib/aarch64-linux-gnu/libz.so` are both
`usr/lib/{arch}/libz.so`. Only words for the platform's own architecture count: one for another is
a difference that people want to see.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resolver.core.platform import Platform, PlatformTable

#: What stands for the words of an architecture, and for its dynamic loader.
ARCHITECTURE, LOADER = "{arch}", "{loader}"


class PathWords:
    """Takes the words for one platform's architecture out of paths.

    Args:
        platform: whose; None takes nothing out.
        table: the words there are.
    """

    def __init__(self, platform: Platform | None, table: PlatformTable) -> None:
        self._words: re.Pattern[str] | None = None
        self._components: dict[str, str] = {}
        if platform is None or not platform.architecture:
            return
        chip = platform.normalized(table).architecture
        paths = table.facts.paths
        family = table.family(chip)
        words = {chip, *family.aliases, *dict(family.forced), *dict(paths.names).get(chip, ())}
        # Longest first: `x86_64-linux-gnu` before `x86_64`.
        listed = "|".join(re.escape(word) for word in sorted(words, key=lambda w: (-len(w), w)))
        self._words = re.compile(rf"(?<![A-Za-z0-9])(?:{listed})(?![A-Za-z0-9]|_64)", re.ASCII)
        self._components = dict.fromkeys(dict(paths.loaders).get(chip, ()), LOADER)
        self._components |= dict.fromkeys(dict(paths.libraries).get(chip, ()), "lib")

    def taken_out(self, path: str) -> str:
        """Give a path without them."""
        if self._words is None:
            return path
        if any(name in path for name in self._components):
            parts = path.split("/")
            path = "/".join(self._components.get(part, part) for part in parts)
        return self._words.sub(ARCHITECTURE, path)
