"""Which entry of a configuration is a registry's, and what the entry says (protocol.md 12.2, 12.3).

Nothing here reads a file or runs a program. An error names the place and the field, and never a
value: a value may be a secret, or a part of one.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final

from resolver.errors import InvalidConfiguration
from resolver.sources.credential_values import Credential, Secret
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HUB_KEY: Final = "https://index.docker.io/v1/"
"""Docker Hub's key, from the days of the first protocol; docker login still writes it."""
HUB_HOSTS: Final = ("index.docker.io", "docker.io", "registry-1.docker.io")
"""Names of Docker Hub that share its credentials."""

# Python's own check differs between versions in what padding it takes.
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}", re.ASCII)
_HUB_KEYS: Final = (HUB_KEY, HUB_KEY.rstrip("/"))
_URL_SCHEMES: Final = ("https://", "http://")
# Docker Desktop keeps OAuth tokens of its own under such keys; they are no passwords.
_NOT_CREDENTIALS: Final = ("/access-token", "/refresh-token")


def helper_key(registry: str) -> str:
    """Give the key that helpers are asked for: never with a repository."""
    return HUB_KEY if registry in HUB_HOSTS else registry


def same_registry(first: str, second: str) -> bool:
    """Say whether two registry names share credentials; the port is part of the name."""
    return helper_key(first) == helper_key(second)


def host_keys(registry: str) -> tuple[str, ...]:
    """Give the keys that mean a whole registry, best first."""
    return (*_HUB_KEYS, *HUB_HOSTS) if registry in HUB_HOSTS else (registry,)


def entry_keys(auths: Iterable[str], registry: str, repository: str) -> Iterator[str]:
    """Give the keys of `auths` that may serve a repository, best first; a key may come twice.

    The longest namespace wins, then the registry itself, then keys written as URLs in the order of
    the file. A key with a path and no scheme is a namespace and never serves the whole registry.
    """
    hosts = HUB_HOSTS if registry in HUB_HOSTS else (registry,)
    present = [key for key in auths if not _is_token_key(key)]
    for key in (*_namespaces(hosts, repository), *host_keys(registry)):
        if key in present:
            yield key
    for key in present:
        if _host_of_url(key) in hosts:
            yield key


def decode_entry(place: str, field: str, entry: object) -> Credential | None:
    """Read one entry of `auths`; None when it says nothing, as the ones beside a helper do.

    Raises:
        InvalidConfiguration: it is not an object of texts, or `auth` is not `user:password`.
    """
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise InvalidConfiguration(place, field, "must be an object")
    texts = _Texts(place, field, entry)
    identity, registry_token = texts.get("identitytoken"), texts.get("registrytoken")
    _require_header_text(place, f"{field}.registrytoken", registry_token)
    username, password = _user_and_password(texts, needs_user=not (identity or registry_token))
    if not (username or password or identity or registry_token):
        return None
    return Credential(
        username,
        Secret(password) if password or not (identity or registry_token) else None,
        Secret(identity) if identity else None,
        Secret(registry_token) if registry_token else None,
    )


def refuse_other_case(
    place: str, field: str, names: Iterable[str], known: Mapping[str, str]
) -> None:
    """Refuse a known name in other letters: other clients would read it, and we would not.

    Args:
        place: where the names stand.
        field: the path to the object they stand in; empty for the top.
        names: the names there are.
        known: lower-case name to the right spelling.

    Raises:
        InvalidConfiguration: a name differs from a known one in case only.
    """
    for name in names:
        right = known.get(name.lower(), name)
        if right != name:
            at = f"{field}.{name}" if field else name
            raise InvalidConfiguration(place, at, f"is written `{right}`")


@dataclass(frozen=True, slots=True)
class _Texts:
    """The texts of one entry, checked when they are used."""

    place: str
    field: str
    entry: Mapping[str, object]

    def __post_init__(self) -> None:
        known = ("auth", "username", "password", "identitytoken", "registrytoken")
        refuse_other_case(self.place, self.field, self.entry, {name: name for name in known})

    def get(self, name: str) -> str:
        """Give a text; empty when it is absent or null."""
        value = self.entry.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(name, "must be a string")
        return value

    def wrong(self, name: str, reason: str) -> InvalidConfiguration:
        """Make the error for one of the texts."""
        return InvalidConfiguration(self.place, f"{self.field}.{name}", reason)


def _user_and_password(texts: _Texts, *, needs_user: bool) -> tuple[str, str]:
    """Give what `auth` holds, or else `username` and `password`; both empty when neither is there.

    Args:
        texts: the entry.
        needs_user: whether an empty user name is an error; beside a token it is none.
    """
    encoded = texts.get("auth")
    name = "auth" if encoded else "username"
    if encoded:
        decoded = _decode_base64(encoded)
        if decoded is None:
            raise texts.wrong(name, "is not base64 of UTF-8 text")
        username, colon, password = decoded.rstrip("\0").partition(":")
        if not colon:
            raise texts.wrong(name, "does not hold `user:password`: there is no colon")
    else:
        username, password = texts.get("username"), texts.get("password")
    if not username and needs_user and (encoded or password):
        raise texts.wrong(name, "has no user name")
    if ":" in username:
        raise texts.wrong(name, "a user name has no colon")
    return username, password


def _decode_base64(encoded: str) -> str | None:
    """Decode strictly, but for missing padding and line ends; None when it cannot be done.

    The exceptions hold the decoded bytes, so they end here and are nobody's cause.
    """
    compact = encoded.replace("\r", "").replace("\n", "")
    if not _BASE64.fullmatch(compact):
        return None
    try:
        raw = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
        return raw.decode("utf-8")
    except (binascii.Error, ValueError):
        return None


def _require_header_text(place: str, field: str, token: str) -> None:
    """Refuse a token that cannot stand in a header as it is."""
    if not all("!" <= character <= "~" for character in token):
        raise InvalidConfiguration(place, field, "has characters that no token has")


def _namespaces(hosts: Iterable[str], repository: str) -> Iterator[str]:
    """Give `host/a/b/c`, `host/a/b`, `host/a` (containers-auth.json(5)), for every host."""
    parts = repository.split("/") if repository else []
    for length in range(len(parts), 0, -1):
        path = "/".join(parts[:length])
        for host in hosts:
            yield f"{host}/{path}"


def _host_of_url(key: str) -> str | None:
    """Give the host of a key written as a URL; None for any other key."""
    for scheme in _URL_SCHEMES:
        if key.startswith(scheme):
            return key.removeprefix(scheme).partition("/")[0]
    return None


def _is_token_key(key: str) -> bool:
    """Say whether a key is one of Docker Desktop's, and not a namespace of that name."""
    if not key.endswith(_NOT_CREDENTIALS):
        return False
    return key.startswith(_URL_SCHEMES) or key.partition("/")[0] in HUB_HOSTS
