"""Strict JSON: refuse whatever two programs could read differently.

`json.loads` alone takes duplicate names (the last wins here, the first elsewhere), `NaN`, UTF-16,
a byte order mark and lone surrogates, and fails with its own errors on depth and long numbers.
Messages name fields and never quote values: the same reader reads files that hold secrets.

Source: docs/store-and-reliability.md, "Strict JSON".
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections import Counter
from itertools import accumulate, count
from typing import TYPE_CHECKING

from resolver.core.oci.digest import Digest
from resolver.errors import (
    BadDocument,
    InvalidDigest,
    LimitExceeded,
    UnsupportedAlgorithm,
    UnsupportedDocument,
)
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


#: Arrays and objects inside each other, the outermost object included.
#: Source: docs/store-and-reliability.md, "Size limits".
MAX_NESTING = 64
#: Arrays and objects that `read_array` skips; they take some seconds.
MAX_SKIPPED = 1_000_000
#: Enough for 2^63-1; more is refused before `int()` parses it.
MAX_DIGITS = 19
#: Characters of a number with a fraction or an exponent; doubles need at most 25.
MAX_REAL = 128
#: Characters of a field name that an error repeats.
MAX_NAME = 64

# The closing quote is optional, so that an open string is taken whole and once: linear time.
_STRING = rb'"(?:[^"\\]++|\\.)*+"?'
_STRINGS = pattern(_STRING, re.DOTALL)
_MARKS = pattern(_STRING + rb"|[\[\]{},]", re.DOTALL)
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NOT_BRACKETS = bytes(set(range(256)) - set(_STEPS))
#: Lone surrogates come only from escapes: UTF-8 cannot spell them.
_HALF_ESCAPE = pattern(r"\\u[dD][89a-fA-F]")
_SURROGATE = pattern("[\ud800-\udfff]")


def read_object(body: bytes, what: str, *, any_number: bool = False) -> dict[str, object]:
    """Parse a JSON object of any size; the caller limits the bytes.

    Values are None, bool, int (at most 19 digits), finite float, str, list and dict. With
    `any_number` a number too large to represent is an infinite float instead of an error.

    Raises:
        BadDocument: not UTF-8, not JSON, not I-JSON, or not an object; `field` is the path where
            that is known.
        LimitExceeded: nested deeper than 64; names the top-level member.

    Source: RFC 8259 (JSON), RFC 7493 (I-JSON), OCI image-spec v1.1.1 considerations.md.
    """
    text = _decode(body, what)
    _check_nesting(body, what)
    value = _parse(text, what, _Hooks(any_number=any_number))
    if not isinstance(value, dict):
        raise BadDocument(what, "", f"the document must be an object, not {kind_of(value)}")
    return value


def read_array(body: bytes, name: str, what: str) -> Iterator[object]:
    """Iterate over the elements of one top-level array, with one element in memory.

    Other members are skipped; only their brackets, quotes and depth are checked. A missing or null
    member has no elements.

    Raises:
        BadDocument: as `read_object`, or the member is not an array, or repeated.
        LimitExceeded: nested deeper than 64, or more than 1,000,000 values to skip.
    """
    scanner = _Scanner(body, what)
    scanner.expect(b"{")
    is_read = False
    is_first = True
    while not scanner.passes(b"}"):
        if not is_first:
            scanner.expect(b",")
        is_first = False
        key = scanner.element(name)
        if not isinstance(key, str):
            raise scanner.fault()
        scanner.expect(b":")
        if key != name:
            scanner.skip()
            continue
        if is_read:
            raise BadDocument(what, name, f"duplicate name `{name}`")
        is_read = True
        if scanner.passes(b"["):
            yield from scanner.elements(name)
        elif (value := scanner.element(name)) is not None:
            raise BadDocument(what, name, f"must be an array, not {kind_of(value)}")
    scanner.end()


class _Scanner:
    """Walks through a document from left to right without keeping it."""

    _BLANK = pattern(rb"[ \t\r\n]*+")
    _SCALAR = pattern(rb'"(?:[^"\\]++|\\.)*+"|[^ \t\r\n\[\]{},:"]++', re.DOTALL)
    #: Nearly every element; needs no further check.
    _PLAIN = pattern(rb'"([ !#-\[\]-~]*+)"|null(?![^ \t\r\n\]},])')
    #: Everything up to the next bracket; strings whole.
    _BETWEEN = pattern(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)

    def __init__(self, body: bytes, what: str) -> None:
        self._body = body
        self._what = what
        self._at = 0
        self._skipped = 0

    def fault(self) -> BadDocument:
        return BadDocument(self._what, "", f"it is not JSON, or cut short, at byte {self._at}")

    def passes(self, mark: bytes) -> bool:
        self._at = self._next()
        if self._body.startswith(mark, self._at):
            self._at += len(mark)
            return True
        return False

    def expect(self, mark: bytes) -> None:
        if not self.passes(mark):
            raise self.fault()

    def elements(self, name: str) -> Iterator[object]:
        if self.passes(b"]"):
            return
        for position in count():
            yield self.element(f"{name}[{position}]")
            if self.passes(b"]"):
                return
            self.expect(b",")

    def element(self, path: str) -> object:
        """Read a scalar; an array or object is skipped and returned empty."""
        self._at = self._next()
        if plain := self._PLAIN.match(self._body, self._at):
            self._at = plain.end()
            return plain[1].decode("ascii") if plain[1] is not None else None
        if self._body.startswith((b"[", b"{"), self._at):
            is_array = self._body.startswith(b"[", self._at)
            self.skip()
            return [] if is_array else {}
        scalar = self._SCALAR.match(self._body, self._at)
        if scalar is None:
            raise self.fault()
        self._at = scalar.end()
        try:
            return read_object(b'{"":%b}' % scalar[0], self._what)[""]
        except BadDocument as error:
            raise BadDocument(self._what, path, error.reason) from None

    def skip(self) -> None:
        self._at = self._next()
        if not self._body.startswith((b"[", b"{"), self._at):
            self.element("")
            return
        open_brackets: list[int] = []
        while True:
            between = self._BETWEEN.match(self._body, self._at)
            at = between.end() if between is not None else self._at
            mark = self._body[at : at + 1]
            self._at = at
            if mark in {b"[", b"{"}:
                open_brackets.append(mark[0] + 2)
                self._skipped += 1
                if self._skipped > MAX_SKIPPED:
                    what = f"the arrays and objects of {self._what}"
                    raise LimitExceeded(what, MAX_SKIPPED, self._skipped, "values")
                if len(open_brackets) >= MAX_NESTING:
                    depth = f"its depth is more than {MAX_NESTING}"
                    raise LimitExceeded(
                        f"the nesting of {self._what}", MAX_NESTING, depth, "levels"
                    )
            elif not mark or not open_brackets or open_brackets.pop() != mark[0]:
                raise self.fault()
            self._at += 1
            if not open_brackets:
                return

    def end(self) -> None:
        if self._next() != len(self._body):
            raise BadDocument(
                self._what, "", f"there is data after the end of the document, at byte {self._at}"
            )

    def _next(self) -> int:
        blank = self._BLANK.match(self._body, self._at)
        return blank.end() if blank is not None else self._at


def kind_of(value: object) -> str:
    """Return the JSON type of a value with its article, for messages."""
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "a text", dict: "an object", list: "an array"}
    return names.get(type(value), "a number")


def child_path(path: str, name: str) -> str:
    """Return the path of a member, `manifests[3].platform.os`; long names are cut."""
    shown = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
    return f"{path}.{shown}" if path else shown


class _Refused:
    """A placeholder in the parsed tree for a value that is refused."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class _Doubled(dict[str, object]):
    """An object with a repeated name; `name` is one such name."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs)
        self.name = next(name for name, count in counts.items() if count > 1)


class _Hooks:
    """Hooks of `json.loads` that only mark values, since they do not know the path."""

    def __init__(self, *, any_number: bool) -> None:
        self.marked = False
        self._any_number = any_number

    def members(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        members = dict(pairs)
        if len(members) == len(pairs):
            return members
        self.marked = True
        return _Doubled(pairs)

    def integer(self, digits: str) -> object:
        if len(digits.removeprefix("-")) > MAX_DIGITS:
            if self._any_number:
                return math.copysign(math.inf, -1 if digits.startswith("-") else 1)
            return self._refuse(f"a number of more than {MAX_DIGITS} digits")
        return int(digits)

    def real(self, digits: str) -> object:
        if len(digits) > MAX_REAL and not self._any_number:
            return self._refuse(f"a number of more than {MAX_REAL} characters")
        number = float(digits)
        if self._any_number or math.isfinite(number):
            return number
        return self._refuse("a number that is too large")

    def constant(self, name: str) -> object:
        return self._refuse(f"`{name}` is not JSON")

    def _refuse(self, reason: str) -> _Refused:
        self.marked = True
        return _Refused(reason)


def _decode(body: bytes, what: str) -> str:
    if body.startswith(codecs.BOM_UTF8):
        raise BadDocument(what, "", "it starts with a byte order mark")
    if not body.strip():
        raise BadDocument(what, "", "the document is empty")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        offset = error.start
    # Raised here, not above: a chained UnicodeDecodeError carries the whole document.
    raise BadDocument(what, _member_at(body, offset), f"byte {offset} is not UTF-8")


def _check_nesting(body: bytes, what: str) -> None:
    brackets = _STRINGS.sub(b"", body).translate(None, _NOT_BRACKETS)
    deepest = max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)
    if deepest > MAX_NESTING:
        member = _member_at(body, len(body))
        where = f"the nesting of `{member}` in {what}" if member else f"the nesting of {what}"
        raise LimitExceeded(where, MAX_NESTING, f"its depth is {deepest}", "levels")


def _member_at(body: bytes, offset: int) -> str:
    """Return the top-level member at an offset, or where the nesting first exceeds the limit."""
    depth, member, expects_name = 0, b"", False
    for mark in _MARKS.finditer(body):
        if mark.start() > offset or depth > MAX_NESTING:
            break
        token = mark[0]
        depth += _STEPS.get(token[0], 0)
        if depth == 1 and token in (b"{", b","):
            expects_name = True
        elif expects_name and token.startswith(b'"'):
            member, expects_name = token[1:-1], False
    return child_path("", member.decode("utf-8", "replace"))


def _parse(text: str, what: str, hooks: _Hooks) -> object:
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=hooks.members,
            parse_int=hooks.integer,
            parse_float=hooks.real,
            parse_constant=hooks.constant,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        trailing = error.msg == "Extra data"
    else:
        if hooks.marked or _HALF_ESCAPE.search(text):
            _refuse_marked(value, what)
        return value
    # Raised here, not above: a chained JSONDecodeError carries the whole document.
    if trailing:
        raise BadDocument(what, "", f"there is data after the end of the document, at {where}")
    raise BadDocument(what, "", f"it is not JSON, or cut short, at {where}")


def _refuse_marked(value: object, what: str) -> None:
    for path, item in _walk(value, ""):
        if isinstance(item, _Refused):
            raise BadDocument(what, path, item.reason)
        if isinstance(item, _Doubled):
            name = child_path("", item.name)
            raise BadDocument(what, child_path(path, name), f"duplicate name `{name}`")
        if isinstance(item, str) and _SURROGATE.search(item):
            raise BadDocument(what, path, "an unpaired surrogate is not a character")


def _walk(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Iterate over all values and names with their path, parents first."""
    yield path, value
    if isinstance(value, dict):
        for name, member in value.items():
            yield path, name
            yield from _walk(member, child_path(path, name))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _walk(item, f"{path}[{position}]")


#: The largest size a descriptor may state. Source: OCI image-spec v1.1.1 descriptor.md (int64).
MAX_INTEGER = 2**63 - 1

#: Characters that end a header line or a C string; other controls are escaped when printed.
_LINE_ENDS = pattern("[\0\r\n]")
_HASH_HINT = "push the image again with a tool that writes sha256 digests"


def text(value: object, what: str, path: str) -> str:
    """Check that a value is text, and return it."""
    if not isinstance(value, str):
        raise BadDocument(what, path, f"must be a text, not {kind_of(value)}")
    return value


def digest(value: object, what: str, path: str) -> Digest:
    """Parse a value as a digest that can be verified."""
    try:
        return Digest.parse(text(value, what, path))
    except UnsupportedAlgorithm as error:
        raise UnsupportedDocument(what, path, error.reason, _HASH_HINT) from error
    except InvalidDigest as error:
        raise BadDocument(what, path, f"not a digest: {error.reason}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """The members of one JSON object; null and missing are the same.

    `what`: the document, for messages: "the manifest of `ubuntu:24.04`".
    """

    what: str
    path: str
    members: Mapping[str, object]

    @classmethod
    def of(cls, value: object, what: str, path: str, known: frozenset[str]) -> Fields:
        """Check that a value is an object that spells the `known` names correctly.

        Unknown names are accepted, but not a case variant of a known one: Go reads `Layers` as
        `layers`, Python does not, and one digest must not have two meanings.

        Source: docs/store-and-reliability.md, "Unknown members".
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
        """Return the error for one member."""
        return BadDocument(self.what, self.at(name), reason)

    def at(self, name: str) -> str:
        """Return the path of a member."""
        return child_path(self.path, name)

    def has(self, name: str) -> bool:
        """Whether a member is present and not null."""
        return self.members.get(name) is not None

    def required(self, name: str) -> object:
        """Return a member; raises `BadDocument` when it is missing or null."""
        if name not in self.members:
            raise self.bad(name, "required, but missing")
        if not self.has(name):
            raise self.bad(name, "required, but null")
        return self.members[name]

    def text(self, name: str) -> str | None:
        """Return a member as text; None when missing."""
        return text(self.members[name], self.what, self.at(name)) if self.has(name) else None

    def required_text(self, name: str) -> str:
        """Return a required member as text that is not empty."""
        value = text(self.required(name), self.what, self.at(name))
        if not value:
            raise self.bad(name, "must not be empty")
        return value

    def media_type(self, name: str) -> str | None:
        """Return a member as a media type, without CR, LF and NUL, since it goes into headers."""
        value = self.text(name)
        control = _LINE_ENDS.search(value) if value is not None else None
        if control is not None:
            raise self.bad(name, f"must not hold the control character {control[0]!r}")
        return value

    def integer(self, name: str) -> int:
        """Return a required member as a whole number in 0..2^63-1."""
        value = self.required(name)
        # `type(…) is`, not `isinstance`: in Python True is an int, in JSON it is not.
        if type(value) is not int:
            kind = "a fraction" if isinstance(value, float) else kind_of(value)
            raise self.bad(name, f"must be a whole number, not {kind}")
        if not 0 <= value <= MAX_INTEGER:
            raise self.bad(name, "must be in 0..2^63-1")
        return value

    def boolean(self, name: str) -> bool:
        """Return a member as a boolean; False when missing."""
        value = self.members.get(name)
        if value is None or isinstance(value, bool):
            return value is True
        raise self.bad(name, f"must be a boolean, not {kind_of(value)}")

    def digest(self, name: str) -> Digest:
        """Return a required member as a digest that can be verified."""
        return digest(self.required(name), self.what, self.at(name))

    def any_digest(self, name: str) -> Digest:
        """Return a required member as a digest of any algorithm."""
        try:
            return Digest.read(text(self.required(name), self.what, self.at(name)))
        except InvalidDigest as error:
            raise self.bad(name, f"not a digest: {error.reason}") from error

    def array(self, name: str) -> list[object]:
        """Return a member as an array; empty when missing."""
        value = self.members.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.bad(name, f"must be an array, not {kind_of(value)}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a member as an array of texts; empty when missing."""
        path = self.at(name)
        return tuple(
            text(value, self.what, f"{path}[{position}]")
            for position, value in enumerate(self.array(name))
        )

    def words(self, name: str) -> tuple[str, ...]:
        """Return a member that is text or an array of texts, like Docker's `StrSlice`."""
        value = self.members.get(name)
        if not isinstance(value, str):
            return self.texts(name)
        return (value,) if value else ()

    def child(self, name: str, known: frozenset[str] = frozenset()) -> Fields | None:
        """Return a member as an object; None when missing."""
        if not self.has(name):
            return None
        return Fields.of(self.members[name], self.what, self.at(name), known)

    def children(self, name: str, known: frozenset[str]) -> tuple[Fields, ...]:
        """Return a member as an array of objects; empty when missing."""
        path = self.at(name)
        return tuple(
            Fields.of(value, self.what, f"{path}[{position}]", known)
            for position, value in enumerate(self.array(name))
        )

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """Return a member that is an object of texts, as sorted pairs; empty when missing."""
        child = self.child(name)
        if child is None:
            return ()
        return tuple(
            (key, text(value, self.what, child.at(key)))
            for key, value in sorted(child.members.items())
        )

    def names(self, name: str) -> tuple[str, ...]:
        """Return the sorted names of a member that is an object; empty when missing."""
        child = self.child(name)
        return () if child is None else tuple(sorted(child.members))
