"""Store and erase logins, in a credential helper if configured, else in the file.

Other contents of the file keep their order. The file is replaced atomically, readable by this user
only.

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
from resolver.sources.http.messages import Request, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.registry.endpoints import HostSettings
    from resolver.sources.credentials.helpers import Helpers
    from resolver.sources.credentials.secrets import Secret
    from resolver.sources.http.client import Transport
    from resolver.sources.http.messages import Response


_ONLY_US: Final = 0o600


def writable_file(environment: Mapping[str, str], home: Path | None, named: Path | None) -> Path:
    """Return the file for logins: the named one, else Docker's."""
    chosen = named or _path(environment.get("REGISTRY_AUTH_FILE"))
    if chosen is not None:
        return chosen
    folder = _path(environment.get("DOCKER_CONFIG"))
    if folder is None and home is None:
        raise InvalidConfiguration("HOME", "", "there is no home folder for the login")
    return (folder or (home or Path()) / ".docker") / "config.json"


def save(file: Path, registry: str, username: str, password: Secret, helpers: Helpers) -> str:
    """Store a login and return where: a helper program, or the file's path."""
    document = read_document(file)
    auths = _auths(file, document)
    choice = choose_helper(auth_file_of(str(file), document, shared=False), registry)
    key = helper_key(registry)
    if choice is not None:
        helpers.store(choice.name, choice.key, username, password)
        # Like Docker, keep an empty entry that lists the registry without its secret.
        auths[key] = {}
        _write(file, document)
        return program_name(choice.name)
    pair = f"{username}:{password.reveal()}".encode()
    auths[key] = {"auth": base64.b64encode(pair).decode("ascii")}
    _write(file, document)
    return str(file)


def erase(file: Path, registry: str, helpers: Helpers) -> tuple[str, ...]:
    """Erase a login and return where it was; empty if there was none."""
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
    """Return the entries of a document, for changes in place."""
    auth_file_of(str(file), document, shared=False)
    auths = document.get("auths")
    if not isinstance(auths, dict):
        auths = document["auths"] = {}
    return auths


def _write(file: Path, document: Mapping[str, object]) -> None:
    """Replace a file atomically; a symbolic link is kept."""
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


def check_login(transport: Transport, registry: str, settings: HostSettings = USUAL) -> bool:
    """Check the transport's credentials at a registry; False if it requires none.

    `settings` are those of its host. Mirrors are not used.
    """
    scope = Scope(registry, "")
    what = f"the API of `{registry}`"
    request = Request("GET", api_host(registry), scope, "/v2/", what, settings=settings)
    try:
        response = transport.fetch(request)
    except (AuthenticationFailed, AuthenticationRequired) as error:
        raise _refused(registry) from error
    if response.status == _FORBIDDEN:
        raise _refused(registry)
    if response.status == _NOT_FOUND:
        raise Usage(f"`{registry}` is not a registry", "check its name and port")
    if response.status != _OK:
        raise ServerFault(f"`{registry}` answered {response.status} to a login", "try again later")
    return transport.has_sent_credentials(scope)


def probe(transport: Transport, registry: str, settings: HostSettings = USUAL) -> Response:
    """Request the API of a registry once, without a login, and return any response."""
    what = f"the API of `{registry}`"
    scope = Scope(registry, "")
    request = Request("GET", api_host(registry), scope, "/v2/", what, settings=settings)
    return transport.probe(request)


def _refused(registry: str) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"`{registry}` rejects this user name and password; nothing was stored",
        "check both; some registries require an access token instead of the password",
    )
