"""Registry authentication: answer challenges with credentials or tokens.

`RegistryAuth.flow` is a generator in the style of `httpx.Auth`: it yields calls, receives their
responses, and ends when the last response is final. `Transport` drives it, because httpx's own
driver reads error bodies whole and treats the response of a redirect target as the registry's.
See docs/wire-protocol.md, "Authentication".
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.registry.challenge import choose_challenge, parse_challenge
from resolver.core.results.events import Warned
from resolver.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    BadTokenAnswer,
    ConnectionFailed,
    ResolverError,
    TimedOut,
    TlsFailed,
    UnsupportedChallenge,
)
from resolver.sources.credentials.secrets import Credential, CredentialAnswer, Secret
from resolver.sources.http.addresses import is_loopback
from resolver.sources.http.messages import Call, Purpose, StreamedResponse
from resolver.sources.http.responses import read_error_body
from resolver.sources.http.tokens import (
    Grant,
    Token,
    TokenCache,
    TokenKey,
    TokenSource,
    basic,
    read_grant,
    refuse_repeated_realm,
    token_by_get,
    token_by_refresh,
    token_source,
)
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resolver.clock import Clock
    from resolver.core.registry.challenge import Challenge
    from resolver.core.results.events import Observer
    from resolver.sources.credentials.chain import CredentialChain
    from resolver.sources.credentials.secrets import Redactor
    from resolver.sources.http.messages import Scope


_REFUSED = frozenset({400, 401, 403})


class Refusals:
    """Builds the errors for one scope; `look` returns the credentials."""

    def __init__(
        self, scope: Scope, look: Callable[[], CredentialAnswer], redactor: Redactor
    ) -> None:
        self._scope = scope
        self._look = look
        self._redactor = redactor

    def reports_expired(self, answer: StreamedResponse) -> bool:
        """Whether a registry reports an expired password, as ECR does."""
        body = read_error_body(answer.read_some(), answer.headers, self._redactor)
        return "expired" in body.text.lower()

    def by_token_server(
        self, answer: StreamedResponse, server: str, credential: Credential | None
    ) -> ResolverError:
        """Return the error for a token server that issued no token."""
        body = read_error_body(answer.body, answer.headers, self._redactor)
        said = f": {body.text}" if body.text else ""
        if answer.status not in _REFUSED:
            return BadTokenAnswer(
                f"the token server `{server}` answered {answer.status} without a token{said}"
            )
        if credential is None:
            return AuthenticationRequired(
                f"`{self._scope}` does not exist or access denied: the token server `{server}` "
                f"rejects anonymous requests{said}",
                *self._advice(),
            )
        return AuthenticationFailed(
            f"the token server `{server}` refuses the stored credentials for "
            f"`{self._scope.registry}`{said}",
            f"they come from {self._look().source}; log in again, or try `--anonymous`",
        )

    def by_registry(self, answer: StreamedResponse | None) -> ResolverError:
        """Return the error for a registry that denied access."""
        said = ""
        if answer is not None:
            body = read_error_body(answer.read_some(), answer.headers, self._redactor)
            said = f" ({body.text})" if body.text else ""
        found = self._look()
        if found.credential is None:
            return AuthenticationRequired(
                f"`{self._scope}` does not exist or access denied: `{self._scope.registry}` "
                f"requires a login{said}",
                *self._advice(),
            )
        return AuthenticationFailed(
            f"`{self._scope}` does not exist or access denied: `{self._scope.registry}` rejects "
            f"the credentials{said}",
            f"they come from {found.source}; log in again, or try `--anonymous`",
        )

    def by_redirect_target(self, answer: StreamedResponse) -> ResolverError:
        """Return the error for a redirect target that requires a login."""
        return AuthenticationRequired(
            f"`{self._scope.registry}` sends requests for `{self._scope}` to "
            f"`{answer.url.authority}`, which requires a login",
            "name the image at that registry, and log in there",
        )

    def _advice(self) -> tuple[str, ...]:
        """Return hints for an anonymous request; a broken helper first."""
        problem = self._look().problem
        login = f"check the spelling, or log in: `resolver login {self._scope.registry}`"
        return (f"{problem}", login) if problem is not None else (login,)


#: Most requests for one resource, and token requests for it (docs/wire-protocol.md, "Authentication
#: flow").
MAX_REQUESTS = 3
MAX_TOKEN_REQUESTS = 2

UNAUTHORIZED, FORBIDDEN, BAD_REQUEST, OK = 401, 403, 400, 200
#: Statuses of token servers without POST, or not for this user. Source: containerd authorizer.go.
_TRY_GET = frozenset({400, 401, 404, 405})

Flow = Generator[Call, StreamedResponse, None]


@dataclass(frozen=True, slots=True)
class Authorization:
    """The authorization of a request.

    Attributes:
        header: value of the `Authorization` header.
        token: None for Basic and for a token that the user configured.
        source: of the token; None without a token server.
        fresh: created for this request.

    """

    header: Secret
    token: Token | None = None
    source: TokenSource | None = None
    fresh: bool = True


class AuthExchange:
    """One request with its authentication."""

    def __init__(self, auth: RegistryAuth, scope: Scope, call: Call) -> None:
        self._auth = auth
        self._scope = scope
        self._call = call
        self._asked = 0
        self._fetched = 0
        self._found: CredentialAnswer | None = None
        self._asked_again = False
        self._refusals = Refusals(scope, self._look, auth.redactor)

    def run(self, first: StreamedResponse | None) -> Flow:
        """Send the request, answer challenges, and stop when the response is final.

        `first` is the response to the request without authorization, if it was sent already.
        """
        authorization = yield from self._initial()
        while True:
            self._asked += 1
            if first is not None and authorization is None:
                answer, first = first, None
            else:
                answer = yield self._with(authorization)
            if not answer.direct:
                if answer.status == UNAUTHORIZED:
                    yield from self._after_redirect(answer)
                return
            if answer.status == BAD_REQUEST:
                again, authorization = yield from self._after_bad_request(answer, authorization)
                if not again:
                    return
                continue
            if (
                answer.status == FORBIDDEN
                and authorization is not None
                and authorization.token is None
            ):
                newer = self._renewed(answer)
                if newer is not None:
                    authorization = self._use_basic(newer)
                    continue
            if answer.status != UNAUTHORIZED:
                return
            authorization = yield from self._after_refusal(answer, authorization)

    # --- authorization ---------------------------------------------------------------------

    def _initial(self) -> Generator[Call, StreamedResponse, Authorization | None]:
        """Return the last working authorization; an expired token is replaced in advance."""
        known = self._auth.remembered(self._scope)
        if known is None or isinstance(known, Authorization):
            return known if known is None else replace(known, fresh=False)
        before = self._fetched
        token = yield from self._token(known, self._credential(), None)
        return _bearer(token, known, fresh=self._fetched != before)

    def _with(self, authorization: Authorization | None) -> Call:
        call = replace(self._call, authorization=authorization.header if authorization else None)
        self._auth.warn_plain_http(call)
        return call

    def _look(self) -> CredentialAnswer:
        """Find credentials; only on demand, because a helper may run."""
        if self._found is None:
            self._found = self._auth.credentials.find(self._scope.registry, self._scope.repository)
            self._auth.redactor.learn(self._found.credential)
        return self._found

    def _credential(self) -> Credential | None:
        return self._look().credential

    # --- challenges ------------------------------------------------------------------------

    def _after_bad_request(
        self, answer: StreamedResponse, authorization: Authorization | None
    ) -> Generator[Call, StreamedResponse, tuple[bool, Authorization | None]]:
        """Handle a 400 that means 401; return whether to retry, and with which authorization."""
        if self._asked > 1:
            return False, None
        if (
            authorization is not None
            and authorization.token is not None
            and not authorization.fresh
        ):
            # ECR Public answers 400 without a challenge to an expired token (docs/wire-protocol.md,
            # "Refusals without a challenge").
            self._drop(authorization)
            return True, None
        if authorization is None and self._credential() is not None:
            # Nexus answers 400 instead of 401.
            challenges = yield from self._challenges_of_ping(answer)
            if challenges:
                return True, (yield from self._prove(challenges, answer, None))
        return False, None

    def _after_refusal(
        self, answer: StreamedResponse, authorization: Authorization | None
    ) -> Generator[Call, StreamedResponse, Authorization]:
        """Return the authorization that a 401 requires, or raise."""
        if self._asked >= MAX_REQUESTS:
            raise self._refusals.by_registry(answer)
        challenges: Sequence[Challenge] = ()
        if answer.headers.get("www-authenticate") is not None:
            values = answer.headers.all("www-authenticate")
            challenges = parse_challenge(values, self._who(answer))
        elif authorization is None:
            # gcr.io used to answer 401 without a challenge.
            challenges = yield from self._challenges_of_ping(answer)
        if not challenges:
            raise self._refusals.by_registry(answer)
        return (yield from self._prove(challenges, answer, authorization))

    def _challenges_of_ping(
        self, answer: StreamedResponse
    ) -> Generator[Call, StreamedResponse, Sequence[Challenge]]:
        headers = tuple(pair for pair in self._call.headers if pair[0] == "User-Agent")
        url = answer.url.at("/v2/")
        pong = yield Call(Purpose.PING, "GET", url, self._call.registry, headers)
        values = pong.headers.all("www-authenticate")
        if not pong.direct or pong.status != UNAUTHORIZED:
            return ()
        return parse_challenge(values, self._who(pong))

    @staticmethod
    def _who(answer: StreamedResponse) -> str:
        return f"`{answer.url.authority}`"

    def _prove(
        self,
        challenges: Sequence[Challenge],
        answer: StreamedResponse,
        refused: Authorization | None,
    ) -> Generator[Call, StreamedResponse, Authorization]:
        refuse_repeated_realm(challenges, self._call.registry)
        chosen = choose_challenge(challenges, self._who(answer))
        if chosen.scheme == "basic":
            return self._basic(answer, refused)
        try:
            return (yield from self._by_token(chosen, answer, refused))
        except BadTokenAnswer:
            if not any(one.scheme == "basic" for one in challenges):
                raise
            # Some token servers issue empty tokens beside Basic (docs/wire-protocol.md, "Token
            # responses").
            return self._basic(answer, refused)

    def _basic(self, answer: StreamedResponse, refused: Authorization | None) -> Authorization:
        credential = self._credential()
        if credential is None or not credential.password:
            raise self._refusals.by_registry(answer)
        if refused is not None and refused.token is None:
            newer = self._renewed(answer)
            if newer is None and refused.fresh:
                raise self._refusals.by_registry(answer)
            credential = newer or credential
        return self._use_basic(credential)

    def _renewed(self, answer: StreamedResponse) -> Credential | None:
        """Ask a helper again for an expired password; ECR's last 12 hours."""
        found = self._look()
        if found.helper is None or self._asked_again or not self._refusals.reports_expired(answer):
            return None
        self._asked_again = True
        again = self._auth.credentials.find_again(
            self._scope.registry, self._scope.repository, found
        )
        if again.credential in (None, found.credential) or not again.credential.password:
            return None
        self._found = again
        return again.credential

    def _use_basic(self, credential: Credential) -> Authorization:
        authorization = Authorization(basic(credential))
        self._auth.redactor.learn(authorization.header)
        self._auth.remember(self._scope, authorization)
        return authorization

    def _by_token(
        self, challenge: Challenge, answer: StreamedResponse, refused: Authorization | None
    ) -> Generator[Call, StreamedResponse, Authorization]:
        source = token_source(
            challenge.parameters, answer.url, self._call.registry, self._scope.scopes
        )
        credential = self._credential()
        if credential is not None and credential.registry_token:
            if refused is not None:
                raise self._refusals.by_registry(answer)
            token = Token(credential.registry_token, float("inf"))
            return _bearer(token, None, fresh=True)
        if (
            refused is not None
            and refused.fresh
            and self._is_insufficient(challenge, refused, source)
        ):
            raise self._refusals.by_registry(answer)
        self._auth.remember(self._scope, source)
        token = yield from self._token(source, credential, refused.token if refused else None)
        return _bearer(token, source, fresh=True)

    @staticmethod
    def _is_insufficient(challenge: Challenge, refused: Authorization, source: TokenSource) -> bool:
        """Whether a fresh token for this scope was insufficient."""
        same = refused.source is not None and set(source.scopes) <= set(refused.source.scopes)
        return same and challenge.parameters.get("error") == "insufficient_scope"

    def _after_redirect(self, answer: StreamedResponse) -> Flow:
        """Answer the challenge of a redirect target (lscr.io redirects to ghcr.io).

        Anonymously and for this request only: that host must not get the registry's credentials.
        """
        registry = self._call.registry
        try:
            challenges = parse_challenge(answer.headers.all("www-authenticate"))
            chosen = choose_challenge(challenges)
        except UnsupportedChallenge as error:
            raise self._refusals.by_redirect_target(answer) from error
        if chosen.scheme != "bearer":
            raise self._refusals.by_redirect_target(answer)
        refuse_repeated_realm(challenges, registry)
        source = token_source(chosen.parameters, answer.url, registry, self._scope.scopes)
        key = TokenKey(answer.url.authority, source.service, tuple(sorted(source.scopes)), None)
        token = yield from self._token(source, None, None, key)
        authorization = _bearer(token, source, fresh=True)
        second = yield replace(
            self._call, url=answer.url, authorization=authorization.header, registry=registry
        )
        if second.status == UNAUTHORIZED:
            raise self._refusals.by_redirect_target(second)

    # --- tokens ----------------------------------------------------------------------------

    def _drop(self, authorization: Authorization) -> None:
        """Drop a refused token, unless another thread has replaced it."""
        if authorization.source is None:
            return
        entry = self._auth.tokens.entry(self._key(authorization.source, self._credential()))
        with entry.lock:
            if entry.token is authorization.token:
                entry.token = None

    def _key(self, source: TokenSource, credential: Credential | None) -> TokenKey:
        scopes = tuple(sorted(source.scopes))
        return TokenKey(self._scope.registry, source.service, scopes, credential)

    def _token(
        self,
        source: TokenSource,
        credential: Credential | None,
        refused: Token | None,
        key: TokenKey | None = None,
    ) -> Generator[Call, StreamedResponse, Token]:
        """Return a token other than the refused one; only one of several threads fetches it."""
        entry = self._auth.tokens.entry(key or self._key(source, credential))
        before = entry.round
        with entry.lock:
            held = self._auth.tokens.current(entry)
            if held is not None and held is not refused:
                return held
            if entry.round != before and entry.failure is not None:
                # Another thread's request failed while this one waited; a retry would not help.
                raise entry.failure
            entry.token, entry.failure = None, None
            try:
                grant = yield from self._fetch(source, credential)
            except ResolverError as error:
                entry.failure = error
                raise
            finally:
                entry.round += 1
            entry.token = self._auth.tokens.issue(grant)
            return entry.token

    def _fetch(
        self, source: TokenSource, credential: Credential | None
    ) -> Generator[Call, StreamedResponse, Grant]:
        if self._fetched >= MAX_TOKEN_REQUESTS:
            raise self._refusals.by_registry(None)
        self._fetched += 1
        registry = self._call.registry
        identity = self._auth.refresh_token(credential) if credential is not None else None
        if credential is not None and identity:
            call = token_by_refresh(source, registry, identity)
            self._auth.warn_plain_http(replace(call, authorization=identity))
            answer = yield from self._by_server(call)
            if answer.status not in _TRY_GET or not credential.password:
                return self._grant(answer, source, credential)
        call = token_by_get(source, registry, credential)
        self._auth.warn_plain_http(call)
        answer = yield from self._by_server(call)
        return self._grant(answer, source, credential)

    def _by_server(self, call: Call) -> Generator[Call, StreamedResponse, StreamedResponse]:
        """Send a token request; connection errors name the registry of the token server."""
        try:
            return (yield call)
        except (ConnectionFailed, TimedOut, TlsFailed) as error:
            whose = f"`{call.url}`, the token server that `{self._scope.registry}` names"
            raise type(error)(f"{error} (for {whose})", *error.hints()) from error

    def _grant(
        self, answer: StreamedResponse, source: TokenSource, credential: Credential | None
    ) -> Grant:
        if answer.status != OK:
            raise self._refusals.by_token_server(answer, source.realm.authority, credential)
        grant = read_grant(answer.body, source.realm, self._auth.clock.wall())
        self._auth.redactor.learn(grant.token)
        if credential is not None and credential.identity_token and grant.refresh is not None:
            self._auth.replace_refresh_token(credential, grant.refresh)
        return grant


def _bearer(token: Token, source: TokenSource | None, *, fresh: bool) -> Authorization:
    return Authorization(Secret(f"Bearer {token.value.reveal()}"), token, source, fresh)


class RegistryAuth:
    """Authentication state of all registries; safe to share between threads."""

    def __init__(
        self, credentials: CredentialChain, redactor: Redactor, observe: Observer, clock: Clock
    ) -> None:
        self.credentials = credentials
        self.redactor = redactor
        self.observe = observe
        self.clock = clock
        self.tokens = TokenCache(clock.monotonic)
        self._lock = threading.Lock()
        self._remembered: dict[Scope, TokenSource | Authorization] = {}
        self._refreshed: dict[Credential, Secret] = {}
        self._warned: set[str] = set()

    def flow(self, scope: Scope, call: Call, first: StreamedResponse | None = None) -> Flow:
        """Return the flow of a request, authenticating if the registry requires it.

        `first` is the response to `call`, if it was sent already.

        Raises:
            Denied: access is denied, or authentication would be unsafe.

        """
        return AuthExchange(self, scope, call).run(first)

    def remembered(self, scope: Scope) -> TokenSource | Authorization | None:
        """Return what worked for this repository before."""
        with self._lock:
            return self._remembered.get(scope)

    def remember(self, scope: Scope, known: TokenSource | Authorization) -> None:
        """Remember what to use for this repository."""
        with self._lock:
            self._remembered[scope] = known

    def has_sent_credentials(self, scope: Scope) -> bool:
        """Whether requests for this repository carried credentials."""
        known = self.remembered(scope)
        if known is None or isinstance(known, Authorization):
            return known is not None
        return self.credentials.find(scope.registry, scope.repository).credential is not None

    def refresh_token(self, credential: Credential) -> Secret | None:
        """Return the identity token, or its replacement from the token server."""
        with self._lock:
            return self._refreshed.get(credential, credential.identity_token)

    def replace_refresh_token(self, credential: Credential, token: Secret) -> None:
        """Remember a new identity token for this process."""
        self.redactor.learn(token)
        with self._lock:
            self._refreshed[credential] = token

    def warn_plain_http(self, call: Call) -> None:
        """Warn once per host about credentials over plain http."""
        url = call.url
        if call.authorization is None or url.scheme != "http" or is_loopback(url.host):
            return
        with self._lock:
            if url.authority in self._warned:
                return
            self._warned.add(url.authority)
        message = f"credentials go to `{url.authority}` unencrypted over plain http"
        self.observe(Warned("plain-credentials", message))
