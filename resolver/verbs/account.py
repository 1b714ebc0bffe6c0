"""The verbs of a session around the main ones: logins, searching, quotas, and the doctor."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.oci.reference import HUB, Reference, is_registry
from resolver.core.oci.target import RegistryTarget
from resolver.errors import InvalidReference, ResolverError, Unavailable, Usage
from resolver.verbs.context import Context

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from resolver.core.results.account import Hits, LoggedIn, LoggedOut, Quota, SearchFilters
    from resolver.core.results.doctor import Checkup, CheckupRow, Console
    from resolver.sources.credentials.helpers import Helpers
    from resolver.sources.http.client import Transport
    from resolver.sources.http.requests import Response

#: Hits of a search. Source: Docker Engine API, `/images/search`.
DEFAULT_LIMIT = 25
#: What Docker Hub keeps for questions about quotas. Source: Docker documentation, "Pull usage".
PREVIEW = "docker.io/ratelimitpreview/test:latest"

_HUB_SPELLING = ("index.docker.io", "docker.io")
_LONGEST_TERM = 256
#: Spellings that `docker login` takes as well.
_URL = re.compile(r"https?://([^/]+)(?:/v[12])?/?")


class HomeVerbs(Context):
    """Keeps and forgets logins, searches, asks for quotas, and looks a machine over."""

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
        from resolver.core.results.account import LoggedIn  # noqa: PLC0415 - for this verb alone
        from resolver.sources.credentials.login import (
            is_wanted,
            save,
        )
        from resolver.sources.credentials.secrets import Secret  # noqa: PLC0415

        host = _registry(registry)
        username, password = self.settings.username, self.settings.password
        if username is None or password is None:
            raise Usage(
                "there is no user name and password to log in with",
                f"`resolver login {host} --username NAME --password-stdin < password.txt`",
            )
        transport = self._ready(host)
        with self._lock:
            hosts = self._hosts_read()
        wanted = is_wanted(transport, host, hosts.of(host))
        place = save(self._logins(), host, username, Secret(password), self._helpers())
        return LoggedIn(host, username, place, wanted)

    def logout(self, registry: str = "docker.io") -> LoggedOut:
        """Forget the login for a registry, in the helper and in the file; nobody is asked.

        Raises:
            InvalidConfiguration: the file is malformed; it stays as it is.
            CredentialsNotWritten, HelperFailed: it cannot be forgotten.

        """
        from resolver.core.results.account import LoggedOut  # noqa: PLC0415 - for this verb alone
        from resolver.sources.credentials.login import erase  # noqa: PLC0415

        host = _registry(registry)
        return LoggedOut(host, erase(self._logins(), host, self._helpers()))

    def search(
        self, term: str, *, limit: int = DEFAULT_LIMIT, filters: SearchFilters | None = None
    ) -> Hits:
        """Search Docker Hub, or with `HOST` or `HOST/TERM` another registry.

        A registry without a search is asked for the list of its repositories, whose names are
        compared here; so is one that is named without a term. What looks like a host is never
        sent to Docker Hub, unless `docker.io/` stands before it.

        Args:
            term: what to look for.
            limit: hits wanted, 1 to 100; filters take from these.
            filters: which hits are wanted.

        Raises:
            Usage: the term is empty, has a host among its words, or nobody may be asked.
            InvalidReference: what looks like a host is none.
            SearchNotOffered: the registry can do neither.
            Denied, Unavailable, Untrusted: as every question.

        """
        from resolver.core.results.account import SearchFilters  # noqa: PLC0415 - for this question alone
        from resolver.sources.registry.search import search  # noqa: PLC0415

        registry, words = _split_term(term)
        wanted = filters or SearchFilters()
        try:
            found = search(self._ready(registry), registry, words, limit)
        except Unavailable as error:
            if words:
                raise
            hint = f"to search Docker Hub for this: `resolver search {HUB}/{term.strip()}`"
            raise type(error)(str(error), *error.hints(), hint) from error
        return replace(found, hits=tuple(hit for hit in found.hits if wanted.keep(hit)))

    def quota(self, reference: str = PREVIEW) -> Quota:
        """Ask what is left of the pulls that a registry allows; costs none of them.

        Args:
            reference: an image there; by default the one that Docker Hub keeps for this.

        Raises:
            Usage: it is no image of a registry, or nobody may be asked.
            NotFound, Denied, Unavailable: as every question about an image.

        """
        from resolver.sources.registry.search import quota  # noqa: PLC0415 - for this question alone

        target = self._target(reference)
        if not isinstance(target, RegistryTarget):
            raise Usage("quotas belong to registries", "name an image of one")
        asked = target.reference
        transport = self._ready(asked.registry)
        return quota(transport, asked.registry, asked.repository, asked.name)

    def doctor(
        self,
        hosts: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        console: Console | None = None,
        set_aside: Sequence[CheckupRow] = (),
    ) -> Checkup:
        """Look this machine over; what is broken is a row of the answer, and no error.

        Nobody is asked but the registries named here, once each and without a login; no helper is
        run; a store that is not there is not made.

        Args:
            hosts: registries whose answer and clock are wanted.
            environment: as it is, where the session was given less.
            console: where the answer is shown.
            set_aside: rows about variables that the session could not be made with.

        Raises:
            InvalidReference: there can be no registry of this name.

        """
        import time  # noqa: PLC0415 - for this question alone

        from resolver.core.results.doctor import Console  # noqa: PLC0415
        from resolver.verbs.doctor.doctor import look_over  # noqa: PLC0415
        from resolver.verbs.doctor.machine import MachineReport  # noqa: PLC0415

        with self._lock:
            where = self._hosts_read()
        machine = MachineReport(
            settings=self.settings,
            environment=self.settings.environment if environment is None else environment,
            hosts=tuple(dict.fromkeys(map(_registry, hosts))),
            console=console or Console(),
            store=self._store,
            where=where,
            knock=None if self.settings.offline else self._knock,
            clock=time.time,
            set_aside=tuple(set_aside),
        )
        return look_over(machine)

    def _knock(self, host: str) -> Response:
        """Ask a registry once, and prove nothing."""
        from resolver.sources.credentials.login import knock  # noqa: PLC0415 - for this question alone

        with self._lock:
            hosts = self._hosts_read()
        # What the user's configuration forbids is not asked, not even whether it is there.
        hosts.open(host, "library/any")
        return knock(self._ready(host), host, hosts.of(host))

    def _ready(self, registry: str) -> Transport:
        """Give the client, for a registry that somebody named."""
        if self.settings.offline:
            raise Usage("this is a question to a registry", "leave out `--offline`")
        with self._lock:
            self._trusted_hosts.add(registry)
            return self._client()

    def _logins(self) -> Path:
        from resolver.sources.credentials.login import writable_file  # noqa: PLC0415

        settings = self.settings
        return writable_file(settings.environment, settings.home, settings.auth_file)

    def _helpers(self) -> Helpers:
        from resolver.sources.credentials.helpers import Helpers  # noqa: PLC0415

        return Helpers(self.settings.environment)


def _split_term(text: str) -> tuple[str, str]:
    """Tell the registry from the words: `HOST` or `HOST/TERM`, else Docker Hub.

    What looks like a host is never sent to Docker Hub as a word: names of internal registries
    are nobody else's business.

    Raises:
        Usage: there are no words, too many, or a host among them.
        InvalidReference: what stands before the `/` is no registry.

    """
    text = text.strip()
    first, *others = [word.partition("/")[0] for word in text.split()] or [""]
    if _looks_like_host(first) or ("/" in text and is_registry(first)):
        host, slash, words = text.partition("/")
        registry, term = _registry(host), words.strip()
        if slash and not term:
            raise Usage(
                f"there is nothing to search for in `{text[:40]}`",
                f"`resolver search {host}` lists all that it has",
            )
    elif hosts := [word for word in others if _looks_like_host(word)]:
        raise Usage(
            f"`{hosts[0]}` looks like a registry, and would be sent to Docker Hub as a word",
            f"search that registry: `{hosts[0]}/TERM`; to search Docker Hub: `docker.io/TERM`",
        )
    else:
        registry, term = HUB, text
    if len(term) > _LONGEST_TERM or (registry == HUB and not term):
        raise Usage(
            f"there is nothing to search for in `{text[:40]}`", "`resolver search nginx --limit 5`"
        )
    return registry, term


def _looks_like_host(word: str) -> bool:
    return word == "localhost" or "." in word or ":" in word


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
