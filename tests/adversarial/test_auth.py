"""Registries and token servers that try to obtain credentials (area "auth" of the catalogue)."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.adversarial.actor import refused
from tests.adversarial.hosts import answer, login
from tests.adversarial.namespace import inside
from tests.adversarial.rusage import measured
from tests.kit.auth import refused as challenged
from tests.kit.certificates import authority
from tests.kit.credentials import plant_helper
from tests.kit.images import multi_platform
from tests.kit.outcomes import IDENTITY, PASSWORD, SIGNATURE, TOKEN, USER, no_credentials_received
from tests.kit.registry import FakeRegistry, Reply, Seen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.adversarial.actor import Actor
    from tests.adversarial.hosts import Hosts

    Config = Callable[[object], Path]

IMAGE = multi_platform("linux/amd64", "linux/arm64/v8")
MANIFEST = "/v2/img-a/manifests/1"


@pytest.fixture
def registry(hosts: Hosts) -> FakeRegistry:
    """Return a registry with one image."""
    made = hosts.registry()
    made.serve("img-a", "1", IMAGE)
    return made


def blob(platform: str) -> str:
    """Return the path of an image's config."""
    digest = json.loads(IMAGE.child(platform).body)["config"]["digest"]
    return f"/v2/img-a/blobs/{digest}"


def test_aut_001_anonymous_token_is_fetched_once_and_reused(
    act: Actor, hosts: Hosts, registry: FakeRegistry
) -> None:
    server = hosts.registry()
    tokens = server.token_server()
    registry.bearer(realm=f"{server.url}/token")
    assert act("PULL", f"{registry.host}/img-a:1").status == 0
    assert tokens.scopes == [("repository:img-a:pull",)]
    assert [seen.authorization for seen in server.log] == [None]
    carried = [seen.authorization for seen in registry.requests("GET", "/img-a/")]
    assert carried == [None, *["Bearer T0KEN-1"] * 3]


def test_aut_002_basic_credentials_go_only_to_their_registry(
    act: Actor, hosts: Hosts, registry: FakeRegistry, docker_config: Config
) -> None:
    evil = hosts.evil()
    registry.basic(USER, PASSWORD)
    docker_config(login(registry.host))
    registry.redirect(blob("linux/amd64"), f"{evil.url}/steal?x=1")
    assert act("PULL", f"{registry.host}/img-a:1").status != 0
    assert evil.log
    no_credentials_received(evil)


def test_aut_004_http_realm_of_a_tls_registry_is_refused(
    act: Actor, hosts: Hosts, docker_config: Config
) -> None:
    evil, registry = hosts.evil(), hosts.registry(authority().good())
    registry.bearer(realm=f"{evil.url}/token")
    docker_config(login(registry.host))
    trusted = str(authority().ca_file(act.folder))
    outcome = act("PULL", f"{registry.host}/app:1", "--ca-file", trusted)
    refused(outcome, "AUTH", evil.host)
    assert evil.connections == 0


REALMS = [
    "file:///etc/passwd",
    "ftp://EV/",
    "gopher://EV/1",
    "data:application/json,{}",
    "//EV/token",
    "http://user:pw@EV/token",
    "",
    "http://EV\\@127.0.0.1/token",
    "http:///token",
]


@pytest.mark.parametrize("realm", REALMS)
def test_aut_005_unusual_realm_is_refused(
    act: Actor, hosts: Hosts, registry: FakeRegistry, docker_config: Config, realm: str
) -> None:
    evil = hosts.evil()
    challenge = f'Bearer realm="{realm.replace("EV", evil.host)}",service="x"'
    registry.on("GET", MANIFEST, challenged(challenge))
    docker_config(login(registry.host))
    outcome = act("PULL", f"{registry.host}/img-a:1")
    refused(outcome, "AUTH")
    assert "root:" not in outcome.out
    assert evil.log == []


def test_aut_005_relative_realm_stays_at_the_registry(
    act: Actor, hosts: Hosts, registry: FakeRegistry, docker_config: Config
) -> None:
    evil = hosts.evil()
    challenge = 'Bearer realm="token",service="x"'
    registry.on("GET", MANIFEST, challenged(challenge))
    registry.on("*", "/v2/img-a/manifests/token", answer({"token": TOKEN + "1"}))
    registry.on("*", "/token", answer({"token": TOKEN + "1"}))
    docker_config(login(registry.host))
    refused(act("PULL", f"{registry.host}/img-a:1"), "AUTH")
    assert evil.log == []


def test_aut_006_realm_at_a_metadata_address_is_not_contacted(act: Actor) -> None:
    inside("tests.adversarial.scenarios:realm_at_private_addresses", act.folder)


def test_aut_010_token_server_cannot_redirect_credentials(
    act: Actor, hosts: Hosts, registry: FakeRegistry, docker_config: Config
) -> None:
    evil, server = hosts.evil(), hosts.registry()
    evil.on("*", "/token", answer({"token": TOKEN + "1"}))
    server.redirect("/token", f"{evil.url}/token", status=302)
    registry.bearer(realm=f"{server.url}/token")
    docker_config(login(registry.host))
    refused(act("PULL", f"{registry.host}/img-a:1"), "AUTH")
    no_credentials_received(evil)


@pytest.mark.parametrize("status", [307, 308])
def test_aut_010_token_server_cannot_redirect_an_identity_token(
    act: Actor, hosts: Hosts, registry: FakeRegistry, docker_config: Config, status: int
) -> None:
    evil, server = hosts.evil(), hosts.registry()
    server.redirect("/token", f"{evil.url}/token", status=status)
    registry.bearer(realm=f"{server.url}/token")
    docker_config({"auths": {registry.host: {"identitytoken": IDENTITY}}})
    refused(act("PULL", f"{registry.host}/img-a:1"), "AUTH")
    no_credentials_received(evil)


def bomb() -> bytes:
    """Return 64 MiB of spaces compressed to 64 kB."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return squeezer.compress(b'{"token":"' + b" " * 67_108_864) + squeezer.flush()


JSON = {"Content-Type": "application/json"}
TOO_MUCH = {
    "2 MiB": lambda: Reply(200, JSON, b'{"token":"T0KEN-1","pad":"' + b"x" * 2_097_152 + b'"}'),
    "endless": lambda: Reply.endless(b" " * 16_384, headers=JSON),
    "endless in chunks": lambda: Reply.endless(b" " * 16_384, headers=JSON, chunked=True),
    "bomb": lambda: Reply(200, {**JSON, "Content-Encoding": "gzip"}, bomb()),
}


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_aut_011_token_response_size_is_limited(
    act: Actor, hosts: Hosts, registry: FakeRegistry, kind: str
) -> None:
    server = hosts.registry()
    server.on("GET", "/token", TOO_MUCH[kind]())
    registry.bearer(realm=f"{server.url}/token")
    words = ("inspect", "-p", "linux/amd64", f"{registry.host}/img-a:1", "--json")
    outcome, kilobytes = measured(words, act.store)
    act.check(outcome, as_json=True)
    assert outcome.failure["class"] in {"AUTH", "LIMIT"}, outcome
    assert outcome.seconds < 10
    assert kilobytes < 256 * 1024
    assert all(seen.sent < 2_097_152 for seen in server.log)


def test_aut_014_registry_that_always_refuses_ends_the_request(
    act: Actor, hosts: Hosts, registry: FakeRegistry, docker_config: Config
) -> None:
    server = hosts.registry()
    tokens = server.token_server(credentials=(USER, PASSWORD))
    docker_config(login(registry.host))
    challenge = f'Bearer realm="{server.url}/token",service="x",scope="repository:img-a:pull"'
    registry.on("*", MANIFEST, challenged(challenge))
    refused(act("PULL", f"{registry.host}/img-a:1"), "AUTH")
    assert len(registry.log) <= 3
    assert len(tokens.requests) <= 2


def test_aut_016_debug_log_contains_no_secret(
    act: Actor, hosts: Hosts, registry: FakeRegistry, docker_config: Config
) -> None:
    server, cdn = hosts.registry(), hosts.registry()
    server.token_server(credentials=("<token>", IDENTITY))
    registry.bearer(realm=f"{server.url}/token")
    docker_config({"auths": {registry.host: {**_pair(registry.host), "identitytoken": IDENTITY}}})
    presigned = f"{cdn.url}/blob?X-Amz-Signature={SIGNATURE}&token={TOKEN}9"
    registry.redirect(blob("linux/amd64"), presigned)
    config = IMAGE.blobs[blob("linux/amd64").rpartition("/")[2]]
    echo = {"errors": [{"code": "X", "message": f"no: Bearer {TOKEN}1 for {presigned}"}]}
    cdn.on("GET", "/blob", answer(echo, 403), Reply(200, body=config))
    loud = {"LOGLEVEL": "DEBUG", "HTTPX_LOG_LEVEL": "trace", "RUST_LOG": "trace"}
    words = ("-p", "linux/amd64", f"{registry.host}/img-a:1", "-vvv")
    # `process` looks for every sentinel in output, store and home.
    assert act.process("inspect", *words, environment=loud).status == 4
    assert act.process("inspect", *words, environment=loud).status == 0
    assert len(cdn.log) == 2


def _pair(host: str) -> dict[str, object]:
    entries = login(host)["auths"]
    assert isinstance(entries, dict)
    found: dict[str, object] = entries[host]
    return found


def test_aut_021_helper_without_credentials_stays_anonymous(
    act: Actor, registry: FakeRegistry, docker_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "echo credentials not found in native keychain; exit 1"
    plant_helper(act.folder / "bin", "rec", text, monkeypatch)
    docker_config({"credHelpers": {registry.host: "rec"}})
    registry.bearer()
    assert act("PULL", f"{registry.host}/img-a:1").status == 0
    assert registry.requests("GET", "/token")[0].authorization is None


def test_aut_023_expired_token_is_renewed_once(act: Actor, registry: FakeRegistry) -> None:
    # Reading the documents of all platforms takes more than three requests.
    tokens = registry.bearer(rotate=True)
    passed: list[str] = []

    def expire(seen: Seen) -> None:
        if seen.authorization is not None:
            passed.append(seen.path)
        if len(passed) == 4:
            tokens.revoke()

    for path in [MANIFEST, *documents()]:
        registry.on("GET", path, expire)
    assert act("PULL --all-platforms", f"{registry.host}/img-a:1").status == 0
    assert tokens.count == 2
    delivered = [seen.path for seen in registry.log if seen.status == 200 and "/v2/" in seen.path]
    assert len(delivered) == len(set(delivered)) == 5


def documents() -> list[str]:
    """Return the paths requested for both platforms."""
    platforms = ("linux/amd64", "linux/arm64/v8")
    manifests = [f"/v2/img-a/manifests/{IMAGE.child(each).digest}" for each in platforms]
    return [*manifests, *(blob(each) for each in platforms)]


def test_aut_024_concurrent_requests_share_one_token(act: Actor, hosts: Hosts) -> None:
    # 50 tags of one repository are resolved concurrently.
    registry = hosts.registry()
    for number in range(50):
        registry.serve("img-a", str(number), IMAGE)
    tokens = registry.bearer()

    def slow(_seen: Seen) -> None:
        registry.wait_for(lambda: False, 0.3)

    registry.on("GET", "/token", slow)
    act.watched.clear()  # 50 names are more than the usual budget of requests
    words = [f"{registry.host}/img-a:{number}" for number in range(50)]
    outcome = act("RESOLVE", *words, "-p", "linux/amd64", "--jobs", "16", batch=True)
    assert outcome.status == 0
    assert len(tokens.requests) <= 2
