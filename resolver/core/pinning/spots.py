"""Spots: image references in the text of a file, and the edits that pin and unpin them.

Offsets count characters from 0, in the text as it was decoded, byte order mark included.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.reference import DEFAULT_TAG, Reference
from resolver.errors import InvalidReference, Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.digest import Digest

#: The wish of a file's author that a reference stays as it is: on its line, or the line above.
#: JSON has no comments: a member `"//": "resolver: ignore"` says the same.
_IGNORE = re.compile(
    r"""(?:\#|//|"(?://|\#|_?comment)"[ \t]*:[ \t]*")[ \t]*resolver:[ \t]*ignore(?![A-Za-z0-9_-])"""
)


class Unparsable(Usage):
    """A text that cannot be read as what it is; line and column count from 1."""

    def __init__(self, reason: str, line: int = 1, column: int = 1) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Edit:
    """A span of a text, and what stands there instead."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the digest of a reference goes.

    Attributes:
        start, end: what is replaced when the digest is written; empty where there is none yet.
        before, after: what is written around it: `@`, or the key of a mapping.
        cut: the span that goes when the digest is taken away; None where that cannot be done.
    """

    start: int
    end: int
    before: str = "@"
    after: str = ""
    cut: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Spot:
    """An image reference that stands in a file.

    Attributes:
        start, end: the span of the reference as written, quotes left out.
        quote: what it stands in: `"`, `'`, `|` for a block of text, or nothing.
        reference: what it means; with the digest that is written already.
        role: what it is there for: `FROM`, `services.web.image`.
        slot: where its digest goes.
        platform: the one platform it is used for, where the file says so.
        is_ignored: the author wants it left alone.
        is_argument: it is the default of an argument, which a build may replace.
        before: where the construct that it belongs to begins, for comments above that.
        words: the reference, where it is put together from several places; else empty.
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
        """The same name without its digest: what is asked to pin it."""
        return replace(self.reference, digest=None)

    @property
    def can_move(self) -> bool:
        """Whether there is a name to look the digest up by; `name@digest` alone has none."""
        return self.reference.digest is None or self.reference.tag is not None

    def pin(self, digest: Digest) -> Edit:
        """Write a digest, in place of the one that is there."""
        slot = self.slot
        return Edit(slot.start, slot.end, f"{slot.before}{digest}{slot.after}")

    def unpin(self) -> Edit | None:
        """Take the digest away; None where there is none, or no tag to go by without it."""
        if self.reference.digest is None or not self.can_move or self.slot.cut is None:
            return None
        return Edit(*self.slot.cut, "")


@dataclass(frozen=True, slots=True)
class Stray:
    """A reference that no digest can be written into.

    Attributes:
        start: where it stands.
        text: as written.
        role: what it is there for.
        reason: why not, as the end of a sentence.
        hint: what to do about it.
        is_ignored: the author wants it left alone.
        is_unknown: it looks like an image, below a key that is not known to take one.
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
    """A value that looks like an image, and needs no digest.

    Attributes:
        start: where it stands.
        reason: why not, as a sentence without a full stop.
    """

    start: int
    reason: str


Mark = Spot | Stray | Passed


@dataclass(frozen=True, slots=True)
class Found:
    """What a file holds, in the order of the file."""

    spots: tuple[Spot, ...] = ()
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
) -> Spot | Stray:
    """Read the reference that stands in a span; its digest goes right behind its name.

    A name without a tag is pinned as `name:latest@…`, so that it can be updated later.
    """
    written = text[start:end]
    try:
        reference = Reference.parse(written)
    except InvalidReference as error:
        hint = next(iter(error.hints()), "")
        return Stray(start, written, role, f"it is no image reference: {error.reason}", hint)
    at = start + written.find("@") if "@" in written else end
    mark = "@" if reference.tag is not None or at != end else f":{DEFAULT_TAG}@"
    cut = (at, end) if at != end else None
    slot = Slot(at, end, mark, "", cut)
    return Spot(start, end, quote, reference, role, slot, platform, before=before)


def found(text: str, marks: Iterable[Mark]) -> Found:
    """Sort what was found, each span once, and note what its author wants left alone.

    A place that serves several references, as an anchor can, has room for no digest of one.
    """
    spots: dict[tuple[int, int], Spot] = {}
    strays: dict[tuple[int, str], Stray] = {}
    passed: dict[int, Passed] = {}
    lines = Lines(text)
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
                reason = "its tag stands for several images"
                hint = "give each image a tag of its own"
                stray = Stray(one.start, words, one.role, reason, hint, ignored)
                strays.setdefault((one.start, one.role), stray)
    shared = {stray.start for stray in strays.values()}
    return Found(
        tuple(
            spot
            for spot in sorted(spots.values(), key=lambda spot: spot.start)
            if spot.start not in shared
        ),
        tuple(sorted(strays.values(), key=lambda stray: stray.start)),
        tuple(passed.values()),
    )


def apply(text: str, edits: Iterable[Edit]) -> str:
    """Change spans of a text; whatever is outside of them stays."""
    parts = []
    done = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        parts += [text[done : edit.start], edit.text]
        done = edit.end
    return "".join([*parts, text[done:]])


class Lines:
    """The lines of a text, to tell where an offset is; they end as YAML and Docker end them."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]

    def position(self, offset: int) -> tuple[int, int]:
        """Give line and column, both from 1; a byte order mark takes no column."""
        number = bisect_right(self._starts, offset)
        start = self._starts[number - 1]
        column = offset - start + 1
        if number == 1 and self._text.startswith("\ufeff"):
            column -= 1
        return number, max(column, 1)

    def is_ignored(self, offset: int) -> bool:
        """Whether a comment behind an offset, or on a line of its own above, says so."""
        number = bisect_right(self._starts, offset)
        rest = self._line(number)[offset - self._starts[number - 1] :]
        return bool(_IGNORE.search(rest)) or self.is_ignored_above(offset)

    def is_ignored_above(self, offset: int) -> bool:
        """Whether the line above the one of an offset is a comment that says so."""
        number = bisect_right(self._starts, offset)
        above = self._line(number - 1).lstrip(" \t\ufeff") if number > 1 else ""
        return bool(_IGNORE.match(above))

    def _line(self, number: int) -> str:
        end = self._starts[number] if number < len(self._starts) else len(self._text)
        return self._text[self._starts[number - 1] : end]
