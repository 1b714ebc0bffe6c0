"""Read credential files and `DOCKER_AUTH_CONFIG`.

Supported are Docker's `config.json` and `.dockercfg`, and containers' `auth.json`; `login` writes.
See docs/wire-protocol.md, "Credentials" and docs/store-and-reliability.md, "Configuration files".
"""

from __future__ import annotations

import base64
import binascii
import re
import stat
from typing import TYPE_CHECKING, Final

from resolver.core.parse.json import read_object
from resolver.errors import BadDocument, InvalidConfiguration, LimitExceeded
from resolver.files.read import NotRegular, read_regular
from resolver.sources.credentials.secrets import Credential, Secret, octets
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


HUB_KEY: Final = "https://index.docker.io/v1/"
"""Docker Hub's key, from protocol version 1; `docker login` still writes it."""
HUB_HOSTS: Final = ("index.docker.io", "docker.io", "registry-1.docker.io")
"""Names of Docker Hub that share its credentials."""

# Python's own check accepts different padding in different versions.
_BASE64: Final = pattern(r"[A-Za-z0-9+/]*={0,2}", re.ASCII)
_HUB_KEYS: Final = (HUB_KEY, HUB_KEY.rstrip("/"))
_URL_SCHEMES: Final = ("https://", "http://")
# Docker Desktop stores its own OAuth tokens under such keys; they are not passwords.
_NOT_CREDENTIALS: Final = ("/access-token", "/refresh-token")


def helper_key(registry: str) -> str:
    """Return the key of a registry for helpers: never with a repository."""
    return HUB_KEY if registry in HUB_HOSTS else registry


def same_registry(first: str, second: str) -> bool:
    """Whether two registry names share credentials; the port is part of the name."""
    return helper_key(first) == helper_key(second)


def host_keys(registry: str) -> tuple[str, ...]:
    """Return the keys of a whole registry, best first."""
    return (*_HUB_KEYS, *HUB_HOSTS) if registry in HUB_HOSTS else (registry,)


def entry_keys(auths: Iterable[str], registry: str, repository: str) -> Iterator[str]:
    """Return the keys of `auths` that match a repository, best first; a key may repeat.

    The longest namespace wins, then the registry itself, then keys written as URLs in the order of
    the file. A key with a path and no scheme is a namespace and never matches the whole registry.
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
    """Parse one entry of `auths`; None if it is empty, as beside a helper."""
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
    """Refuse a known name in another case, which other clients would accept.

    `known` is the correct spelling by lower-case name.
    """
    for name in names:
        right = known.get(name.lower(), name)
        if right != name:
            at = f"{field}.{name}" if field else name
            raise InvalidConfiguration(place, at, f"is written `{right}`")


@dataclass(frozen=True, slots=True)
class _Texts:
    place: str
    field: str
    entry: Mapping[str, object]

    def __post_init__(self) -> None:
        known = ("auth", "username", "password", "identitytoken", "registrytoken")
        refuse_other_case(self.place, self.field, self.entry, {name: name for name in known})

    def get(self, name: str) -> str:
        """Return a text; empty when it is absent or null."""
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
    """Return user and password from `auth`, or from `username` and `password`."""
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
    """Decode base64 strictly, apart from missing padding and line ends; None if invalid.

    The exceptions contain the decoded bytes and must not become a cause.
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
    """Refuse a token that is not valid in a header."""
    if not all("!" <= character <= "~" for character in token):
        raise InvalidConfiguration(place, field, "has characters that are invalid in a token")


def _namespaces(hosts: Iterable[str], repository: str) -> Iterator[str]:
    """Return `host/a/b/c`, `host/a/b`, `host/a` (containers-auth.json(5)), for every host."""
    parts = repository.split("/") if repository else []
    for length in range(len(parts), 0, -1):
        path = "/".join(parts[:length])
        for host in hosts:
            yield f"{host}/{path}"


def _host_of_url(key: str) -> str | None:
    """Return the host of a key written as a URL; None for any other key."""
    for scheme in _URL_SCHEMES:
        if key.startswith(scheme):
            return key.removeprefix(scheme).partition("/")[0]
    return None


def _is_token_key(key: str) -> bool:
    """Whether a key is one of Docker Desktop's, and not a namespace of that name."""
    if not key.endswith(_NOT_CREDENTIALS):
        return False
    return key.startswith(_URL_SCHEMES) or key.partition("/")[0] in HUB_HOSTS


MAX_FILE: Final = 1_048_576
"""Most bytes of a file or of the variable."""
VARIABLE: Final = "DOCKER_AUTH_CONFIG"

_KNOWN: Final = {"auths": "auths", "credhelpers": "credHelpers", "credsstore": "credsStore"}
_OTHERS_MAY_READ: Final = stat.S_IRGRP | stat.S_IROTH
_WHITE_SPACE: Final = b" \t\r\n"


class UnreadableCredentials(InvalidConfiguration):
    """A file exists and cannot be read."""


@dataclass(frozen=True, slots=True)
class AuthFile:
    """A configuration with a valid outer structure; entries are checked on use.

    Attributes:
        field: path of the entries: `auths`, or empty for the top level.
        store: helper for all other registries, unchecked.
        shared: whether other users can read the file.
    """

    place: str
    field: str
    auths: Mapping[str, object]
    helpers: Mapping[str, object]
    store: object = None
    shared: bool = False

    def entry_field(self, key: str) -> str:
        """Return the path to an entry, `auths.reg.test`."""
        return f"{self.field}.{key}" if self.field else key


@dataclass(frozen=True, slots=True)
class HelperChoice:
    """A helper from a file: run `docker-credential-<name>` for `key`."""

    name: str
    key: str


def read_auth_file(path: Path, *, legacy: bool = False) -> AuthFile | None:
    """Read a credential file; None if absent. An empty file has no entries.

    `legacy` is whether it is a `.dockercfg`, with entries at the top level.
    """
    read = _read(path)
    if read is None:
        return None
    body, mode = read
    document = _parse(str(path), body, names_known=not legacy)
    shared = bool(mode & _OTHERS_MAY_READ)
    if legacy:
        return AuthFile(str(path), "", document, {}, shared=shared)
    return auth_file_of(str(path), document, shared=shared)


def read_document(path: Path) -> dict[str, object]:
    """Read a whole `config.json` for rewriting; empty if absent."""
    read = _read(path)
    return _parse(str(path), read[0], names_known=True) if read is not None else {}


def auth_file_of(place: str, document: Mapping[str, object], *, shared: bool) -> AuthFile:
    """Check the outer structure of a `config.json`."""
    refuse_other_case(place, "", document, _KNOWN)
    return AuthFile(
        place,
        "auths",
        _object(place, document, "auths"),
        _object(place, document, "credHelpers"),
        document.get("credsStore"),
        shared,
    )


def read_variable(text: str) -> tuple[AuthFile, tuple[str, ...]]:
    """Parse `DOCKER_AUTH_CONFIG`; also return its ignored top-level names.

    Source: docker/cli v28, cli/config/configfile/file.go, parseEnvConfig.
    """
    body = octets(text)
    _limit(VARIABLE, len(body))
    document = _parse(VARIABLE, body, names_known=True)
    refuse_other_case(VARIABLE, "", document, _KNOWN)
    ignored = tuple(name for name in document if name != "auths")
    return AuthFile(VARIABLE, "auths", _object(VARIABLE, document, "auths"), {}), ignored


def is_variable_entry(entry: object) -> bool:
    """Whether `DOCKER_AUTH_CONFIG` may have this entry: only `auth`."""
    return isinstance(entry, dict) and list(entry) == ["auth"] and entry["auth"] not in ("", None)


def choose_helper(file: AuthFile, registry: str) -> HelperChoice | None:
    """Return a file's helper for a registry; None to use its entries."""
    for key in host_keys(registry):
        name = file.helpers.get(key)
        if name is not None:
            # An empty name selects the entries, not the general helper.
            return _choice(file, f"credHelpers.{key}", name, registry)
    return _choice(file, "credsStore", file.store, registry)


def find_entry(file: AuthFile, registry: str, repository: str) -> Credential | None:
    """Return the best entry of a repository; None if absent or empty."""
    for key in entry_keys(file.auths, registry, repository):
        return decode_entry(file.place, file.entry_field(key), file.auths[key])
    return None


def _choice(file: AuthFile, field: str, name: object, registry: str) -> HelperChoice | None:
    """Check the name of a helper; None if it is empty."""
    if name is None or name == "":
        return None
    from resolver.sources.credentials.helpers import valid_name  # noqa: PLC0415 - to run one

    if not isinstance(name, str) or not valid_name(name):
        reason = (
            "the name of a helper is at most 64 letters, digits, `.`, `_` and `-`, "
            "and begins with a letter or a digit"
        )
        raise InvalidConfiguration(file.place, field, reason)
    return HelperChoice(name, helper_key(registry))


def _read(path: Path) -> tuple[bytes, int] | None:
    try:
        body, status = read_regular(path, MAX_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (NotRegular, IsADirectoryError) as error:
        raise InvalidConfiguration(str(path), "", "it is not a regular file") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    _limit(str(path), max(len(body), status.st_size))
    return body, status.st_mode


def _unreadable(path: Path, error: OSError | ValueError) -> UnreadableCredentials:
    reason = error.strerror if isinstance(error, OSError) else "it is not a path"
    return UnreadableCredentials(str(path), "", f"it cannot be read: {reason}")


def _limit(place: str, size: int) -> None:
    if size > MAX_FILE:
        raise InvalidConfiguration(
            place, "", f"it exceeds the limit of {MAX_FILE} bytes: {size} bytes"
        )


def _parse(place: str, body: bytes, *, names_known: bool) -> dict[str, object]:
    """Parse strictly; white space alone is empty."""
    if not body.strip(_WHITE_SPACE):
        return {}
    try:
        return read_object(body, place)
    except BadDocument as error:
        field, reason = error.field, error.reason
    except LimitExceeded as error:
        field, reason = "", f"it exceeds the limit of {error.limit} {error.unit} of nesting"
    # In text that is not JSON, a secret may be in the place of a name.
    if not names_known or field.partition(".")[0] not in _KNOWN.values():
        field = ""
    # Raised here, so that no exception with the text becomes its context.
    raise InvalidConfiguration(place, field, reason)


def _object(place: str, document: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return a member that must be an object; absent and null are empty."""
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidConfiguration(place, name, "must be an object")
    return value
