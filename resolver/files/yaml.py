"""Read YAML, and so JSON, strictly: user-written files made of text, lists and mappings only.

Rejected, with line and column: tags, anchors, aliases, merge keys, duplicate keys, keys that are
not text, several documents, nesting deeper than 32, and files larger than 4 MiB. Only
`core.parse.document` values are built, so that a file cannot create objects, run code or expand
beyond its own size.

Source: docs/store-and-reliability.md, "Strict YAML".
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from resolver.core.parse.document import (
    FieldReader,
    Items,
    Mark,
    Marked,
    Members,
    ScalarKind,
    TomlScalar,
)
from resolver.errors import BadFile, FileLimit
from resolver.files.read import NotRegular, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    import yaml


#: Bytes of a file. Source: docs/store-and-reliability.md, "Strict YAML".
MAX_FILE = 4_194_304
#: Nesting of lists and mappings. Source: docs/store-and-reliability.md, "Strict YAML".
MAX_DEPTH = 32

_CONFLICT = re.compile(r"(?m)^(?:<{7}|>{7})(?: [^\n]*)?(?=\n|\Z)", re.ASCII)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
#: Numbers of YAML 1.2 and of JSON that PyYAML, which is YAML 1.1, takes for text.
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|0o[0-7]+")
_PAIR = re.compile("([\ud800-\udbff])([\udc00-\udfff])")
_TAG = "tag:yaml.org,2002:"
_KINDS = {
    "str": ScalarKind.TEXT,
    "int": ScalarKind.WHOLE,
    "float": ScalarKind.NUMBER,
    "bool": ScalarKind.TRUTH,
    "null": ScalarKind.NOTHING,
    "timestamp": ScalarKind.TIME,
}


def read(path: Path | str, *, limit: int = MAX_FILE) -> FieldReader:
    """Read a file; `-` is standard input.

    Args:
        path: a regular file.
        limit: bytes.

    Raises:
        BadFile: the file cannot be read, or is not valid strict YAML; the error has the position.
        FileLimit: larger than `limit`, or deeper than 32.
    """
    place = str(path)
    content = sys.stdin.buffer.read(limit + 1) if place == "-" else _content(Path(path), limit)
    return parse(content, "stdin" if place == "-" else place, limit=limit)


def parse(content: bytes, place: str, *, limit: int = MAX_FILE) -> FieldReader:
    """Read the content of a file; an empty one is an empty scalar.

    Args:
        content: UTF-8, with or without a byte order mark.
        place: the file's name, for messages.
        limit: bytes.

    Raises:
        BadFile: the content is not valid strict YAML; the error has the position.
        FileLimit: larger than `limit`, or deeper than 32; or it has anchors or aliases, which could
            make a small file huge.
    """
    if len(content) > limit:
        raise FileLimit(place, (0, 0), "", f"it has more than {limit} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(place, (0, 0), "", "it is not UTF-8") from error
    strange = _CONTROL.search(text)
    if strange is not None:
        at = _position(text, strange.start())
        raise BadFile(place, at, "", "it has characters that YAML does not have")
    conflict = _CONFLICT.search(text)
    if conflict is not None:
        raise BadFile(
            place,
            _position(text, conflict.start()),
            "",
            "a merge conflict is left in this file",
            "settle it with git, and remove the lines of `<<<<<<<`, `=======` and `>>>>>>>`",
        )
    if text.lstrip()[:1] in {"{", "["}:
        # JSON may be indented by tabs, which YAML does not allow; no text of JSON has a line break.
        text = re.sub(r"(?m)^[ \t]+", lambda blank: " " * len(blank[0]), text)
    return FieldReader(place, "", _compose(text, place))


def _content(path: Path, limit: int) -> bytes:
    place = str(path)
    try:
        return read_regular(path, limit)[0]
    except (NotRegular, IsADirectoryError) as error:
        raise BadFile(place, (0, 0), "", "it is not a regular file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name cannot be used"
        raise BadFile(place, (0, 0), "", f"it cannot be read: {reason}") from error


def _position(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _compose(text: str, place: str) -> Marked:
    import yaml  # noqa: PLC0415 - 15 ms, only with a file to read

    try:
        return _Composer(yaml, text, place).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        # The library's own words may quote the file, and a file may hold a secret.
        raise BadFile(place, at, "", "it is not YAML") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise BadFile(place, (0, 0), "", "it is not YAML") from error


class _Composer:
    """Turns the events of one document into marked values."""

    def __init__(self, library: Any, text: str, place: str) -> None:
        self._yaml = library
        self._resolver: Any = library.resolver.Resolver()
        self._events: Iterator[yaml.Event] = library.parse(text, Loader=library.BaseLoader)
        self._place = place

    def document(self) -> Marked:
        """Read the one document there is."""
        next(self._events)  # the start of the stream
        event: Any = next(self._events)
        if isinstance(event, self._yaml.StreamEndEvent):
            return TomlScalar("", ScalarKind.NOTHING, Mark(1, 1))
        if event.tags or event.version:
            self._fail(event, "directives (`%YAML`, `%TAG`) are not supported")
        value = self._value(next(self._events), "", 0)
        next(self._events)  # the end of the document
        event = next(self._events)
        if not isinstance(event, self._yaml.StreamEndEvent):
            self._fail(event, "it is more than one document")
        return value

    def _value(self, event: Any, path: str, depth: int) -> Marked:
        """Read one value, from its first event to its last."""
        if isinstance(event, self._yaml.AliasEvent):
            self._limit(event, "aliases are not supported", path)
        if event.anchor is not None:
            self._limit(event, "anchors (`&name`) are not supported", path)
        if event.tag is not None:
            self._fail(event, "tags (`!name`) are not supported", path)
        mark = _mark(event)
        if isinstance(event, self._yaml.ScalarEvent):
            return TomlScalar(self._whole_text(event, path), self._kind(event), mark)
        if depth >= MAX_DEPTH:
            self._limit(event, f"it is nested deeper than {MAX_DEPTH}", path)
        if isinstance(event, self._yaml.SequenceStartEvent):
            return Items(tuple(self._items(path, depth + 1)), mark)
        return Members(tuple(self._members(path, depth + 1)), mark)

    def _items(self, path: str, depth: int) -> Iterator[Marked]:
        position = 0
        while not isinstance(event := next(self._events), self._yaml.SequenceEndEvent):
            yield self._value(event, f"{path}[{position}]", depth)
            position += 1

    def _members(self, path: str, depth: int) -> Iterator[tuple[TomlScalar, Marked]]:
        seen: set[str] = set()
        event: Any
        while not isinstance(event := next(self._events), self._yaml.MappingEndEvent):
            key = self._value(event, path, depth)
            if not isinstance(key, TomlScalar):
                self._fail(event, "a name is expected here, not a list or a mapping", path)
            if not key.text and not event.style:
                self._fail(event, "a name is missing before this `:`", path)
            inner = f"{path}.{key.text}" if path else key.text
            if key.text == "<<" and not event.style:
                self._fail(event, "merge keys (`<<`) are not supported", path)
            if key.text in seen:
                self._fail(event, "this key is defined twice", inner)
            seen.add(key.text)
            yield key, self._value(next(self._events), inner, depth)

    def _kind(self, event: Any) -> ScalarKind:
        """Return the YAML type of a scalar; a quoted one is always text."""
        if not event.implicit[0]:
            return ScalarKind.TEXT
        tag = self._resolver.resolve(self._yaml.ScalarNode, event.value, (True, False))
        kind = _KINDS.get(tag.removeprefix(_TAG), ScalarKind.TEXT)
        if kind is ScalarKind.TEXT and _NUMBER.fullmatch(event.value):
            return ScalarKind.NUMBER
        return kind

    def _whole_text(self, event: Any, path: str) -> str:
        r"""Join the surrogate pair in `"\ud83d\ude00"`; a lone surrogate is not a character."""
        text: str = _PAIR.sub(
            lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), event.value
        )
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            self._fail(event, "this text has half of a character", path)
        return text

    def _fail(self, event: Any, reason: str, path: str = "") -> NoReturn:
        mark = _mark(event)
        raise BadFile(self._place, (mark.line, mark.column), path, reason)

    def _limit(self, event: Any, reason: str, path: str) -> NoReturn:
        mark = _mark(event)
        raise FileLimit(self._place, (mark.line, mark.column), path, reason)


def _mark(event: Any) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)
