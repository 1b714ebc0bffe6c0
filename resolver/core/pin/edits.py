"""Image references in the text of a file, and the edits that pin and unpin them.

Offsets count characters of the decoded text from 0, including a byte order mark.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.oci.reference import DEFAULT_TAG, Reference
from resolver.core.parse.yaml_tree import NOTHING, Mapping, YamlScalar, at, scalar_at
from resolver.errors import InvalidReference, Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.core.oci.digest import Digest
    from resolver.core.parse.yaml_tree import Node


#: The comment that excludes a reference, on its line or the line above. In JSON, the member
#: `"//": "resolver: ignore"` has the same effect.
_IGNORE = re.compile(
    r"""(?:\#|//|"(?://|\#|_?comment)"[ \t]*:[ \t]*")[ \t]*resolver:[ \t]*ignore(?![A-Za-z0-9_-])"""
)


class Unparsable(Usage):
    """A malformed file; line and column are counted from 1."""

    def __init__(self, reason: str, line: int = 1, column: int = 1) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Edit:
    """A span of a text, and its replacement."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    """The position of a reference's digest.

    Attributes:
        start, end: the span that the digest replaces; empty if there is none yet.
        before, after: text written around it: `@`, or the key of a mapping.
        cut: the span to remove with the digest; None if it cannot be removed.
    """

    start: int
    end: int
    before: str = "@"
    after: str = ""
    cut: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ImageSpot:
    """An image reference in a file.

    Attributes:
        start, end: the span of the reference as written, without quotes.
        quote: `"`, `'`, `|` for a block of text, or empty.
        reference: the parsed reference, with an existing digest.
        role: its use: `FROM`, `services.web.image`.
        slot: the position of its digest.
        platform: the platform that the file states for it; empty for none.
        is_ignored: a comment excludes it.
        is_argument: it is the default of an argument, which a build may replace.
        before: the start of its construct, for comments above that.
        words: the reference if composed of several values; else empty.
    """

    start: int
    end: int
    quote: str
    reference: Reference
    role: str
    slot: Slot
    platform: str = ""
    is_ignored: bool = False
    is_argument: bool = False
    before: int | None = None
    words: str = ""

    @property
    def tagged(self) -> Reference:
        """The reference without its digest, for the lookup."""
        return replace(self.reference, digest=None)

    @property
    def can_move(self) -> bool:
        """Whether the digest can be updated; not for `name@digest` without a tag."""
        return self.reference.digest is None or self.reference.tag is not None

    def pin(self, digest: Digest) -> Edit:
        """Return the edit that adds or replaces the digest."""
        slot = self.slot
        return Edit(slot.start, slot.end, f"{slot.before}{digest}{slot.after}")

    def unpin(self) -> Edit | None:
        """Return the edit that removes the digest; None without a digest or without a tag."""
        if self.reference.digest is None or not self.can_move or self.slot.cut is None:
            return None
        return Edit(*self.slot.cut, "")


@dataclass(frozen=True, slots=True)
class Stray:
    """A reference that cannot be pinned.

    Attributes:
        start: its offset.
        text: as written.
        role: its use.
        reason: why not, as the end of a sentence.
        hint: what to do about it.
        is_ignored: a comment excludes it.
        is_unknown: it looks like an image below an unknown key.
    """

    start: int
    text: str
    role: str
    reason: str
    hint: str = ""
    is_ignored: bool = False
    is_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Passed:
    """A value that looks like an image and needs no digest, and why."""

    start: int
    reason: str


Mark = ImageSpot | Stray | Passed


@dataclass(frozen=True, slots=True)
class FoundReferences:
    """The references of a file, in order."""

    spots: tuple[ImageSpot, ...] = ()
    strays: tuple[Stray, ...] = ()
    passed: tuple[Passed, ...] = ()


def inline(  # noqa: PLR0913 - the parts of a place in a file
    text: str,
    start: int,
    end: int,
    role: str,
    *,
    quote: str = "",
    platform: str = "",
    before: int | None = None,
) -> ImageSpot | Stray:
    """Read the reference in a span; one without a tag is pinned as `name:latest@…`."""
    written = text[start:end]
    try:
        reference = Reference.parse(written)
    except InvalidReference as error:
        hint = next(iter(error.hints()), "")
        return Stray(start, written, role, f"it is not an image reference: {error.reason}", hint)
    at = start + written.find("@") if "@" in written else end
    mark = "@" if reference.tag is not None or at != end else f":{DEFAULT_TAG}@"
    cut = (at, end) if at != end else None
    slot = Slot(at, end, mark, "", cut)
    return ImageSpot(start, end, quote, reference, role, slot, platform, before=before)


def found(text: str, marks: Iterable[Mark]) -> FoundReferences:
    """Sort references, each span once; one that comments exclude or anchors share is not pinned."""
    spots: dict[tuple[int, int], ImageSpot] = {}
    strays: dict[tuple[int, str], Stray] = {}
    passed: dict[int, Passed] = {}
    lines = LineIndex(text)
    for mark in marks:
        if isinstance(mark, Passed):
            passed.setdefault(mark.start, mark)
            continue
        ignored = lines.is_ignored(mark.start)
        if isinstance(mark, Stray):
            strays.setdefault((mark.start, mark.role), replace(mark, is_ignored=ignored))
            continue
        if mark.before is not None:
            ignored = ignored or lines.is_ignored_above(mark.before)
        place = (mark.slot.start, mark.slot.end)
        held = spots.setdefault(place, replace(mark, is_ignored=ignored))
        if (held.reference, held.slot) != (mark.reference, mark.slot):
            for one in (held, mark):
                words = one.words or text[one.start : one.end]
                reason = "its tag is shared by several images"
                hint = "give each image a tag of its own"
                stray = Stray(one.start, words, one.role, reason, hint, ignored)
                strays.setdefault((one.start, one.role), stray)
    shared = {stray.start for stray in strays.values()}
    return FoundReferences(
        tuple(
            spot
            for spot in sorted(spots.values(), key=lambda spot: spot.start)
            if spot.start not in shared
        ),
        tuple(sorted(strays.values(), key=lambda stray: stray.start)),
        tuple(passed.values()),
    )


def apply(text: str, edits: Iterable[Edit]) -> str:
    """Replace spans of a text."""
    parts = []
    done = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        parts += [text[done : edit.start], edit.text]
        done = edit.end
    return "".join([*parts, text[done:]])


class LineIndex:
    """The lines of a text, for positions of offsets; line breaks are those of YAML and Docker."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column, counted from 1; a byte order mark has no column."""
        number = bisect_right(self._starts, offset)
        start = self._starts[number - 1]
        column = offset - start + 1
        if number == 1 and self._text.startswith("\ufeff"):
            column -= 1
        return number, max(column, 1)

    def is_ignored(self, offset: int) -> bool:
        """Whether a comment after an offset, or on the line above, excludes it."""
        number = bisect_right(self._starts, offset)
        rest = self._line(number)[offset - self._starts[number - 1] :]
        return bool(_IGNORE.search(rest)) or self.is_ignored_above(offset)

    def is_ignored_above(self, offset: int) -> bool:
        """Whether a comment on the line above an offset excludes it."""
        number = bisect_right(self._starts, offset)
        above = self._line(number - 1).lstrip(" \t\ufeff") if number > 1 else ""
        return bool(_IGNORE.match(above))

    def _line(self, number: int) -> str:
        end = self._starts[number] if number < len(self._starts) else len(self._text)
        return self._text[self._starts[number - 1] : end]


#: The start of templates of Helm, Argo and Jinja; unquoted, YAML reads them as mappings.
TEMPLATE = "{{"
#: The start of variables of shells and pipelines, and of parameters of CircleCI.
_VARIABLES = ("$", "<<")
#: Schemes before a reference in keys that also accept other sources.
SCHEMES = ("docker-image://", "docker://", "oci://")
TOGETHER = (
    "it is composed of variables",
    "write the reference literally, or pin the variable where it is set",
)


def span_of(text: str, scalar: YamlScalar) -> tuple[int, int] | None:
    """Return the span of a scalar's value; None for escapes, folded lines and doubled quotes."""
    raw, value = text[scalar.start : scalar.end], scalar.value
    if scalar.style in {"|", ">"}:
        wanted = value.strip()
        if not wanted or raw.count(wanted) != 1:
            return None
        start = scalar.start + raw.index(wanted)
        return start, start + len(wanted)
    if not raw.endswith(f"{scalar.style}{value}{scalar.style}"):
        return None
    end = scalar.end - len(scalar.style)
    return end - len(value), end


def image(
    text: str, scalar: YamlScalar, role: str, *, platform: str = "", scheme: str = ""
) -> ImageSpot | Stray:
    """Read a scalar that is an image reference, with a scheme if one is required."""
    return image_within(text, scalar, len(scheme), role, platform=platform)


def image_within(
    text: str, scalar: YamlScalar, offset: int, role: str, *, platform: str = ""
) -> ImageSpot | Stray:
    """Read the reference from an offset to the end of a scalar's value."""
    if is_put_together(scalar.value):
        return Stray(scalar.start, scalar.value, role, *TOGETHER)
    span = span_of(text, scalar)
    if span is None:
        reason = "it is written with escapes, or over several lines"
        return Stray(
            scalar.start, scalar.value, role, reason, "write it on one line, without escapes"
        )
    quote = "|" if scalar.style in {"|", ">"} else scalar.style
    return inline(text, span[0] + offset, span[1], role, quote=quote, platform=platform)


def is_put_together(value: str) -> bool:
    """Whether a value contains variables or templates."""
    return TEMPLATE in value or any(variable in value for variable in _VARIABLES)


def scheme_of(value: str) -> str:
    """Return the scheme before a reference; empty if there is none."""
    return next((scheme for scheme in SCHEMES if value.startswith(scheme)), "")


def images_in(
    text: str, node: Node | None, role: str, key: str = "image"
) -> Iterator[ImageSpot | Stray]:
    """Read an image that is a name, or a mapping with the name under a key."""
    if isinstance(node, Mapping):
        mark = image_at(text, node, key, f"{role}.{key}")
        if mark is not None:
            yield mark
    elif isinstance(node, YamlScalar) and node.is_text:
        yield image(text, node, role, scheme=scheme_of(node.value))


def image_at(
    text: str, holder: Node | None, key: str, role: str, *, platform: str = ""
) -> ImageSpot | Stray | None:
    """Read the image under a key of a mapping; None if there is none."""
    written = scalar_at(holder, key)
    if written is not None:
        return image(text, written, role, platform=platform)
    value = at(holder, key)
    if isinstance(value, Mapping) and text.startswith(TEMPLATE, value.start):
        line = text[value.start :].splitlines()[0]
        return Stray(value.start, line[: line.rfind("}") + 1] or line, role, *TOGETHER)
    return None


_KEY = "digest"
#: The text between a key and its value, without anchors and aliases.
_BETWEEN = re.compile(r"[ \t]*:(?:[ \t]+|[ \t]*\r?\n[ \t]*)?")

#: Plain text that YAML reads as a number or a boolean. Source: yaml.org/type, 1.1.
_NO_TEXT = re.compile(
    r"[-+]?(?:0x[0-9a-fA-F_]+|0o?[0-7_]+|0b[01_]+|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?"
    r"|\.[0-9_]+(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF|nan|NaN|NAN))"
    r"|(?:true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|y|Y|n|N)"
)
#: Numbers that print as written; Go prints larger ones with an exponent.
_PLAIN_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,5})(?:\.[0-9]{0,5}[1-9])?")
NOT_TEXT = (
    "YAML reads its tag as a number or a boolean, not as text",
    "put the tag in quotes",
)


def means_other(value: YamlScalar, text: str = "") -> bool:
    """Whether YAML reads an unquoted value, or `text` in its place, as another one: `3.20`."""
    words = text or value.value
    if value.style or _PLAIN_NUMBER.fullmatch(words):
        return False
    return _NO_TEXT.fullmatch(words) is not None


def pair_of(holder: Mapping, key: str) -> tuple[YamlScalar, YamlScalar] | None:
    """Return a key with a scalar value of the mapping itself; of duplicates the last."""
    found = None
    for name, value in holder.pairs:
        if isinstance(name, YamlScalar) and isinstance(value, YamlScalar) and name.value == key:
            found = name, value
    return found


def is_own(text: str, key: YamlScalar, value: YamlScalar) -> bool:
    """Whether a value directly follows its key, without an alias or anchor."""
    return (
        key.end <= value.start
        and _BETWEEN.fullmatch(text[key.end : value.start]) is not None
        and text[value.start : value.start + 1] != "&"
    )


def composed(
    text: str, place: YamlScalar | Mapping, words: str, role: str, slot: Slot | None
) -> ImageSpot | Stray:
    """Read a reference that is composed of several keys."""
    if is_put_together(words):
        return Stray(place.start, words, role, *TOGETHER)
    try:
        reference = Reference.parse(words)
    except InvalidReference as error:
        hint = next(iter(error.hints()), "")
        return Stray(
            place.start, words, role, f"it is not an image reference: {error.reason}", hint
        )
    if slot is None:
        reason = "there is no separate field for the digest"
        return Stray(place.start, words, role, reason, "write tag and digest without anchors")
    span = span_of(text, place) if isinstance(place, YamlScalar) else None
    start, end = span or (place.start, place.start)
    quote = place.style if isinstance(place, YamlScalar) else ""
    return ImageSpot(start, end, quote, reference, role, slot, words=words)


def value_slot(text: str, key: YamlScalar, value: YamlScalar) -> Slot | None:
    """Return the slot of a digest that is a whole value; None for an unsupported notation."""
    if not is_own(text, key, value):
        return None
    if not value.style and value.value in NOTHING:
        start = value.end - len(value.value)
        blank = "" if text[start - 1 : start] in {" ", "\t"} else " "
        return Slot(start, value.end, blank)
    span = span_of(text, value)
    if span is None or value.style in {"|", ">"}:
        return None
    start = span[0]
    # Plain text is removed with the blank before it.
    cut = start - 1 if not value.style and text[start - 2 : start] == ": " else start
    return Slot(*span, "", "", (cut, span[1]))


def new_slot(text: str, holder: Mapping, key: YamlScalar, value: YamlScalar) -> Slot | None:
    """Return the slot of a new key in a mapping, after another one."""
    if not is_own(text, key, value) or value.style in {"|", ">"}:
        return None
    if holder.is_flow:
        return Slot(value.end, value.end, f", {_KEY}: ")
    end = text.find("\n", value.end)
    end = end if end != -1 else len(text)
    if text[end - 1 : end] == "\r":
        end -= 1
    line_end = "\r\n" if "\r\n" in text else "\n"
    return Slot(end, end, f"{line_end}{' ' * (holder.column - 1)}{_KEY}: ")


def line_cut(
    text: str, holder: Mapping, key: YamlScalar, value: YamlScalar
) -> tuple[int, int] | None:
    """Return the span to remove with a key; None if other keys depend on its position."""
    if holder.pairs[0][0] is key:
        return None
    if holder.is_flow:
        before = text.rfind(",", 0, key.start)
        return (before, value.end) if not text[before + 1 : key.start].strip() else None
    start = text.rfind("\n", 0, key.start)
    start -= text[start - 1 : start] == "\r"
    end = text.find("\n", value.end)
    rest = text[value.end : end if end != -1 else len(text)]
    if rest.strip():
        # A comment after it is kept on a line of its own.
        return key.start, value.end + len(rest) - len(rest.lstrip())
    return start, value.end
