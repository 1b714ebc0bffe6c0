"""Finding image references in a Dockerfile or Containerfile.

They stand after `FROM`, `COPY --from=` and `RUN --mount=…,from=`, after `# syntax=`, and in the
default of an `ARG` that a `FROM` uses whole. Stages of the file and their numbers are no images.
"""

from __future__ import annotations

import re
from dataclasses import field, replace
from typing import TYPE_CHECKING

from resolver.core.pinning.dockerfile_lines import Instruction, Word, read
from resolver.core.pinning.likeness import likeness, unknown
from resolver.core.pinning.spots import Found, Spot, Stray, found, inline
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    Marks = Iterator[Spot | Stray]

_SCRATCH = "scratch"
#: A word of flags or arguments: blanks inside of quotes belong to it.
_WORD = re.compile(r"""(?:"(?:[^"\\]|\\.)*+"|'[^']*+'|\\.|[^\s])++""", re.DOTALL | re.ASCII)
_FLAG = re.compile(r"--([a-z][a-z0-9-]*)(?:=(.*))?", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_ANY_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_ARGUMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:=(.*))?", re.DOTALL)
_NUMBER = re.compile(r"[0-9]+")
#: Source: github.com/moby/buildkit v0.16, instructions/parse.go, `validStageName`.
_STAGE = re.compile(r"[a-z][a-z0-9_.-]*")
_MIXED = (
    "its name is put together from arguments",
    "give one `ARG` the whole reference, `ARG BASE=ubuntu:24.04`, and write `FROM ${BASE}`",
)


@dataclass(slots=True)
class _Scope:
    """What a Dockerfile has said so far, and all of its stages.

    Attributes:
        arguments: defaults of those before the first `FROM`; None for one without.
        inner: names of arguments that a stage reads.
        parts: names of arguments that are a part of a longer word.
        stages: names of all stages; an image may go by the name of one only in a `FROM` before it.
    """

    arguments: dict[str, list[Word | None]] = field(default_factory=dict)
    inner: set[str] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)
    stages: set[str] = field(default_factory=set)


def find(text: str) -> Found:
    """Find the references in a Dockerfile.

    Raises:
        Unparsable: BuildKit would not read it.
    """
    recipe = read(text)
    scope = _survey(recipe.instructions)
    marks: list[Spot | Stray] = []
    if recipe.syntax is not None:
        marks.append(inline(text, *recipe.syntax, "# syntax"))
    seen: set[str] = set()
    for instruction in recipe.instructions:
        marks.extend(_instruction(text, instruction, scope, seen))
    starts = {mark.start for mark in marks}
    for instruction in recipe.instructions:
        marks.extend(mark for mark in _settings(instruction) if mark.start not in starts)
    return found(text, marks)


def _settings(instruction: Instruction) -> Marks:
    """Report arguments and variables that look like an image, though no FROM uses them whole."""
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


def _survey(instructions: tuple[Instruction, ...]) -> _Scope:
    """Collect arguments and stages, which instructions before them may speak of."""
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


def _instruction(text: str, instruction: Instruction, scope: _Scope, seen: set[str]) -> Marks:
    name, rest, start = instruction.name, instruction.rest, instruction.start
    is_trigger = name == "ONBUILD"
    if is_trigger:
        first, *_ = rest.words() or [rest]
        name = first.text.upper()
        rest = rest.part(rest.text.find(first.text) + len(first.text), len(rest.text))
    if name == "FROM" and not is_trigger:
        image, stage = _from(_words(rest))
        if image is not None:
            yield from _base(text, image, _flag(rest, "platform"), scope, seen, start)
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
    """Read the image of a FROM."""
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
    """Read the image of a FROM that is an argument: its default, where it serves nothing else."""

    def stray(reason: str, hint: str = "") -> Stray:
        return Stray(word.offsets[0], word.text, "FROM", reason, hint)

    defaults = scope.arguments.get(name, [])
    if not defaults or defaults == [None]:
        yield stray(f"`ARG {name}` has no default", "pin what `--build-arg` gives it")
        return
    default = defaults[0]
    if len(defaults) > 1 or default is None:
        yield stray(f"`ARG {name}` is given more than once")
        return
    image, quote = _unquote(default)
    if image.text == _SCRATCH or image.text.lower() in seen:
        return
    if name in scope.parts or name in scope.inner:
        where = "in a stage" if name in scope.inner else "as a part of other words"
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
    """Read what files are taken from: a stage, or an image."""
    image, quote = _unquote(word)
    if not image.text or _NUMBER.fullmatch(image.text) or image.text.lower() in scope.stages:
        return
    if image.text == _SCRATCH or (is_trigger and _STAGE.fullmatch(image.text)):
        # Triggers run in builds that have stages of their own.
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


def _mark(text: str, image: Word, role: str, quote: str, platform: str, start: int) -> Spot | Stray:
    span = image.span
    if span is None:
        return Stray(image.offsets[0], image.text, role, "a line break is in its middle")
    return inline(text, *span, role, quote=quote, platform=platform, before=start)


def _from(words: list[Word]) -> tuple[Word | None, str | None]:
    """Take `[--flag…] image [AS name]` apart."""
    rest = [word for word in words if not word.text.startswith("--")]
    named = len(rest) == 3 and rest[1].text.upper() == "AS"  # noqa: PLR2004 - image, AS, name
    return (rest[0] if rest else None), (rest[2].text.lower() if named else None)


def _flag(rest: Word, name: str) -> Word | None:
    return next(_flags(rest, name), None)


def _flags(rest: Word, name: str) -> Iterator[Word]:
    """Give the values of a flag, among those that stand before everything else."""
    for word in _words(rest):
        match = _FLAG.fullmatch(word.text)
        if match is None:
            return
        if match[1] == name and match[2]:
            yield _bare(word.part(*match.span(2)))


def _mounted(value: Word) -> Word | None:
    """Find the image among the fields of a mount."""
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
    """Take away the quotes around a word, and say which they were."""
    text = word.text
    if len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]:
        return word.part(1, len(text) - 1), text[0]
    return word, ""
