"""Output of `resolver login` and `logout`."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from tests.kit.processes import command
from tests.kit.registry import FakeRegistry, Reply
from tests.kit.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run

USER, PASSWORD = "u5er", "S3cr3tPa55"


@pytest.fixture
def config() -> Path:
    return Path(os.environ["HOME"]) / ".docker" / "config.json"


@pytest.fixture
def basic() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.basic(USER, PASSWORD)
        yield registry


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipe the password in."""
    type_in(monkeypatch, f"{PASSWORD}\n")


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8")
    monkeypatch.setattr(sys, "stdin", stream)


def seen(what: object) -> str:
    return str(what).replace(os.environ["HOME"], "HOME")


def words(registry: FakeRegistry, verb: str = "login") -> tuple[str, ...]:
    return (verb, registry.host, "--username", USER, "--password-stdin")


@pytest.mark.usefixtures("typed")
def test_login_verifies_stores_uses_and_removes_credentials(
    run: Run, basic: FakeRegistry, config: Path
) -> None:
    assert seen(run(*words(basic))) == snapshot("""\
status: 0
--- stdout
Login Succeeded: u5er at HOST:PORT, stored in HOME/.docker/config.json
--- stderr
""")
    entry = json.loads(config.read_bytes())["auths"][basic.host]
    assert list(entry) == ["auth"]
    assert seen(run("logout", basic.host)) == snapshot("""\
status: 0
--- stdout
Removed the login for HOST:PORT from HOME/.docker/config.json
--- stderr
""")
    assert seen(run("logout", basic.host)) == snapshot("""\
status: 0
--- stdout
Not logged in to HOST:PORT
--- stderr
""")
    assert json.loads(config.read_bytes()) == {"auths": {}}


def test_login_with_a_wrong_password_stores_nothing(
    run: Run, basic: FakeRegistry, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, "wr0ng\n")

    assert str(run(*words(basic))) == snapshot("""\
status: 4
--- stdout
--- stderr
error: `HOST:PORT` rejects this user name and password; nothing was stored
hint: check both; some registries require an access token instead of the password
""")
    assert not config.exists()


@pytest.mark.usefixtures("typed")
def test_login_requests_a_token_without_a_scope(run: Run) -> None:
    with FakeRegistry() as registry:
        registry.bearer(credentials=(USER, PASSWORD))

        assert run(*words(registry)).status == 0
        asked = [seen for seen in registry.log if seen.path == "/token"]
        assert ["scope" in seen.raw_target for seen in asked] == [False]


@pytest.mark.usefixtures("typed")
def test_login_reports_a_registry_without_authentication(run: Run) -> None:
    with FakeRegistry() as registry:
        output = run(*words(registry))

    assert output.status == 0
    assert "does not require a login, so this one was not checked" in output.stderr


@pytest.mark.usefixtures("typed")
@pytest.mark.parametrize(("status", "expected"), [(404, 2), (403, 4), (418, 5)])
def test_login_reports_a_server_that_is_not_a_registry(
    run: Run, config: Path, status: int, expected: int
) -> None:
    with FakeRegistry() as registry:
        registry.on("GET", "/v2/", Reply(status))

        assert run(*words(registry)).status == expected
    assert not config.exists()


def test_login_does_not_prompt_without_a_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, "")

    assert str(run("login", "reg.test")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: no user name given, and no terminal to prompt for it
hint: `resolver login reg.test --username NAME --password-stdin < password.txt`
""")
    assert run("login", "reg.test", "--username", "me").status == 2


@pytest.mark.usefixtures("typed")
@pytest.mark.parametrize("name", ["myhost", "reg.test/app", "a b", "https://reg.test/x/y", ""])
def test_login_rejects_an_invalid_registry_name(run: Run, name: str) -> None:
    output = run("login", name, "--username", "me", "--password-stdin")

    assert output.status == 2
    assert len(output.stderr.splitlines()) == 2


@pytest.mark.usefixtures("typed")
def test_login_offline_is_refused(run: Run) -> None:
    assert run("login", "reg.test", "--offline", "--username", "a", "--password-stdin").status == 2


def test_login_never_prints_the_password(basic: FakeRegistry) -> None:
    done = command(*words(basic), "-vv", stdin=f"{PASSWORD}\n".encode())

    assert done.returncode == 0, done.stderr
    assert PASSWORD.encode() not in done.stdout + done.stderr


def test_login_json_contains_no_secret(
    run: Run, basic: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, PASSWORD)

    output = json.loads(run(*words(basic), "--json").stdout)

    assert output["verified"] is True
    assert output["username"] == USER
    assert set(output) == {"schema", "registry", "username", "place", "verified"}


def test_login_prompts_for_missing_values_on_a_terminal(basic: FakeRegistry, config: Path) -> None:
    with Terminal("login", basic.host) as terminal:
        terminal.until(lambda _screen: "User name: " in terminal.raw)
        terminal.type(USER)
        terminal.until(lambda _screen: f"Password for {USER} at {basic.host}: " in terminal.raw)
        terminal.type(PASSWORD)
        status, output = terminal.end()

    assert (status, output.split(":")[0]) == (0, "Login Succeeded")
    assert PASSWORD not in terminal.raw
    assert basic.host in json.loads(config.read_bytes())["auths"]


@pytest.mark.parametrize(
    ("words", "missing"), [((), "no user name given"), (("--username", "me"), "no password")]
)
def test_login_with_empty_input_stores_nothing(words: tuple[str, ...], missing: str) -> None:
    with Terminal("login", "reg.test", *words) as terminal:
        terminal.until(lambda _screen: ": " in terminal.raw)
        terminal.type("")
        status, output = terminal.end()

    assert (status, output) == (2, "")
    assert missing in terminal.raw
