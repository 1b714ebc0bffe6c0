"""Where a challenge sends us for a token, and what may be asked there (9.5, R21, R29)."""

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
    from collections.abc import Iterable, Mapping

    from resolver.core.challenge import Challenge
    from resolver.sources.urls import Url

CLIENT = "resolver"
_FORM = ("Content-Type", "application/x-www-form-urlencoded")


def token_source(
    parameters: Mapping[str, str], at: Url, registry: Url, scopes: tuple[str, ...]
) -> TokenSource:
    """Read a Bearer challenge that came with an answer from `at`.

    Only `scopes`, those that the question itself needs, are asked for: a scope that only the
    challenge names is the registry's wish, and a token server may serve others too (R29).

    Raises:
        UnsafeRealm: its realm must not be asked.

    """
    realm = safe_realm(parameters.get("realm", ""), at, registry)
    return TokenSource(realm, parameters.get("service", ""), scopes)


def refuse_repeated_realm(challenges: Iterable[Challenge], registry: Url) -> None:
    """Refuse challenges of which one names its realm twice: clients differ on which counts (R21).

    Raises:
        UnsafeRealm: one does.

    """
    if any("realm" in challenge.repeated for challenge in challenges):
        raise _unsafe(registry, "it gives `realm` more than once")


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
