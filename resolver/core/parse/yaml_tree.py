"""Trees of documents: YAML, JSON and TOML values with their position in the file.

Built by `resolver.files.yaml` and `core.parse.document.parse_toml`. Scalars keep the text they are
written with, so `1.10` is never the number 1.1. An alias is the very node that its anchor names.
Lines and columns count from 1, offsets from 0, both in characters; a line of 0 is unknown.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

_MERGE = "<<"
#: How tags begin that are not YAML's own: `!reference`, `!override`.
_FOREIGN = "!"
#: The one of them that leaves a value what it is. Source: compose-spec, 13-merge.md.
_OVERRIDE = "!override"
#: What stands for nothing, as plain text.
NOTHING = frozenset({"", "~", "null", "Null", "NULL"})


class ScalarKind(Enum):
    """How YAML or TOML types a scalar; the value names the type in messages."""

    TEXT = "text"
    WHOLE = "a whole number"
    NUMBER = "a number"
    TRUTH = "true or false"
    NOTHING = "nothing"
    TIME = "a time"


@dataclass(frozen=True, slots=True, eq=False)
class YamlScalar:
    """A value that is no collection.

    Attributes:
        start, end: its span in the file, with anchor, tag and quotes.
        style: `"`, `'`, `|` or `>`; empty for plain text.
        kind: how it is typed; None from the tolerant reader, which types nothing.
    """

    start: int
    end: int
    value: str
    style: str = ""
    tag: str = ""
    line: int = 1
    column: int = 1
    kind: ScalarKind | None = None

    @property
    def is_text(self) -> bool:
        """Whether it is text, not empty, and no tag of an application changes its meaning."""
        is_other = self.tag.startswith(_FOREIGN) and self.tag != _OVERRIDE
        if is_other or not self.value:
            return False
        return self.style != "" or self.value not in NOTHING


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """A list."""

    start: int
    items: tuple[Node, ...]
    tag: str = ""
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """Keys and values in file order; of a repeated key, the last counts."""

    start: int
    pairs: tuple[tuple[Node, Node], ...]
    tag: str = ""
    line: int = 1
    column: int = 1
    is_flow: bool = False

    def own(self, key: str) -> Node | None:
        """Return the value of a key written in this mapping itself."""
        found = None
        for name, value in self.pairs:
            if isinstance(name, YamlScalar) and name.value == key:
                found = value
        return found

    def get(self, key: str) -> Node | None:
        """Return the value of a key, merged mappings included."""
        return _get(self, key, set())

    def items(self) -> Iterator[tuple[str, Node]]:
        """Iterate over the names and values written in this mapping itself; merges are left out."""
        for name, value in self.pairs:
            if isinstance(name, YamlScalar) and name.value != _MERGE:
                yield name.value, value


Node = YamlScalar | Sequence | Mapping


def _get(node: Node | None, key: str, seen: set[int]) -> Node | None:
    if not isinstance(node, Mapping) or id(node) in seen:
        return None
    seen.add(id(node))
    own = node.own(key)
    if own is not None:
        return own
    for name, value in node.pairs:
        if isinstance(name, YamlScalar) and name.value == _MERGE:
            for source in value.items if isinstance(value, Sequence) else (value,):
                found = _get(source, key, seen)
                if found is not None:
                    return found
    return None


def at(node: Node | None, *keys: str) -> Node | None:
    """Follow keys down from a node; None where a key is missing."""
    for key in keys:
        if not isinstance(node, Mapping):
            return None
        node = node.get(key)
    return node


def scalar_at(node: Node | None, *keys: str) -> YamlScalar | None:
    """Return the text that keys lead to, with its position; None where there is none."""
    found = at(node, *keys)
    return found if isinstance(found, YamlScalar) and found.is_text else None


def text_at(node: Node | None, *keys: str) -> str:
    """Return the text that keys lead to; empty where there is none."""
    found = scalar_at(node, *keys)
    return found.value if found is not None else ""


def entries(node: Node | None, *keys: str) -> Iterator[tuple[str, Node]]:
    """Iterate over the mapping that keys lead to; empty where there is none."""
    found = at(node, *keys)
    if isinstance(found, Mapping):
        yield from found.items()


def elements(node: Node | None, *keys: str) -> Iterator[tuple[int, Node]]:
    """Iterate over positions, from 0, and elements of the list that keys lead to."""
    found = at(node, *keys)
    if isinstance(found, Sequence) and not found.tag.startswith(_FOREIGN):
        yield from enumerate(found.items)


def join(path: str, name: str) -> str:
    """Return the path of a key below another one."""
    return f"{path}.{name}" if path else name
