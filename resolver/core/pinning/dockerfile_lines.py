"""Reading a Dockerfile into instructions, each character with its place in the file.

Written after BuildKit's own parser, the one that builds go by.
Source: github.com/moby/buildkit v0.16, frontend/dockerfile/parser: parser.go and directives.go.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING

from resolver.core.pinning.dockerfile_heredoc import heredocs_of
from resolver.core.pinning.spots import Unparsable
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTIVE = re.compile(r"\s*#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*", re.ASCII)
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_FIRST = re.compile(r"[^\s]+", re.ASCII)
#: Directives that the parser knows; another one is a comment, and a comment ends them.
#: Source: docs.docker.com, "Dockerfile reference", "Parser directives".
_KNOWN = frozenset({"escape", "syntax", "check"})
#: What Go takes for white space. Source: pkg.go.dev/unicode, `IsSpace`.
_BLANKS = (
    " \t\v\f\r\n\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


@dataclass(frozen=True, slots=True)
class Word:
    """A stretch of an instruction, and the place of each of its characters in the file."""

    text: str
    offsets: array[int]

    def part(self, start: int, end: int) -> Word:
        """Give a part of it."""
        return Word(self.text[start:end], self.offsets[start:end])

    @property
    def span(self) -> tuple[int, int] | None:
        """Where it stands in the file; None if a line break is in its middle."""
        if not self.offsets or self.offsets[-1] - self.offsets[0] != len(self.offsets) - 1:
            return None
        return self.offsets[0], self.offsets[-1] + 1

    def stripped(self) -> Word:
        """Leave out white space at both ends."""
        begin = len(self.text) - len(self.text.lstrip(_BLANKS))
        return self.part(begin, max(begin, len(self.text.rstrip(_BLANKS))))

    def words(self) -> list[Word]:
        """Split at blanks."""
        return [self.part(*match.span()) for match in _FIRST.finditer(self.text)]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its lines joined.

    Attributes:
        name: in upper case.
        rest: what follows the name.
        start: where it begins in the file.
    """

    name: str
    rest: Word
    start: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """A Dockerfile: the reference after `# syntax=`, where there is one, and its instructions."""

    syntax: tuple[int, int] | None
    instructions: tuple[Instruction, ...]


@dataclass(slots=True)
class _Line:
    """A line of the file without its end, and where it begins."""

    start: int
    text: str
    number: int

    @property
    def is_comment(self) -> bool:
        return self.text.lstrip(_BLANKS).startswith("#")

    @property
    def is_blank(self) -> bool:
        return not self.text.strip(_BLANKS)


def read(text: str) -> Recipe:
    """Read the text of a Dockerfile.

    Raises:
        Unparsable: it has a directive twice or a wrong one, or a heredoc that nothing ends.
    """
    lines = [
        _Line(match.start(), match[0].rstrip("\r\n"), number)
        for number, match in enumerate(_LINE.finditer(text), 1)
    ]
    if lines and lines[0].text.startswith("\ufeff"):
        lines[0] = _Line(1, lines[0].text[1:], 1)
    escape, syntax = _directives(lines)
    return Recipe(syntax, tuple(_instructions(lines, escape)))


def _directives(lines: list[_Line]) -> tuple[str, tuple[int, int] | None]:
    """Read the comments at the top that are orders to the parser."""
    seen: set[str] = set()
    escape, syntax = "\\", None
    shebang = bool(lines) and lines[0].text.startswith("#!")
    for line in lines[1:] if shebang else lines:
        match = _DIRECTIVE.fullmatch(line.text)
        name = match[1].lower() if match is not None else ""
        if match is None or name not in _KNOWN:
            break
        if name in seen:
            raise Unparsable(f"the directive `# {name}=` stands there twice", line.number)
        seen.add(name)
        # A first line for the shell is a comment to the parser, which ends its directives; who
        # looks for the frontend passes over it.
        if name == "escape" and not shebang:
            if match[2] not in {"\\", "`"}:
                raise Unparsable(
                    "the directive `# escape=` takes a backslash or a backtick", line.number
                )
            escape = match[2]
        if name == "syntax":
            first = _FIRST.match(match[2])
            start = line.start + match.start(2)
            syntax = (start, start + len(first[0])) if first else None
    return escape, syntax


def _instructions(lines: list[_Line], escape: str) -> Iterator[Instruction]:
    mark = re.escape(escape)
    continued = re.compile(rf"(?:(.*[^{mark}])|)({mark})[ \t]*", re.DOTALL)
    rest = iter(lines)
    for line in rest:
        if line.is_comment or line.is_blank:
            continue
        start = line.start + len(line.text) - len(line.text.lstrip(_BLANKS))
        joined = _Joined(continued)
        if joined.add(line, start):
            for following in rest:
                if following.is_comment or following.is_blank:
                    continue
                if not joined.add(following, following.start):
                    break
        whole = joined.word()
        made = _instruction(whole, start)
        if made is None:
            continue
        yield made
        for heredoc in heredocs_of(made.name, made.rest.text, whole.text):
            if not any(heredoc.ends(end.text) for end in rest):
                raise Unparsable(f"nothing ends the heredoc `{heredoc.name}`", line.number)


class _Joined:
    """Lines that belong together, without the marks that say so."""

    def __init__(self, continued: re.Pattern[str]) -> None:
        self._continued = continued
        self._texts: list[str] = []
        self._offsets = array("L")

    def add(self, line: _Line, start: int) -> bool:
        """Add a line from an offset on; say whether another one follows."""
        own = line.text[start - line.start :]
        match = self._continued.fullmatch(own)
        if match is not None:
            own = match[1] or ""
        self._texts.append(own)
        self._offsets.extend(range(start, start + len(own)))
        return match is not None

    def word(self) -> Word:
        """Give all of it."""
        return Word("".join(self._texts), self._offsets)


def _instruction(whole: Word, start: int) -> Instruction | None:
    whole = whole.stripped()
    first = _FIRST.search(whole.text)
    if first is None:
        return None
    return Instruction(first[0].upper(), whole.part(first.end(), len(whole.text)), start)
