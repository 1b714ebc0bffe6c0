"""Expiring credentials and unreachable token servers."""

from __future__ import annotations

import base64
import json
import shlex
from typing import TYPE_CHECKING

import pytest

from resolver.errors import AuthenticationFailed, ConnectionFailed, Denied, UnsafeRealm
from tests.kit.clients import source
from tests.kit.credentials import Machine
from tests.kit.images import build_image
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST = "/v2/team/app/manifests/1.0"
CHALLENGE = {"WWW-Authenticate": 'Basic realm="ecr"'}
#: Source: Amazon ECR, with its own words.
EXPIRED = b'{"errors":[{"code":"DENIED","message":"Your authorization token has expired."}]}'
OTHER = b'{"errors":[{"code":"DENIED","message":"User is not authorized."}]}'


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        fake.serve("team/app", "1.0", build_image())
        yield fake


@pytest.fixture
def machine(tmp_path: Path, registry: FakeRegistry) -> Machine:
    """Return a machine whose helper has a new password for each call: one, two, …"""
    made = Machine(tmp_path / "machine")
    count = shlex.quote(str(made.root / "calls"))
    made.install(
        "ecr",
        f"cat > /dev/null; echo asked >> {count}; n=$(wc -l < {count} | tr -d ' ')\n"
        'printf \'{"Username":"AWS","Secret":"pass-%s"}\' "$n"',
    )
    made.configure({"credHelpers": {registry.host: "ecr"}})
    return made


def helper_calls(machine: Machine) -> int:
    return len((machine.root / "calls").read_text().split())


def passwords_sent(registry: FakeRegistry) -> list[str | None]:
    """Return the passwords sent, request by request."""
    found: list[str | None] = []
    for seen in registry.log:
        text = seen.authorization
        pair = base64.b64decode(text.removeprefix("Basic ")).decode() if text else None
        found.append(pair.removeprefix("AWS:") if pair else None)
    return found


@pytest.mark.parametrize("status", [401, 403])
def test_helper_runs_again_once_after_its_password_expired(
    registry: FakeRegistry, machine: Machine, status: int
) -> None:
    # Amazon ECR, after 12 hours: docs/wire-protocol.md, "Expired passwords".
    registry.on("GET", MANIFEST, Reply(401, CHALLENGE), Reply(status, CHALLENGE, EXPIRED), times=2)

    with source(registry.host, credentials=machine.chain()) as app:
        app.document("1.0")
        app.document("1.0")

    assert passwords_sent(registry) == [None, "pass-1", "pass-2", "pass-2"]
    assert helper_calls(machine) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_password_that_expires_in_use_is_replaced(
    registry: FakeRegistry, machine: Machine, status: int
) -> None:
    registry.on("GET", MANIFEST, Reply(401, CHALLENGE), times=1)

    with source(registry.host, credentials=machine.chain()) as app:
        app.document("1.0")
        registry.on("GET", MANIFEST, Reply(status, CHALLENGE, EXPIRED), times=1)
        app.document("1.0")

    assert passwords_sent(registry) == [None, "pass-1", "pass-1", "pass-2"]


@pytest.mark.parametrize(("status", "body"), [(401, OTHER), (403, OTHER), (401, b"")])
def test_password_refused_for_another_reason_is_not_requested_again(
    registry: FakeRegistry, machine: Machine, status: int, body: bytes
) -> None:
    registry.on("GET", MANIFEST, Reply(401, CHALLENGE), Reply(status, CHALLENGE, body))

    with source(registry.host, credentials=machine.chain()) as app, pytest.raises(Denied):
        app.document("1.0")

    assert passwords_sent(registry) == [None, "pass-1"]
    assert helper_calls(machine) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_helper_does_not_run_repeatedly(
    registry: FakeRegistry, machine: Machine, status: int
) -> None:
    registry.on("GET", MANIFEST, Reply(401, CHALLENGE), Reply(status, CHALLENGE, EXPIRED))

    with source(registry.host, credentials=machine.chain()) as app, pytest.raises(Denied):
        app.document("1.0")

    assert passwords_sent(registry) == [None, "pass-1", "pass-2"]
    assert helper_calls(machine) == 2


def test_unchanged_password_from_a_helper_is_final(
    registry: FakeRegistry, machine: Machine
) -> None:
    answer = json.dumps({"Username": "AWS", "Secret": "old"})
    machine.install_answers("ecr", {"*": {"stdout": answer, "exit": 0}})
    registry.on("GET", MANIFEST, Reply(401, CHALLENGE), Reply(401, CHALLENGE, EXPIRED))

    with (
        source(registry.host, credentials=machine.chain()) as app,
        pytest.raises(AuthenticationFailed, match="has expired"),
    ):
        app.document("1.0")

    assert passwords_sent(registry) == [None, "old"]
    assert len(machine.calls()) == 2


def test_unreachable_token_server_is_named_with_its_registry(
    registry: FakeRegistry,
) -> None:
    # Gitea builds the realm from a setting: docs/wire-protocol.md,
    # "Token server addresses".
    registry.bearer(realm="http://127.0.0.1:9/api/token?x=secret")

    with source(registry.host) as app, pytest.raises(ConnectionFailed) as caught:
        app.document("1.0")

    assert f"`http://127.0.0.1:9/api/token`, the token server that `{registry.host}` names" in str(
        caught.value
    )


def test_invalid_realm_is_shown_without_possible_secrets(
    registry: FakeRegistry,
) -> None:
    # Nexus behind some proxies repeats the port: docs/wire-protocol.md,
    # "Token server addresses".
    challenge = 'Bearer realm="https://u5er:pw@nexus.test:443:443/token?key=pw"'
    registry.on("GET", MANIFEST, Reply(401, {"WWW-Authenticate": challenge}))

    with source(registry.host) as app, pytest.raises(UnsafeRealm) as caught:
        app.document("1.0")

    assert "`nexus.test:443:443/token`" in str(caught.value)
    assert "pw" not in str(caught.value)
