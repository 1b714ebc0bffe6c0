"""Users and passwords of a writable registry, from an htpasswd file."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
import threading
from typing import TYPE_CHECKING, Final

from resolver.errors import InvalidConfiguration, Usage
from resolver.files.read import read_regular

if TYPE_CHECKING:
    from resolver.verbs.serve.connections import Head

#: Sent with 401. Source: RFC 7617, 2 and 2.1.
CHALLENGE: Final = ("WWW-Authenticate", 'Basic realm="resolver", charset="UTF-8"')
#: Bytes of a file of users, and characters of a password; bcrypt uses 72 bytes of it.
_MAX_USERS = 1 << 20
_HASH = re.compile(rb"\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}")
#: Verified credentials that are remembered: each check takes a tenth of a second or more.
_MAX_KNOWN = 1_000


class Passwords:
    """Users and bcrypt hashes of an htpasswd file, as `htpasswd -B` writes it.

    Raises:
        InvalidConfiguration: the file cannot be read, or has other hashes.
        Usage: bcrypt is not installed.

    """

    def __init__(self, path: str) -> None:
        self._users = _read_users(path)
        self._key = secrets.token_bytes(32)
        self._known: dict[bytes, None] = {}
        self._guard = threading.Lock()
        try:
            import bcrypt  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise Usage(
                "`--htpasswd` needs the package `bcrypt`, which is not installed",
                "run `pip install 'multiarch-resolver[serve]'`",
            ) from error
        self._check = bcrypt.checkpw
        # Checked for unknown users, so that the time of an answer does not show who exists.
        self._unknown = bcrypt.hashpw(secrets.token_bytes(16).hex().encode(), bcrypt.gensalt(10))

    def admit(self, head: Head) -> bool:
        """Whether a request has the name and password of a user."""
        given = head.all("authorization")
        scheme, _, encoded = (given[0] if len(given) == 1 else "").partition(" ")
        if scheme.lower() != "basic":
            return False
        seal = hmac.digest(self._key, encoded.encode("latin-1"), "sha256")
        with self._guard:
            if seal in self._known:
                return True
        try:
            user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        except binascii.Error:
            return False
        is_right = self._check(password[:72], self._users.get(user, self._unknown))
        if not (colon and is_right and user in self._users):
            return False
        with self._guard:
            self._known[seal] = None
            while len(self._known) > _MAX_KNOWN:
                self._known.pop(next(iter(self._known)))
        return True


def _read_users(path: str) -> dict[bytes, bytes]:
    try:
        body, _ = read_regular(path, _MAX_USERS)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidConfiguration(path, "", reason) from error
    if len(body) > _MAX_USERS:
        raise InvalidConfiguration(path, "", f"it has more than {_MAX_USERS} bytes")
    users: dict[bytes, bytes] = {}
    for number, line in enumerate(body.splitlines(), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        user, colon, hashed = line.strip().partition(b":")
        if not colon or not user or not _HASH.fullmatch(hashed):
            reason = "it must be `USER:HASH` with a bcrypt hash, as `htpasswd -B` writes it"
            raise InvalidConfiguration(path, f"line {number}", reason)
        users[user] = hashed
    if not users:
        raise InvalidConfiguration(path, "", "it has no user")
    return users
