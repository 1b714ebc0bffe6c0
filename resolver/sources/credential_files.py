"""Read the files, and the variable, in which other clients keep credentials.

Docker's `config.json` and `.dockercfg`, containers' `auth.json`, and `DOCKER_AUTH_CONFIG`. Rules:
reliability.md R28, protocol.md 12. Files are not trusted to be files; `credential_writer` writes.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from resolver.core.strict_json import read_object
from resolver.errors import BadDocument, InvalidConfiguration, LimitExceeded
from resolver.files import NotRegular, read_regular
from resolver.sources.credential_entries import (
    decode_entry,
    entry_keys,
    helper_key,
    host_keys,
    refuse_other_case,
)
from resolver.sources.credential_helpers import valid_name
from resolver.sources.credential_values import octets
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from resolver.sources.credential_values import Credential

MAX_FILE: Final = 1_048_576
"""Bytes of a file, or of the variable. Source: reliability.md 5."""
VARIABLE: Final = "DOCKER_AUTH_CONFIG"

_KNOWN: Final = {"auths": "auths", "credhelpers": "credHelpers", "credsstore": "credsStore"}
_OTHERS_MAY_READ: Final = stat.S_IRGRP | stat.S_IROTH
_WHITE_SPACE: Final = b" \t\r\n"


class UnreadableFile(InvalidConfiguration):
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


def _unreadable(path: Path, error: OSError | ValueError) -> UnreadableFile:
    """Make the error for what the system said; a ValueError means: no system takes such a path."""
    reason = error.strerror if isinstance(error, OSError) else "it is not a path"
    return UnreadableFile(str(path), "", f"it cannot be read: {reason}")


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
