"""What a credential is: secrets that do not print themselves, and where one was found."""

from __future__ import annotations

import hmac
from dataclasses import field
from typing import TYPE_CHECKING, Final, NoReturn, final

from resolver.values import dataclass

if TYPE_CHECKING:
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
class Found:
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
