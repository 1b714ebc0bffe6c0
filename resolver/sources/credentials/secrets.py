"""What a credential is: secrets that do not print themselves, and where one was found."""

from __future__ import annotations

import base64
import hmac
import json
import threading
from dataclasses import field
from typing import TYPE_CHECKING, Final, NoReturn, final
from urllib.parse import quote, quote_plus

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.errors import ResolverError


MARK: Final = "***"
"""What stands where a secret was."""

ANONYMOUS: Final = None
"""No credential: ask without one."""


@final
class Secret:
    """Text that must not be seen: it prints as `***`, and it cannot be pickled or copied away.

    Not a dataclass on purpose: `dataclasses.asdict` and `fields` would open it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the text itself; only for the place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return MARK

    __str__ = __repr__

    def __format__(self, _specification: str) -> str:
        return MARK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        """Compare in a time that does not tell where two secrets differ."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(octets(self._value), octets(other._value))

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a secret is not written down")


@dataclass(frozen=True, slots=True)
class Credential:
    """What is shown to one registry, or to the token server it names.

    Attributes:
        username: the account; may be empty beside a token.
        password: for Basic, and for a token server's Basic; None when there is none.
        identity_token: an OAuth refresh token (protocol.md 9.2).
        registry_token: a Bearer token, sent as it is.
    """

    username: str = ""
    password: Secret | None = field(default=None, repr=False)
    identity_token: Secret | None = field(default=None, repr=False)
    registry_token: Secret | None = field(default=None, repr=False)

    def secrets(self) -> tuple[Secret, ...]:
        """Give every secret there is in this credential."""
        held = (self.password, self.identity_token, self.registry_token)
        return tuple(secret for secret in held if secret)


@dataclass(frozen=True, slots=True)
class CredentialAnswer:
    """The answer to "what do I show this registry?".

    Attributes:
        credential: None means: ask anonymously.
        source: a path, a variable or a helper's program, for `--verbose`; never a secret.
        problem: what kept a configured source from answering; to be raised if the anonymous
            try is refused.
        helper: the name of the helper that gave the credential, and the key it was asked for.
    """

    credential: Credential | None
    source: str
    problem: ResolverError | None = None
    helper: tuple[str, str] | None = None


def octets(text: str) -> bytes:
    """Encode any text, also text from a command line that is not UTF-8."""
    return text.encode("utf-8", "surrogatepass")


SHORTEST: Final = 4
"""Shorter secrets are not searched for: they would take ordinary words apart."""


def redactions(credential: Credential) -> tuple[str, ...]:
    """Give every form in which a credential's secrets might stand in a text, longest first."""
    return tuple(sorted(_searchable(_credential_forms(credential)), key=len, reverse=True))


class Redactor:
    """Learns secrets and replaces them by `***`; safe to use from many threads."""

    __slots__ = ("_forms", "_known", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[Secret | Credential] = set()
        self._forms: tuple[str, ...] = ()

    def learn(self, secret: Secret | Credential | str | None) -> None:
        """Remember a secret, or all secrets of a credential; None is no secret."""
        if secret is None:
            return
        item = Secret(secret) if isinstance(secret, str) else secret
        with self._lock:
            if item in self._known:
                return
            self._known.add(item)
            # A new tuple, so that `clean` needs no lock.
            self._forms = (*self._forms, *_searchable(_forms_of(item)))

    def clean(self, text: str) -> str:
        """Give `text` with every learned secret, in every form, replaced by `***`."""
        pieces: list[str] = []
        kept = 0
        for start, end in _merged(sorted(_places(text, self._forms))):
            pieces += (text[kept:start], MARK)
            kept = end
        return "".join((*pieces, text[kept:])) if pieces else text


def _forms_of(item: Secret | Credential) -> Iterator[str]:
    """Give the forms of either kind of item."""
    if isinstance(item, Credential):
        return _credential_forms(item)
    return _secret_forms(item.reveal())


def _credential_forms(credential: Credential) -> Iterator[str]:
    """Give the forms of each secret, and what Basic authentication makes of the pair."""
    for secret in credential.secrets():
        yield from _secret_forms(secret.reveal())
    if credential.password:
        pair = f"{credential.username}:{credential.password.reveal()}"
        if len(pair) >= 2 * SHORTEST:
            yield from _base64_forms(pair)
            yield from _text_forms(pair)


def _secret_forms(secret: str) -> Iterator[str]:
    """Give every form of one secret that is long enough to be searched for."""
    if len(secret) < SHORTEST:
        return
    yield from _text_forms(secret)
    yield from _base64_forms(secret)
    yield from _base64_cores(secret)


def _text_forms(text: str) -> Iterator[str]:
    """Give a text as it is, as URLs write it, and as JSON writes it."""
    yield text
    raw = octets(text)
    for encoded in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield encoded
        yield _lower_escapes(encoded)
    for only_ascii in (True, False):
        yield json.dumps(text, ensure_ascii=only_ascii)[1:-1]


def _base64_forms(text: str) -> Iterator[str]:
    """Give a text in both alphabets of base64, with padding and without."""
    raw = octets(text)
    for encoded in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
        whole = encoded.decode("ascii")
        yield whole
        yield whole.rstrip("=")


def _base64_cores(text: str) -> Iterator[str]:
    """Give what base64 surely has when the text stands inside something longer.

    Three bytes make four characters, so there are three ways to lie on that grid. A character
    that also holds bits of a neighbour can be anything, and is left out.
    """
    raw = octets(text)
    for offset, shared_start in ((0, 0), (1, 2), (2, 3)):
        bits = 8 * (offset + len(raw))
        padded = bytes(offset) + raw + bytes(2)
        for encoded in (base64.b64encode(padded), base64.urlsafe_b64encode(padded)):
            yield encoded[shared_start : bits // 6].decode("ascii")


def _lower_escapes(encoded: str) -> str:
    """Write `%3A` as `%3a`, and leave everything else as it is."""
    first, *rest = encoded.split("%")
    return "%".join((first, *(piece[:2].lower() + piece[2:] for piece in rest)))


def _searchable(forms: Iterable[str]) -> tuple[str, ...]:
    """Give each form once, without the ones too short to search for."""
    return tuple({form: None for form in forms if len(form) >= SHORTEST})


def _places(text: str, forms: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Give where forms stand, as `(start, end)`; they may overlap."""
    for form in forms:
        start = text.find(form)
        while start >= 0:
            yield start, start + len(form)
            start = text.find(form, start + 1)


def _merged(places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join sorted places that touch or overlap, so that no rest of a secret stays between them."""
    current: tuple[int, int] | None = None
    for start, end in places:
        if current is None:
            current = (start, end)
        elif start <= current[1]:
            current = (current[0], max(current[1], end))
        else:
            yield current
            current = (start, end)
    if current is not None:
        yield current
