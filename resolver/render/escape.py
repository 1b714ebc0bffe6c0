"""Escaping: text from elsewhere may not move a cursor, hide, or speak to a CI system (R50)."""

from __future__ import annotations

import re

#: C0, DEL, C1, bidirectional controls, line and paragraph separators, surrogates; characters
#: without width, which a comparison may pass over; and the first `#` of `##[` and `##vso[`, which
#: GitHub and Azure take as commands wherever they stand in a line.
#: Source: reliability.md R50; Unicode 15, "Bidi_Control" and chapter 23.1; actions/runner,
#: ActionCommand.cs, TryParse; azure-pipelines-agent, Command.cs, TryParse.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028\u2029\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
    r"\ud800-\udfff]|#(?=#(?:vso)?\[)"
)


def escape(text: str) -> str:
    r"""Make text safe for a terminal and a log: controls become `\xNN` or `\uNNNN`, on one line."""
    return _UNSAFE.sub(_code, text)


def _code(match: re.Match[str]) -> str:
    number = ord(match.group())
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"  # noqa: PLR2004 - one byte


def line(text: str) -> str:
    """Escape a whole line; one that a CI system would take as a command does not begin with it.

    GitHub reads `::command::` at the start of a line, behind white space too; Azure, and GitHub of
    old, `##vso[…]` and `##[…]`. What we print begins with our own words; this is for lines that
    are all remote text. Source: actions/runner, ActionCommand.cs, TryParseV2.
    """
    safe = escape(text)
    rest = safe.lstrip()
    if not rest.startswith(("::", "##")):
        return safe
    return f"{safe[: len(safe) - len(rest)]}\\x{ord(rest[0]):02x}{rest[1:]}"
