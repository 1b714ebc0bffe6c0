"""Bearer tokens: requests to token servers, their responses, and the token cache."""

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


#: Most bytes of a token server's response, as in oras-go.
MAX_TOKEN_ANSWER = 131_072
#: Most characters of a token; some with many scopes exceed 16,000.
MAX_TOKEN = 16_384
#: Seconds; the shortest is also the default. Source: distribution spec, auth/token.md.
SHORTEST_LIFE = 60.0
LONGEST_LIFE = 30 * 24 * 3600.0
#: A token is renewed this many seconds, or this fraction of its life, before it expires.
MARGIN, MARGIN_PART = 10.0, 0.1

#: RFC 6750 section 2.1, `b64token`; also valid in a header.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_ISSUED = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,12})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


@dataclass(frozen=True, slots=True)
class TokenSource:
    """A token server and the parameters of a token request.

    Attributes:
        service: from the challenge; empty if it has none.
        scopes: needed by the request; never one that only the challenge names.

    """

    realm: Url
    service: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenKey:
    """Key of the token cache: more than the host alone.

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
    """A token and its expiry in seconds on the monotonic clock."""

    value: Secret
    expires: float


@dataclass(frozen=True, slots=True)
class Grant:
    """A token server's response; `lifetime` in seconds, at least 60."""

    token: Secret
    lifetime: float
    refresh: Secret | None


@dataclass(slots=True)
class CachedToken:
    """One entry of the cache; `lock` is held while its token is fetched.

    Attributes:
        round: number of fetches, so that a waiting thread can detect one.
        failure: error of the last fetch, for threads that waited for it.

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
        """Return the entry of a key."""
        with self._lock:
            return self._entries.setdefault(key, CachedToken())

    def current(self, entry: CachedToken) -> Token | None:
        """Return the token of an entry, unless it has expired or is about to."""
        token = entry.token
        return token if token is not None and self._monotonic() < token.expires else None

    def issue(self, grant: Grant) -> Token:
        """Return a token whose life starts now, independent of the server's clock."""
        margin = min(MARGIN, grant.lifetime * MARGIN_PART)
        return Token(grant.token, self._monotonic() + grant.lifetime - margin)


def read_grant(body: bytes, realm: Url, now: float) -> Grant:
    """Parse a token server's response; `now` in seconds since 1970.

    Raises:
        BadTokenAnswer: it is not a JSON object or has no usable token.

    """
    place = f"the token server `{realm.authority}`"
    try:
        document = read_object(body, f"the answer of {place}", any_number=True)
    except (BadDocument, LimitExceeded) as error:
        raise BadTokenAnswer(f"{place} answered without a valid token: {error}") from error
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
    """Return the remaining seconds; invalid values count as the shortest life."""
    seconds = document.get("expires_in")
    if type(seconds) not in (int, float) or not isinstance(seconds, int | float):
        return SHORTEST_LIFE
    if math.isinf(seconds):
        # `1e999` parses as infinity.
        return SHORTEST_LIFE
    life = float(min(max(seconds, SHORTEST_LIFE), LONGEST_LIFE))
    issued = _issued(document.get("issued_at"))
    if issued is None or issued > now or issued + life <= now:
        # One of the clocks is wrong: count from now.
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
    """Read a Bearer challenge of a response from `at`.

    Only the `scopes` that the request needs are used, since a token server may serve several
    registries (docs/wire-protocol.md, "Token scopes").

    Raises:
        UnsafeRealm: its realm is not allowed.

    """
    realm = safe_realm(parameters.get("realm", ""), at, registry)
    return TokenSource(realm, parameters.get("service", ""), scopes)


def refuse_repeated_realm(challenges: Iterable[Challenge], registry: Url) -> None:
    """Refuse a challenge with several realms: clients differ on which one counts.

    Raises:
        UnsafeRealm: a realm is repeated.

    """
    if any("realm" in challenge.repeated for challenge in challenges):
        raise _unsafe(registry, "its challenge has more than one `realm`")


def safe_realm(text: str, at: Url, registry: Url) -> Url:
    """Return the URL of an allowed realm; its address is checked on connect.

    Raises:
        UnsafeRealm: it is not an http(s) URL, has userinfo, or is plain http for an https registry.

    """
    if text.startswith("//"):
        # A relative URL with another host is only used to deceive.
        raise _unsafe(registry, "it names a host without a scheme")
    try:
        realm = at.join(text)
    except BadUrl as error:
        raise _unsafe(registry, f"{error!s}, as in `{_shown(text)}`") from error
    if realm.scheme == "http" and "http" not in (registry.scheme, at.scheme):
        raise _unsafe(registry, f"`{realm.authority}` uses plain http, the registry https")
    return realm


def token_by_get(source: TokenSource, registry: Url, credential: Credential | None) -> Call:
    """Return a GET token request, anonymous or with Basic; all token servers support it."""
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
    """Return a token request with an identity token, sent in the body and never in a URL."""
    form = [("grant_type", "refresh_token"), ("refresh_token", refresh.reveal())]
    if source.service:
        form.append(("service", source.service))
    form += [("client_id", CLIENT), ("scope", " ".join(source.scopes))]
    headers = (("Accept", "application/json"), _FORM)
    body = urlencode(form).encode("ascii")
    return Call(Purpose.TOKEN, "POST", source.realm, registry, headers, body=body)


def basic(credential: Credential) -> Secret:
    """Return the Basic `Authorization` value (RFC 7617).

    Raises:
        AuthenticationFailed: the user name has a colon.

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
    """Cut a realm for display: no user name, no query, 100 characters."""
    return realm.partition("?")[0].rpartition("@")[2][:100]


def _unsafe(registry: Url, reason: str) -> UnsafeRealm:
    return UnsafeRealm(
        f"`{registry.authority}` names a token server that is refused: {reason}",
        "the registry, or a proxy in front of it, is misconfigured",
    )
