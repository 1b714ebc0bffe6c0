"""Find image references in a Dockerfile or Containerfile.

They follow `FROM`, `COPY --from=`, `RUN --mount=…,from=` and `# syntax=`, or are the default of an
`ARG` that is the whole argument of a `FROM`. Names and numbers of stages are not images.
"""

from __future__ import annotations

import json
import re
from array import array
from dataclasses import field, replace
from typing import TYPE_CHECKING

from resolver.core.pin.edits import FoundReferences, ImageSpot, Stray, Unparsable, found, inline
from resolver.core.pin.likeness import likeness, unknown
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    Marks = Iterator[ImageSpot | Stray]


_HEREDOC = re.compile(r"([0-9]*)<<(-?)([^<]+)")
#: Instructions that take heredocs, and the one that holds another instruction.
_TAKE = frozenset({"ADD", "COPY", "RUN"})
_HOLD = "ONBUILD"


@dataclass(frozen=True, slots=True)
class Heredoc:
    """One heredoc: the word that ends it, and whether tabs may precede that."""

    name: str
    chomp: bool

    def ends(self, line: str) -> bool:
        """Whether this line is its end."""
        return (line.lstrip("\t") if self.chomp else line) == self.name


def heredocs_of(name: str, rest: str, whole: str) -> list[Heredoc]:
    """List the heredocs that an instruction opens, in order."""
    if name == _HOLD:
        name, _, rest = rest.strip().partition(" ")
        name = name.upper()
    if name not in _TAKE or "<<" not in whole or _is_json(rest):
        return []
    found = []
    for word in shell_words(whole) or ():
        match = _HEREDOC.fullmatch(word)
        if match is None:
            continue
        ended = shell_words(match[3])
        if ended is None or len(ended) != 1:
            continue
        found.append(Heredoc(unquoted(ended[0]), match[2] == "-"))
    return found


def _is_json(rest: str) -> bool:
    """Whether the arguments are in exec form, which no shell reads."""
    text = rest.strip()
    if not text.startswith("["):
        return False
    try:
        words, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return all(isinstance(word, str) for word in words)


def shell_words(text: str) -> list[str] | None:
    """Split at unquoted blanks, keeping quotes and escapes; None for an unclosed quote."""
    words: list[str] = []
    word, quote = "", ""
    characters = iter(text)
    for character in characters:
        if character == "\\" and quote != "'":
            word += character + next(characters, "")
        elif quote:
            word += character
            quote = "" if character == quote else quote
        elif character in "\"'":
            word += character
            quote = character
        elif character in " \t\v\f\r\n":
            words += [word] if word else []
            word = ""
        else:
            word += character
    if quote:
        return None
    return [*words, word] if word else words


def unquoted(word: str) -> str:
    """Remove quotes and escapes, as a shell does."""
    text, quote = "", ""
    characters = iter(word)
    for character in characters:
        if character == "\\" and quote != "'":
            text += next(characters, "")
        elif character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        else:
            text += character
    return text


_DIRECTIVE = re.compile(r"\s*#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*", re.ASCII)
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_FIRST = re.compile(r"[^\s]+", re.ASCII)
#: Parser directives; any other one is a comment, which ends them.
#: Source: docs.docker.com, "Dockerfile reference", "Parser directives".
_KNOWN = frozenset({"escape", "syntax", "check"})
#: White space in Go. Source: pkg.go.dev/unicode, `IsSpace`.
_BLANKS = (
    " \t\v\f\r\n\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


@dataclass(frozen=True, slots=True)
class Word:
    """A part of an instruction, with the offset of each character in the file."""

    text: str
    offsets: array[int]

    def part(self, start: int, end: int) -> Word:
        """Return a part of it."""
        return Word(self.text[start:end], self.offsets[start:end])

    @property
    def span(self) -> tuple[int, int] | None:
        """Its span in the file; None if it contains a line break."""
        if not self.offsets or self.offsets[-1] - self.offsets[0] != len(self.offsets) - 1:
            return None
        return self.offsets[0], self.offsets[-1] + 1

    def stripped(self) -> Word:
        """Strip white space."""
        begin = len(self.text) - len(self.text.lstrip(_BLANKS))
        return self.part(begin, max(begin, len(self.text.rstrip(_BLANKS))))

    def words(self) -> list[Word]:
        """Split at blanks."""
        return [self.part(*match.span()) for match in _FIRST.finditer(self.text)]


@dataclass(frozen=True, slots=True)
class DockerfileInstruction:
    """One instruction, its lines joined.

    `name`: in upper case. `rest`: the text after the name. `start`: its offset in the file.
    """

    name: str
    rest: Word
    start: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """A Dockerfile: an optional reference of `# syntax=`, and the instructions."""

    syntax: tuple[int, int] | None
    instructions: tuple[DockerfileInstruction, ...]


@dataclass(slots=True)
class _Line:
    """A line of the file without its line break, and its offset."""

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
    """Parse a Dockerfile."""
    lines = [
        _Line(match.start(), match[0].rstrip("\r\n"), number)
        for number, match in enumerate(_LINE.finditer(text), 1)
    ]
    if lines and lines[0].text.startswith("\ufeff"):
        lines[0] = _Line(1, lines[0].text[1:], 1)
    escape, syntax = _directives(lines)
    return Recipe(syntax, tuple(_instructions(lines, escape)))


def _directives(lines: list[_Line]) -> tuple[str, tuple[int, int] | None]:
    seen: set[str] = set()
    escape, syntax = "\\", None
    shebang = bool(lines) and lines[0].text.startswith("#!")
    for line in lines[1:] if shebang else lines:
        match = _DIRECTIVE.fullmatch(line.text)
        name = match[1].lower() if match is not None else ""
        if match is None or name not in _KNOWN:
            break
        if name in seen:
            raise Unparsable(f"the directive `# {name}=` is set twice", line.number)
        seen.add(name)
        # A `#!` line is a comment to the parser, which ends its directives; the search for the
        # frontend skips it.
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


def _instructions(lines: list[_Line], escape: str) -> Iterator[DockerfileInstruction]:
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
        made = _logical_line(whole, start)
        if made is None:
            continue
        yield made
        for heredoc in heredocs_of(made.name, made.rest.text, whole.text):
            if not any(heredoc.ends(end.text) for end in rest):
                raise Unparsable(f"the heredoc `{heredoc.name}` is not terminated", line.number)


class _Joined:
    """Continued lines, joined without continuation characters."""

    def __init__(self, continued: re.Pattern[str]) -> None:
        self._continued = continued
        self._texts: list[str] = []
        self._offsets = array("L")

    def add(self, line: _Line, start: int) -> bool:
        """Add a line from an offset; return whether another one follows."""
        own = line.text[start - line.start :]
        match = self._continued.fullmatch(own)
        if match is not None:
            own = match[1] or ""
        self._texts.append(own)
        self._offsets.extend(range(start, start + len(own)))
        return match is not None

    def word(self) -> Word:
        return Word("".join(self._texts), self._offsets)


def _logical_line(whole: Word, start: int) -> DockerfileInstruction | None:
    whole = whole.stripped()
    first = _FIRST.search(whole.text)
    if first is None:
        return None
    return DockerfileInstruction(first[0].upper(), whole.part(first.end(), len(whole.text)), start)


_SCRATCH = "scratch"
#: A word of flags or arguments, including quoted blanks.
_WORD = re.compile(r"""(?:"(?:[^"\\]|\\.)*+"|'[^']*+'|\\.|[^\s])++""", re.DOTALL | re.ASCII)
_FLAG = re.compile(r"--([a-z][a-z0-9-]*)(?:=(.*))?", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_ANY_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_ARGUMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:=(.*))?", re.DOTALL)
_NUMBER = re.compile(r"[0-9]+")
#: Source: github.com/moby/buildkit v0.16, instructions/parse.go, `validStageName`.
_STAGE = re.compile(r"[a-z][a-z0-9_.-]*")
_MIXED = (
    "its name is composed of arguments",
    "give one `ARG` the whole reference, `ARG BASE=ubuntu:24.04`, and write `FROM ${BASE}`",
)


@dataclass(slots=True)
class _Scope:
    """Arguments and stages of a Dockerfile.

    Attributes:
        arguments: defaults of arguments before the first `FROM`; None for one without.
        inner: names of arguments that a stage uses.
        parts: names of arguments that are part of a longer word.
        stages: names of all stages; such a name is an image only in a `FROM` before the stage.
    """

    arguments: dict[str, list[Word | None]] = field(default_factory=dict)
    inner: set[str] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)
    stages: set[str] = field(default_factory=set)


def find(text: str) -> FoundReferences:
    """Find the references in a Dockerfile."""
    recipe = read(text)
    scope = _survey(recipe.instructions)
    marks: list[ImageSpot | Stray] = []
    if recipe.syntax is not None:
        marks.append(inline(text, *recipe.syntax, "# syntax"))
    seen: set[str] = set()
    for instruction in recipe.instructions:
        marks.extend(_instruction(text, instruction, scope, seen))
    starts = {mark.start for mark in marks}
    for instruction in recipe.instructions:
        marks.extend(mark for mark in _settings(instruction) if mark.start not in starts)
    return found(text, marks)


def _settings(instruction: DockerfileInstruction) -> Marks:
    """Report arguments and variables that look like an image and are not used by a FROM."""
    if instruction.name not in {"ARG", "ENV"}:
        return
    for word in _words(instruction.rest):
        match = _ARGUMENT.fullmatch(word.text)
        if match is None or not match[2]:
            continue
        value, _quote = _unquote(word.part(*match.span(2)))
        held = likeness(value.text, match[1])
        if held is not None:
            offset, words = held
            yield unknown(value.offsets[offset], words, f"{instruction.name} {match[1]}")


def _survey(instructions: tuple[DockerfileInstruction, ...]) -> _Scope:
    """Collect arguments and stages, which earlier instructions may refer to."""
    scope = _Scope()
    inside = False
    for instruction in instructions:
        words = _words(instruction.rest)
        if instruction.name == "FROM":
            inside = True
            image, name = _from(words)
            if image is not None and not _VARIABLE.fullmatch(_bare(image).text):
                scope.parts.update(_ANY_VARIABLE.findall(image.text))
            if name is not None:
                scope.stages.add(name)
        elif instruction.name == "ARG":
            for word in words:
                match = _ARGUMENT.fullmatch(word.text)
                if match is None:
                    continue
                default = None if match[2] is None else word.part(*match.span(2))
                scope.parts.update(_ANY_VARIABLE.findall(default.text if default else ""))
                if inside:
                    scope.inner.add(match[1])
                else:
                    scope.arguments.setdefault(match[1], []).append(default)
    return scope


def _instruction(
    text: str, instruction: DockerfileInstruction, scope: _Scope, seen: set[str]
) -> Marks:
    name, rest, start = instruction.name, instruction.rest, instruction.start
    is_trigger = name == "ONBUILD"
    if is_trigger:
        first, *_ = rest.words() or [rest]
        name = first.text.upper()
        rest = rest.part(rest.text.find(first.text) + len(first.text), len(rest.text))
    if name == "FROM" and not is_trigger:
        image, stage = _from(_words(rest))
        if image is not None:
            yield from _base(text, image, next(_flags(rest, "platform"), None), scope, seen, start)
        if stage is not None:
            seen.add(stage)
    elif name in {"COPY", "RUN"}:
        flag, role = ("from", "COPY --from") if name == "COPY" else ("mount", "RUN --mount")
        for value in _flags(rest, flag):
            image = value if name == "COPY" else _mounted(value)
            if image is not None:
                yield from _source(text, image, role, scope, start, is_trigger=is_trigger)


def _base(
    text: str, word: Word, platform: Word | None, scope: _Scope, seen: set[str], start: int
) -> Marks:
    wanted = platform.text if platform is not None and "$" not in platform.text else ""
    image, quote = _unquote(word)
    match = _VARIABLE.fullmatch(image.text)
    if match is not None:
        yield from _argument(text, match[1] or match[2], image, scope, seen, wanted)
    elif "$" in image.text:
        yield Stray(image.offsets[0], image.text, "FROM", *_MIXED)
    elif image.text != _SCRATCH and image.text.lower() not in seen:
        yield _mark(text, image, "FROM", quote, wanted, start)


def _argument(
    text: str, name: str, word: Word, scope: _Scope, seen: set[str], platform: str
) -> Marks:
    """Read the image of a FROM that is an argument: its default, if it has no other use."""

    def stray(reason: str, hint: str = "") -> Stray:
        return Stray(word.offsets[0], word.text, "FROM", reason, hint)

    defaults = scope.arguments.get(name, [])
    if not defaults or defaults == [None]:
        yield stray(f"`ARG {name}` has no default", "pin the value of `--build-arg`")
        return
    default = defaults[0]
    if len(defaults) > 1 or default is None:
        yield stray(f"`ARG {name}` is defined more than once")
        return
    image, quote = _unquote(default)
    if image.text == _SCRATCH or image.text.lower() in seen:
        return
    if name in scope.parts or name in scope.inner:
        where = "in a stage" if name in scope.inner else "as part of another word"
        yield stray(f"`ARG {name}` is used {where} too", "give the image an `ARG` of its own")
    elif "$" in image.text:
        yield stray(*_MIXED)
    elif not image.text:
        yield stray(f"the default of `ARG {name}` is empty")
    else:
        mark = _mark(text, image, f"ARG {name}", quote, platform, image.offsets[0])
        yield mark if isinstance(mark, Stray) else replace(mark, is_argument=True)


def _source(
    text: str, word: Word, role: str, scope: _Scope, start: int, *, is_trigger: bool
) -> Marks:
    """Read the source of a copy or mount: a stage, or an image."""
    image, quote = _unquote(word)
    if not image.text or _NUMBER.fullmatch(image.text) or image.text.lower() in scope.stages:
        return
    if image.text == _SCRATCH or (is_trigger and _STAGE.fullmatch(image.text)):
        # ONBUILD instructions run in builds with other stages.
        return
    if "$" in image.text:
        yield Stray(
            image.offsets[0],
            image.text,
            role,
            "it depends on a variable",
            "give it a stage: `FROM image AS name`, and copy from that",
        )
        return
    yield _mark(text, image, role, quote, "", start)


def _mark(
    text: str, image: Word, role: str, quote: str, platform: str, start: int
) -> ImageSpot | Stray:
    span = image.span
    if span is None:
        return Stray(image.offsets[0], image.text, role, "it contains a line break")
    return inline(text, *span, role, quote=quote, platform=platform, before=start)


def _from(words: list[Word]) -> tuple[Word | None, str | None]:
    """Split `[--flag…] image [AS name]`."""
    rest = [word for word in words if not word.text.startswith("--")]
    named = len(rest) == 3 and rest[1].text.upper() == "AS"  # noqa: PLR2004 - image, AS, name
    return (rest[0] if rest else None), (rest[2].text.lower() if named else None)


def _flags(rest: Word, name: str) -> Iterator[Word]:
    """Yield the values of a flag among the leading flags."""
    for word in _words(rest):
        match = _FLAG.fullmatch(word.text)
        if match is None:
            return
        if match[1] == name and match[2]:
            yield _bare(word.part(*match.span(2)))


def _mounted(value: Word) -> Word | None:
    at = 0
    image = None
    for item in value.text.split(","):
        key, equals, _ = item.partition("=")
        if equals and key.strip().lower() == "from":
            image = value.part(at + len(key) + 1, at + len(item))
        at += len(item) + 1
    return image


def _words(rest: Word) -> list[Word]:
    return [rest.part(*match.span()) for match in _WORD.finditer(rest.text)]


def _bare(word: Word) -> Word:
    return _unquote(word)[0]


def _unquote(word: Word) -> tuple[Word, str]:
    """Remove the quotes around a word, and return them too."""
    text = word.text
    if len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]:
        return word.part(1, len(text) - 1), text[0]
    return word, ""
