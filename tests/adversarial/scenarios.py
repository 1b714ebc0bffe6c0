"""Scenarios that run in a network namespace; see `tests.adversarial.namespace`."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from tests.adversarial.actor import Actor, refused
from tests.adversarial.hosts import Recorder, login
from tests.kit.auth import basic_value
from tests.kit.auth import refused as challenged
from tests.kit.certificates import authority, unknown_authority
from tests.kit.images import multi_platform
from tests.kit.outcomes import PASSWORD, USER, no_credentials_received
from tests.kit.registry import Reply

if TYPE_CHECKING:
    from tests.adversarial.hosts import Hosts
    from tests.kit.registry import FakeRegistry

IMAGE = multi_platform("linux/amd64")
CONFIG = json.loads(IMAGE.child("linux/amd64").body)["config"]["digest"]
PUBLIC, PRIVATE, OTHER, METADATA = "8.8.8.8", "10.0.0.5", "10.0.0.6", "169.254.169.254"


def logged_in(act: Actor, config: dict[str, object]) -> None:
    """Write the `config.json` of the user."""
    folder = act.folder / "home" / "docker"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    act.given.add(path)
    os.environ["DOCKER_CONFIG"] = str(folder)


def trusted(*names: str) -> ssl.SSLContext:
    """Serve with a certificate of the test's CA for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().ca.issue_cert(*names).configure_cert(context)
    return context


# --- AUT-006 --------------------------------------------------------------------------------

DISGUISES = ("{}", "[::ffff:{}]", "2852039166", "0xa9fea9fe", "169.254.43518")


def realm_at_private_addresses(act: Actor, hosts: Hosts) -> None:
    """A public registry names token servers in private networks, in every spelling."""
    registry = hosts.registry(host=PUBLIC)
    logged_in(act, login(registry.host))
    for address in (METADATA, PRIVATE, "127.0.0.1"):
        evil = hosts.evil(host=address)
        port = evil.host.rpartition(":")[2]
        for spelling in DISGUISES if address == METADATA else ("{}",):
            host = spelling.format(address)
            for scheme in ("http", "https"):
                name = f"app{len(act.watched)}-{scheme}-{abs(hash(host))}"
                challenge = f'Bearer realm="{scheme}://{host}:{port}/token",service="x"'
                path = f"/v2/{name}/manifests/1"
                registry.on("GET", path, challenged(challenge))
                outcome = act("PULL", f"{registry.host}/{name}:1", "--plain-http")
                refused(outcome, "AUTH")
        assert evil.connections == 0, address


# --- RED-007 --------------------------------------------------------------------------------


def _with_storage(hosts: Hosts, registry_at: str, storage_at: str) -> tuple[FakeRegistry, ...]:
    registry, storage = hosts.registry(host=registry_at), hosts.registry(host=storage_at)
    registry.serve("app", "1", IMAGE)
    registry.redirect(f"/v2/app/blobs/{CONFIG}", f"{storage.url}/blob?x=1")
    storage.on("GET", "/blob", Reply(body=IMAGE.blobs[CONFIG]))
    return registry, storage


def private_storage(act: Actor, hosts: Hosts) -> None:
    """A private registry stores its blobs on another private host."""
    registry, storage = _with_storage(hosts, PRIVATE, OTHER)
    logged_in(act, login(registry.host))
    outcome = act("PULL", f"{registry.host}/app:1", "--plain-http")
    assert outcome.status == 0, outcome
    assert len(storage.log) == 1
    no_credentials_received(storage)
    # The metadata service is not storage, wherever the registry is.
    registry, metadata = _with_storage(hosts, PRIVATE, METADATA)
    refused(_fresh(act)("PULL", f"{registry.host}/app:1", "--plain-http"), "NETWORK")
    assert metadata.connections == 0


def public_registry_private_storage(act: Actor, hosts: Hosts) -> None:
    """A public registry redirects into a private network."""
    for target in (PRIVATE, METADATA, "127.0.0.1"):
        registry, inner = _with_storage(hosts, PUBLIC, target)
        outcome = _fresh(act)("PULL", f"{registry.host}/app:1", "--plain-http")
        refused(outcome, "NETWORK", target)
        assert inner.connections == 0, target


def _fresh(act: Actor) -> Actor:
    """Return an actor with an empty store."""
    return Actor(Path(mkdtemp(dir=act.folder)), act.watched, act.given)


# --- CLI-014 --------------------------------------------------------------------------------


def no_plaintext(act: Actor, hosts: Hosts) -> None:
    """Untrusted TLS although plain HTTP would answer; then no TLS at all."""
    bad = unknown_authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    bad.ca.issue_cert(PUBLIC).configure_cert(context)
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with ExitStack() as stack:
        for port in (443, 5000):
            secure = hosts.registry(context, host=PUBLIC, port=port)
            beside = [
                stack.enter_context(Recorder(PUBLIC, number, page)) for number in _beside(port)
            ]
            named = PUBLIC if port == 443 else f"{PUBLIC}:{port}"
            logged_in(act, login(named))
            refused(act("PULL", f"{named}/app:1"), "NETWORK")
            assert secure.log == []
            assert secure.wait_for(lambda: bool(secure.handshake_failures))  # noqa: B023 - called here
            assert [each.received for each in beside] == [[] for _ in beside]
        plain = stack.enter_context(Recorder(PRIVATE, 5000, b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        logged_in(act, login(plain.address))
        outcome = act("PULL", f"{plain.address}/app:1")
        refused(outcome, "NETWORK", "--plain-http")
        # 22 is the first byte of every TLS handshake. Source: RFC 8446, 5.1.
        assert plain.received
        assert all(first[:1] == b"\x16" for first in plain.received)
        assert not [first for first in plain.received if b"app" in first or b"HTTP/1" in first]


def _beside(port: int) -> tuple[int, ...]:
    return (80, 444) if port == 443 else (port + 1,)


# --- CLI-015 --------------------------------------------------------------------------------


def wildcard_depth(act: Actor, hosts: Hosts) -> None:
    """A wildcard matches one label and not two."""
    registry = hosts.registry(trusted("*.reg.test"), host=PRIVATE, port=443)
    registry.serve("app", "1", IMAGE)
    ca_file = str(authority().ca_file(act.folder))
    words = ("-p", "linux/amd64", "--ca-file", ca_file)
    refused(act("RESOLVE", "a.b.reg.test/app:1", *words), "NETWORK", "certificate")
    assert registry.log == []
    assert act("RESOLVE", "a.reg.test/app:1", *words).status == 0


# --- CFG-001 --------------------------------------------------------------------------------

HUB_KEYS = {
    "https://index.docker.io/v1/": True,
    "index.docker.io": True,
    "docker.io": True,
    # Docker does not read this one; we do: docs/wire-protocol.md, "Credential lookup".
    "registry-1.docker.io": True,
}


def hub_keys(act: Actor, hosts: Hosts) -> None:
    """Logins of Docker Hub, under each of its names."""
    hub = hosts.registry(trusted("registry-1.docker.io"), host=PUBLIC, port=443)
    hub.basic(USER, PASSWORD)
    hub.serve("library/x", "latest", IMAGE)
    ca_file = str(authority().ca_file(act.folder))
    found = {}
    for key in HUB_KEYS:
        logged_in(act, login(key))
        outcome = _fresh(act)("RESOLVE", "x", "-p", "linux/amd64", "--ca-file", ca_file)
        assert outcome.status in (0, 4), outcome
        found[key] = outcome.status == 0
    assert found == HUB_KEYS, found


# --- CFG-005 --------------------------------------------------------------------------------


def ports_matter(act: Actor, hosts: Hosts) -> None:
    """A login for one port is not sent to another."""
    first = basic_value("five", PASSWORD)
    second = basic_value("default", PASSWORD)
    config = login("reg.test:5000", user="five")
    auths = config["auths"]
    assert isinstance(auths, dict)
    more = login("reg.test", user="default")["auths"]
    assert isinstance(more, dict)
    logged_in(act, {"auths": {**auths, **more}})
    shown: dict[int, set[str | None]] = {}
    ca_file = str(authority().ca_file(act.folder))
    for port in (5000, 443, 5001):
        registry = hosts.registry(trusted("reg.test"), host=PRIVATE, port=port)
        registry.basic("nobody", "nothing")
        places = ["reg.test/x", "reg.test:443/x"] if port == 443 else [f"reg.test:{port}/x"]
        for place in places:
            refused(act("RESOLVE", place, "--ca-file", ca_file), "AUTH")
        shown[port] = {seen.authorization for seen in registry.log}
    assert shown[5000] == {None, first}
    assert shown[443] == {None, second}
    assert shown[5001] == {None}


# --- no CA certificates ---------------------------------------------------------------------


def no_authorities(act: Actor, hosts: Hosts) -> None:
    """A small image without the package ca-certificates."""
    folder = Path(mkdtemp(dir=act.folder))
    for place in ("/etc/ssl", "/usr/share/ca-certificates"):
        if Path(place).is_dir():
            subprocess.run(["mount", "--bind", str(folder), place], check=True)
    plain = hosts.registry(host=PRIVATE)
    plain.serve("app", "1", IMAGE)
    words = ("-p", "linux/amd64")
    outcome = act("RESOLVE", f"{plain.host}/app:1", *words, "--plain-http")
    assert outcome.status == 0, outcome
    secure = hosts.registry(trusted("reg.test"), host=PRIVATE, port=443)
    secure.serve("app", "1", IMAGE)
    ca_file = str(authority().ca_file(act.folder))
    outcome = _fresh(act)("RESOLVE", "reg.test/app:1", *words, "--ca-file", ca_file)
    assert outcome.status == 0, outcome
    refused(_fresh(act)("RESOLVE", "reg.test/app:1", *words), "NETWORK", "certificate")
