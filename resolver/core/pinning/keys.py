"""References that stand in several keys of a mapping, and digests that have a key of their own."""

from __future__ import annotations

import re

from resolver.core.pinning.scalars import TOGETHER, is_put_together, span_of
from resolver.core.pinning.spots import Slot, Spot, Stray
from resolver.core.pinning.tree import NOTHING, Mapping, Scalar
from resolver.core.reference import Reference
from resolver.errors import InvalidReference

_KEY = "digest"
#: What may stand between a key and a value that is written right there.
_BETWEEN = re.compile(r"[ \t]*:(?:[ \t]+|[ \t]*\r?\n[ \t]*)?")

#: Plain text that YAML takes for a number or a truth. Source: yaml.org/type/int, float, bool (1.1).
_NO_TEXT = re.compile(
    r"[-+]?(?:0x[0-9a-fA-F_]+|0o?[0-7_]+|0b[01_]+|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?"
    r"|\.[0-9_]+(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF|nan|NaN|NAN))"
    r"|(?:true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|y|Y|n|N)"
)
#: Numbers that print as they are written; Go prints larger ones with an exponent.
_PLAIN_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,5})(?:\.[0-9]{0,5}[1-9])?")
NOT_TEXT = (
    "YAML reads its tag as a number or a truth, which is not what is written there",
    "put the tag in quotes",
)


def means_other(value: Scalar, text: str = "") -> bool:
    """Whether a value without quotes, or this text in its place, means another one: `3.20`."""
    words = text or value.value
    if value.style or _PLAIN_NUMBER.fullmatch(words):
        return False
    return _NO_TEXT.fullmatch(words) is not None


def pair_of(holder: Mapping, key: str) -> tuple[Scalar, Scalar] | None:
    """Find a key, with a value that is no collection, in this very mapping; the last counts."""
    found = None
    for name, value in holder.pairs:
        if isinstance(name, Scalar) and isinstance(value, Scalar) and name.value == key:
            found = name, value
    return found


def is_own(text: str, key: Scalar, value: Scalar) -> bool:
    """Whether a value is written behind its key, and is neither an alias nor has one."""
    return (
        key.end <= value.start
        and _BETWEEN.fullmatch(text[key.end : value.start]) is not None
        and text[value.start : value.start + 1] != "&"
    )


def composed(
    text: str, place: Scalar | Mapping, words: str, role: str, slot: Slot | None
) -> Spot | Stray:
    """Make a spot of a reference that is put together from several keys."""
    if is_put_together(words):
        return Stray(place.start, words, role, *TOGETHER)
    try:
        reference = Reference.parse(words)
    except InvalidReference as error:
        hint = next(iter(error.hints()), "")
        return Stray(place.start, words, role, f"it is no image reference: {error.reason}", hint)
    if slot is None:
        reason = "the digest has no place of its own there"
        return Stray(place.start, words, role, reason, "write tag and digest without anchors")
    span = span_of(text, place) if isinstance(place, Scalar) else None
    start, end = span or (place.start, place.start)
    quote = place.style if isinstance(place, Scalar) else ""
    return Spot(start, end, quote, reference, role, slot, words=words)


def value_slot(text: str, key: Scalar, value: Scalar) -> Slot | None:
    """Give the place of a digest that is the whole value of a key; None if it is written oddly."""
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
    # Plain text goes with the blank before it, as it came.
    cut = start - 1 if not value.style and text[start - 2 : start] == ": " else start
    return Slot(*span, "", "", (cut, span[1]))


def new_slot(text: str, holder: Mapping, key: Scalar, value: Scalar) -> Slot | None:
    """Give the place of a key to be added to a mapping, behind another one."""
    if not is_own(text, key, value) or value.style in {"|", ">"}:
        return None
    if holder.is_flow:
        return Slot(value.end, value.end, f", {_KEY}: ")
    end = text.find("\n", value.end)
    end = end if end != -1 else len(text)
    if text[end - 1 : end] == "\r":
        end -= 1
    line_end = "\r\n" if "\r\n" in text else "\n"
    return Slot(end, end, f"{line_end}{' ' * holder.column}{_KEY}: ")


def line_cut(text: str, holder: Mapping, key: Scalar, value: Scalar) -> tuple[int, int] | None:
    """Give the span that goes when a key goes; None if others lean on its place."""
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
        # A comment behind it stays, on a line of its own.
        return key.start, value.end + len(rest) - len(rest.lstrip())
    return start, value.end
