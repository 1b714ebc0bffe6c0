"""Authentication: what is sent, to which host, how often, and the errors."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.results.events import Warned
from resolver.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    BadTokenAnswer,
    Denied,
    HelperFailed,
    LimitExceeded,
    RateLimited,
    ResolverError,
    ServerFault,
    UnsafeRealm,
    UnsupportedChallenge,
)
from resolver.sources.credentials.chain import Credential, CredentialAnswer, Secret
from resolver.sources.http.tokens import read_grant
from resolver.sources.http.urls import Url
from tests.kit.auth import basic_value
from tests.kit.certificates import authority
from tests.kit.clients import (
    NEW_YEAR,
    PASSWORD,
    USER,
    FakeClock,
    Names,
    chain,
    login,
    source,
    transport,
)
from tests.kit.images import build_image
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.events import Event
    from resolver.sources.http.auth import RegistryAuth
    from tests.kit.registry import Seen

IMAGE = build_image()
MANIFEST = "/v2/team/app/manifests/1.0"
REALM = Url.parse("https://auth.example/token")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        fake.serve("team/app", "1.0", IMAGE)
        yield fake


def basic(user: str = USER, password: str = PASSWORD) -> str:
    return basic_value(user, password)


def challenged(value: str) -> Reply:
    return Reply(401, {"WWW-Authenticate": value})


def granted(**fields: object) -> Reply:
    return Reply(body=json.dumps(fields).encode())


# --- common flows -----------------------------------------------------------------------


def test_anonymous_token_is_fetched_once_and_reused(engine: str, registry: FakeRegistry) -> None:
    tokens = registry.bearer()
    with source(registry.host, engine=engine) as app:
        app.document("1.0")
        app.resolve("1.0")
        list(app.tags())
    assert tokens.count == 1
    assert tokens.requests[0].authorization is None
    assert tokens.scopes == [("repository:team/app:pull",)]
    asked = registry.requests(path_contains="/v2/")
    assert [seen.authorization for seen in asked] == [None] + ["Bearer T0KEN-1"] * 3


def test_auth_sends_no_ping(registry: FakeRegistry) -> None:
    registry.bearer()
    with source(registry.host) as app:
        app.document("1.0")
    assert "GET /v2/" not in registry.hits


def test_basic_credentials_are_sent_after_a_challenge_and_then_directly(
    engine: str, registry: FakeRegistry
) -> None:
    registry.basic(USER, PASSWORD)
    with source(registry.host, engine=engine, credentials=login(registry.host)) as app:
        app.document("1.0")
        app.document("1.0")
    assert [seen.authorization for seen in registry.log] == [None, basic(), basic()]


def test_credentials_of_another_registry_are_not_sent(registry: FakeRegistry) -> None:
    registry.basic(USER, PASSWORD)
    with (
        source(registry.host, credentials=login("other.example")) as app,
        pytest.raises(AuthenticationRequired, match="does not exist or access denied"),
    ):
        app.document("1.0")
    assert [seen.authorization for seen in registry.log] == [None]


def test_user_and_password_go_to_the_token_server_by_basic(
    engine: str, registry: FakeRegistry
) -> None:
    with FakeRegistry() as server:
        tokens = server.token_server(credentials=(USER, PASSWORD))
        registry.bearer(realm=f"{server.url}/token?tenant=7", service="registry.example")
        with source(registry.host, engine=engine, credentials=login(registry.host)) as app:
            app.document("1.0")
    asked = tokens.requests[0]
    assert (asked.method, asked.authorization) == ("GET", basic())
    assert asked.parameters == {
        "tenant": ["7"],
        "service": ["registry.example"],
        "scope": ["repository:team/app:pull"],
        "account": [USER],
        "client_id": ["resolver"],
    }
    assert PASSWORD not in str(registry.log)


def test_identity_token_is_sent_in_a_form(engine: str, registry: FakeRegistry) -> None:
    tokens = registry.bearer(credentials=("<token>", "1DT0KEN"), service="s v")
    credential = Credential(identity_token=Secret("1DT0KEN"))
    with source(registry.host, engine=engine, credentials=chain(credential, registry.host)) as app:
        app.document("1.0")
    asked = tokens.requests[0]
    assert asked.method == "POST"
    assert asked.form == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["1DT0KEN"],
        "service": ["s v"],
        "client_id": ["resolver"],
        "scope": ["repository:team/app:pull"],
    }
    assert "1DT0KEN" not in asked.raw_target


@pytest.mark.parametrize("status", [400, 401, 404, 405])
def test_token_server_without_post_is_requested_by_get_with_a_password(
    registry: FakeRegistry, status: int
) -> None:
    tokens = registry.bearer(credentials=(USER, PASSWORD))
    registry.on("POST", "/token", Reply(status))
    credential = Credential(USER, Secret(PASSWORD), identity_token=Secret("1DT0KEN"))
    with source(registry.host, credentials=chain(credential, registry.host)) as app:
        app.document("1.0")
    assert [seen.method for seen in tokens.requests] == ["GET"]


def test_configured_bearer_token_needs_no_token_server(registry: FakeRegistry) -> None:
    tokens = registry.bearer(token="M1NE")
    credential = Credential(registry_token=Secret("M1NE"))
    with source(registry.host, credentials=chain(credential, registry.host)) as app:
        app.document("1.0")
    assert tokens.requests == []
    assert registry.log[-1].authorization == "Bearer M1NE"


@pytest.mark.parametrize(
    "scope",
    [
        "aws",
        "*",
        "registry:catalog:*",
        "repository:team/base:pull",
        "repository:team/app:pull,push",
        "aws repository:team/app:* repository:x:pull",
    ],
)
def test_scope_only_in_the_challenge_is_not_requested(scope: str, registry: FakeRegistry) -> None:
    challenge = f'Bearer realm="{registry.url}/token",scope="{scope}"'
    registry.on("GET", MANIFEST, challenged(challenge), times=1)
    tokens = registry.token_server()
    with source(registry.host) as app:
        app.document("1.0")
    assert tokens.scopes == [("repository:team/app:pull",)]


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer realm="{url}/token",realm="{url}/token"',
        'Bearer realm="http://elsewhere.test/token",service="x",REALM="{url}/token"',
        'Basic realm="x",realm="y"',
        'Bearer realm="{url}/token",realm="{url}/token", Basic realm="x"',
        'Negotiate realm="x",realm="y", Bearer realm="{url}/token"',
    ],
)
def test_challenge_with_a_repeated_realm_is_refused(challenge: str, registry: FakeRegistry) -> None:
    registry.on("GET", MANIFEST, challenged(challenge.format(url=registry.url)))
    tokens = registry.token_server()
    with (
        source(registry.host, credentials=login(registry.host)) as app,
        pytest.raises(UnsafeRealm, match="has more than one `realm`") as caught,
    ):
        app.document("1.0")
    assert caught.value.kind.status == 4
    assert tokens.count == 0
    assert [seen.authorization for seen in registry.log] == [None]


def test_first_usable_challenge_is_selected(registry: FakeRegistry) -> None:
    lines = [
        ("WWW-Authenticate", 'Negotiate, Basic realm="x"'),
        ("www-authenticate", f'Bearer realm="{registry.url}/token"'),
    ]
    registry.on("GET", MANIFEST, Reply(401, lines), times=1)
    tokens = registry.token_server()
    with source(registry.host) as app:
        app.document("1.0")
    assert tokens.count == 1


def test_empty_token_falls_back_to_basic_if_offered(registry: FakeRegistry) -> None:
    challenge = f'Bearer realm="{registry.url}/token", Basic realm="x"'
    registry.on("GET", MANIFEST, challenged(challenge), times=1)
    registry.on("GET", "/token", granted(token=""))
    with source(registry.host, credentials=login(registry.host)) as app:
        app.document("1.0")
    assert registry.log[-1].authorization == basic()


# --- tokens that run out -------------------------------------------------------------------


def test_revoked_token_costs_one_refresh(engine: str, registry: FakeRegistry) -> None:
    tokens = registry.bearer(rotate=True)
    with source(registry.host, engine=engine) as app:
        app.document("1.0")
        tokens.revoke()
        app.document("1.0")
        app.document("1.0")
    assert tokens.count == 2
    assert len(registry.requests(path_contains="/manifests/")) == 5


def test_token_is_renewed_before_it_expires(registry: FakeRegistry) -> None:
    tokens = registry.bearer(rotate=True, expires_in=300)
    clock = FakeClock()
    with source(registry.host, clock=clock) as app:
        app.document("1.0")
        clock.now += 289
        app.document("1.0")
        assert tokens.count == 1
        clock.now += 2
        app.document("1.0")
    assert tokens.count == 2
    # No refusal in between: the token is requested immediately.
    assert [seen.status for seen in registry.requests(path_contains="/manifests/")] == [
        401, 200, 200, 200,
    ]  # fmt: skip


def test_expired_token_answered_400_is_replaced(registry: FakeRegistry) -> None:
    # ECR Public: docs/wire-protocol.md, "Refusals without a challenge".
    tokens = registry.bearer(rotate=True)

    def spoiled(seen: Seen) -> Reply | None:
        return Reply(400) if seen.authorization == "Bearer T0KEN-1-1" else None

    with source(registry.host) as app:
        app.document("1.0")
        registry.on("GET", MANIFEST, spoiled)
        app.document("1.0")
    assert tokens.count == 2


def test_status_400_with_credentials_counts_as_401(registry: FakeRegistry) -> None:
    # Nexus: docs/wire-protocol.md, "Refusals without a challenge".
    registry.on("GET", "/v2/", challenged('Basic realm="nexus"'))
    registry.on("GET", MANIFEST, lambda seen: None if seen.authorization else Reply(400))
    with source(registry.host, credentials=login(registry.host)) as app:
        app.document("1.0")
    assert [seen.path for seen in registry.log] == [MANIFEST, "/v2/", MANIFEST]


def test_status_400_without_credentials_stays_400(registry: FakeRegistry) -> None:
    registry.on("GET", MANIFEST, Reply(400))
    with source(registry.host) as app, pytest.raises(ServerFault, match="400"):
        app.document("1.0")
    assert len(registry.log) == 1


def test_refusal_without_a_challenge_uses_the_challenge_of_a_ping(registry: FakeRegistry) -> None:
    # gcr.io: docs/wire-protocol.md, "Refusals without a challenge".
    tokens = registry.token_server()
    registry.on("GET", MANIFEST, Reply(401), times=1)
    registry.on("GET", "/v2/", challenged(f'Bearer realm="{registry.url}/token"'))
    with source(registry.host) as app:
        app.document("1.0")
    assert tokens.count == 1
    assert registry.hits["GET /v2/"] == 1


# --- concurrency ------------------------------------------------------------------------


def test_concurrent_requests_need_one_token(engine: str, registry: FakeRegistry) -> None:
    tokens = registry.bearer()
    release = threading.Event()
    served = tokens.answer

    def slow(seen: Seen) -> Reply:
        release.wait(5)
        return served(seen)

    registry.on("GET", "/token", slow)
    with source(registry.host, engine=engine) as app:
        threads = [threading.Thread(target=app.document, args=("1.0",)) for _ in range(16)]
        for thread in threads:
            thread.start()
        registry.wait_for(lambda: registry.hits["GET /token"] == 1)
        release.set()
        for thread in threads:
            thread.join()
    assert tokens.count == 1


def test_concurrent_requests_fail_together(registry: FakeRegistry) -> None:
    registry.bearer()
    release = threading.Event()

    def refuse(_seen: Seen) -> Reply:
        release.wait(5)
        return Reply(403, {}, b'{"details": "no"}')

    registry.on("GET", "/token", refuse)
    failures: list[ResolverError] = []
    with source(registry.host) as app:

        def ask() -> None:
            try:
                app.document("1.0")
            except ResolverError as error:
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        registry.wait_for(lambda: registry.hits["GET /token"] == 1)
        release.set()
        for thread in threads:
            thread.join()
    assert len(failures) == 8
    assert {type(failure) for failure in failures} == {AuthenticationRequired}
    # A request after the failure may retry; one that waited for it does not.
    assert registry.hits["GET /token"] < 8


# --- refusals ---------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["", ',error="invalid_token"', ',error="insufficient_scope"'])
def test_registry_that_always_refuses_is_not_retried_forever(
    registry: FakeRegistry, error: str
) -> None:
    tokens = registry.token_server()
    registry.on("GET", MANIFEST, challenged(f'Bearer realm="{registry.url}/token"{error}'))
    with (
        source(registry.host, credentials=login(registry.host)) as app,
        pytest.raises(AuthenticationFailed, match="rejects the credentials") as caught,
    ):
        app.document("1.0")
    assert registry.hits[f"GET {MANIFEST}"] <= 3
    assert tokens.count <= 2
    assert any("--anonymous" in hint for hint in caught.value.hints())


def test_anonymous_refusal_hints_that_the_repository_may_not_exist(registry: FakeRegistry) -> None:
    registry.token_server()
    body = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
    challenge = f'Bearer realm="{registry.url}/token",error="insufficient_scope"'
    registry.on("GET", MANIFEST, Reply(401, {"WWW-Authenticate": challenge}, body))
    with source(registry.host) as app, pytest.raises(AuthenticationRequired) as caught:
        app.document("1.0")
    assert "does not exist or access denied" in str(caught.value)
    assert "authentication required" in str(caught.value)
    assert any("resolver login" in hint for hint in caught.value.hints())
    # The scope was requested already, so a second token would be the same.
    assert registry.hits["GET /token"] == 1


def test_refused_basic_is_not_tried_twice(registry: FakeRegistry) -> None:
    registry.basic(USER, "another")
    with (
        source(registry.host, credentials=login(registry.host)) as app,
        pytest.raises(AuthenticationFailed, match="rejects"),
    ):
        app.document("1.0")
    assert len(registry.log) == 2


def test_token_server_that_refuses_stored_credentials_is_named(registry: FakeRegistry) -> None:
    registry.bearer(credentials=("somebody", "else"))
    with (
        source(registry.host, credentials=login(registry.host)) as app,
        pytest.raises(AuthenticationFailed, match="incorrect username or password") as caught,
    ):
        app.document("1.0")
    assert registry.hits["GET /token"] == 1
    assert PASSWORD not in str(caught.value)
    assert any("--anonymous" in hint for hint in caught.value.hints())


def test_missing_helper_is_named_when_anonymous_access_is_refused(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.basic(USER, PASSWORD)
    problem = HelperFailed("`docker-credential-nowhere` is not installed")
    credentials = chain()
    monkeypatch.setattr(
        type(credentials),
        "find",
        lambda *_: CredentialAnswer(None, "docker-credential-nowhere", problem),
    )
    with (
        source(registry.host, credentials=credentials) as app,
        pytest.raises(AuthenticationRequired) as caught,
    ):
        app.document("1.0")
    assert "docker-credential-nowhere" in caught.value.hints()[0]


def test_unneeded_credentials_are_not_looked_up(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = chain()
    monkeypatch.delattr(type(credentials), "find")
    with source(registry.host, credentials=credentials) as app:
        app.document("1.0")


@pytest.mark.parametrize(
    "challenge",
    ["Negotiate", "", 'Bearer realm=""', "AWS4-HMAC-SHA256 x=y", "Bearer " + "a" * 20_000],
)
def test_unknown_challenge_scheme_is_named(registry: FakeRegistry, challenge: str) -> None:
    registry.on("GET", MANIFEST, challenged(challenge))
    with source(registry.host) as app, pytest.raises(UnsupportedChallenge, match=registry.host):
        app.document("1.0")
    assert len(registry.log) == 1


def test_status_403_is_denied_with_credentials_and_hints_at_login_without(
    registry: FakeRegistry,
) -> None:
    registry.basic(USER, PASSWORD)
    registry.on(
        "*",
        MANIFEST,
        lambda seen: (
            Reply(403, {}, b'{"errors":[{"code":"DENIED","message":"not yours"}]}')
            if seen.authorization
            else None
        ),
    )
    with source(registry.host, credentials=login(registry.host)) as app:
        with pytest.raises(Denied, match="not yours") as caught:
            app.document("1.0")
        assert type(caught.value) is Denied
    with FakeRegistry() as other, source(other.host) as app:
        other.on("*", MANIFEST, Reply(403))
        with pytest.raises(AuthenticationRequired, match="does not exist or access denied"):
            app.resolve("1.0")


# --- token servers that misbehave ----------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        granted(token=""),
        granted(expires_in=300),
        granted(token=7),
        granted(token="a b"),
        granted(token="a\r\nX-Evil: 1"),
        granted(token="x" * 16_385),
        Reply(body=b"[]"),
        Reply(body=b"<html>login</html>", headers={"Content-Type": "text/html"}),
        Reply(body=b""),
        Reply(204),
        Reply(404),
    ],
    ids=["empty", "none", "number", "space", "crlf", "long", "list", "html", "void", "204", "404"],
)
def test_invalid_token_answer_is_reported(registry: FakeRegistry, reply: Reply) -> None:
    registry.bearer()
    registry.on("GET", "/token", reply)
    with source(registry.host) as app, pytest.raises(BadTokenAnswer) as caught:
        app.document("1.0")
    assert registry.host in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b" " * 131_073),
        Reply(chunks=[b" " * 65_536] * 32, content_length=2_097_152),
        Reply.endless(),
    ],
    ids=["limit+1", "2MiB", "endless"],
)
def test_endless_token_answer_is_limited(engine: str, registry: FakeRegistry, reply: Reply) -> None:
    registry.bearer()
    registry.on("GET", "/token", reply)
    with source(registry.host, engine=engine) as app, pytest.raises(LimitExceeded, match="131072"):
        app.document("1.0")


def test_token_response_at_the_size_limit_is_read(registry: FakeRegistry) -> None:
    registry.bearer()
    body = b'{"token": "T0KEN-1"}'
    registry.on("GET", "/token", Reply(body=body + b" " * (131_072 - len(body))))
    with source(registry.host) as app:
        app.document("1.0")


def test_compressed_token_answer_is_refused(engine: str, registry: FakeRegistry) -> None:
    registry.bearer()
    registry.on("GET", "/token", Reply(headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b\x08"))
    with source(registry.host, engine=engine) as app, pytest.raises(BadTokenAnswer):
        app.document("1.0")


def test_busy_token_server_is_retried_without_the_registry(
    registry: FakeRegistry,
) -> None:
    registry.bearer()
    registry.on("GET", "/token", Reply(503), Reply(429, {"Retry-After": "2"}), times=2)
    clock = FakeClock()
    with source(registry.host, clock=clock) as app:
        app.document("1.0")
    assert registry.hits["GET /token"] == 3
    assert registry.hits[f"GET {MANIFEST}"] == 2
    assert clock.slept[:2] == [0.2, 2.0]


def test_dead_token_server_is_given_up_after_five_attempts(registry: FakeRegistry) -> None:
    registry.bearer()
    registry.on("GET", "/token", Reply(503))
    with source(registry.host) as app, pytest.raises(ServerFault, match="503"):
        app.document("1.0")
    assert registry.hits["GET /token"] == 5
    assert registry.hits[f"GET {MANIFEST}"] == 1


def test_token_server_rate_limit_is_respected(registry: FakeRegistry) -> None:
    registry.bearer()
    registry.on("GET", "/token", Reply(429, {"Retry-After": "3600"}))
    with source(registry.host) as app, pytest.raises(RateLimited) as caught:
        app.document("1.0")
    assert caught.value.retry_after == 3600
    assert registry.hits["GET /token"] == 1


# --- forbidden realms ---------------------------------------------------------


@pytest.mark.parametrize(
    "realm",
    [
        "file:///etc/passwd",
        "ftp://{evil}/",
        "gopher://{evil}/",
        "data:,x",
        "//{evil}/token",
        "http://u5er:pw@{evil}/",
        "http://{evil}\\@good.example/",
        "http://2130706433/token",
        "http://{evil}/to ken",
        "http:///{evil}/token",
    ],
)
def test_malformed_realm_is_not_requested(engine: str, registry: FakeRegistry, realm: str) -> None:
    with FakeRegistry(strict=False) as evil:
        registry.on("GET", MANIFEST, challenged(f'Bearer realm="{realm.format(evil=evil.host)}"'))
        with (
            source(registry.host, engine=engine, credentials=login(registry.host)) as app,
            pytest.raises(Denied) as caught,
        ):
            app.document("1.0")
        assert evil.log == []
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("realm", ["/token", "token", "/"])
def test_relative_realm_stays_on_the_registry(registry: FakeRegistry, realm: str) -> None:
    registry.on("GET", MANIFEST, challenged(f"Bearer realm={realm}"), times=1)
    place = {"token": "/v2/team/app/manifests/token"}.get(realm, realm)
    registry.token_server(place)
    with source(registry.host) as app:
        app.document("1.0")
    assert registry.hits[f"GET {place}"] == 1


def test_plain_http_realm_of_a_tls_registry_is_not_requested(engine: str, tmp_path: Path) -> None:
    options = {"plain_http": False, "ca_file": authority().ca_file(tmp_path)}
    with FakeRegistry() as evil, FakeRegistry(tls=authority().good()) as registry:
        registry.bearer(realm=f"{evil.url}/token")
        with (
            source(
                registry.host, engine=engine, credentials=login(registry.host), options=options
            ) as app,
            pytest.raises(UnsafeRealm, match="plain http"),
        ):
            app.document("1.0")
        assert evil.log == []


def test_realm_with_an_internal_address_is_not_requested(
    engine: str, registry: FakeRegistry
) -> None:
    registry.bearer(realm="http://auth.test/token")
    names = Names(auth="169.254.169.254")
    with (
        source(registry.host, engine=engine, lookup=names) as app,
        pytest.raises(UnsafeRealm, match=r"169\.254\.169\.254"),
    ):
        app.document("1.0")


def test_realm_on_another_host_is_requested(engine: str, registry: FakeRegistry) -> None:
    with FakeRegistry() as server:
        tokens = server.token_server()
        port = server.host.rpartition(":")[2]
        registry.bearer(realm=f"http://auth.test:{port}/token")
        with source(registry.host, engine=engine, lookup=Names(auth="127.0.0.1")) as app:
            app.document("1.0")
        assert tokens.requests[0].headers["host"] == f"auth.test:{port}"


def test_token_server_cannot_redirect_to_another_host(engine: str, registry: FakeRegistry) -> None:
    registry.bearer()
    with FakeRegistry() as evil:
        registry.redirect("/token", f"{evil.url}/token", status=302)
        with (
            source(registry.host, engine=engine, credentials=login(registry.host)) as app,
            pytest.raises(UnsafeRealm, match=evil.host),
        ):
            app.document("1.0")
        assert evil.log == []


def test_token_server_may_redirect_to_its_own_paths(registry: FakeRegistry) -> None:
    tokens = registry.bearer(realm=f"{registry.url}/old", credentials=(USER, PASSWORD))
    registry.redirect("/old", "/token?service=fake")
    served = registry.token_server(credentials=(USER, PASSWORD))
    with source(registry.host, credentials=login(registry.host)) as app:
        app.document("1.0")
    assert served.count == 1
    assert tokens.count == 0


def test_form_with_a_token_is_never_redirected(registry: FakeRegistry) -> None:
    registry.bearer(credentials=("<token>", "1DT0KEN"))
    registry.redirect("/token", "/token2", status=307)
    credential = Credential(identity_token=Secret("1DT0KEN"))
    with (
        source(registry.host, credentials=chain(credential, registry.host)) as app,
        pytest.raises(BadTokenAnswer, match="redirects a request that carries a token"),
    ):
        app.document("1.0")


# --- secrets -------------------------------------------------------------------------------


def test_auth_logs_and_errors_contain_no_secret(
    engine: str, registry: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    registry.bearer(credentials=(USER, PASSWORD), token="T0KEN-SECRET")
    body = b'{"errors":[{"code":"X","message":"you sent T0KEN-SECRET and S3cr3tPa55"}]}'
    registry.on("GET", "/v2/team/app/manifests/2.0", Reply(418, {}, body))
    credentials = login(registry.host)
    with (
        caplog.at_level(1),
        source(registry.host, engine=engine, credentials=credentials, events=events) as app,
    ):
        app.document("1.0")
        with pytest.raises(ServerFault) as caught:
            app.document("2.0")
    everything = f"{caplog.text} {events} {caught.value} {caught.value.facts()}"
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    for secret in (PASSWORD, "T0KEN-SECRET", encoded):
        assert secret not in everything
    assert "you sent *** and ***" in str(caught.value)


def test_credentials_over_plain_http_are_a_warning(registry: FakeRegistry) -> None:
    del registry
    events: list[Event] = []
    with transport(credentials=login("registry.test"), events=events) as wire:
        auth: RegistryAuth = wire._authentication()
        from resolver.sources.http.messages import Call, Purpose

        url = Url.parse("http://registry.test/v2/")
        call = Call(Purpose.RESOURCE, "GET", url, url, authorization=Secret("Basic x"))
        auth.warn_plain_http(call)
        auth.warn_plain_http(call)
        here = Url.parse("http://127.0.0.1:5000/v2/")
        auth.warn_plain_http(Call(Purpose.RESOURCE, "GET", here, here, authorization=Secret("x")))
    assert [event.code for event in events if isinstance(event, Warned)] == ["plain-credentials"]


# --- reading grants ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 60),
        ({"expires_in": 300}, 300),
        ({"expires_in": 0}, 60),
        ({"expires_in": -5}, 60),
        ({"expires_in": 5}, 60),
        ({"expires_in": "300"}, 60),
        ({"expires_in": True}, 60),
        ({"expires_in": None}, 60),
        ({"expires_in": 10**18}, 30 * 24 * 3600),
        ({"expires_in": 300, "issued_at": "2025-12-31T23:58:20Z"}, 200),
        ({"expires_in": 300, "issued_at": "2026-01-01T00:58:20.123456789+01:00"}, 200),
        ({"expires_in": 300, "issued_at": "2020-01-01T00:00:00Z"}, 300),
        ({"expires_in": 300, "issued_at": "2030-01-01T00:00:00Z"}, 300),
        ({"expires_in": 300, "issued_at": "yesterday"}, 300),
        ({"expires_in": 300, "issued_at": 7}, 300),
    ],
)
def test_token_lifetimes_are_parsed_leniently(fields: dict[str, object], seconds: float) -> None:
    body = json.dumps({"token": "t", **fields}).encode()
    assert read_grant(body, REALM, NEW_YEAR).lifetime == pytest.approx(seconds, abs=1)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400, "-0.0", "1e-999"])
def test_invalid_token_lifetime_is_the_shortest(number: str) -> None:
    body = b'{"token": "t", "expires_in": %s}' % number.encode()

    assert read_grant(body, REALM, NEW_YEAR).lifetime == 60


def test_token_and_access_token_are_accepted() -> None:
    assert read_grant(b'{"access_token": "a"}', REALM, 0).token.reveal() == "a"
    assert read_grant(b'{"token": "t", "access_token": "a"}', REALM, 0).token.reveal() == "t"
    assert read_grant(b'{"token": "", "access_token": "a"}', REALM, 0).token.reveal() == "a"


@given(st.binary(max_size=300))
def test_any_token_response_is_parsed_or_refused(body: bytes) -> None:
    with contextlib.suppress(BadTokenAnswer):
        read_grant(body, REALM, NEW_YEAR)


def test_replaced_identity_token_is_used_afterwards(registry: FakeRegistry) -> None:
    clock = FakeClock()
    registry.bearer(rotate=True)
    grant = {"access_token": "T0KEN-1", "refresh_token": "N3W1D", "expires_in": 60}
    registry.on("POST", "/token", granted(**grant))
    registry.on(
        "GET",
        MANIFEST,
        lambda seen: (
            Reply(headers={"Content-Type": IMAGE.media_type}, body=IMAGE.body)
            if seen.authorization
            else None
        ),
    )
    credential = Credential(identity_token=Secret("1DT0KEN"))
    with source(registry.host, credentials=chain(credential, registry.host), clock=clock) as app:
        app.document("1.0")
        clock.now += 100
        app.document("1.0")
    used = [seen.form["refresh_token"] for seen in registry.requests("POST")]
    assert used == [["1DT0KEN"], ["N3W1D"]]


def test_refused_configured_bearer_token_is_final(registry: FakeRegistry) -> None:
    registry.bearer(token="OTHER")
    credential = Credential(registry_token=Secret("M1NE"))
    with (
        source(registry.host, credentials=chain(credential, registry.host)) as app,
        pytest.raises(AuthenticationFailed, match="rejects the credentials"),
    ):
        app.document("1.0")
    assert registry.hits["GET /token"] == 0


def test_circular_token_server_redirects_end(registry: FakeRegistry) -> None:
    registry.bearer()
    registry.redirect("/token", "/token", status=302)
    with source(registry.host) as app, pytest.raises(BadTokenAnswer, match="redirects"):
        app.document("1.0")
    assert registry.hits["GET /token"] == 6


def test_user_name_with_a_colon_is_refused(registry: FakeRegistry) -> None:
    registry.basic("a", "b:c")
    credential = Credential("a:b", Secret("c"))
    with (
        source(registry.host, credentials=chain(credential, registry.host)) as app,
        pytest.raises(AuthenticationFailed, match="colon"),
    ):
        app.document("1.0")
    assert len(registry.log) == 1
