"""Redirects to forbidden places (area "redirect" of the catalogue)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.adversarial.actor import refused
from tests.adversarial.hosts import OCI_MANIFEST, login
from tests.adversarial.namespace import inside
from tests.kit.certificates import authority
from tests.kit.images import build_image, from_dict
from tests.kit.outcomes import PASSWORD, SIGNATURE, USER, no_credentials_received
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.adversarial.actor import Actor
    from tests.adversarial.hosts import Hosts

    Config = Callable[[object], Path]

IMAGE = build_image("linux/amd64")
CONFIG = json.loads(IMAGE.body)["config"]["digest"]
BLOB, TAG, PINNED = (
    f"/v2/app/blobs/{CONFIG}",
    "/v2/app/manifests/1",
    f"/v2/app/manifests/{IMAGE.digest}",
)
HEADERS = {"Content-Type": OCI_MANIFEST}


@pytest.fixture
def registry(hosts: Hosts, docker_config: Config) -> FakeRegistry:
    """Return a registry with one image and a login for it."""
    made = hosts.registry()
    made.serve("app", "1", IMAGE)
    made.basic(USER, PASSWORD)
    docker_config(login(made.host))
    return made


def test_red_001_blob_from_storage_is_fetched_without_credentials(
    act: Actor, hosts: Hosts, registry: FakeRegistry
) -> None:
    # The config is a blob, which inspect shows once it is verified.
    cdn = hosts.registry()
    registry.redirect(BLOB, f"{cdn.url}/blob?X-Amz-Signature=1")
    cdn.on("GET", "/blob", Reply(body=IMAGE.blobs[CONFIG]))
    assert act("PULL", f"{registry.host}/app:1").status == 0
    assert [seen.query for seen in cdn.log] == ["X-Amz-Signature=1"]
    no_credentials_received(cdn)


def test_red_001_wrong_bytes_from_storage_are_refused(
    act: Actor, hosts: Hosts, registry: FakeRegistry
) -> None:
    cdn = hosts.registry()
    registry.redirect(BLOB, f"{cdn.url}/blob")
    cdn.on("GET", "/blob", Reply(body=IMAGE.blobs[CONFIG].replace(b"amd64", b"arm64")))
    refused(act("PULL", f"{registry.host}/app:1"), "INTEGRITY", CONFIG)


def test_red_003_circular_and_long_redirects_end(act: Actor, registry: FakeRegistry) -> None:
    registry.redirect(TAG, "/b")
    registry.redirect("/b", TAG)
    refused(act("RESOLVE", f"{registry.host}/app:1"), "NETWORK")
    assert len(registry.log) <= 11


@pytest.mark.parametrize(("hops", "passes"), [(5, True), (6, False), (11, False)])
def test_red_003_five_redirects_are_followed(
    act: Actor, hosts: Hosts, hops: int, passes: bool
) -> None:
    registry = hosts.registry()
    for number in range(hops):
        registry.redirect(f"/hop/{number}" if number else TAG, f"/hop/{number + 1}")
    registry.on("GET", f"/hop/{hops}", Reply(200, HEADERS, IMAGE.body))
    registry.on("GET", BLOB, Reply(body=IMAGE.blobs[CONFIG]))
    outcome = act("RESOLVE", f"{registry.host}/app:1", "-p", "linux/amd64")
    if passes:
        assert outcome.answer["manifest"]["digest"] == IMAGE.digest
    else:
        refused(outcome, "NETWORK", "redirects")
        assert len(registry.log) <= 11


def test_red_004_redirect_from_https_to_http_is_refused(
    act: Actor, hosts: Hosts, docker_config: Config
) -> None:
    registry, evil = hosts.registry(authority().good()), hosts.evil()
    registry.serve("app", "1", IMAGE)
    registry.redirect(BLOB, f"{evil.url}/blob")
    docker_config(login(registry.host))
    trusted = str(authority().ca_file(act.folder))
    refused(act("PULL", f"{registry.host}/app:1", "--ca-file", trusted), "NETWORK", evil.host)
    assert evil.connections == 0


ODD = [
    "file:///etc/passwd",
    "file://CANARY",
    "ftp://EV/x",
    "unix:/var/run/docker.sock",
    "javascript:1",
    "data:,x",
    "http://u5er:pw@EV/x",
    "http://EV\t/x",
    "http:///x",
    "",
    "http://EV/\u00e4",
    "//EV:99999/x",
]


@pytest.mark.parametrize("location", ODD)
@pytest.mark.parametrize("path", [BLOB, TAG])
def test_red_005_invalid_locations_are_refused(
    act: Actor, hosts: Hosts, registry: FakeRegistry, path: str, location: str
) -> None:
    evil = hosts.evil()
    canary = act.folder / "canary"
    canary.write_text("C4NARY")
    place = location.replace("EV", evil.host).replace("CANARY", str(canary))
    registry.on("GET", path, Reply(307, {"Location": place}))
    outcome = act("PULL", f"{registry.host}/app:1")
    refused(outcome, "NETWORK")
    assert "C4NARY" not in outcome.out
    assert "root:" not in outcome.out
    assert not [
        held for held in act.store.rglob("*") if held.is_file() and b"C4NARY" in held.read_bytes()
    ]
    no_credentials_received(evil)


@pytest.mark.parametrize("count", [0, 2])
def test_red_005_several_locations_are_refused(
    act: Actor, hosts: Hosts, registry: FakeRegistry, count: int
) -> None:
    evil = hosts.evil()
    registry.on("GET", TAG, Reply(302, [("Location", f"{evil.url}/x")] * count))
    refused(act("RESOLVE", f"{registry.host}/app:1"), "NETWORK", "Location")
    assert evil.log == []


def test_red_007_private_registry_may_use_private_storage(act: Actor) -> None:
    inside("tests.adversarial.scenarios:private_storage", act.folder)


def test_red_007_public_registry_may_not_use_private_storage(act: Actor) -> None:
    inside("tests.adversarial.scenarios:public_registry_private_storage", act.folder)


def test_red_012_cookies_are_not_stored(act: Actor, hosts: Hosts, registry: FakeRegistry) -> None:
    # Tag list, manifest and config are requested twice.
    cdn = hosts.registry()
    cookie = ("Set-Cookie", f"session={SIGNATURE}; Path=/; Domain=127.0.0.1")
    location = ("Location", f"{cdn.url}/blob")
    registry.on("GET", BLOB, Reply(307, [location, cookie]))
    registry.on("GET", TAG, Reply(200, [*HEADERS.items(), cookie], IMAGE.body))
    cdn.on("GET", "/blob", Reply(200, [cookie], IMAGE.blobs[CONFIG]))
    place = f"{registry.host}/app:1"
    for store in ("one", "two"):
        assert act("PULL", place).status == 0
        (act.folder / "store").rename(act.folder / store)
    assert act("TAGS", f"{registry.host}/app").status == 0
    assert len(cdn.log) == 2
    assert not [seen for seen in registry.log + cdn.log if "cookie" in seen.headers]
    for path in act.folder.rglob("*"):
        assert not path.is_file() or SIGNATURE.encode() not in path.read_bytes()


def test_red_016_foreign_layer_url_is_not_requested(
    act: Actor, hosts: Hosts, registry: FakeRegistry
) -> None:
    # Only `pull --foreign` may request it.
    evil = hosts.evil()
    fields = json.loads(IMAGE.body)
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    fields["layers"][0] |= {"mediaType": kind, "urls": [f"{evil.url}/layer"]}
    registry.serve("app", "foreign", from_dict(fields, parts=[IMAGE]))
    for verb in ("PULL", "RESOLVE --verify", "PLATFORMS"):
        assert act(verb, f"{registry.host}/app:foreign").status == 0
    assert evil.connections == 0


def test_red_018_redirected_tag_keeps_accept_and_drops_credentials(
    act: Actor, hosts: Hosts, registry: FakeRegistry
) -> None:
    # The `Accept` half of RED-011 too.
    evil = hosts.registry()
    registry.redirect(TAG, f"{evil.url}/manifest", status=302)
    evil.on("GET", "/manifest", Reply(200, HEADERS, IMAGE.body))
    outcome = act("RESOLVE", f"{registry.host}/app:1", "-p", "linux/amd64")
    assert outcome.answer["manifest"]["digest"] == IMAGE.digest
    assert OCI_MANIFEST in evil.log[0].headers["accept"]
    no_credentials_received(evil)


def test_red_018_redirected_digest_is_verified(
    act: Actor, hosts: Hosts, registry: FakeRegistry
) -> None:
    evil = hosts.registry()
    registry.redirect(PINNED, f"{evil.url}/manifest", status=302)
    other = build_image("linux/arm64").body
    evil.on("GET", "/manifest", Reply(200, HEADERS, other))
    place = f"{registry.host}/app@{IMAGE.digest}"
    refused(act("RESOLVE", place), "INTEGRITY", IMAGE.digest)
    no_credentials_received(evil)


@pytest.mark.parametrize("status", [300, 304, 305, 306, 399])
def test_red_019_other_3xx_answers_are_refused(
    act: Actor, hosts: Hosts, registry: FakeRegistry, status: int
) -> None:
    evil = hosts.evil()
    registry.on("GET", TAG, Reply(status, {"Location": f"{evil.url}/x"}))
    refused(act("RESOLVE", f"{registry.host}/app:1"), "NETWORK", str(status))
    assert evil.log == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_red_019_redirects_are_followed(act: Actor, hosts: Hosts, status: int) -> None:
    registry, cdn = hosts.registry(), hosts.registry()
    registry.serve("app", None, IMAGE)
    registry.redirect(TAG, f"{cdn.url}/manifest", status=status)
    cdn.on("GET", "/manifest", Reply(200, HEADERS, IMAGE.body))
    outcome = act("RESOLVE", f"{registry.host}/app:1", "-p", "linux/amd64")
    assert outcome.answer["manifest"]["digest"] == IMAGE.digest
