"""Escaping: text from elsewhere may not move a cursor, hide, or speak to a CI system (R50)."""

from __future__ import annotations

import re

#: C0, DEL, C1, bidirectional controls, line and paragraph separators, surrogates.
#: Source: reliability.md R50; Unicode 15, "Bidi_Control" and chapter 23.1.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escape(text: str) -> str:
    r"""Make text safe for a terminal and a log: controls become `\xNN` or `\uNNNN`, on one line."""
    return _UNSAFE.sub(_code, text)


def _code(match: re.Match[str]) -> str:
    number = ord(match.group())
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"  # noqa: PLR2004 - one byte


def line(text: str) -> str:
    """Escape a whole line; one that a CI system would take as a command is moved off the margin.

    GitHub reads `::command::` and GitLab and Azure `##vso[…]` and `section_start` at the start of
    a line. What we print begins with our own words; this is for lines that are all remote text.
    """
    safe = escape(text)
    return f" {safe}" if safe.startswith(("::", "##")) else safe
