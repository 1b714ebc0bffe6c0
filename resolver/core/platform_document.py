"""Places in a document that somebody wrote: what is expected there, and where it is not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from resolver.errors import InvalidConfiguration
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A name of ours: lower-case, no blanks.
NAME = re.compile(r"[a-z0-9_.-]{1,64}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Node:
    """One place in a document; errors name the file and the field, never the value."""

    place: str
    path: str
    value: object

    def fail(self, reason: str) -> NoReturn:
        """Refuse this place.

        Raises:
            InvalidConfiguration: always.

        """
        raise InvalidConfiguration(self.place, self.path, reason)

    def mapping(self) -> dict[str, Node]:
        """Read names and what stands under them; nothing there is an empty mapping."""
        if self.value in ("", None):
            return {}
        if not isinstance(self.value, dict):
            self.fail("a mapping is expected")
        inner = {str(key): value for key, value in self.value.items()}
        prefix = f"{self.path}." if self.path else ""
        return {key: Node(self.place, f"{prefix}{key}", value) for key, value in inner.items()}

    def fields(self, *known: str) -> dict[str, Node]:
        """Read a mapping whose names are fixed; others are refused, for they are misspelled."""
        inner = self.mapping()
        for key, node in inner.items():
            if key not in known:
                node.fail(f"this field is not known; there are {', '.join(known)}")
        return inner

    def items(self) -> Iterator[Node]:
        """Read a list."""
        if self.value in ("", None):
            return
        if not isinstance(self.value, list):
            self.fail("a list is expected")
        for position, value in enumerate(self.value):
            yield Node(self.place, f"{self.path}[{position}]", value)

    def text(self, pattern: re.Pattern[str] = NAME) -> str:
        """Read text of one shape."""
        if not isinstance(self.value, str) or not pattern.fullmatch(self.value):
            self.fail(f"text of the form `{pattern.pattern}` is expected")
        return self.value

    def number(self) -> int:
        """Read a whole number of up to six digits."""
        return int(self.text(_NUMBER))

    def names(self, pattern: re.Pattern[str] = NAME) -> tuple[str, ...]:
        """Read a list of text."""
        return tuple(node.text(pattern) for node in self.items())

    def pairs(
        self, keys: re.Pattern[str] = NAME, values: re.Pattern[str] = NAME
    ) -> tuple[tuple[str, str], ...]:
        """Read a mapping of text to text."""
        inner = self.mapping()
        for key, node in inner.items():
            if not keys.fullmatch(key):
                node.fail(f"a name of the form `{keys.pattern}` is expected")
        return tuple((key, node.text(values)) for key, node in inner.items())
