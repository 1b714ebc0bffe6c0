"""Credentials, secrets that never print, and redaction of secrets in text."""

from __future__ import annotations

import base64
import hmac
import json
import threading
from dataclasses import field
from typing import TYPE_CHECKING, Final, Generic, NoReturn, TypeVar, final
from urllib.parse import quote, quote_plus

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from resolver.errors import ResolverError


MARK: Final = "***"
"""Replacement of a secret."""

ANONYMOUS: Final = None
"""No credential: anonymous access."""


@final
class Secret:
    """Secret text: it prints as `***` and cannot be pickled or copied.

    Not a dataclass, since `dataclasses.asdict` and `fields` would expose it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text; only for the code that sends it."""
        return self._value

    def __repr__(self) -> str:
        return MARK

    __str__ = __repr__

    def __format__(self, _specification: str) -> str:
        return MARK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        """Compare in constant time."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(octets(self._value), octets(other._value))

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


@dataclass(frozen=True, slots=True)
class Credential:
    """Credentials for one registry and its token server.

    Attributes:
        username: the account; may be empty with a token.
        password: for Basic, also at a token server; None if there is none.
        identity_token: an OAuth refresh token (docs/wire-protocol.md, "Token requests").
        registry_token: a Bearer token, sent unchanged.
    """

    username: str = ""
    password: Secret | None = field(default=None, repr=False)
    identity_token: Secret | None = field(default=None, repr=False)
    registry_token: Secret | None = field(default=None, repr=False)

    def secrets(self) -> tuple[Secret, ...]:
        """Return all secrets of this credential."""
        held = (self.password, self.identity_token, self.registry_token)
        return tuple(secret for secret in held if secret)


@dataclass(frozen=True, slots=True)
class CredentialAnswer:
    """The credential found for a registry, and its source.

    Attributes:
        credential: None for anonymous access.
        source: a path, variable or helper program, for `--verbose`; never a secret.
        problem: why a configured source failed; raised if anonymous access is refused.
        helper: name of the helper that returned the credential, and the key.
    """

    credential: Credential | None
    source: str
    problem: ResolverError | None = None
    helper: tuple[str, str] | None = None


def octets(text: str) -> bytes:
    """Encode any text, including command-line text that is not UTF-8."""
    return text.encode("utf-8", "surrogatepass")


SHORTEST: Final = 4
"""Shorter secrets are not redacted, since they would match ordinary words."""


class Redactor:
    """Replaces known secrets by `***`; safe to share between threads."""

    __slots__ = ("_forms", "_known", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[Secret | Credential] = set()
        self._forms: tuple[str, ...] = ()

    def learn(self, secret: Secret | Credential | str | None) -> None:
        """Add a secret, or all secrets of a credential; None is ignored."""
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
        """Return `text` with every learned secret, in every form, replaced by `***`."""
        pieces: list[str] = []
        kept = 0
        for start, end in _merged(sorted(_positions(text, self._forms))):
            pieces += (text[kept:start], MARK)
            kept = end
        return "".join((*pieces, text[kept:])) if pieces else text


def _forms_of(item: Secret | Credential) -> Iterator[str]:
    if isinstance(item, Credential):
        return _credential_forms(item)
    return _secret_forms(item.reveal())


def _credential_forms(credential: Credential) -> Iterator[str]:
    for secret in credential.secrets():
        yield from _secret_forms(secret.reveal())
    if credential.password:
        pair = f"{credential.username}:{credential.password.reveal()}"
        if len(pair) >= 2 * SHORTEST:
            yield from _base64_forms(pair)
            yield from _text_forms(pair)


def _secret_forms(secret: str) -> Iterator[str]:
    """Return the forms of one secret that are long enough to redact."""
    if len(secret) < SHORTEST:
        return
    yield from _text_forms(secret)
    yield from _base64_forms(secret)
    yield from _base64_cores(secret)


def _text_forms(text: str) -> Iterator[str]:
    yield text
    raw = octets(text)
    for encoded in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield encoded
        yield _lower_escapes(encoded)
    for only_ascii in (True, False):
        yield json.dumps(text, ensure_ascii=only_ascii)[1:-1]


def _base64_forms(text: str) -> Iterator[str]:
    """Return a text in both alphabets of base64, with padding and without."""
    raw = octets(text)
    for encoded in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
        whole = encoded.decode("ascii")
        yield whole
        yield whole.rstrip("=")


def _base64_cores(text: str) -> Iterator[str]:
    """Return the base64 characters of the text inside a longer encoded text.

    Three bytes make four characters, so there are three alignments. A character that includes bits
    of a neighbour is unknown and left out.
    """
    raw = octets(text)
    for offset, shared_start in ((0, 0), (1, 2), (2, 3)):
        bits = 8 * (offset + len(raw))
        padded = bytes(offset) + raw + bytes(2)
        for encoded in (base64.b64encode(padded), base64.urlsafe_b64encode(padded)):
            yield encoded[shared_start : bits // 6].decode("ascii")


def _lower_escapes(encoded: str) -> str:
    first, *rest = encoded.split("%")
    return "%".join((first, *(piece[:2].lower() + piece[2:] for piece in rest)))


def _searchable(forms: Iterable[str]) -> tuple[str, ...]:
    """Return each form once, without those too short to redact."""
    return tuple({form: None for form in forms if len(form) >= SHORTEST})


def _positions(text: str, forms: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Return the positions of forms as `(start, end)`; they may overlap."""
    for form in forms:
        start = text.find(form)
        while start >= 0:
            yield start, start + len(form)
            start = text.find(form, start + 1)


def _merged(positions: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Merge sorted positions that touch or overlap, so that no part of a secret remains."""
    current: tuple[int, int] | None = None
    for start, end in positions:
        if current is None:
            current = (start, end)
        elif start <= current[1]:
            current = (current[0], max(current[1], end))
        else:
            yield current
            current = (start, end)
    if current is not None:
        yield current


Key = TypeVar("Key", bound="Hashable")
Value = TypeVar("Value")


class Once(Generic[Key, Value]):
    """Computes one value per key, for any number of threads."""

    __slots__ = ("_cells", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cells: dict[Key, tuple[threading.Lock, list[Value]]] = {}

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value of `key`, computed on first use; errors are not cached."""
        with self._lock:
            lock, values = self._cells.setdefault(key, (threading.Lock(), []))
        with lock:
            if not values:
                values.append(make())
            return values[0]

    def forget(self, key: Key, stale: Callable[[Value], bool]) -> None:
        """Drop the value of `key` if it is stale."""
        with self._lock:
            lock, values = self._cells.get(key, (threading.Lock(), []))
        with lock:
            if values and stale(values[0]):
                values.clear()
