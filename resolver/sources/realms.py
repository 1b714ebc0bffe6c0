"""Where a challenge sends us for a token, and what may be asked there (protocol.md 9.2, 9.5)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from resolver.errors import AuthenticationFailed, UnsafeRealm
from resolver.sources.credential_values import Credential, Secret, octets
from resolver.sources.exchange import Call, Purpose
from resolver.sources.tokens import TokenSource
from resolver.sources.urls import BadUrl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resolver.sources.urls import Url

CLIENT = "resolver"
_FORM = ("Content-Type", "application/x-www-form-urlencoded")


def token_source(
    parameters: Mapping[str, str], at: Url, registry: Url, repository: str
) -> TokenSource:
    """Read a Bearer challenge that came with an answer from `at`.

    Without a repository, as for a login, only what the challenge itself asks for is asked for.

    Raises:
        UnsafeRealm: its realm must not be asked.

    """
    own = f"repository:{repository}:pull" if repository else ""
    return TokenSource(
        safe_realm(parameters.get("realm", ""), at, registry),
        parameters.get("service", ""),
        merge_scopes(parameters.get("scope", "").split(), own),
    )


def safe_realm(text: str, at: Url, registry: Url) -> Url:
    """Decide whether a realm may be asked; addresses are judged when it is.

    Raises:
        UnsafeRealm: it is no http(s) URL, carries userinfo, or is plain http behind https.

    """
    if text.startswith("//"):
        # Relative, and yet another host: a realm written like this is a trick.
        raise _unsafe(registry, "it names a host without a scheme")
    try:
        realm = at.join(text)
    except BadUrl as error:
        raise _unsafe(registry, f"{error!s}, as in `{_shown(text)}`") from error
    if realm.scheme == "http" and "http" not in (registry.scheme, at.scheme):
        raise _unsafe(
            registry, f"`{realm.authority}` is asked over plain http, the registry over https"
        )
    return realm


def merge_scopes(challenged: Sequence[str], own: str) -> tuple[str, ...]:
    """Put the challenge's scopes first, and ours after them if it adds anything.

    Some servers read only the first one (quirk q-080). Words that are no repository's pass as they
    are (`aws`, `*`: quirks q-033, q-083); of a repository nothing but `pull` is ever asked for,
    whatever the registry wants us to ask (R29): a token server may serve others too.
    """
    kept = [_only_pull(scope) for scope in challenged]
    return tuple(dict.fromkeys(filter(None, (*kept, own))))


def _only_pull(scope: str) -> str:
    """Cut a repository's scope down to pulling; empty when nothing is left of it."""
    kind, colon, actions = scope.rpartition(":")
    if not colon or not kind.startswith("repository:"):
        return scope
    return f"{kind}:pull" if {"pull", "*"} & set(actions.split(",")) else ""


def token_by_get(source: TokenSource, registry: Url, credential: Credential | None) -> Call:
    """Ask for a token anonymously or by Basic; understood by every token server."""
    parameters = [("scope", scope) for scope in source.scopes]
    if source.service:
        parameters.insert(0, ("service", source.service))
    authorization = None
    if credential is not None and credential.password:
        parameters.append(("account", credential.username))
        authorization = basic(credential)
    parameters.append(("client_id", CLIENT))
    query = "&".join(part for part in (source.realm.query, urlencode(parameters)) if part)
    url = source.realm.at(f"{source.realm.path}?{query}")
    accept = (("Accept", "application/json"),)
    return Call(Purpose.TOKEN, "GET", url, registry, accept, authorization)


def token_by_refresh(source: TokenSource, registry: Url, refresh: Secret) -> Call:
    """Ask for a token with an identity token, which must go into a body and never into a URL."""
    form = [("grant_type", "refresh_token"), ("refresh_token", refresh.reveal())]
    if source.service:
        form.append(("service", source.service))
    form += [("client_id", CLIENT), ("scope", " ".join(source.scopes))]
    headers = (("Accept", "application/json"), _FORM)
    body = urlencode(form).encode("ascii")
    return Call(Purpose.TOKEN, "POST", source.realm, registry, headers, body=body)


def basic(credential: Credential) -> Secret:
    """Write what `Authorization` carries for a user and a password (RFC 7617).

    Raises:
        AuthenticationFailed: the user name holds a colon.

    """
    if ":" in credential.username:
        raise AuthenticationFailed(
            "a user name with a colon cannot be sent by Basic authentication",
            "check the stored credentials",
        )
    password = credential.password.reveal() if credential.password else ""
    pair = octets(f"{credential.username}:{password}")
    return Secret(f"Basic {base64.b64encode(pair).decode('ascii')}")


def _shown(realm: str) -> str:
    """Cut a realm to what can be shown: no user name, no query, not all of a book."""
    return realm.partition("?")[0].rpartition("@")[2][:100]


def _unsafe(registry: Url, reason: str) -> UnsafeRealm:
    return UnsafeRealm(
        f"`{registry.authority}` names a token server that must not be asked: {reason}",
        "the registry, or a proxy in front of it, is set up wrongly",
    )
