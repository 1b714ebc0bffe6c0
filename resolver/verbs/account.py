"""Log in and out, search registries, read pull quotas, and check the installation."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from resolver.core.oci.reference import HUB, Reference, is_registry
from resolver.core.oci.target import RegistryTarget
from resolver.core.results.account import LoggedIn, LoggedOut, SearchFilters
from resolver.core.results.doctor import Console
from resolver.errors import InvalidReference, ResolverError, Unavailable, Usage
from resolver.settings import QUOTA_PREVIEW, SEARCH_LIMIT
from resolver.sources.credentials.helpers import Helpers
from resolver.sources.credentials.login import check_login, erase, probe, save, writable_file
from resolver.sources.credentials.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from resolver.core.results.account import Hits, Quota, Repositories
    from resolver.core.results.doctor import Checkup, CheckupRow
    from resolver.sources.http.client import Transport
    from resolver.sources.http.messages import Response
    from resolver.verbs.context import Context


_HUB_SPELLING = ("index.docker.io", "docker.io")
_LONGEST_TERM = 256
#: Spellings that `docker login` takes as well.
_URL = re.compile(r"https?://([^/]+)(?:/v[12])?/?")


def login(context: Context, registry: str = "docker.io") -> LoggedIn:
    """Keep the session's user name and password for a registry, once it has taken them."""
    host = _registry(registry)
    username, password = context.settings.username, context.settings.password
    if username is None or password is None:
        raise Usage(
            "user name and password are missing",
            f"`resolver login {host} --username NAME --password-stdin < password.txt`",
        )
    transport = _ready(context, host)
    with context.mutex:
        hosts = context.hosts()
    wanted = check_login(transport, host, hosts.of(host))
    place = save(_logins(context), host, username, Secret(password), _helpers(context))
    return LoggedIn(host, username, place, wanted)


def logout(context: Context, registry: str = "docker.io") -> LoggedOut:
    """Remove the login for a registry from the helper and the file, without a request."""
    host = _registry(registry)
    return LoggedOut(host, erase(_logins(context), host, _helpers(context)))


def search(
    context: Context, term: str, *, limit: int = SEARCH_LIMIT, filters: SearchFilters | None = None
) -> Hits:
    """Search Docker Hub, or with `HOST` or `HOST/TERM` another registry."""
    from resolver.sources.registry.search import search  # noqa: PLC0415

    registry, words = _split_term(term)
    wanted = filters or SearchFilters()
    try:
        found = search(_ready(context, registry), registry, words, limit)
    except Unavailable as error:
        if words:
            raise
        hint = f"to search Docker Hub for this: `resolver search {HUB}/{term.strip()}`"
        raise type(error)(str(error), *error.hints(), hint) from error
    return replace(found, hits=tuple(hit for hit in found.hits if wanted.keep(hit)))


def repositories(context: Context, place: str) -> Repositories:
    """List the repositories of a registry whose names begin with a prefix."""
    from resolver.core.results.account import Repositories as Found  # noqa: PLC0415 - likewise
    from resolver.sources.registry.search import catalog  # noqa: PLC0415

    registry, _, prefix = place.strip().partition("/")
    if not is_registry(registry):
        raise Usage(
            f"`{registry}` is not the name of a registry",
            "name its host: `resolver repositories registry.corp:5000`",
        )
    found = catalog(_ready(context, registry), registry)
    names = sorted({f"{registry}/{name}" for name in found if name.startswith(prefix)})
    return Found(registry, prefix, tuple(names))


def quota(context: Context, reference: str = QUOTA_PREVIEW) -> Quota:
    """Read the remaining pulls of a registry's rate limit, without using one."""
    from resolver.sources.registry.search import quota  # noqa: PLC0415 - for this question alone

    target = context.target(reference)
    if not isinstance(target, RegistryTarget):
        raise Usage("only registries have quotas", "name an image in a registry")
    image = target.reference
    transport = _ready(context, image.registry)
    return quota(transport, image.registry, image.repository, image.name)


def doctor(
    context: Context,
    hosts: Sequence[str] = (),
    *,
    environment: Mapping[str, str] | None = None,
    console: Console | None = None,
    set_aside: Sequence[CheckupRow] = (),
) -> Checkup:
    """Check the installation and this machine; a fault is a row of the result, not an error."""
    import time  # noqa: PLC0415 - for this question alone

    from resolver.verbs.doctor.doctor import run_checks  # noqa: PLC0415
    from resolver.verbs.doctor.machine import MachineReport  # noqa: PLC0415

    with context.mutex:
        where = context.hosts()
    machine = MachineReport(
        settings=context.settings,
        environment=context.settings.environment if environment is None else environment,
        hosts=tuple(dict.fromkeys(map(_registry, hosts))),
        console=console or Console(),
        store=context.store,
        where=where,
        knock=None if context.settings.offline else partial(_knock, context),
        clock=time.time,
        set_aside=tuple(set_aside),
    )
    return run_checks(machine)


def _knock(context: Context, host: str) -> Response:
    with context.mutex:
        hosts = context.hosts()
    # A registry that the user's configuration blocks gets no request at all.
    hosts.open(host, "library/any")
    return probe(_ready(context, host), host, hosts.of(host))


def _ready(context: Context, registry: str) -> Transport:
    if context.settings.offline:
        raise Usage("this needs a registry", "leave out `--offline`")
    with context.mutex:
        context.trusted_hosts.add(registry)
        return context.client()


def _logins(context: Context) -> Path:
    settings = context.settings
    return writable_file(settings.environment, settings.home, settings.auth_file)


def _helpers(context: Context) -> Helpers:
    return Helpers(context.settings.environment)


def _split_term(text: str) -> tuple[str, str]:
    """Split a search term into registry and words: `HOST` or `HOST/TERM`, else Docker Hub.

    A word that looks like a host is never sent to Docker Hub: names of internal registries are
    private.
    """
    text = text.strip()
    first, *others = [word.partition("/")[0] for word in text.split()] or [""]
    if _looks_like_host(first) or ("/" in text and is_registry(first)):
        host, slash, words = text.partition("/")
        registry, term = _registry(host), words.strip()
        if slash and not term:
            raise Usage(
                f"there is nothing to search for in `{text[:40]}`",
                f"`resolver search {host}` lists all its repositories",
            )
    elif hosts := [word for word in others if _looks_like_host(word)]:
        raise Usage(
            f"`{hosts[0]}` looks like a registry, and would be searched for on Docker Hub",
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
    url = _URL.fullmatch(text)
    host = url[1] if url is not None else text.removesuffix("/")
    hint = "name a host, with its port if it has one: `ghcr.io`, `localhost:5000`"
    try:
        reference = Reference.parse(f"{host}/a/b")
    except ResolverError as error:
        raise InvalidReference(text, "it is not a registry", hint) from error
    same = host == reference.registry or (host, reference.registry) == _HUB_SPELLING
    if not same or "/" in host:
        raise InvalidReference(text, "it is not a registry", hint)
    reference.check_endpoint()
    return reference.registry
