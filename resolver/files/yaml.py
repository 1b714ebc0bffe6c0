"""Read YAML, and so JSON, into trees that know the position of every value.

`read` and `parse` are strict, for files that users write for us. They reject, with line and
column: tags, anchors, aliases, merge keys, duplicate keys, keys that are not text, several
documents, nesting deeper than 32, and files larger than 4 MiB. `read_documents` is tolerant, for
files of other programs that are edited in place. Neither builds anything but
`core.parse.yaml_tree` nodes, so that a file cannot create objects, run code or expand.

Source: docs/store-and-reliability.md, "Strict YAML".
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from resolver.core.parse.document import FieldReader
from resolver.core.parse.yaml_tree import Mapping, Node, ScalarKind, Sequence, YamlScalar, join
from resolver.errors import BadFile, FileLimit, LimitExceeded
from resolver.files.read import NotRegular, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pin.edits import Unparsable


#: Bytes of a strict file. Source: docs/store-and-reliability.md, "Strict YAML".
MAX_FILE = 4_194_304
#: Nesting of lists and mappings in one. Source: docs/store-and-reliability.md, "Strict YAML".
MAX_DEPTH = 32
#: Nodes of a file that is read tolerantly (a thousand small pods: 33,000), and their depth.
MAX_NODES = 500_000
MAX_TREE_DEPTH = 100

_BOM = "\ufeff"

_CONFLICT = re.compile(r"(?m)^(?:<{7}|>{7})(?: [^\n]*)?(?=\n|\Z)", re.ASCII)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
#: Numbers of YAML 1.2 and of JSON that PyYAML, which is YAML 1.1, takes for text.
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|0o[0-7]+")
_PAIR = re.compile("([\ud800-\udbff])([\udc00-\udfff])")
_SURROGATE = re.compile(r"((?<!\\)(?:\\\\)*)\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
#: What is not closed goes on to the end, so that no text is read twice.
_JSON_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*+"?|//[^\n]*|/\*(?:.*?\*/|.*)|\t', re.DOTALL)
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
    """Read a file strictly; `-` is standard input."""
    return parse(*read_content(path, limit), limit=limit)


def read_content(path: Path | str, limit: int) -> tuple[bytes, str]:
    """Read a file of the user, or standard input for `-`; return it with its name for messages."""
    place = "stdin" if str(path) == "-" else str(path)
    content = sys.stdin.buffer.read(limit + 1) if str(path) == "-" else _content(Path(path), limit)
    if len(content) > limit:
        raise FileLimit(place, (0, 0), "", f"it has more than {limit} bytes")
    return content, place


def parse(content: bytes, place: str, *, limit: int = MAX_FILE) -> FieldReader:
    """Read the content of a file strictly; an empty one is an empty scalar.

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
        raise BadFile(place, at, "", "it has characters that YAML does not allow")
    conflict = _CONFLICT.search(text)
    if conflict is not None:
        raise BadFile(
            place,
            _position(text, conflict.start()),
            "",
            "this file contains a merge conflict",
            "resolve it with git, and remove the lines of `<<<<<<<`, `=======` and `>>>>>>>`",
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


def _compose(text: str, place: str) -> Node:
    import yaml  # noqa: PLC0415 - 15 ms, only with a file to read

    try:
        return _one_document(yaml, text, place)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        # The library's own words may quote the file, and a file may hold a secret.
        raise BadFile(place, at, "", "it is not YAML") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise BadFile(place, (0, 0), "", "it is not YAML") from error


def _one_document(library: Any, text: str, place: str) -> Node:
    """Build the only document of a text; an empty text is a scalar of nothing."""
    builder = _StrictBuilder(library, place)
    documents = 0
    for event in library.parse(text, Loader=library.BaseLoader):
        if isinstance(event, library.DocumentStartEvent):
            documents += 1
            if documents > 1:
                builder.fail(event, "it is more than one document")
            if event.tags or event.version:
                builder.fail(event, "directives (`%YAML`, `%TAG`) are not supported")
        elif isinstance(event, library.NodeEvent | library.CollectionEndEvent):
            builder.take(event)
    return builder.root


def read_documents(text: str, *, loader: Any = None) -> tuple[Node, ...]:
    """Read all documents of a file that another program reads.

    Anchors, tags of any name and repeated keys are accepted; no object is made of them. `loader`
    is one of PyYAML's; libyaml's by default, which is some ten times as fast.

    Raises:
        Unparsable: not YAML.
        LimitExceeded: more than 500,000 nodes, or nested deeper than 100.
    """
    import yaml  # noqa: PLC0415 - 15 ms, only with a file to read

    # libyaml does not count a byte order mark and the other loader does: neither sees it.
    skipped = len(_BOM) if text.startswith(_BOM) else 0
    loader = loader or getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return tuple(_all_documents(yaml, yaml.parse(text[skipped:], Loader=loader), skipped))
    except yaml.YAMLError as error:
        raise _unparsable(error) from error


def _all_documents(library: Any, events: Iterator[Any], skipped: int) -> Iterator[Node]:
    builder = _Builder(library, skipped)
    for event in events:
        if isinstance(event, library.DocumentStartEvent):
            builder.restart()
        elif isinstance(event, library.DocumentEndEvent):
            yield builder.root
        elif isinstance(event, library.NodeEvent | library.CollectionEndEvent):
            builder.take(event)


def _unparsable(error: Any) -> Unparsable:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is malformed"
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    return _not_yaml(problem, line, column)


def _not_yaml(problem: str, line: int, column: int) -> Unparsable:
    from resolver.core.pin.edits import Unparsable  # noqa: PLC0415 - for faults only

    return Unparsable(f"it is not YAML: {problem}", line, column)


def without_comments(text: str) -> str:
    """Blank out the comments of JSON and tabs between its tokens; every offset stays the same.

    Halves of surrogate pairs, which JSON has escapes for and YAML has not, are blanked out too.
    """

    def blank(match: re.Match[str]) -> str:
        token = match[0]
        if token.startswith('"'):
            return _SURROGATE.sub(r"\1      ", token) if "\\u" in token else token
        return re.sub(r"[^\r\n]", " ", token)

    return _JSON_TOKEN.sub(blank, text)


class _Open:
    """A collection whose end has not been read yet."""

    def __init__(self, event: Any, *, is_mapping: bool) -> None:
        self.event = event
        self.is_mapping = is_mapping
        self.children: list[Node] = []
        self.names: set[str] = set()


class _Builder:
    """Builds the trees of documents from their events, without recursion."""

    def __init__(self, library: Any, skipped: int = 0) -> None:
        self._yaml = library
        self._skipped = skipped
        self._count = 0
        self.restart()

    def restart(self) -> None:
        """Begin a document; anchors do not reach beyond one."""
        self.root: Node = YamlScalar(0, 0, "", kind=ScalarKind.NOTHING)
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}

    def take(self, event: Any) -> None:
        self._check(event)
        if isinstance(event, self._yaml.CollectionStartEvent):
            is_mapping = isinstance(event, self._yaml.MappingStartEvent)
            self._open.append(_Open(event, is_mapping=is_mapping))
        elif isinstance(event, self._yaml.CollectionEndEvent):
            closed = self._open.pop()
            self._put(self._collection(closed), closed.event)
        elif isinstance(event, self._yaml.AliasEvent):
            self._put(self._alias(event), None)
        else:
            self._put(self._scalar(event), event)

    def _check(self, event: Any) -> None:
        self._count += 1
        if self._count > MAX_NODES:
            raise LimitExceeded("the YAML", MAX_NODES, self._count, "pieces")
        if isinstance(event, self._yaml.CollectionStartEvent) and len(self._open) >= MAX_TREE_DEPTH:
            raise LimitExceeded("the YAML", MAX_TREE_DEPTH, len(self._open) + 1, "levels")

    def _put(self, node: Node, event: Any) -> None:
        """Add a node to the collection that is open; `event` begins it, None for an alias."""
        if event is not None and event.anchor is not None:
            self._anchors[event.anchor] = node
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node

    def _alias(self, event: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            line, column = _position_of(event)
            problem = f"the anchor `{event.anchor}` is not defined before"
            raise _not_yaml(problem, line, column)
        return node

    def _scalar(self, event: Any) -> YamlScalar:
        start, end = event.start_mark.index + self._skipped, event.end_mark.index + self._skipped
        line, column = _position_of(event)
        return YamlScalar(
            start,
            end,
            self._text(event),
            event.style or "",
            event.tag or "",
            line,
            column,
            self._kind(event),
        )

    def _text(self, event: Any) -> str:
        text: str = event.value
        return text

    def _kind(self, _event: Any) -> ScalarKind | None:
        return None

    def _collection(self, closed: _Open) -> Sequence | Mapping:
        event, children = closed.event, closed.children
        start, tag = event.start_mark.index + self._skipped, event.tag or ""
        line, column = _position_of(event)
        if not closed.is_mapping:
            return Sequence(start, tuple(children), tag, line, column)
        pairs = tuple(zip(children[::2], children[1::2], strict=True))
        return Mapping(start, pairs, tag, line, column, is_flow=bool(event.flow_style))


class _StrictBuilder(_Builder):
    """Refuses what could be read in two ways; errors name the path, the line and the column."""

    def __init__(self, library: Any, place: str) -> None:
        super().__init__(library)
        self._place = place
        self._resolver: Any = library.resolver.Resolver()

    def fail(self, event: Any, reason: str, path: str = "") -> NoReturn:
        raise BadFile(self._place, _position_of(event), path, reason)

    def _limit(self, event: Any, reason: str) -> NoReturn:
        raise FileLimit(self._place, _position_of(event), self._path(), reason)

    def _path(self) -> str:
        """Return the path of the value that comes next; a key has the path of its mapping."""
        path = ""
        for opened in self._open:
            count = len(opened.children)
            if not opened.is_mapping:
                path = f"{path}[{count}]"
            elif count % 2 and isinstance(key := opened.children[-1], YamlScalar):
                path = join(path, key.value)
        return path

    def _check(self, event: Any) -> None:
        if isinstance(event, self._yaml.CollectionEndEvent):
            return
        if isinstance(event, self._yaml.AliasEvent):
            self._limit(event, "aliases are not supported")
        if event.anchor is not None:
            self._limit(event, "anchors (`&name`) are not supported")
        if event.tag is not None:
            self.fail(event, "tags (`!name`) are not supported", self._path())
        is_scalar = isinstance(event, self._yaml.ScalarEvent)
        if not is_scalar and len(self._open) >= MAX_DEPTH:
            self._limit(event, f"it is nested deeper than {MAX_DEPTH}")

    def _put(self, node: Node, event: Any) -> None:
        if self._open and self._open[-1].is_mapping and not len(self._open[-1].children) % 2:
            self._check_key(node, event)
        super()._put(node, event)

    def _check_key(self, node: Node, event: Any) -> None:
        path = self._path()
        if not isinstance(node, YamlScalar):
            self.fail(event, "a name is expected here, not a list or a mapping", path)
        if not node.value and not node.style:
            self.fail(event, "a name is missing before this `:`", path)
        if node.value == "<<" and not node.style:
            self.fail(event, "merge keys (`<<`) are not supported", path)
        names = self._open[-1].names
        if node.value in names:
            self.fail(event, "this key is defined twice", join(path, node.value))
        names.add(node.value)

    def _kind(self, event: Any) -> ScalarKind:
        """Return the YAML type of a scalar; a quoted one is always text."""
        if not event.implicit[0]:
            return ScalarKind.TEXT
        tag = self._resolver.resolve(self._yaml.ScalarNode, event.value, (True, False))
        kind = _KINDS.get(tag.removeprefix(_TAG), ScalarKind.TEXT)
        if kind is ScalarKind.TEXT and _NUMBER.fullmatch(event.value):
            return ScalarKind.NUMBER
        return kind

    def _text(self, event: Any) -> str:
        r"""Join the surrogate pair in `"\ud83d\ude00"`; a lone surrogate is not a character."""
        text: str = _PAIR.sub(
            lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), event.value
        )
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            self.fail(event, "this text has an unpaired surrogate", self._path())
        return text


def _position_of(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
