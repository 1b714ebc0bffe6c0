"""Write and erase logins where Docker's users keep them: a helper if one is set up, else the file.

What else stands in the file stays, in its order. It is replaced whole and at once, for this user
alone to read.

Source: docker/cli, cli/config/configfile/file.go, and cli/config/credentials.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resolver.core.registry.endpoints import USUAL, api_host
from resolver.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    InvalidConfiguration,
    OutputFault,
    ServerFault,
    Usage,
)
from resolver.sources.credentials.files import (
    auth_file_of,
    choose_helper,
    helper_key,
    host_keys,
    read_document,
)
from resolver.sources.credentials.helpers import program_name
from resolver.sources.http.requests import Request, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.registry.endpoints import HostSettings
    from resolver.sources.credentials.helpers import Helpers
    from resolver.sources.credentials.secrets import Secret
    from resolver.sources.http.client import Transport
    from resolver.sources.http.requests import Response


_ONLY_US: Final = 0o600


def writable_file(environment: Mapping[str, str], home: Path | None, named: Path | None) -> Path:
    """Say which file logins go to: one that was named, else Docker's.

    Raises:
        InvalidConfiguration: there is no home to keep it in.
    """
    chosen = named or _path(environment.get("REGISTRY_AUTH_FILE"))
    if chosen is not None:
        return chosen
    folder = _path(environment.get("DOCKER_CONFIG"))
    if folder is None and home is None:
        raise InvalidConfiguration("HOME", "", "there is no home folder to keep a login in")
    return (folder or (home or Path()) / ".docker") / "config.json"


def save(file: Path, registry: str, username: str, password: Secret, helpers: Helpers) -> str:
    """Keep a login, and say where it is now: a helper's program, or the file's path.

    Raises:
        InvalidConfiguration: the file is there and malformed; it stays as it is.
        HelperFailed: the file names a helper, and that does not do it.
        OutputFault: the file cannot be written.
    """
    document = read_document(file)
    auths = _auths(file, document)
    choice = choose_helper(auth_file_of(str(file), document, shared=False), registry)
    key = helper_key(registry)
    if choice is not None:
        helpers.store(choice.name, choice.key, username, password)
        # Docker leaves an empty entry, and so lists the registry without knowing its secret.
        auths[key] = {}
        _write(file, document)
        return program_name(choice.name)
    pair = f"{username}:{password.reveal()}".encode()
    auths[key] = {"auth": base64.b64encode(pair).decode("ascii")}
    _write(file, document)
    return str(file)


def erase(file: Path, registry: str, helpers: Helpers) -> tuple[str, ...]:
    """Forget a login, and say where it was; empty when it was nowhere.

    Raises:
        InvalidConfiguration, HelperFailed, OutputFault: as `save`.
    """
    document = read_document(file)
    auths = _auths(file, document)
    found = []
    choice = choose_helper(auth_file_of(str(file), document, shared=False), registry)
    if choice is not None and helpers.erase(choice.name, choice.key):
        found.append(program_name(choice.name))
    held = [key for key in host_keys(registry) if key in auths]
    if held:
        in_file = any(auths[key] for key in held)
        for key in held:
            del auths[key]
        _write(file, document)
        if in_file:
            found.append(str(file))
    return tuple(found)


def _auths(file: Path, document: dict[str, object]) -> dict[str, object]:
    """Give the entries of a document, to be changed in place."""
    auth_file_of(str(file), document, shared=False)
    auths = document.get("auths")
    if not isinstance(auths, dict):
        auths = document["auths"] = {}
    return auths


def _write(file: Path, document: Mapping[str, object]) -> None:
    """Put a document in place of a file, whole; a symbolic link stays one."""
    body = (json.dumps(document, indent="\t", ensure_ascii=False) + "\n").encode()
    target = Path(os.path.realpath(file))
    beside = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        target.parent.mkdir(0o700, parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _ONLY_US)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(body)
                stream.flush()
                os.fsync(descriptor)
            os.replace(beside, target)  # noqa: PTH105 - beside os.open and os.fsync
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputFault(
            f"cannot write `{file}`: {reason}",
            "make it writable, or name a file: `--auth-file`",
            code="credentials-not-written",
            path=str(file),
            reason=reason,
        ) from error


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


_OK, _NOT_FOUND, _FORBIDDEN = 200, 404, 403


def is_wanted(transport: Transport, registry: str, settings: HostSettings = USUAL) -> bool:
    """Ask a registry with the credentials that the transport has; False if it wanted none.

    `settings` are what is particular about its host. It is asked itself, never a mirror of it.

    Raises:
        AuthenticationFailed: it, or its token server, does not take them.
        Usage: it answers, and is no registry.
        Denied, Unavailable: as every request.
    """
    asker = Scope(registry, "")
    what = f"the API of `{registry}`"
    request = Request("GET", api_host(registry), asker, "/v2/", what, settings=settings)
    try:
        response = transport.fetch(request)
    except (AuthenticationFailed, AuthenticationRequired) as error:
        raise _refused(registry) from error
    if response.status == _FORBIDDEN:
        raise _refused(registry)
    if response.status == _NOT_FOUND:
        raise Usage(f"`{registry}` answers, and is no registry", "check its name and port")
    if response.status != _OK:
        raise ServerFault(f"`{registry}` answered {response.status} to a login", "try again later")
    return transport.has_shown_credentials(asker)


def knock(transport: Transport, registry: str, settings: HostSettings = USUAL) -> Response:
    """Ask a registry itself for its API, once and without a login; any answer will do.

    Raises:
        Unavailable: nobody answers there.
    """
    what = f"the API of `{registry}`"
    asker = Scope(registry, "")
    request = Request("GET", api_host(registry), asker, "/v2/", what, settings=settings)
    return transport.knock(request)


def _refused(registry: str) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"`{registry}` does not take this user name and password; nothing was kept",
        "check both; some registries want an access token in place of the password",
    )
