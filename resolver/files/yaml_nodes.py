"""Read YAML tolerantly, for files that other programs read: trees with source positions.

Anchors, tags of any name and duplicate keys are accepted; no objects are constructed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from resolver.core.parse.yaml_tree import Mapping, Node, Sequence, YamlScalar
from resolver.core.pin.edits import Unparsable
from resolver.errors import LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Iterator


#: Pieces of one file, and how deep they may nest. A thousand small pods have
#: some 33,000.
MAX_NODES = 500_000
MAX_TREE_DEPTH = 100


_BOM = "\ufeff"
#: libyaml, in every wheel of PyYAML, is some ten times as fast; both count characters alike.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_documents(text: str, *, loader: Any = _LOADER) -> tuple[Node, ...]:
    """Read all documents of a text.

    Raises:
        Unparsable: the text is not YAML.
        LimitExceeded: the text is too large or nested too deep.
    """
    # libyaml does not count a byte order mark, and the other one does: neither gets to see it.
    skipped = len(_BOM) if text.startswith(_BOM) else 0
    try:
        return tuple(_documents(yaml.parse(text[skipped:], Loader=loader), skipped))
    except yaml.YAMLError as error:
        raise _unparsable(error) from error


_SURROGATE = re.compile(r"((?<!\\)(?:\\\\)*)\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
#: What is not closed goes on to the end, so that no text is read twice.
_JSON_PIECE = re.compile(
    r'"(?:[^"\\\n]|\\.)*+"?|//[^\n]*|/\*(?:.*?\*/|.*)|\t',
    re.DOTALL,
)


def without_comments(text: str) -> str:
    """Blank out the comments of JSON, and tabs between its pieces; every place stays as it is.

    Halves of characters, which JSON has escapes for and YAML has not, are blanked out too.
    """

    def blank(match: re.Match[str]) -> str:
        words = match[0]
        if words.startswith('"'):
            return _SURROGATE.sub(r"\1      ", words) if "\\u" in words else words
        return re.sub(r"[^\r\n]", " ", words)

    return _JSON_PIECE.sub(blank, text)


def _unparsable(error: yaml.YAMLError) -> Unparsable:
    """Describe a YAML error on one line, with its position."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is malformed"
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    return Unparsable(f"it is not YAML: {problem}", line, column)


def _documents(events: Iterator[Any], skipped: int) -> Iterator[Node]:
    builder = _Builder(skipped)
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            builder.restart()
        elif isinstance(event, yaml.DocumentEndEvent):
            yield builder.root
        elif isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
            builder.take(event)


class _Open:
    """A collection whose end has not been read yet."""

    def __init__(self, event: Any) -> None:
        self.event = event
        self.children: list[Node] = []


class _Builder:
    """Puts the events of documents together, without recursion."""

    def __init__(self, skipped: int) -> None:
        self._skipped = skipped
        self._count = 0
        self.restart()

    def restart(self) -> None:
        """Begin a document; anchors do not reach beyond one."""
        self.root: Node = YamlScalar(0, 0, "")
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}

    def take(self, event: Any) -> None:
        """Take the next event."""
        self._count += 1
        if self._count > MAX_NODES:
            raise LimitExceeded("the YAML", MAX_NODES, self._count, "pieces")
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append(_Open(event))
            if len(self._open) > MAX_TREE_DEPTH:
                raise LimitExceeded("the YAML", MAX_TREE_DEPTH, len(self._open), "levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = self._open.pop()
            self._put(self._collection(closed), closed.event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._put(self._alias(event), None)
        else:
            self._put(self._scalar(event), event.anchor)

    def _put(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node

    def _alias(self, event: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            mark = event.start_mark
            reason = f"it is not YAML: there is no earlier anchor `{event.anchor}`"
            raise Unparsable(reason, mark.line + 1, mark.column + 1)
        return node

    def _scalar(self, event: Any) -> YamlScalar:
        start, end = event.start_mark.index + self._skipped, event.end_mark.index + self._skipped
        return YamlScalar(start, end, event.value, event.style or "", event.tag or "")

    def _collection(self, closed: _Open) -> Sequence | Mapping:
        event, children = closed.event, closed.children
        start, tag = event.start_mark.index + self._skipped, event.tag or ""
        if isinstance(event, yaml.SequenceStartEvent):
            return Sequence(start, tuple(children), tag)
        pairs = tuple(zip(children[::2], children[1::2], strict=True))
        return Mapping(start, pairs, tag, event.start_mark.column, bool(event.flow_style))
