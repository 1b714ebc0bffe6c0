"""Read expected values at a place in a document: YAML, JSON that people write, and TOML."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from resolver.core.parse.yaml_tree import Mapping, ScalarKind, Sequence, YamlScalar, join
from resolver.errors import BadFile, InvalidConfiguration
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.parse.yaml_tree import Node

_TRUTHS = frozenset({"true", "false"})
_DIGITS = 9
#: A position in the messages of `tomllib`.
_POSITION = re.compile(r"\(at (line [0-9]+, column [0-9]+|end of document)\)")


@dataclass(frozen=True, slots=True)
class FieldReader:
    """A place in a document, with methods to read the expected type.

    Attributes:
        place: the file, for messages.
        path: names and positions from the top, as in `images[2].require[0]`; empty at the top.
        value: the node at this place.
        name: line and column of the name of a member; None for what has no name.

    Every reading method raises as `fail` when the value is another one. No message quotes a value,
    which may be a secret.
    """

    place: str
    path: str
    value: Node
    name: tuple[int, int] | None = None

    @property
    def position(self) -> tuple[int, int]:
        """Line and column of the value; 0 where the format does not give them (TOML)."""
        return self.value.line, self.value.column

    def fail(self, reason: str, *hints: str) -> NoReturn:
        """Refuse this place: `BadFile` with its position, or `InvalidConfiguration` in TOML."""
        if not self.value.line:
            raise InvalidConfiguration(self.place, self.path, reason)
        raise BadFile(self.place, self.position, self.path, reason, *hints)

    def fail_at(self, name: str, reason: str) -> NoReturn:
        """Refuse a member, whether it is there or missing; raises as `fail`."""
        member = self.member(name) or replace(self, path=join(self.path, name))
        member.fail(reason)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is written here: `name:` alone, or `null`."""
        return isinstance(self.value, YamlScalar) and self.value.kind is ScalarKind.NOTHING

    @property
    def is_text(self) -> bool:
        """Whether this is text, and would be to every other reader of the file."""
        return isinstance(self.value, YamlScalar) and self.value.kind is ScalarKind.TEXT

    @property
    def is_mapping(self) -> bool:
        """Whether this is a mapping."""
        return isinstance(self.value, Mapping)

    @property
    def is_list(self) -> bool:
        """Whether this is a list."""
        return isinstance(self.value, Sequence)

    def members(self) -> dict[str, FieldReader]:
        """Read a mapping, whatever its names."""
        if not isinstance(self.value, Mapping):
            self.fail("names with values are expected here (`name: value`)")
        return {
            key.value: FieldReader(
                self.place, join(self.path, key.value), value, (key.line, key.column)
            )
            for key, value in self.value.pairs
            if isinstance(key, YamlScalar)
        }

    def member(self, name: str) -> FieldReader | None:
        """Read one member of a mapping; None when it is missing."""
        return self.members().get(name)

    def fields(self, *known: str) -> dict[str, FieldReader]:
        """Read a mapping whose names are fixed; another one is refused, with the one meant."""
        inner = self.members()
        for key, member in inner.items():
            if key not in known:
                member.unknown(key, known)
        return inner

    def unknown(self, key: str, known: tuple[str, ...]) -> NoReturn:
        """Refuse a name that is not one of those known; errors point at the name itself."""
        meant = similar(key, known)
        hint = f"did you mean `{meant}`?" if meant else ""
        listing = ", ".join(f"`{name}`" for name in known)
        line, column = self.name or self.position
        here = replace(self, value=YamlScalar(0, 0, "", line=line, column=column))
        here.fail("unknown field", hint or f"known fields are {listing}")

    def items(self) -> Iterator[FieldReader]:
        """Read a list."""
        if not isinstance(self.value, Sequence):
            self.fail("a list is expected here")
        for position, value in enumerate(self.value.items):
            yield FieldReader(self.place, f"{self.path}[{position}]", value)

    def one_or_more(self) -> Iterator[FieldReader]:
        """Read a list, or a single value that needs no brackets."""
        if self.is_list:
            yield from self.items()
        else:
            yield self

    def text(self) -> str:
        """Read text; a number or `true` without quotes is refused: `1.10` is 1.1 to others."""
        if not isinstance(self.value, YamlScalar):
            self.fail("text is expected here")
        kind = self.value.kind
        if kind is ScalarKind.NOTHING:
            self.fail("text is expected here, but there is none")
        if kind is not None and kind is not ScalarKind.TEXT:
            self.fail(
                f"text is expected here, but without quotes this is {kind.value}",
                'put it in quotes, as in `"1.10"`',
            )
        return self.value.value

    def truth(self) -> bool:
        """Read `true` or `false`, in these very letters."""
        value = self.value
        if (
            isinstance(value, YamlScalar)
            and value.kind is ScalarKind.TRUTH
            and value.value in _TRUTHS
        ):
            return value.value == "true"
        return self.fail("`true` or `false` is expected here")

    def whole(self) -> int:
        """Read a whole number of at most nine plain digits."""
        value = self.value
        if (
            not isinstance(value, YamlScalar)
            or value.kind is not ScalarKind.WHOLE
            or not (value.value.isascii() and value.value.isdecimal())
            or len(value.value) > _DIGITS
        ):
            self.fail("a whole number is expected here")
        return int(value.value)

    def text_of(self, name: str) -> str:
        """Read a member as text; empty when it is missing."""
        member = self.member(name)
        return member.text() if member is not None else ""

    def truth_of(self, name: str) -> bool:
        """Read a member as `true` or `false`; False when it is missing."""
        member = self.member(name)
        return member is not None and member.truth()

    def texts_of(self, name: str) -> tuple[str, ...]:
        """Read a member as text or a list of texts; empty when it is missing."""
        member = self.member(name)
        if member is None:
            return ()
        items = tuple(member.one_or_more())
        if not all(item.is_text for item in items):
            member.fail("text, or a list of texts, is expected here")
        return tuple(item.text() for item in items)

    def tables_of(self, name: str) -> tuple[FieldReader, ...]:
        """Read a member as a list of mappings; empty when it is missing."""
        member = self.member(name)
        if member is None:
            return ()
        tables = tuple(member.items())
        if not all(table.is_mapping for table in tables):
            member.fail("a list of tables is expected here")
        return tables


def similar(word: str, known: tuple[str, ...]) -> str:
    """Return the known word nearest to a misspelled one; empty when none is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - for mistakes alone

    near = get_close_matches(word[:64].lower().replace("_", "-"), known, n=1)
    return near[0] if near else ""


def parse_toml(body: bytes, path: str) -> FieldReader:
    """Read TOML, or raise `InvalidConfiguration` without repeating a value, which may be secret."""
    import tomllib  # noqa: PLC0415 - where there is a file

    try:
        return FieldReader(path, "", _toml_node(tomllib.loads(body.decode("utf-8"))))
    except UnicodeDecodeError as error:
        raise InvalidConfiguration(path, "", "it is not UTF-8") from error
    except RecursionError as error:
        raise InvalidConfiguration(path, "", "it is nested too deeply") from error
    except ValueError as error:
        position = _POSITION.search(str(error))
        where = position[1] if position else ""
        raise InvalidConfiguration(path, where, "it is not TOML") from error


def _toml_node(value: object) -> Node:
    match value:
        case dict():
            pairs = tuple((_toml_node(key), _toml_node(member)) for key, member in value.items())
            return Mapping(0, pairs, line=0)
        case list():
            return Sequence(0, tuple(_toml_node(item) for item in value), line=0)
        case bool():
            return YamlScalar(0, 0, str(value).lower(), line=0, kind=ScalarKind.TRUTH)
        case _:
            kind = _TOML_KINDS.get(type(value), ScalarKind.TIME)
            return YamlScalar(0, 0, str(value), line=0, kind=kind)


_TOML_KINDS = {str: ScalarKind.TEXT, int: ScalarKind.WHOLE, float: ScalarKind.NUMBER}
