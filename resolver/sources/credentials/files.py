"""Read the files, and the variable, in which other clients keep credentials.

Docker's `config.json` and `.dockercfg`, containers' `auth.json`, and `DOCKER_AUTH_CONFIG`. Rules:
reliability.md R28, protocol.md 12. Files are not trusted to be files; `credential_writer` writes.
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
from resolver.sources.credentials.helpers import valid_name
from resolver.sources.credentials.secrets import Credential, Secret, octets
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


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


MAX_FILE: Final = 1_048_576
"""Bytes of a file, or of the variable. Source: reliability.md 5."""
VARIABLE: Final = "DOCKER_AUTH_CONFIG"

_KNOWN: Final = {"auths": "auths", "credhelpers": "credHelpers", "credsstore": "credsStore"}
_OTHERS_MAY_READ: Final = stat.S_IRGRP | stat.S_IROTH
_WHITE_SPACE: Final = b" \t\r\n"


class UnreadableCredentials(InvalidConfiguration):
    """A file is there, and the system does not let us read it."""


@dataclass(frozen=True, slots=True)
class AuthFile:
    """A configuration whose outer shape is sound; entries are looked at when they are used.

    Attributes:
        place: the path, or the variable's name.
        field: the path to the entries: `auths`, or empty where they stand at the top.
        auths: key to entry, as read.
        helpers: key to the name of a helper, as read.
        store: the helper for every other registry, as read.
        shared: whether other users may read the file.
    """

    place: str
    field: str
    auths: Mapping[str, object]
    helpers: Mapping[str, object]
    store: object = None
    shared: bool = False

    def entry_field(self, key: str) -> str:
        """Give the path to an entry, `auths.reg.test`."""
        return f"{self.field}.{key}" if self.field else key


@dataclass(frozen=True, slots=True)
class HelperChoice:
    """A file sends us to a helper: ask `docker-credential-<name>` for `key`."""

    name: str
    key: str


def read_auth_file(path: Path, *, legacy: bool = False) -> AuthFile | None:
    """Read a file of either client; None when there is none. Empty files hold nothing.

    Args:
        path: the file.
        legacy: whether it is a `.dockercfg`, which has its entries at the top.

    Raises:
        UnreadableFile: the system refuses.
        InvalidConfiguration: not a regular file, over 1 MiB, not strict JSON, or of another shape.
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
    """Read a whole `config.json`, to be written again; empty when there is none.

    Raises:
        InvalidConfiguration: as `read_auth_file`.
    """
    read = _read(path)
    return _parse(str(path), read[0], names_known=True) if read is not None else {}


def auth_file_of(place: str, document: Mapping[str, object], *, shared: bool) -> AuthFile:
    """Look at the outer shape of a `config.json`.

    Raises:
        InvalidConfiguration: it has another.
    """
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
    """Read `DOCKER_AUTH_CONFIG`, and give the names at its top that have no meaning there.

    Raises:
        InvalidConfiguration: over 1 MiB, not strict JSON, or of another shape.

    Source: docker/cli v28, cli/config/configfile/file.go, parseEnvConfig.
    """
    body = octets(text)
    _limit(VARIABLE, len(body))
    document = _parse(VARIABLE, body, names_known=True)
    refuse_other_case(VARIABLE, "", document, _KNOWN)
    ignored = tuple(name for name in document if name != "auths")
    return AuthFile(VARIABLE, "auths", _object(VARIABLE, document, "auths"), {}), ignored


def is_variable_entry(entry: object) -> bool:
    """Say whether `DOCKER_AUTH_CONFIG` may hold this entry: `auth`, and nothing else."""
    return isinstance(entry, dict) and list(entry) == ["auth"] and entry["auth"] not in ("", None)


def choose_helper(file: AuthFile, registry: str) -> HelperChoice | None:
    """Say which helper a file sends a registry to; None when its entries are to be used.

    Raises:
        InvalidConfiguration: the helper's name is none; nothing may be run then.
    """
    for key in host_keys(registry):
        name = file.helpers.get(key)
        if name is not None:
            # An empty name says: not the helper for all others either, but the entries.
            return _choice(file, f"credHelpers.{key}", name, registry)
    return _choice(file, "credsStore", file.store, registry)


def find_entry(file: AuthFile, registry: str, repository: str) -> Credential | None:
    """Read the entry that serves a repository best; None when there is none, or it is empty.

    Raises:
        InvalidConfiguration: that entry is malformed. Entries of others may be what they like.
    """
    for key in entry_keys(file.auths, registry, repository):
        return decode_entry(file.place, file.entry_field(key), file.auths[key])
    return None


def _choice(file: AuthFile, field: str, name: object, registry: str) -> HelperChoice | None:
    """Check the name of a helper; an empty one, or none, is no choice."""
    if name is None or name == "":
        return None
    if not isinstance(name, str) or not valid_name(name):
        reason = (
            "the name of a helper is at most 64 letters, digits, `.`, `_` and `-`, "
            "and begins with a letter or a digit"
        )
        raise InvalidConfiguration(file.place, field, reason)
    return HelperChoice(name, helper_key(registry))


def _read(path: Path) -> tuple[bytes, int] | None:
    """Read a small regular file and its mode; None when there is none."""
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
    """Make the error for what the system said; a ValueError means: no system takes such a path."""
    reason = error.strerror if isinstance(error, OSError) else "it is not a path"
    return UnreadableCredentials(str(path), "", f"it cannot be read: {reason}")


def _limit(place: str, size: int) -> None:
    """Refuse more bytes than a configuration has."""
    if size > MAX_FILE:
        raise InvalidConfiguration(
            place, "", f"it goes past the limit of {MAX_FILE} bytes: {size} bytes"
        )


def _parse(place: str, body: bytes, *, names_known: bool) -> dict[str, object]:
    """Parse strictly; nothing but white space holds nothing."""
    if not body.strip(_WHITE_SPACE):
        return {}
    try:
        return read_object(body, place)
    except BadDocument as error:
        field, reason = error.field, error.reason
    except LimitExceeded as error:
        field, reason = "", f"it goes past the limit of {error.limit} {error.unit} of nesting"
    # In text that is not JSON, a secret may stand where a name should.
    if not names_known or field.partition(".")[0] not in _KNOWN.values():
        field = ""
    # Raised here, not above: nothing that has seen the text becomes the context of this error.
    raise InvalidConfiguration(place, field, reason)


def _object(place: str, document: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Give a member that must be an object; absent and null are empty."""
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidConfiguration(place, name, "must be an object")
    return value
