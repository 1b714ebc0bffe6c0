"""Marked values: a document that somebody wrote, with the line and column of everything in it.

What a reader of YAML or JSON finds, before anybody decides what it means. Scalars keep the text
they were written with, so `1.10` is never the number 1.1.
"""

from __future__ import annotations

import re
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, NoReturn

from resolver.errors import BadFile, InvalidConfiguration
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class ScalarKind(Enum):
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
class TomlScalar:
    """One word: as written between its quotes, and what YAML takes it for."""

    text: str
    kind: ScalarKind
    mark: Mark


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    values: tuple[Marked, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class Members:
    """A mapping; its names are text, each there once, in the order of the file."""

    values: tuple[tuple[TomlScalar, Marked], ...]
    mark: Mark


Marked = TomlScalar | Items | Members


@dataclass(frozen=True, slots=True)
class FieldReader:
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
        return isinstance(self.value, TomlScalar) and self.value.kind is ScalarKind.NOTHING

    def members(self) -> dict[str, FieldReader]:
        """Read a mapping, whatever its names."""
        if not isinstance(self.value, Members):
            self.fail("names with values are expected here (`name: value`)")
        prefix = f"{self.path}." if self.path else ""
        return {
            key.text: FieldReader(self.place, prefix + key.text, value, key.mark)
            for key, value in self.value.values
        }

    def fields(self, *known: str) -> dict[str, FieldReader]:
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
        here = replace(self, value=TomlScalar("", ScalarKind.NOTHING, self.name or self.value.mark))
        here.fail("there is no such field", hint or f"there are {listing}")

    def items(self) -> Iterator[FieldReader]:
        """Read a list."""
        if not isinstance(self.value, Items):
            self.fail("a list is expected here")
        for position, value in enumerate(self.value.values):
            yield FieldReader(self.place, f"{self.path}[{position}]", value)

    def text(self) -> str:
        """Read text; a number, a date or `true` without quotes is refused, for it may change.

        `tag: 1.10` without quotes is the number 1.1 to every other reader of the same file.
        """
        if not isinstance(self.value, TomlScalar):
            self.fail("text is expected here")
        if self.value.kind is ScalarKind.NOTHING:
            self.fail("text is expected here, and there is nothing")
        if self.value.kind is not ScalarKind.TEXT:
            said = self.value.kind.value
            self.fail(
                f"text is expected here, and without quotes this is {said}",
                'put it in quotes, as in `"1.10"`',
            )
        return self.value.text

    def truth(self) -> bool:
        """Read `true` or `false`, in these very letters."""
        value = self.value
        if (
            isinstance(value, TomlScalar)
            and value.kind is ScalarKind.TRUTH
            and value.text in _TRUTHS
        ):
            return value.text == "true"
        return self.fail("`true` or `false` is expected here")

    def whole(self) -> int:
        """Read a whole number of at most nine plain digits."""
        value = self.value
        if (
            not isinstance(value, TomlScalar)
            or value.kind is not ScalarKind.WHOLE
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
        case TomlScalar():
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


#: What `tomllib` says of the place of a fault.
_PLACE = re.compile(r"\(at (line [0-9]+, column [0-9]+|end of document)\)")


def parse_toml(body: bytes, path: str) -> ConfigTable:
    """Read TOML; values are never repeated in an error, they may be secrets.

    Raises:
        InvalidConfiguration: it is none; with line and column where they are known.

    """
    import tomllib  # noqa: PLC0415 - where there is a file

    try:
        content = tomllib.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidConfiguration(path, "", "it is not UTF-8") from error
    except RecursionError as error:
        raise InvalidConfiguration(path, "", "it is nested too deeply") from error
    except ValueError as error:
        place = _PLACE.search(str(error))
        raise InvalidConfiguration(path, place[1] if place else "", "it is no TOML") from error
    return ConfigTable(path, "", content)


@dataclass(frozen=True, slots=True)
class ConfigTable:
    """A table of a file, and where it stands."""

    path: str
    place: str
    content: Mapping[str, object]

    def fault(self, name: str, reason: str) -> InvalidConfiguration:
        """Make the error for what stands under a name."""
        return InvalidConfiguration(self.path, self.at(name), reason)

    def at(self, name: str) -> str:
        """Say where a name stands."""
        return f"{self.place}.{name}" if self.place else name

    def text(self, name: str, default: str = "") -> str:
        """Read a text."""
        value = self.content.get(name, default)
        if not isinstance(value, str):
            raise self.fault(name, "it must be a text")
        return value

    def flag(self, name: str) -> bool | None:
        """Read true or false; None when it is absent."""
        value = self.content.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.fault(name, "it must be true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Read a text, or a list of them."""
        value = self.content.get(name, [])
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values):
            raise self.fault(name, "it must be a text, or a list of texts")
        return tuple(values)

    def tables(self, name: str) -> Iterator[ConfigTable]:
        """Read a list of tables (`[[name]]`)."""
        value = self.content.get(name, [])
        if not isinstance(value, list):
            raise self.fault(name, "it must be a list of tables")
        for number, each in enumerate(value):
            if not isinstance(each, dict):
                raise self.fault(name, "it must be a list of tables")
            yield ConfigTable(self.path, f"{self.at(name)}[{number}]", each)

    def children(self, name: str) -> Iterator[tuple[str, ConfigTable]]:
        """Read the tables of a table (`[name."key"]`), in the order of the file."""
        value = self.content.get(name, {})
        if not isinstance(value, dict):
            raise self.fault(name, "it must be a table")
        for key, each in value.items():
            # Somebody may have written a password into a URL.
            shown = f"{name}.{'***' if '@' in key else key}"
            if not isinstance(each, dict):
                raise self.fault(shown, "it must be a table")
            yield key, ConfigTable(self.path, self.at(shown), each)
