"""Authentication of the fake registry: Basic and Bearer gates, and a token server."""

from __future__ import annotations

import base64
import json
import re
import threading
from dataclasses import dataclass
from typing import Protocol

from tests.kit.messages import Reply, Seen

_REPOSITORY = re.compile(r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/.+")
#: User names with which Docker marks the password as an identity token.
IDENTITY_USERS = ("", "<token>")


class Gate(Protocol):
    """Decides whether a request may pass."""

    def refusal(self, seen: Seen) -> Reply | None:
        """Return the refusal of a request, or None to allow it."""
        ...


def refused(challenge: str) -> Reply:
    """Build the 401 that makes a client look for credentials."""
    body = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
    headers = {"WWW-Authenticate": challenge, "Content-Type": "application/json"}
    return Reply(401, headers, json.dumps(body).encode())


def basic_value(user: str, password: str) -> str:
    """Write an `Authorization` value."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class BasicGate:
    """Requires one user and one password."""

    user: str
    password: str
    realm: str

    def refusal(self, seen: Seen) -> Reply | None:
        """Refuse any other credentials."""
        if seen.authorization == basic_value(self.user, self.password):
            return None
        return refused(f'Basic realm="{self.realm}"')


class Tokens:
    """A token server and the tokens that it issued.

    Attributes:
        requests: every token request, refused ones included.
        issued: every token handed out, in order.
        valid: the tokens that open the gate now.
    """

    def __init__(
        self,
        token: str,
        credentials: tuple[str, str] | None,
        expires_in: int | None,
        *,
        rotate: bool = False,
    ) -> None:
        self._token = token
        self._credentials = credentials
        self._expires_in = expires_in
        self._rotate = rotate
        self._lock = threading.Lock()
        self.requests: list[Seen] = []
        self.issued: list[str] = []
        # A fixed token opens at once: the server that hands it out may be another one.
        self.valid: set[str] = set() if rotate else {token}

    @property
    def count(self) -> int:
        """The number of issued tokens."""
        return len(self.issued)

    @property
    def scopes(self) -> list[tuple[str, ...]]:
        """The scopes of each request, in order."""
        return [
            tuple((seen.form if seen.method == "POST" else seen.parameters).get("scope", []))
            for seen in self.requests
        ]

    def revoke(self) -> None:
        """Expire every token issued so far; a fixed one is valid when reissued."""
        with self._lock:
            self.valid.clear()

    def answer(self, seen: Seen) -> Reply:
        """Issue a token, or refuse."""
        with self._lock:
            self.requests.append(seen)
            if not self._knows(seen):
                body = {"details": "incorrect username or password"}
                return Reply(401, {"Content-Type": "application/json"}, json.dumps(body).encode())
            token = f"{self._token}-{len(self.issued) + 1}" if self._rotate else self._token
            self.issued.append(token)
            self.valid.add(token)
        grant: dict[str, object] = {"token": token, "access_token": token}
        if self._expires_in is not None:
            grant["expires_in"] = self._expires_in
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(grant).encode())

    def _knows(self, seen: Seen) -> bool:
        if self._credentials is None:
            return True
        user, password = self._credentials
        identity = user in IDENTITY_USERS
        if seen.method == "GET":
            return not identity and seen.authorization == basic_value(user, password)
        form = seen.form
        if identity:
            return form.get("grant_type") == ["refresh_token"] and (
                form.get("refresh_token") == [password]
            )
        return (
            form.get("grant_type") == ["password"]
            and form.get("username") == [user]
            and form.get("password") == [password]
        )


@dataclass(frozen=True, slots=True)
class BearerGate:
    """Requires a token that is valid now."""

    realm: str
    service: str
    tokens: Tokens

    def refusal(self, seen: Seen) -> Reply | None:
        """Refuse a request without a token, with the challenge for one."""
        scheme, _, token = (seen.authorization or "").partition(" ")
        if scheme == "Bearer" and token in self.tokens.valid:
            return None
        challenge = f'Bearer realm="{self.realm}",service="{self.service}"'
        found = _REPOSITORY.fullmatch(seen.path)
        if found:
            challenge += f',scope="repository:{found[1]}:pull"'
        return refused(challenge)
