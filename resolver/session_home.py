"""The verbs of a session that are about this machine: logins, and what it is set up with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.reference import Reference
from resolver.errors import InvalidReference, ResolverError, Usage
from resolver.wiring import Wiring

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.core.login import LoggedIn, LoggedOut
    from resolver.sources.credential_helpers import Helpers

_HUB_SPELLING = ("index.docker.io", "docker.io")
#: Spellings that `docker login` takes as well.
_URL = re.compile(r"https?://([^/]+)(?:/v[12])?/?")


class HomeVerbs(Wiring):
    """Keeps and forgets logins."""

    def login(self, registry: str = "docker.io") -> LoggedIn:
        """Keep the session's user name and password for a registry, once it has taken them.

        Where Docker's users keep theirs: in the helper that its configuration names, else in the
        configuration itself, for this user alone to read.

        Args:
            registry: `host[:port]`; `docker.io` is Docker Hub.

        Raises:
            Usage: the session has no user name and password, or may ask nobody.
            AuthenticationFailed: the registry does not take them; nothing was kept.
            Unavailable: it cannot be asked; nothing was kept.
            CredentialsNotWritten, HelperFailed: they cannot be kept.

        """
        from resolver.core.login import LoggedIn  # noqa: PLC0415 - for this verb alone
        from resolver.sources.credential_values import Secret  # noqa: PLC0415
        from resolver.sources.credential_writer import save  # noqa: PLC0415
        from resolver.sources.login import is_wanted  # noqa: PLC0415

        host = _registry(registry)
        username, password = self.settings.username, self.settings.password
        if username is None or password is None:
            raise Usage(
                "there is no user name and password to log in with",
                f"`resolver login {host} --username NAME --password-stdin < password.txt`",
            )
        if self.settings.offline:
            raise Usage("a login is checked with the registry", "leave out `--offline`")
        with self._lock:
            self._trusted_hosts.add(host)
            transport, hosts = self._client(), self._hosts_read()
        wanted = is_wanted(transport, host, hosts.of(host))
        place = save(self._logins(), host, username, Secret(password), self._helpers())
        return LoggedIn(host, username, place, wanted)

    def logout(self, registry: str = "docker.io") -> LoggedOut:
        """Forget the login for a registry, in the helper and in the file; nobody is asked.

        Raises:
            InvalidConfiguration: the file is malformed; it stays as it is.
            CredentialsNotWritten, HelperFailed: it cannot be forgotten.

        """
        from resolver.core.login import LoggedOut  # noqa: PLC0415 - for this verb alone
        from resolver.sources.credential_writer import erase  # noqa: PLC0415

        host = _registry(registry)
        return LoggedOut(host, erase(self._logins(), host, self._helpers()))

    def _logins(self) -> Path:
        from resolver.sources.credential_writer import writable_file  # noqa: PLC0415

        settings = self.settings
        return writable_file(settings.environment, settings.home, settings.auth_file)

    def _helpers(self) -> Helpers:
        from resolver.sources.credential_helpers import Helpers  # noqa: PLC0415

        return Helpers(self.settings.environment)


def _registry(text: str) -> str:
    """Read the name of a registry.

    Raises:
        InvalidReference: there can be none of this name.

    """
    url = _URL.fullmatch(text)
    host = url[1] if url is not None else text.removesuffix("/")
    hint = "name a host, with its port if it has one: `ghcr.io`, `localhost:5000`"
    try:
        reference = Reference.parse(f"{host}/a/b")
    except ResolverError as error:
        raise InvalidReference(text, "it is no registry", hint) from error
    same = host == reference.registry or (host, reference.registry) == _HUB_SPELLING
    if not same or "/" in host:
        raise InvalidReference(text, "it is no registry", hint)
    reference.check_endpoint()
    return reference.registry
