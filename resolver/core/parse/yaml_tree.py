"""Trees: what a YAML document says, and where each piece of it stands in the file.

Made by `resolver.files.yaml`; nothing in it is turned into an object. An alias is the very node
that its anchor names.
"""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True, eq=False)
class YamlScalar:
    """A value that is no collection.

    Attributes:
        start, end: its span in the file, with anchor, tag and quotes.
        value: what it says.
        style: `"`, `'`, `|` or `>`; empty for plain text.
    """

    start: int
    end: int
    value: str
    style: str = ""
    tag: str = ""

    @property
    def is_text(self) -> bool:
        """Whether it says something, and no tag of an application makes it another thing."""
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


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """Keys and values, in the order of the file; a key may stand twice, the last counts.

    Attributes:
        column: of its first key, from 0; what its keys are indented by.
        is_flow: whether it is written in braces.
    """

    start: int
    pairs: tuple[tuple[Node, Node], ...]
    tag: str = ""
    column: int = 0
    is_flow: bool = False

    def own(self, key: str) -> Node | None:
        """Give the value of a key that stands in this very mapping."""
        found = None
        for name, value in self.pairs:
            if isinstance(name, YamlScalar) and name.value == key:
                found = value
        return found

    def get(self, key: str) -> Node | None:
        """Give the value of a key, also one that is merged in from elsewhere."""
        return _get(self, key, set())

    def items(self) -> Iterator[tuple[str, Node]]:
        """Give the names and values that stand in this very mapping; merges left out."""
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
    """Follow keys down from a node; None where there is no such thing."""
    for key in keys:
        if not isinstance(node, Mapping):
            return None
        node = node.get(key)
    return node


def scalar_at(node: Node | None, *keys: str) -> YamlScalar | None:
    """Give the text that keys lead to, with its place; None where there is none."""
    found = at(node, *keys)
    return found if isinstance(found, YamlScalar) and found.is_text else None


def text_at(node: Node | None, *keys: str) -> str:
    """Give the text that keys lead to; empty where there is none."""
    found = scalar_at(node, *keys)
    return found.value if found is not None else ""


def entries(node: Node | None, *keys: str) -> Iterator[tuple[str, Node]]:
    """Give names and values of the mapping that keys lead to; nothing where there is none."""
    found = at(node, *keys)
    if isinstance(found, Mapping):
        yield from found.items()


def elements(node: Node | None, *keys: str) -> Iterator[tuple[int, Node]]:
    """Give positions, from 0, and elements of the list that keys lead to."""
    found = at(node, *keys)
    if isinstance(found, Sequence) and not found.tag.startswith(_FOREIGN):
        yield from enumerate(found.items)


def join(path: str, name: str) -> str:
    """Write the path of a key below another one."""
    return f"{path}.{name}" if path else name
