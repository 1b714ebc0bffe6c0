"""Proving who asks: from a refusal with a challenge to a request that passes (protocol.md 9).

`RegistryAuth.flow` is a generator in the style of `httpx.Auth`: it yields calls, is sent their
answers, and ends when the last answer stands. `Transport` drives it, because httpx's own driver
reads refusals whole, and shows the answer of a redirect's target as if the registry had given it.
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
from resolver.sources.http.responses import read_complaint
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
    from resolver.core.results.pull_events import Observer
    from resolver.sources.credentials.chain import CredentialChain
    from resolver.sources.credentials.secrets import Redactor
    from resolver.sources.http.requests import Scope


_REFUSED = frozenset({400, 401, 403})


class Refusals:
    """What to raise on behalf of one asker; `look` finds out what credentials there are."""

    def __init__(
        self, asker: Scope, look: Callable[[], CredentialAnswer], redactor: Redactor
    ) -> None:
        self._asker = asker
        self._look = look
        self._redactor = redactor

    def say_expired(self, answer: StreamedResponse) -> bool:
        """Whether a registry refuses a password for its age alone, in ECR's words or like them."""
        complaint = read_complaint(answer.read_some(), answer.headers, self._redactor)
        return "expired" in complaint.text.lower()

    def by_token_server(
        self, answer: StreamedResponse, server: str, credential: Credential | None
    ) -> ResolverError:
        """Say why a token server gave no token."""
        complaint = read_complaint(answer.body, answer.headers, self._redactor)
        said = f": {complaint.text}" if complaint.text else ""
        if answer.status not in _REFUSED:
            return BadTokenAnswer(
                f"the token server `{server}` answered {answer.status}, not a token{said}"
            )
        if credential is None:
            return AuthenticationRequired(
                f"`{self._asker}` does not exist or access denied: the token server `{server}` "
                f"gives nothing to anonymous requests{said}",
                *self._advice(),
            )
        return AuthenticationFailed(
            f"the token server `{server}` refuses the stored credentials for "
            f"`{self._asker.registry}`{said}",
            f"they come from {self._look().source}; log in again, or try `--anonymous`",
        )

    def here(self, answer: StreamedResponse | None) -> ResolverError:
        """Say why the registry refuses, after everything was tried; None when nothing came back."""
        said = ""
        if answer is not None:
            complaint = read_complaint(answer.read_some(), answer.headers, self._redactor)
            said = f" ({complaint.text})" if complaint.text else ""
        found = self._look()
        if found.credential is None:
            return AuthenticationRequired(
                f"`{self._asker}` does not exist or access denied: `{self._asker.registry}` "
                f"wants a login{said}",
                *self._advice(),
            )
        return AuthenticationFailed(
            f"`{self._asker.registry}` refuses the credentials for `{self._asker}`, which does "
            f"not exist or access denied{said}",
            f"they come from {found.source}; log in again, or try `--anonymous`",
        )

    def elsewhere(self, answer: StreamedResponse) -> ResolverError:
        """Say that the place a registry redirects to wants a login."""
        return AuthenticationRequired(
            f"`{self._asker.registry}` sends requests for `{self._asker}` to "
            f"`{answer.url.authority}`, which wants a login",
            "name the image at that registry, and log in there",
        )

    def _advice(self) -> tuple[str, ...]:
        """Say what would help who asked anonymously; a broken helper first."""
        problem = self._look().problem
        login = f"check the spelling, or log in: `resolver login {self._asker.registry}`"
        return (f"{problem}", login) if problem is not None else (login,)


#: Requests for one resource, and token requests on its behalf. Source: adversarial case AUT-014.
MAX_REQUESTS = 3
MAX_TOKEN_REQUESTS = 2

UNAUTHORIZED, FORBIDDEN, BAD_REQUEST, OK = 401, 403, 400, 200
#: Token servers that cannot do POST, or not for this user. Source: containerd authorizer.go.
_TRY_GET = frozenset({400, 401, 404, 405})

Flow = Generator[Call, StreamedResponse, None]


@dataclass(frozen=True, slots=True)
class Authorization:
    """What a request carried.

    Attributes:
        token: None for Basic, and for a token that the user configured.
        source: where the token came from; None where there was no token server.
        fresh: made for this very question.

    """

    authorization: Secret
    token: Token | None = None
    source: TokenSource | None = None
    fresh: bool = True


class AuthExchange:
    """One question and everything it takes to have it answered."""

    def __init__(self, auth: RegistryAuth, asker: Scope, call: Call) -> None:
        self._auth = auth
        self._asker = asker
        self._call = call
        self._asked = 0
        self._fetched = 0
        self._found: CredentialAnswer | None = None
        self._asked_again = False
        self._refusals = Refusals(asker, self._look, auth.redactor)

    def run(self) -> Flow:
        """Ask, react to refusals, and stop when the answer stands."""
        proof = yield from self._standing()
        while True:
            self._asked += 1
            answer = yield self._with(proof)
            if not answer.direct:
                if answer.status == UNAUTHORIZED:
                    yield from self._elsewhere(answer)
                return
            if answer.status == BAD_REQUEST:
                again, proof = yield from self._after_bad_request(answer, proof)
                if not again:
                    return
                continue
            if answer.status == FORBIDDEN and proof is not None and proof.token is None:
                newer = self._renewed(answer)
                if newer is not None:
                    proof = self._basically(newer)
                    continue
            if answer.status != UNAUTHORIZED:
                return
            proof = yield from self._after_refusal(answer, proof)

    # --- what a request carries ------------------------------------------------------------

    def _standing(self) -> Generator[Call, StreamedResponse, Authorization | None]:
        """Use what worked before; a token that has expired is replaced without a refusal."""
        way = self._auth.way(self._asker)
        if way is None or isinstance(way, Authorization):
            return way if way is None else replace(way, fresh=False)
        before = self._fetched
        token = yield from self._token(way, self._credential(), None)
        return _bearer(token, way, fresh=self._fetched != before)

    def _with(self, proof: Authorization | None) -> Call:
        call = replace(self._call, authorization=proof.authorization if proof else None)
        self._auth.warn_in_the_open(call)
        return call

    def _look(self) -> CredentialAnswer:
        """Look for credentials; only now, because a helper may run."""
        if self._found is None:
            self._found = self._auth.credentials.find(self._asker.registry, self._asker.repository)
            self._auth.redactor.learn(self._found.credential)
        return self._found

    def _credential(self) -> Credential | None:
        return self._look().credential

    # --- reactions -------------------------------------------------------------------------

    def _after_bad_request(
        self, answer: StreamedResponse, proof: Authorization | None
    ) -> Generator[Call, StreamedResponse, tuple[bool, Authorization | None]]:
        """See whether a 400 is a refusal in disguise; say whether to ask again, and how."""
        if self._asked > 1:
            return False, None
        if proof is not None and proof.token is not None and not proof.fresh:
            # ECR Public says 400, without a challenge, to a token that ran out (quirk q-036).
            self._drop(proof)
            return True, None
        if proof is None and self._credential() is not None:
            # Nexus says 400 where it means 401 (quirk q-070).
            challenges = yield from self._challenges_of_ping(answer)
            if challenges:
                return True, (yield from self._prove(challenges, answer, None))
        return False, None

    def _after_refusal(
        self, answer: StreamedResponse, proof: Authorization | None
    ) -> Generator[Call, StreamedResponse, Authorization]:
        """Find what the registry wants, or say why that cannot be had."""
        if self._asked >= MAX_REQUESTS:
            raise self._refusals.here(answer)
        challenges: Sequence[Challenge] = ()
        if answer.headers.get("www-authenticate") is not None:
            values = answer.headers.all("www-authenticate")
            challenges = parse_challenge(values, self._who(answer))
        elif proof is None:
            # gcr.io used to refuse without a challenge (quirk q-039).
            challenges = yield from self._challenges_of_ping(answer)
        if not challenges:
            raise self._refusals.here(answer)
        return (yield from self._prove(challenges, answer, proof))

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
            # A token server that gives out empty tokens, beside Basic (quirk q-082).
            return self._basic(answer, refused)

    def _basic(self, answer: StreamedResponse, refused: Authorization | None) -> Authorization:
        credential = self._credential()
        if credential is None or not credential.password:
            raise self._refusals.here(answer)
        if refused is not None and refused.token is None:
            newer = self._renewed(answer)
            if newer is None and refused.fresh:
                raise self._refusals.here(answer)
            credential = newer or credential
        return self._basically(credential)

    def _renewed(self, answer: StreamedResponse) -> Credential | None:
        """Ask a helper once more, whose password has run out: ECR's live 12 hours (quirk q-027)."""
        found = self._look()
        if found.helper is None or self._asked_again or not self._refusals.say_expired(answer):
            return None
        self._asked_again = True
        again = self._auth.credentials.find_again(
            self._asker.registry, self._asker.repository, found
        )
        if again.credential in (None, found.credential) or not again.credential.password:
            return None
        self._found = again
        return again.credential

    def _basically(self, credential: Credential) -> Authorization:
        proof = Authorization(basic(credential))
        self._auth.redactor.learn(proof.authorization)
        self._auth.remember(self._asker, proof)
        return proof

    def _by_token(
        self, challenge: Challenge, answer: StreamedResponse, refused: Authorization | None
    ) -> Generator[Call, StreamedResponse, Authorization]:
        source = token_source(
            challenge.parameters, answer.url, self._call.registry, self._asker.scopes
        )
        credential = self._credential()
        if credential is not None and credential.registry_token:
            if refused is not None:
                raise self._refusals.here(answer)
            token = Token(credential.registry_token, float("inf"))
            return _bearer(token, None, fresh=True)
        if refused is not None and refused.fresh and self._is_hopeless(challenge, refused, source):
            raise self._refusals.here(answer)
        self._auth.remember(self._asker, source)
        token = yield from self._token(source, credential, refused.token if refused else None)
        return _bearer(token, source, fresh=True)

    @staticmethod
    def _is_hopeless(challenge: Challenge, refused: Authorization, source: TokenSource) -> bool:
        """Whether a fresh token for this very scope was just found to be not enough."""
        same = refused.source is not None and set(source.scopes) <= set(refused.source.scopes)
        return same and challenge.parameters.get("error") == "insufficient_scope"

    def _elsewhere(self, answer: StreamedResponse) -> Flow:
        """Answer the challenge of a host that the registry redirects to (lscr.io to ghcr.io).

        Anonymously, for this request only: that host has no claim on the registry's credentials.
        """
        registry = self._call.registry
        try:
            challenges = parse_challenge(answer.headers.all("www-authenticate"))
            chosen = choose_challenge(challenges)
        except UnsupportedChallenge as error:
            raise self._refusals.elsewhere(answer) from error
        if chosen.scheme != "bearer":
            raise self._refusals.elsewhere(answer)
        refuse_repeated_realm(challenges, registry)
        source = token_source(chosen.parameters, answer.url, registry, self._asker.scopes)
        key = TokenKey(answer.url.authority, source.service, tuple(sorted(source.scopes)), None)
        token = yield from self._token(source, None, None, key)
        proof = _bearer(token, source, fresh=True)
        second = yield replace(
            self._call, url=answer.url, authorization=proof.authorization, registry=registry
        )
        if second.status == UNAUTHORIZED:
            raise self._refusals.elsewhere(second)

    # --- tokens ----------------------------------------------------------------------------

    def _drop(self, proof: Authorization) -> None:
        """Forget a token that was refused, unless another thread has replaced it already."""
        if proof.source is None:
            return
        entry = self._auth.tokens.entry(self._key(proof.source, self._credential()))
        with entry.lock:
            if entry.token is proof.token:
                entry.token = None

    def _key(self, source: TokenSource, credential: Credential | None) -> TokenKey:
        scopes = tuple(sorted(source.scopes))
        return TokenKey(self._asker.registry, source.service, scopes, credential)

    def _token(
        self,
        source: TokenSource,
        credential: Credential | None,
        refused: Token | None,
        key: TokenKey | None = None,
    ) -> Generator[Call, StreamedResponse, Token]:
        """Give a token other than the refused one; however many threads ask, one fetches."""
        entry = self._auth.tokens.entry(key or self._key(source, credential))
        before = entry.round
        with entry.lock:
            held = self._auth.tokens.current(entry)
            if held is not None and held is not refused:
                return held
            if entry.round != before and entry.failure is not None:
                # Somebody asked while this thread waited; asking again would not help.
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
            raise self._refusals.here(None)
        self._fetched += 1
        registry = self._call.registry
        identity = self._auth.refresh_token(credential) if credential is not None else None
        if credential is not None and identity:
            call = token_by_refresh(source, registry, identity)
            self._auth.warn_in_the_open(replace(call, authorization=identity))
            answer = yield from self._by_server(call)
            if answer.status not in _TRY_GET or not credential.password:
                return self._grant(answer, source, credential)
        call = token_by_get(source, registry, credential)
        self._auth.warn_in_the_open(call)
        answer = yield from self._by_server(call)
        return self._grant(answer, source, credential)

    def _by_server(self, call: Call) -> Generator[Call, StreamedResponse, StreamedResponse]:
        """Ask a token server; who cannot reach it is told whose it is (quirk q-084)."""
        try:
            return (yield call)
        except (ConnectionFailed, TimedOut, TlsFailed) as error:
            whose = f"`{call.url}`, the token server that `{self._asker.registry}` names"
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
    """What is known about proving oneself to registries; safe to share between threads."""

    def __init__(
        self, credentials: CredentialChain, redactor: Redactor, observe: Observer, clock: Clock
    ) -> None:
        self.credentials = credentials
        self.redactor = redactor
        self.observe = observe
        self.clock = clock
        self.tokens = TokenCache(clock.monotonic)
        self._lock = threading.Lock()
        self._ways: dict[Scope, TokenSource | Authorization] = {}
        self._refreshed: dict[Credential, Secret] = {}
        self._warned: set[str] = set()

    def flow(self, asker: Scope, call: Call) -> Flow:
        """Ask for a resource, proving who asks if and as the registry wants it.

        Raises:
            Denied: there is no way in, or none that is safe.

        """
        return AuthExchange(self, asker, call).run()

    def way(self, asker: Scope) -> TokenSource | Authorization | None:
        """Give what worked for this repository before."""
        with self._lock:
            return self._ways.get(asker)

    def remember(self, asker: Scope, way: TokenSource | Authorization) -> None:
        """Note what is about to be used for this repository."""
        with self._lock:
            self._ways[asker] = way

    def has_shown_credentials(self, asker: Scope) -> bool:
        """Whether this repository was asked for with more than nothing."""
        way = self.way(asker)
        if way is None or isinstance(way, Authorization):
            return way is not None
        return self.credentials.find(asker.registry, asker.repository).credential is not None

    def refresh_token(self, credential: Credential) -> Secret | None:
        """Give the identity token, or the one that the token server replaced it by."""
        with self._lock:
            return self._refreshed.get(credential, credential.identity_token)

    def replace_refresh_token(self, credential: Credential, token: Secret) -> None:
        """Keep a new identity token, for this process only."""
        self.redactor.learn(token)
        with self._lock:
            self._refreshed[credential] = token

    def warn_in_the_open(self, call: Call) -> None:
        """Say once per host that a secret goes over plain http."""
        url = call.url
        if call.authorization is None or url.scheme != "http" or is_loopback(url.host):
            return
        with self._lock:
            if url.authority in self._warned:
                return
            self._warned.add(url.authority)
        message = f"credentials go to `{url.authority}` over plain http, for anybody to read"
        self.observe(Warned("plain-credentials", message))
