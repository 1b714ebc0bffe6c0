"""Heredocs of Dockerfiles: which lines after an instruction belong to it.

Source: github.com/moby/buildkit v0.16, frontend/dockerfile/parser/parser.go, `heredocsFromLine`.
"""

from __future__ import annotations

import json
import re

from resolver.values import dataclass

_HEREDOC = re.compile(r"([0-9]*)<<(-?)([^<]+)")
#: Instructions that take heredocs, and the one that holds another instruction.
_TAKE = frozenset({"ADD", "COPY", "RUN"})
_HOLD = "ONBUILD"


@dataclass(frozen=True, slots=True)
class Heredoc:
    """One heredoc: the word that ends it, and whether tabs may stand before that."""

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
    """Whether the words begin with a list of strings: no shell reads them, nor what follows."""
    text = rest.strip()
    if not text.startswith("["):
        return False
    try:
        words, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return all(isinstance(word, str) for word in words)


def shell_words(text: str) -> list[str] | None:
    """Split at blanks outside of quotes, quotes and escapes kept; None if a quote stays open."""
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
    """Take quotes and escapes away, as a shell does."""
    told, quote = "", ""
    characters = iter(word)
    for character in characters:
        if character == "\\" and quote != "'":
            told += next(characters, "")
        elif character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        else:
            told += character
    return told
