"""Reading the members of a JSON object as the types they must have, with paths in the errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.digest import Digest
from resolver.core.strict_json import child_path, kind_of
from resolver.errors import (
    BadDocument,
    InvalidDigest,
    UnsupportedAlgorithm,
    UnsupportedDocument,
)
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The largest size a descriptor may state. Source: OCI image-spec v1.1.1 descriptor.md (int64).
MAX_INTEGER = 2**63 - 1

#: What would end a header line, or a text of C; other controls are escaped where they are shown.
_LINE_ENDS = re.compile("[\0\r\n]")
_HASH_HINT = "push the image again with a tool that writes sha256 digests"


def integer(value: object, what: str, path: str) -> int:
    """Take a value as a whole number in 0..2^63-1.

    Raises:
        BadDocument: it is `1.0`, `true`, `"1"`, negative, or too large.
    """
    # `type(…) is`, not `isinstance`: in Python True is an int, in JSON it is not.
    if type(value) is not int:
        found = "a fraction" if isinstance(value, float) else kind_of(value)
        raise BadDocument(what, path, f"must be a whole number, not {found}")
    if not 0 <= value <= MAX_INTEGER:
        raise BadDocument(what, path, "must be in 0..2^63-1")
    return value


def text(value: object, what: str, path: str) -> str:
    """Take a value as text.

    Raises:
        BadDocument: it is none.
    """
    if not isinstance(value, str):
        raise BadDocument(what, path, f"must be a text, not {kind_of(value)}")
    return value


def digest(value: object, what: str, path: str) -> Digest:
    """Take a value as a digest.

    Raises:
        BadDocument: it is malformed.
        UnsupportedDocument: its algorithm cannot be verified here.
    """
    try:
        return Digest.parse(text(value, what, path))
    except UnsupportedAlgorithm as error:
        raise UnsupportedDocument(what, path, error.reason, _HASH_HINT) from error
    except InvalidDigest as error:
        raise BadDocument(what, path, f"not a digest: {error.reason}") from error


def any_digest(value: object, what: str, path: str) -> Digest:
    """Take a value as a digest of any algorithm, for content that may never be needed.

    Raises:
        BadDocument: it is malformed.
    """
    try:
        return Digest.read(text(value, what, path))
    except InvalidDigest as error:
        raise BadDocument(what, path, f"not a digest: {error.reason}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """The members of one JSON object; null and absent are the same.

    Attributes:
        what: the document, for messages: "the manifest of `ubuntu:24.04`".
        path: where this object stands in it; empty for the document itself.
    """

    what: str
    path: str
    members: Mapping[str, object]

    @classmethod
    def of(cls, value: object, what: str, path: str, known: frozenset[str]) -> Fields:
        """Take a value as an object whose `known` names are spelled right.

        Other names are free (R13). A case variant of a known name is not: Go reads `Layers` as
        `layers`, Python does not, and one digest must not mean two things.

        Raises:
            BadDocument: it is no object, or a known name is spelled in another case.
        """
        if not isinstance(value, dict):
            raise BadDocument(what, path, f"must be an object, not {kind_of(value)}")
        fields = cls(what, path, value)
        folded = {name.casefold(): name for name in known}
        for name in value:
            meant = folded.get(name.casefold())
            if meant is not None and meant != name:
                raise fields.bad(name, f"the name is spelled `{meant}`")
        return fields

    def bad(self, name: str, reason: str) -> BadDocument:
        """Make the error for one member."""
        return BadDocument(self.what, self.at(name), reason)

    def at(self, name: str) -> str:
        """Write where a member stands."""
        return child_path(self.path, name)

    def has(self, name: str) -> bool:
        """Whether a member is there and not null."""
        return self.members.get(name) is not None

    def required(self, name: str) -> object:
        """Give a member that must be there.

        Raises:
            BadDocument: it is not, or is null.
        """
        if name not in self.members:
            raise self.bad(name, "required, but missing")
        if not self.has(name):
            raise self.bad(name, "required, but null")
        return self.members[name]

    def text(self, name: str) -> str | None:
        """Give a member as text; None when absent."""
        return text(self.members[name], self.what, self.at(name)) if self.has(name) else None

    def required_text(self, name: str) -> str:
        """Give a member as text that must be there and say something."""
        value = text(self.required(name), self.what, self.at(name))
        if not value:
            raise self.bad(name, "must not be empty")
        return value

    def media_type(self, name: str) -> str | None:
        """Give a member as a media type, which has no CR, LF or NUL; None when absent.

        It goes into headers, and a line break would end one. Source: RFC 9110, 5.5.
        """
        value = self.text(name)
        found = _LINE_ENDS.search(value) if value is not None else None
        if found is not None:
            raise self.bad(name, f"must not hold the control character {found[0]!r}")
        return value

    def integer(self, name: str) -> int:
        """Give a required member as a whole number in 0..2^63-1."""
        return integer(self.required(name), self.what, self.at(name))

    def boolean(self, name: str) -> bool:
        """Give a member as a boolean; False when absent."""
        value = self.members.get(name)
        if value is None or isinstance(value, bool):
            return value is True
        raise self.bad(name, f"must be a boolean, not {kind_of(value)}")

    def digest(self, name: str) -> Digest:
        """Give a required member as a digest that can be verified."""
        return digest(self.required(name), self.what, self.at(name))

    def any_digest(self, name: str) -> Digest:
        """Give a required member as a digest of any algorithm."""
        return any_digest(self.required(name), self.what, self.at(name))

    def array(self, name: str) -> list[object]:
        """Give a member as an array; empty when absent."""
        value = self.members.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.bad(name, f"must be an array, not {kind_of(value)}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Give a member as an array of texts; empty when absent."""
        path = self.at(name)
        return tuple(
            text(value, self.what, f"{path}[{position}]")
            for position, value in enumerate(self.array(name))
        )

    def words(self, name: str) -> tuple[str, ...]:
        """Give a member that is a text, or an array of texts, as Docker reads commands.

        Source: moby api/types/strslice, `StrSlice.UnmarshalJSON`.
        """
        value = self.members.get(name)
        if not isinstance(value, str):
            return self.texts(name)
        return (value,) if value else ()

    def child(self, name: str, known: frozenset[str] = frozenset()) -> Fields | None:
        """Give a member as an object; None when absent."""
        if not self.has(name):
            return None
        return Fields.of(self.members[name], self.what, self.at(name), known)

    def children(self, name: str, known: frozenset[str]) -> tuple[Fields, ...]:
        """Give a member as an array of objects; empty when absent."""
        path = self.at(name)
        return tuple(
            Fields.of(value, self.what, f"{path}[{position}]", known)
            for position, value in enumerate(self.array(name))
        )

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """Give a member as an object of texts, as sorted pairs; empty when absent."""
        child = self.child(name)
        if child is None:
            return ()
        return tuple(
            (key, text(value, self.what, child.at(key)))
            for key, value in sorted(child.members.items())
        )

    def names(self, name: str) -> tuple[str, ...]:
        """Give the names in a member that is an object used as a set, sorted; empty when absent."""
        child = self.child(name)
        return () if child is None else tuple(sorted(child.members))
