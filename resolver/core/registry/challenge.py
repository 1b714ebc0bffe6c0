"""Authentication challenges of registries (`WWW-Authenticate`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from resolver.errors import UnsupportedChallenge
from resolver.values import pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Characters of all header lines together, and challenges in them.
#: Source: docs/store-and-reliability.md, "Size limits".
MAX_HEADER = 16_384
MAX_CHALLENGES = 16

_MAX_SCHEME = 32

# Source: RFC 9110, 5.6.2 (token), 11.2 (token68), 5.6.4 (quoted-string). Possessive: linear time.
_TOKEN = pattern(r"[!#$%&'*+.^_`|~0-9A-Za-z-]++")
_TOKEN68 = pattern(r"([A-Za-z0-9._~+/-]++=*+)[ \t]*+(?=,|\Z)")
_EQUALS = pattern(r"[ \t]*+=[ \t]*+")
_QUOTED = pattern(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_ESCAPE = pattern(r"\\(.)", re.DOTALL)
#: RFC 9110 requires a token here; registries send paths and URLs (regclient#265).
_UNQUOTED = pattern(r'[^\s,"]++')
_BLANKS = pattern(r"[ \t]*+")
_SEPARATORS = pattern(r"[ \t,]*+")


class Challenge(tuple[str, dict[str, str]]):  # noqa: SLOT001 - a tuple takes no slots beside it
    """One scheme and its parameters, equal to a tuple of the two; `repeated` names duplicates."""

    token68: str | None
    repeated: set[str]

    def __new__(cls, scheme: str, parameters: dict[str, str], token68: str | None = None) -> Self:
        """Create one; scheme and parameter names are lower-case, values unchanged."""
        challenge = super().__new__(cls, (scheme, parameters))
        challenge.token68 = token68
        challenge.repeated = set()
        return challenge

    @property
    def scheme(self) -> str:
        """The scheme, lower-case."""
        return self[0]

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters; of duplicates the last."""
        return self[1]


def parse_challenge(values: Iterable[str], who: str = "the registry") -> list[Challenge]:
    """Parse `WWW-Authenticate` header lines separately, in order.

    A malformed line is read up to the error (docs/wire-protocol.md, "Challenges").
    Grammar: RFC 9110, 11.6.1.

    Do not join the lines: an error in one would hide the next. Raises `UnsupportedChallenge` for
    no challenge, or too many.
    """
    lines = (values,) if isinstance(values, str) else tuple(values)
    if sum(map(len, lines)) > MAX_HEADER:
        raise UnsupportedChallenge(
            f"{who} sends more than {MAX_HEADER} characters of `WWW-Authenticate`"
        )
    found: list[Challenge] = []
    for line in lines:
        _Line(line, found).read()
        if len(found) > MAX_CHALLENGES:
            raise UnsupportedChallenge(
                f"{who} sends more than {MAX_CHALLENGES} challenges in `WWW-Authenticate`"
            )
    if not found:
        raise UnsupportedChallenge(
            f"{who} requires credentials, but its `WWW-Authenticate` does not state of what kind"
        )
    return found


def choose_challenge(challenges: Sequence[Challenge], who: str = "the registry") -> Challenge:
    """Return the first usable Bearer, else the first Basic, or raise `UnsupportedChallenge`."""
    for challenge in challenges:
        if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            return challenge
    for challenge in challenges:
        if challenge.scheme == "basic":
            return challenge
    seen = ", ".join(f"`{challenge.scheme[:_MAX_SCHEME]}`" for challenge in challenges)
    if any(challenge.scheme == "bearer" for challenge in challenges):
        raise UnsupportedChallenge(
            f"{who} requires a token, but names no `realm` to get it from (it asks for {seen})"
        )
    raise UnsupportedChallenge(
        f"{who} requires {seen or 'nothing known'}; only Bearer and Basic are supported"
    )


class _Line:
    """The parser of one header line; complete challenges are in `found`."""

    def __init__(self, text: str, found: list[Challenge]) -> None:
        self._text = text
        self._at = 0
        self._found = found
        self._parameters: dict[str, str] | None = None

    def read(self) -> None:
        """Read elements up to the end or the first error."""
        self._skip(_SEPARATORS)
        while self._at < len(self._text):
            if not self._element():
                return
            self._skip(_BLANKS)
            if self._at < len(self._text) and self._text[self._at] != ",":
                return
            self._skip(_SEPARATORS)

    def _element(self) -> bool:
        """Read a parameter, or a new challenge with its first parameter."""
        token = _TOKEN.match(self._text, self._at)
        if token is None:
            return False
        equals = _EQUALS.match(self._text, token.end())
        if equals:
            return self._parameter(token[0], equals.end())
        return self._challenge(token)

    def _challenge(self, token: re.Match[str]) -> bool:
        self._at = token.end()
        if self._at < len(self._text) and self._text[self._at] not in " \t,":
            return False
        if len(self._found) > MAX_CHALLENGES:
            return False  # too many; the caller raises the error
        challenge = Challenge(token[0].lower(), {})
        self._found.append(challenge)
        self._parameters = challenge.parameters
        self._skip(_BLANKS)
        if self._at == len(self._text) or self._text[self._at] == ",":
            return True
        token68 = _TOKEN68.match(self._text, self._at)
        if token68:
            challenge.token68 = token68[1]
            self._at = token68.end()
            return True
        name = _TOKEN.match(self._text, self._at)
        equals = _EQUALS.match(self._text, name.end()) if name else None
        return bool(name and equals and self._parameter(name[0], equals.end()))

    def _parameter(self, name: str, start: int) -> bool:
        """Add parameter `name` if a value starts here and a challenge is open."""
        if self._parameters is None:
            return False
        quoted = _QUOTED.match(self._text, start)
        value = quoted or _UNQUOTED.match(self._text, start)
        if value is None:
            return False
        if name.lower() in self._parameters:
            self._found[-1].repeated.add(name.lower())
        self._parameters[name.lower()] = _ESCAPE.sub(r"\1", quoted[1]) if quoted else value[0]
        self._at = value.end()
        return True

    def _skip(self, pattern: re.Pattern[str]) -> None:
        blank = pattern.match(self._text, self._at)
        self._at = blank.end() if blank else self._at
