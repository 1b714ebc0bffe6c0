"""Marked values: a document that somebody wrote, with the line and column of everything in it.

What a reader of YAML or JSON finds, before anybody decides what it means. Scalars keep the text
they were written with, so `1.10` is never the number 1.1.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, NoReturn

from resolver.errors import BadFile
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kind(Enum):
    """What YAML takes a scalar for; the value is what a person calls it."""

    TEXT = "text"
    WHOLE = "a whole number"
    NUMBER = "a number"
    TRUTH = "true or false"
    NOTHING = "nothing"
    TIME = "a time"


@dataclass(frozen=True, slots=True)
class Mark:
    """Where something begins; both count from 1, the column in characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """One word: as written between its quotes, and what YAML takes it for."""

    text: str
    kind: Kind
    mark: Mark


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    values: tuple[Marked, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class Members:
    """A mapping; its names are text, each there once, in the order of the file."""

    values: tuple[tuple[Scalar, Marked], ...]
    mark: Mark


Marked = Scalar | Items | Members


@dataclass(frozen=True, slots=True)
class Spot:
    """One place in a document, and how to read what is expected there.

    Attributes:
        place: the file, for messages.
        path: names and positions from the top, as in `images[2].require[0]`; empty at the top.
        value: what stands there.
        name: where the name of a member stands; None for what has no name.

    Every reading method raises `BadFile` with file, line, column and path where the file says
    something else; none of them quotes a value, which may be a secret.
    """

    place: str
    path: str
    value: Marked
    name: Mark | None = None

    def fail(self, reason: str, *hints: str) -> NoReturn:
        """Refuse this place.

        Raises:
            BadFile: always.
        """
        mark = self.value.mark
        raise BadFile(self.place, (mark.line, mark.column), self.path, reason, *hints)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is written here: `name:` alone, or `null`."""
        return isinstance(self.value, Scalar) and self.value.kind is Kind.NOTHING

    def members(self) -> dict[str, Spot]:
        """Read a mapping, whatever its names."""
        if not isinstance(self.value, Members):
            self.fail("names with values are expected here (`name: value`)")
        prefix = f"{self.path}." if self.path else ""
        return {
            key.text: Spot(self.place, prefix + key.text, value, key.mark)
            for key, value in self.value.values
        }

    def fields(self, *known: str) -> dict[str, Spot]:
        """Read a mapping whose names are fixed; another one is refused, with the one meant."""
        inner = self.members()
        for key, spot in inner.items():
            if key not in known:
                spot.unknown(key, known)
        return inner

    def unknown(self, key: str, known: tuple[str, ...]) -> NoReturn:
        """Refuse a name that is none of those known; errors point at the name itself."""
        meant = similar(key, known)
        hint = f"did you mean `{meant}`?" if meant else ""
        listing = ", ".join(f"`{name}`" for name in known)
        here = replace(self, value=Scalar("", Kind.NOTHING, self.name or self.value.mark))
        here.fail("there is no such field", hint or f"there are {listing}")

    def items(self) -> Iterator[Spot]:
        """Read a list."""
        if not isinstance(self.value, Items):
            self.fail("a list is expected here")
        for position, value in enumerate(self.value.values):
            yield Spot(self.place, f"{self.path}[{position}]", value)

    def text(self) -> str:
        """Read text; a number, a date or `true` without quotes is refused, for it may change.

        `tag: 1.10` without quotes is the number 1.1 to every other reader of the same file.
        """
        if not isinstance(self.value, Scalar):
            self.fail("text is expected here")
        if self.value.kind is Kind.NOTHING:
            self.fail("text is expected here, and there is nothing")
        if self.value.kind is not Kind.TEXT:
            said = self.value.kind.value
            self.fail(
                f"text is expected here, and without quotes this is {said}",
                'put it in quotes, as in `"1.10"`',
            )
        return self.value.text

    def truth(self) -> bool:
        """Read `true` or `false`, in these very letters."""
        value = self.value
        if isinstance(value, Scalar) and value.kind is Kind.TRUTH and value.text in _TRUTHS:
            return value.text == "true"
        return self.fail("`true` or `false` is expected here")

    def whole(self) -> int:
        """Read a whole number of at most nine plain digits."""
        value = self.value
        if (
            not isinstance(value, Scalar)
            or value.kind is not Kind.WHOLE
            or not (value.text.isascii() and value.text.isdecimal())
            or len(value.text) > _DIGITS
        ):
            self.fail("a whole number is expected here")
        return int(value.text)


_TRUTHS = frozenset({"true", "false"})
_DIGITS = 9


def plain(value: Marked) -> object:
    """Forget the marks: text, lists and dictionaries, with every scalar as it was written."""
    match value:
        case Scalar():
            return value.text
        case Items():
            return [plain(item) for item in value.values]
        case Members():
            return {key.text: plain(member) for key, member in value.values}


def similar(word: str, known: tuple[str, ...]) -> str:
    """Find the known word that somebody may have meant; empty when none is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - for mistakes alone

    near = get_close_matches(word[:64].lower().replace("_", "-"), known, n=1)
    return near[0] if near else ""
