"""Redirects: what is sent along, what is not, and which are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.descriptor import ACCEPT, Descriptor
from resolver.core.oci.digest import Digest
from resolver.errors import (
    AddressRefused,
    AuthenticationRequired,
    DigestMismatch,
    RedirectRefused,
    ServerFault,
)
from resolver.sources.http.client import Request, Scope
from tests.kit.certificates import authority
from tests.kit.clients import PASSWORD, USER, Names, login, source, transport
from tests.kit.images import build_image
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE = build_image()
OTHER = build_image("linux/s390x")
MANIFEST = "/v2/team/app/manifests/1.0"
TYPED = {"Content-Type": IMAGE.media_type}
CONFIG, CONFIG_BODY = next(iter(IMAGE.blobs.items()))
CONFIG_DESCRIPTOR = Descriptor("application/x-config", Digest.parse(CONFIG), len(CONFIG_BODY))


@pytest.fixture
def storage() -> Iterator[FakeRegistry]:
    """Another origin: the CDN of a good registry, or a host of a malicious one."""
    with FakeRegistry() as fake:
        yield fake


def assert_saw_no_secret(storage: FakeRegistry) -> None:
    for seen in storage.log:
        text = f"{seen.raw_target} {seen.raw_headers} {seen.body!r}"
        assert not {"authorization", "cookie", "proxy-authorization"} & set(seen.headers)
        assert PASSWORD not in text
        assert "T0KEN" not in text


@pytest.mark.parametrize("gate", ["basic", "bearer"])
def test_storage_receives_the_request_without_credentials(
    engine: str, registry: FakeRegistry, storage: FakeRegistry, gate: str
) -> None:
    if gate == "basic":
        registry.basic(USER, PASSWORD)
    else:
        registry.bearer(credentials=(USER, PASSWORD))
    registry.on(
        "GET",
        f"/v2/team/app/blobs/{CONFIG}",
        lambda seen: (
            Reply(307, {"Location": f"{storage.url}/c?X-Sig=S1GNATURE", "Set-Cookie": "a=b"})
            if seen.authorization
            else None
        ),
    )
    storage.on("GET", "/c", Reply(headers={"Set-Cookie": "c=d"}, body=CONFIG_BODY))
    with source(registry.host, engine=engine, credentials=login(registry.host)) as app:
        assert app.read(CONFIG_DESCRIPTOR) == CONFIG_BODY
        assert app.read(CONFIG_DESCRIPTOR) == CONFIG_BODY
    assert storage.log[0].query == "X-Sig=S1GNATURE"
    assert_saw_no_secret(storage)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect_is_followed_for_manifests(
    engine: str, registry: FakeRegistry, storage: FakeRegistry, status: int
) -> None:
    registry.redirect(MANIFEST, f"{storage.url}/m", status=status)
    storage.on("*", "/m", Reply(headers=TYPED, body=IMAGE.body))
    with source(registry.host, engine=engine) as app:
        assert str(app.document("1.0").descriptor.digest) == IMAGE.digest
    assert [seen.method for seen in storage.log] == ["GET"]


def test_redirect_keeps_range_and_accept(
    engine: str, registry: FakeRegistry, storage: FakeRegistry
) -> None:
    registry.redirect("/v2/team/app/x", f"{storage.url}/x")
    storage.on("GET", "/x", Reply(206, {"Content-Range": "bytes 5-9/10"}, b"67890"))
    headers = (("Range", "bytes=5-9"), ("Accept", ACCEPT))
    scope = Scope(registry.host, "team/app")
    asked = Request("GET", registry.host, scope, "/v2/team/app/x", "it", headers=headers)
    with transport(engine) as wire:
        assert wire.fetch(asked).body == b"67890"
    seen = storage.log[0].headers
    assert (seen["range"], seen["accept"]) == ("bytes=5-9", ACCEPT)
    assert seen["accept-encoding"] == "identity"
    assert seen["user-agent"].startswith("resolver/")


@pytest.mark.parametrize(("hops", "arrives"), [(1, True), (5, True), (6, False), (11, False)])
def test_five_redirects_are_followed_and_no_more(
    registry: FakeRegistry, hops: int, arrives: bool
) -> None:
    registry.redirect(MANIFEST, "/hop/1")
    for number in range(1, hops):
        registry.redirect(f"/hop/{number}", f"/hop/{number + 1}")
    registry.on("GET", f"/hop/{hops}", Reply(headers=TYPED, body=IMAGE.body))
    with source(registry.host) as app:
        if arrives:
            assert app.document("1.0").descriptor.size == IMAGE.size
        else:
            with pytest.raises(RedirectRefused, match="more than 5"):
                app.document("1.0")
    assert len(registry.log) <= 7


def test_circular_redirect_is_refused(
    engine: str, registry: FakeRegistry, storage: FakeRegistry
) -> None:
    registry.redirect(MANIFEST, f"{storage.url}/b")
    storage.redirect("/b", f"{registry.url}{MANIFEST}")
    with (
        source(registry.host, engine=engine) as app,
        pytest.raises(RedirectRefused, match="circle"),
    ):
        app.document("1.0")
    assert len(registry.log) + len(storage.log) == 2


@pytest.mark.parametrize("status", [300, 304, 305, 306, 399])
def test_other_3xx_answers_are_refused(engine: str, registry: FakeRegistry, status: int) -> None:
    registry.on("GET", MANIFEST, Reply(status, {"Location": "/elsewhere"}))
    with (
        source(registry.host, engine=engine) as app,
        pytest.raises(ServerFault, match=str(status)),
    ):
        app.document("1.0")
    assert len(registry.log) == 1


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://evil.example/x",
        "unix:/var/run/docker.sock",
        "javascript:1",
        "data:,x",
        "http://u5er:pw@evil.example/x",
        "http://evil.example:99999/x",
        "http://evil.example\\@good.example/x",
        "http:///x",
        "http://[fe80::1%25eth0]/x",
        "http://0xa9fea9fe/",
        "http://2852039166/",
        "http://127.1/",
        "http://caf\xe9.example/",
        "",
        "x" * 20_000,
    ],
)
def test_invalid_locations_are_refused(registry: FakeRegistry, location: str) -> None:
    registry.on("GET", MANIFEST, Reply(302, {"Location": location}))
    with source(registry.host) as app, pytest.raises(RedirectRefused) as caught:
        app.document("1.0")
    assert registry.host in str(caught.value)
    assert "pw" not in str(caught.value)


def test_redirect_with_two_locations_is_refused(registry: FakeRegistry) -> None:
    registry.on("GET", MANIFEST, Reply(302, [("Location", "/a"), ("Location", "/b")]))
    with source(registry.host) as app, pytest.raises(RedirectRefused, match="2 `Location`"):
        app.document("1.0")


def test_missing_location_is_refused(registry: FakeRegistry) -> None:
    registry.on("GET", MANIFEST, Reply(302))
    with source(registry.host) as app, pytest.raises(RedirectRefused, match="0 `Location`"):
        app.document("1.0")


def test_redirect_from_https_to_http_is_refused(
    engine: str, storage: FakeRegistry, tmp_path: Path
) -> None:
    options = {"plain_http": False, "ca_file": authority().ca_file(tmp_path)}
    with FakeRegistry(tls=authority().good()) as registry:
        registry.redirect(MANIFEST, f"{storage.url}/m?S1GNATURE")
        with (
            source(registry.host, engine=engine, options=options) as app,
            pytest.raises(RedirectRefused, match="plain http") as caught,
        ):
            app.document("1.0")
    assert "S1GNATURE" not in str(caught.value)
    assert storage.log == []


def test_credentials_are_sent_again_after_a_redirect_back(
    registry: FakeRegistry, storage: FakeRegistry
) -> None:
    registry.basic(USER, PASSWORD)
    registry.serve("team/app", "real", IMAGE)
    away = Reply(307, {"Location": f"{storage.url}/away"})
    registry.on(
        "GET",
        MANIFEST,
        lambda seen: away if seen.authorization else None,
    )
    storage.redirect("/away", f"{registry.url}/v2/team/app/manifests/real")
    with source(registry.host, credentials=login(registry.host)) as app:
        assert str(app.document("1.0").descriptor.digest) == IMAGE.digest
    assert_saw_no_secret(storage)


def test_redirected_digest_is_verified(
    engine: str, registry: FakeRegistry, storage: FakeRegistry
) -> None:
    registry.redirect(f"/v2/team/app/manifests/{IMAGE.digest}", f"{storage.url}/m")
    storage.on("GET", "/m", Reply(headers=TYPED, body=OTHER.body))
    with (
        source(registry.host, engine=engine) as app,
        pytest.raises(DigestMismatch, match=OTHER.digest),
    ):
        app.document(IMAGE.digest)


def test_redirected_registry_is_requested_anonymously(
    engine: str, registry: FakeRegistry, storage: FakeRegistry
) -> None:
    # lscr.io redirects to ghcr.io, which has a token server of its own:
    # docs/wire-protocol.md, "Challenges after a redirect".
    storage.serve("team/app", "1.0", IMAGE)
    tokens = storage.bearer()
    registry.redirect(MANIFEST, f"{storage.url}{MANIFEST}")
    with source(registry.host, engine=engine, credentials=login(registry.host)) as app:
        assert str(app.document("1.0").descriptor.digest) == IMAGE.digest
        assert str(app.document("1.0").descriptor.digest) == IMAGE.digest
    assert [seen.authorization for seen in registry.log] == [None, None]
    assert tokens.count == 1
    assert all(seen.authorization is None for seen in tokens.requests)
    assert PASSWORD not in str(storage.log)


def test_redirector_to_a_login_receives_nothing(
    registry: FakeRegistry, storage: FakeRegistry
) -> None:
    storage.basic(USER, PASSWORD)
    registry.redirect(MANIFEST, f"{storage.url}{MANIFEST}")
    with (
        source(registry.host, credentials=login(registry.host, storage.host)) as app,
        pytest.raises(AuthenticationRequired, match=storage.host),
    ):
        app.document("1.0")
    assert_saw_no_secret(storage)


def test_checked_address_is_the_one_dialled(
    engine: str, registry: FakeRegistry, storage: FakeRegistry
) -> None:
    # No name server knows `cdn.test`: only the checked address can lead there.
    names = Names(cdn="127.0.0.1")
    port = storage.host.rpartition(":")[2]
    registry.redirect(MANIFEST, f"http://cdn.test:{port}/m")
    storage.on("GET", "/m", Reply(headers=TYPED, body=IMAGE.body))
    with source(registry.host, engine=engine, lookup=names) as app:
        app.document("1.0")
    assert storage.log[0].headers["host"] == f"cdn.test:{port}"
    assert names.asked == ["cdn.test"]


def test_redirect_within_the_registry_needs_no_lookup(engine: str, registry: FakeRegistry) -> None:
    registry.serve("team/app", "1.0", IMAGE)
    names = Names()
    with source(registry.host, engine=engine, lookup=names) as app:
        app.document("1.0")
    assert names.asked == []


def test_redirect_to_the_metadata_service_is_refused(engine: str, registry: FakeRegistry) -> None:
    registry.redirect(MANIFEST, "http://cdn.test/latest/meta-data/")
    with (
        source(registry.host, engine=engine, lookup=Names(cdn="169.254.169.254")) as app,
        pytest.raises(AddressRefused, match=r"169\.254\.169\.254"),
    ):
        app.document("1.0")


def test_storage_that_refuses_without_a_challenge_is_named(
    registry: FakeRegistry, storage: FakeRegistry
) -> None:
    registry.redirect(MANIFEST, f"{storage.url}/m")
    storage.on("GET", "/m", Reply(401))
    with source(registry.host) as app, pytest.raises(AuthenticationRequired, match=storage.host):
        app.document("1.0")
    assert len(storage.log) == 1


def test_redirected_registry_that_refuses_its_token_is_not_retried(
    registry: FakeRegistry, storage: FakeRegistry
) -> None:
    registry.redirect(MANIFEST, f"{storage.url}{MANIFEST}")
    storage.token_server()
    challenge = f'Bearer realm="{storage.url}/token"'
    storage.on("GET", MANIFEST, Reply(401, {"WWW-Authenticate": challenge}))
    with source(registry.host) as app, pytest.raises(AuthenticationRequired, match=storage.host):
        app.document("1.0")
    assert len(storage.log) == 3
