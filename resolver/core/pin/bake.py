"""Find image references in bake files, and parse HCL, the language of most of them.

Only the structure of HCL is parsed: blocks, attributes, objects, lists and strings, with offsets.
Any other expression becomes the list of its strings, so that none is lost.
Source: docs.docker.com, "Bake file reference"; github.com/hashicorp/hcl, hclsyntax/spec.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.parse.yaml_tree import Mapping, Node, Sequence, YamlScalar
from resolver.core.pin.compose import build_inputs
from resolver.core.pin.edits import LineIndex, Unparsable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.pin.edits import Mark

#: The most levels of blocks and expressions.
MAX_DEPTH = 100
_TARGET = "target"
#: The tag of a list of an expression's strings.
_EXPRESSION = "!expression"
_BLANK = re.compile(r"(?:[ \t\r\ufeff]|/\*.*?\*/)+", re.DOTALL)
_COMMENT = re.compile(r"(?:#|//)[^\n]*")
#: Source: hclsyntax/spec.md, "Identifiers"; including other alphabets.
_NAME = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff-]*")
_HEREDOC = re.compile(r"<<(-?)([A-Za-z_][A-Za-z0-9_-]*)[ \t\r]*\n")
#: Tokens in a string: escapes, starts of expressions, quotes, braces, line breaks.
_PIECE = re.compile(r'\\.|\$\$\{|%%\{|\$\{|%\{|["{}\n]')
_OPEN, _CLOSE = {"{": "}", "[": "]", "(": ")"}, {"}", "]", ")"}


def find(text: str, document: Node) -> Iterator[Mark]:
    """Find the references in one document: contexts, arguments and Dockerfiles of targets."""
    if not isinstance(document, Mapping):
        return
    for kind, named in document.items():
        if kind == _TARGET and isinstance(named, Mapping):
            for name, target in named.items():
                yield from build_inputs(text, target, f"{_TARGET}.{name}")


def read_hcl(text: str) -> Node:
    """Parse an HCL document; a block is a mapping below its type and labels."""
    return _Reader(text).document()


class _Reader:
    """The HCL parser."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def document(self) -> Node:
        body = self._body("")
        if self._at < len(self._text):
            raise self._fault("a block is closed without being opened")
        return body

    def _body(self, end: str) -> Mapping:
        """Read attributes and blocks, up to the end of a block or of the file."""
        start = self._at
        pairs: list[tuple[Node, Node]] = []
        while True:
            self._skip(lines=True)
            if self._at >= len(self._text) or self._text[self._at] == "}":
                if end and not self._take(end):
                    raise self._fault("a block is not closed")
                return Mapping(start, tuple(pairs))
            pairs.append(self._member())

    def _member(self) -> tuple[Node, Node]:
        name = self._name()
        if name is None:
            raise self._fault("a name is expected here")
        self._skip()
        if self._take("="):
            value = self._expression(lines=False)
            self._skip()
            return name, value
        labels: list[YamlScalar] = []
        while not self._take("{"):
            label = self._name()
            if label is None:
                raise self._fault("`=` or `{` is expected here")
            labels.append(label)
            self._skip()
        with self:
            value = self._body("}")
        for label in reversed(labels):
            value = Mapping(label.start, ((label, value),))
        return name, value

    def _name(self) -> YamlScalar | None:
        match = _NAME.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
            return YamlScalar(match.start(), match.end(), match[0])
        return self._string()

    def _expression(self, *, lines: bool) -> Node:
        """Read a value; with `lines` it ends at a line break."""
        self._skip(lines=lines)
        start = self._at
        first: Node | None = None
        with self:
            if self._text.startswith(("{", "["), start):
                first = self._object() if self._text[start] == "{" else self._list()
                if first is None:
                    self._at = start
            else:
                first = self._string()
        self._skip(lines=lines)
        if first is not None and self._is_end(lines=lines):
            return first
        strings = [first] if first is not None else []
        strings += self._strings(lines=lines)
        return Sequence(start, tuple(strings), _EXPRESSION)

    def _object(self) -> Mapping | None:
        """Read `{key = value}`; None for a `for` expression."""
        start, pairs = self._at, list[tuple[Node, Node]]()
        self._at += 1
        while True:
            self._skip(lines=True)
            if self._take(","):
                continue
            if self._take("}"):
                return Mapping(start, tuple(pairs), is_flow=True)
            key = self._name()
            if key is None:
                return None
            self._skip(lines=True)
            if not (self._take("=") or self._take(":")):
                return None
            pairs.append((key, self._expression(lines=False)))

    def _list(self) -> Sequence | None:
        """Read `[value, …]`; None for a `for` expression."""
        start, items = self._at, list[Node]()
        self._at += 1
        while True:
            self._skip(lines=True)
            if self._take(","):
                continue
            if self._take("]"):
                return Sequence(start, tuple(items))
            name = _NAME.match(self._text, self._at)
            if self._at >= len(self._text) or (name is not None and name[0] == "for"):
                return None
            before = self._at
            items.append(self._expression(lines=True))
            if self._at == before:
                return None

    def _strings(self, *, lines: bool) -> Iterator[Node]:
        """Yield the strings up to the end of an expression."""
        closing: list[str] = []
        while self._at < len(self._text):
            self._skip(lines=lines or bool(closing))
            if not closing and self._is_end(lines=lines):
                return
            string = self._string()
            if string is not None:
                yield string
                continue
            if self._at >= len(self._text):
                break
            char = self._text[self._at]
            self._at += 1
            if char in _OPEN:
                closing.append(_OPEN[char])
            elif closing and char == closing[-1]:
                closing.pop()
            elif char in _CLOSE:
                self._at -= 1
                raise self._fault(f"`{char}` has no matching opening bracket")
        if closing:
            raise self._fault(f"`{closing[-1]}` is missing")

    def _string(self) -> YamlScalar | None:
        """Read a quoted string or a heredoc; its value is the text as written."""
        start = self._at
        if self._text.startswith('"', start):
            self._at = self._string_end(start)
            return YamlScalar(start, self._at, self._text[start + 1 : self._at - 1], '"')
        match = _HEREDOC.match(self._text, start)
        if match is None:
            return None
        end = re.compile(rf"^[ \t]*{re.escape(match[2])}[ \t\r]*(?=\n|\Z)", re.MULTILINE)
        closed = end.search(self._text, match.end())
        if closed is None:
            raise self._fault(f"the heredoc `{match[2]}` is not terminated")
        self._at = closed.end()
        body = self._text[match.end() : closed.start()].replace("\r\n", "\n")
        lines = body.split("\n")
        if match[1]:
            blank = min((len(x) - len(x.lstrip(" \t")) for x in lines if x.strip()), default=0)
            lines = [line[blank:] if line.strip() else "" for line in lines]
        return YamlScalar(start, self._at, "\n".join(lines), "|")

    def _string_end(self, start: int) -> int:
        """Find the end of a string, which may contain `${…}` with nested strings."""
        braces = [0]  # Open ones of each expression within; 0 for a string.
        for match in _PIECE.finditer(self._text, start + 1):
            piece = match[0]
            if braces[-1] == 0 and piece == '"':
                braces.pop()
                if not braces:
                    return match.end()
            elif braces[-1] == 0:
                if piece == "\n":
                    break
                braces += [1] if piece in {"${", "%{"} else []
            elif piece == '"':
                braces.append(0)
            else:
                braces[-1] += piece.endswith("{") - (piece == "}")
                if braces[-1] == 0:
                    braces.pop()
            if len(braces) > MAX_DEPTH:
                raise self._fault(f"it nests deeper than {MAX_DEPTH} levels")
        raise self._fault("a string is not closed")

    def _is_end(self, *, lines: bool) -> bool:
        if self._at >= len(self._text):
            return True
        char = self._text[self._at]
        return char in ",}])" or (not lines and char == "\n")

    def _skip(self, *, lines: bool = False) -> None:
        """Skip blanks and comments, and line breaks with `lines`."""
        while True:
            before = self._at
            for pattern in (_BLANK, _COMMENT):
                match = pattern.match(self._text, self._at)
                self._at = match.end() if match is not None else self._at
            while lines and self._text.startswith("\n", self._at):
                self._at += 1
            if self._at == before:
                return

    def _take(self, words: str) -> bool:
        if not self._text.startswith(words, self._at) or (
            words == "=" and self._text.startswith("==", self._at)
        ):
            return False
        self._at += len(words)
        return True

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fault(f"it nests deeper than {MAX_DEPTH} levels")

    def __exit__(self, *_caught: object) -> None:
        self._depth -= 1

    def _fault(self, reason: str) -> Unparsable:
        at = min(self._at, len(self._text))
        return Unparsable(f"it is not HCL: {reason}", *LineIndex(self._text).position(at))
