"""Saying why there is no way in, and what would help (protocol.md 3, 9.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    BadTokenAnswer,
    ResolverError,
)
from resolver.sources.complaints import read_complaint

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.sources.credential_values import Credential, Found
    from resolver.sources.exchange import Answer
    from resolver.sources.questions import Asker
    from resolver.sources.redaction import Redactor

_REFUSED = frozenset({400, 401, 403})


class Refusals:
    """What to raise on behalf of one asker; `look` finds out what credentials there are."""

    def __init__(self, asker: Asker, look: Callable[[], Found], redactor: Redactor) -> None:
        self._asker = asker
        self._look = look
        self._redactor = redactor

    def say_expired(self, answer: Answer) -> bool:
        """Whether a registry refuses a password for its age alone, in ECR's words or like them."""
        complaint = read_complaint(answer.read_some(), answer.headers, self._redactor)
        return "expired" in complaint.text.lower()

    def by_token_server(
        self, answer: Answer, server: str, credential: Credential | None
    ) -> ResolverError:
        """Say why a token server gave no token."""
        complaint = read_complaint(answer.body, answer.headers, self._redactor)
        said = f": {complaint.text}" if complaint.text else ""
        if answer.status not in _REFUSED:
            return BadTokenAnswer(
                f"the token server `{server}` answered {answer.status}, not a token{said}"
            )
        if credential is None:
            return AuthenticationRequired(
                f"`{self._asker}` does not exist or access denied: the token server `{server}` "
                f"gives nothing to anonymous requests{said}",
                *self._advice(),
            )
        return AuthenticationFailed(
            f"the token server `{server}` refuses the stored credentials for "
            f"`{self._asker.registry}`{said}",
            f"they come from {self._look().source}; log in again, or try `--anonymous`",
        )

    def here(self, answer: Answer | None) -> ResolverError:
        """Say why the registry refuses, after everything was tried; None when nothing came back."""
        said = ""
        if answer is not None:
            complaint = read_complaint(answer.read_some(), answer.headers, self._redactor)
            said = f" ({complaint.text})" if complaint.text else ""
        found = self._look()
        if found.credential is None:
            return AuthenticationRequired(
                f"`{self._asker}` does not exist or access denied: `{self._asker.registry}` "
                f"wants a login{said}",
                *self._advice(),
            )
        return AuthenticationFailed(
            f"`{self._asker.registry}` refuses the credentials for `{self._asker}`, which does "
            f"not exist or access denied{said}",
            f"they come from {found.source}; log in again, or try `--anonymous`",
        )

    def elsewhere(self, answer: Answer) -> ResolverError:
        """Say that the place a registry redirects to wants a login."""
        return AuthenticationRequired(
            f"`{self._asker.registry}` sends requests for `{self._asker}` to "
            f"`{answer.url.authority}`, which wants a login",
            "name the image at that registry, and log in there",
        )

    def _advice(self) -> tuple[str, ...]:
        """Say what would help who asked anonymously; a broken helper first."""
        problem = self._look().problem
        login = f"check the spelling, or log in: `resolver login {self._asker.registry}`"
        return (f"{problem}", login) if problem is not None else (login,)
