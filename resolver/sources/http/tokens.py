"""Tokens: what a token server answers, and keeping it while it lasts (protocol.md 9.3, 9.4)."""

from __future__ import annotations

import base64
import math
import re
import threading
from dataclasses import field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from resolver.core.parse.json import read_object
from resolver.errors import (
    AuthenticationFailed,
    BadDocument,
    BadTokenAnswer,
    LimitExceeded,
    ResolverError,
    UnsafeRealm,
)
from resolver.sources.credentials.secrets import Credential, Secret, octets
from resolver.sources.http.messages import Call, Purpose
from resolver.sources.http.urls import BadUrl
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from resolver.core.registry.challenge import Challenge
    from resolver.sources.http.urls import Url


#: Bytes of a token server's answer. Source: reliability.md section 5, as oras-go.
MAX_TOKEN_ANSWER = 131_072
#: Characters of one token; some with many scopes pass 16,000.
MAX_TOKEN = 16_384
#: Seconds; also for answers that say nothing. Source: distribution spec, auth/token.md.
SHORTEST_LIFE = 60.0
LONGEST_LIFE = 30 * 24 * 3600.0
#: A token is renewed so many seconds, or this part of its life, before its end.
MARGIN, MARGIN_PART = 10.0, 0.1

#: RFC 6750 section 2.1, `b64token`, which is also what may stand in a header.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_ISSUED = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,12})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where tokens for one purpose come from.

    Attributes:
        service: as the challenge wrote it; empty when it said nothing.
        scopes: those that the question needs; never one that only the challenge names.

    """

    realm: Url
    service: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenKey:
    """What a token is good for; never the host alone.

    Attributes:
        host: identity of the registry, with its port.
        scopes: sorted.

    """

    host: str
    service: str
    scopes: tuple[str, ...]
    credential: Credential | None


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """A token, and when to stop using it: seconds on the monotonic clock."""

    value: Secret
    expires: float


@dataclass(frozen=True, slots=True)
class Grant:
    """A token server's answer; `lifetime` in seconds, at least 60."""

    token: Secret
    lifetime: float
    refresh: Secret | None


@dataclass(slots=True)
class CachedToken:
    """One place in the cache; `lock` is held while a token is fetched for it.

    Attributes:
        round: counts fetches, so that who waited for one can tell that it took place.
        failure: how the last fetch ended, if badly; for those who waited for it.

    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    token: Token | None = None
    round: int = 0
    failure: ResolverError | None = None


class TokenCache:
    """Tokens of this process; safe to share between threads."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._entries: dict[TokenKey, CachedToken] = {}

    def entry(self, key: TokenKey) -> CachedToken:
        """Give the place for a key."""
        with self._lock:
            return self._entries.setdefault(key, CachedToken())

    def current(self, entry: CachedToken) -> Token | None:
        """Give the token in a place, unless it has expired or is about to."""
        token = entry.token
        return token if token is not None and self._monotonic() < token.expires else None

    def issue(self, grant: Grant) -> Token:
        """Start a token's life now; the server's clock may be wrong, ours only counts."""
        margin = min(MARGIN, grant.lifetime * MARGIN_PART)
        return Token(grant.token, self._monotonic() + grant.lifetime - margin)


def read_grant(body: bytes, realm: Url, now: float) -> Grant:
    """Read a token server's answer, of at most 128 KiB; `now` in seconds since 1970.

    Raises:
        BadTokenAnswer: it is no JSON object, or has no usable token.

    """
    place = f"the token server `{realm.authority}`"
    try:
        document = read_object(body, f"the answer of {place}", any_number=True)
    except (BadDocument, LimitExceeded) as error:
        raise BadTokenAnswer(
            f"{place} answered with something that is no token: {error}"
        ) from error
    token = next(
        (
            value
            for value in (document.get("token"), document.get("access_token"))
            if isinstance(value, str) and value
        ),
        None,
    )
    if token is None:
        raise BadTokenAnswer(f"{place} did not include a token in its answer")
    if len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token):
        raise BadTokenAnswer(f"{place} answered with a token that no header can carry")
    refresh = document.get("refresh_token")
    return Grant(
        Secret(token),
        _lifetime(document, now),
        Secret(refresh) if isinstance(refresh, str) and 0 < len(refresh) <= MAX_TOKEN else None,
    )


def _lifetime(document: dict[str, object], now: float) -> float:
    """Give the seconds left; odd values count as the shortest life, never as an error."""
    seconds = document.get("expires_in")
    if type(seconds) not in (int, float) or not isinstance(seconds, int | float):
        return SHORTEST_LIFE
    if math.isinf(seconds):
        # `1e999`: no number that anybody means.
        return SHORTEST_LIFE
    life = float(min(max(seconds, SHORTEST_LIFE), LONGEST_LIFE))
    issued = _issued(document.get("issued_at"))
    if issued is None or issued > now or issued + life <= now:
        # A clock is wrong, here or there: count from now.
        return life
    return max(issued + life - now, SHORTEST_LIFE)


def _issued(value: object) -> float | None:
    found = _ISSUED.fullmatch(value) if isinstance(value, str) and len(value) <= MAX_TOKEN else None
    if found is None:
        return None
    zone = "+00:00" if found[2] in "Zz" else found[2]
    try:
        return datetime.fromisoformat(found[1] + zone).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None


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
