"""Credential files and helpers (area "config" of the catalogue)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.adversarial.actor import refused
from tests.adversarial.hosts import answer, login
from tests.adversarial.namespace import inside
from tests.kit.auth import basic_value
from tests.kit.credentials import plant_helper
from tests.kit.images import multi_platform
from tests.kit.outcomes import IDENTITY, PASSWORD, USER
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.adversarial.actor import Actor
    from tests.adversarial.hosts import Hosts

    Config = Callable[[object], Path]


@pytest.fixture
def registry(hosts: Hosts) -> FakeRegistry:
    made = hosts.registry()
    made.serve("app", "1", multi_platform("linux/amd64"))
    return made


def ask(act: Actor, registry: FakeRegistry, verb: str = "PULL") -> int:
    """Resolve the image and return the exit status."""
    return act(
        verb, f"{registry.host}/app:1", *(() if verb == "PULL" else ("-p", "linux/amd64"))
    ).status


def test_cfg_001_docker_hub_credentials_match_each_of_its_names(act: Actor) -> None:
    inside("tests.adversarial.scenarios:hub_keys", act.folder)


BROKEN = {
    "invalid": b'{"auths":{"reg.test":{"auth":"S3cr3tPa55" S3cr3tPa55}}}',
    "truncated": b'{"auths":{"reg.test":{"auth":"S3cr3tPa55',
    "array": b"[]",
    "null": b"null",
    "two documents": b'{} {"auths":"S3cr3tPa55"}',
    "NUL": b"\0" * 40,
    "UTF-16": '{"auths":{}}'.encode("utf-16"),
    "number": b"1" * 5000,
    "deep": b'{"auths":' + b"[" * 5000,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_cfg_002_malformed_credentials_file_is_named_and_not_quoted(
    act: Actor, registry: FakeRegistry, docker_config: Config, kind: str
) -> None:
    path = docker_config(BROKEN[kind])
    outcome = act("RESOLVE", f"{registry.host}/app:1")
    refused(outcome, "CONFIG", str(path))
    assert registry.log == []
    if kind == "invalid":
        assert "line 1" in outcome.text or "byte" in outcome.text or "character" in outcome.text


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_cfg_002_empty_file_holds_no_credentials(
    act: Actor, registry: FakeRegistry, docker_config: Config, content: bytes
) -> None:
    docker_config(content)
    assert ask(act, registry) == 0


@pytest.mark.parametrize("password", ["p:w \u00e9:\u4e2d", ":", " x ", "\u202ex", "a" * 4000])
def test_cfg_004_password_may_contain_any_character(
    act: Actor, registry: FakeRegistry, docker_config: Config, password: str
) -> None:
    registry.basic(USER, password)
    docker_config(login(registry.host, password=password))
    assert ask(act, registry, "RESOLVE") == 0
    assert registry.log[-1].authorization == basic_value(USER, password)


def test_cfg_005_login_is_limited_to_one_port(act: Actor) -> None:
    inside("tests.adversarial.scenarios:ports_matter", act.folder)


def test_cfg_007_helper_is_called_with_its_name_and_host(
    act: Actor, registry: FakeRegistry, docker_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = act.folder / "record"
    record.mkdir()
    message = json.dumps({"ServerURL": registry.host, "Username": "<token>", "Secret": IDENTITY})
    script = (
        f'printf "%s" "$0 $*" >{record}/argv; cat >{record}/stdin; env >{record}/env;'
        f"printf '%s' '{message}'"
    )
    planted = plant_helper(act.folder / "bin", "rec", script, monkeypatch)
    act.given.add(planted)
    monkeypatch.setenv("RESOLVER_NOTE", "passed on or not")
    docker_config({"credHelpers": {registry.host: "rec"}})
    tokens = registry.bearer(credentials=("<token>", IDENTITY))
    assert ask(act, registry) == 0
    assert (record / "argv").read_text() == f"{planted} get"
    assert (record / "stdin").read_bytes() == registry.host.encode()
    assert [seen.method for seen in tokens.requests] == ["POST"]
    assert IDENTITY not in (record / "env").read_text()


NAMES = [
    "../../tmp/evil",
    "/tmp/evil",
    "evil;touch /tmp/pwned",
    "a b",
    "-x",
    "x\n",
    "$(id)",
    "`id`",
    "x" * 131_072,
    "\u0435vil",
    ".",
    "x/../evil",
    ["evil"],
    {"evil": 1},
    7,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("field", ["credsStore", "credHelpers"])
def test_cfg_008_invalid_helper_name_is_refused(
    act: Actor,
    registry: FakeRegistry,
    docker_config: Config,
    monkeypatch: pytest.MonkeyPatch,
    field: str,
    name: object,
) -> None:
    pwned = act.folder / "pwned"
    plant_helper(act.folder / "bin", "evil", f"touch {pwned}", monkeypatch)
    text = name.replace("/tmp/pwned", str(pwned)) if isinstance(name, str) else name
    docker_config({field: text if field == "credsStore" else {registry.host: text}})
    registry.basic(USER, PASSWORD)
    outcome = act("PULL", f"{registry.host}/app:1")
    refused(outcome, "CONFIG", field)
    assert len(outcome.err) < 2000
    assert not pwned.exists()
    assert registry.log == []


@pytest.mark.parametrize("field", ["credsStore", "credHelpers"])
def test_cfg_008_empty_helper_name_is_refused(
    act: Actor, registry: FakeRegistry, docker_config: Config, field: str
) -> None:
    docker_config({field: "" if field == "credsStore" else {registry.host: ""}})
    assert ask(act, registry) == 0


def test_cfg_008_helper_in_the_working_folder_is_not_run(
    act: Actor, registry: FakeRegistry, docker_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwned = act.folder / "pwned"
    plant_helper(act.folder / "home", "evil", f"touch {pwned}")
    monkeypatch.setenv("PATH", ":.:/usr/bin:/bin:")
    docker_config({"credsStore": "evil"})
    registry.basic(USER, PASSWORD)
    refused(act("PULL", f"{registry.host}/app:1"), "AUTH", "docker-credential-evil")
    assert not pwned.exists()


BAD_HELPERS = {
    "endless": "yes S3cr3tPa55",
    "noise": f'printf \'{{"Username":"u5er","Secret":"{PASSWORD}"\'',
    "failure": f"echo no; echo {PASSWORD} >&2; exit 3",
    "empty": "exit 0",
    "killed": "kill -9 $$",
}


@pytest.mark.parametrize("kind", BAD_HELPERS)
def test_cfg_007_broken_helper_error_contains_no_secret(
    act: Actor,
    registry: FakeRegistry,
    docker_config: Config,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    act.given.add(plant_helper(act.folder / "bin", "rec", BAD_HELPERS[kind], monkeypatch))
    docker_config({"credHelpers": {registry.host: "rec"}})
    registry.basic(USER, PASSWORD)
    refused(act("PULL", f"{registry.host}/app:1", "-vv"), "AUTH", "docker-credential-rec")


def test_cfg_012_identity_token_goes_only_to_its_token_server(
    act: Actor, hosts: Hosts, registry: FakeRegistry, docker_config: Config
) -> None:
    server = hosts.registry()
    path = docker_config({"auths": {registry.host: {"identitytoken": IDENTITY}}})
    before = path.read_bytes()
    granted = {"access_token": "T0KEN-1", "refresh_token": IDENTITY + "-NEW"}
    server.on("POST", "/token", answer(granted))
    registry.bearer(realm=f"{server.url}/token")
    assert ask(act, registry) == 0
    (asked,) = server.log
    assert asked.form["grant_type"] == ["refresh_token"]
    assert asked.form["refresh_token"] == [IDENTITY]
    assert not [seen for seen in registry.log if IDENTITY in repr(seen)]
    assert path.read_bytes() == before


@pytest.mark.parametrize("status", [404, 405])
def test_cfg_012_without_post_the_password_is_sent_by_get(
    act: Actor, hosts: Hosts, registry: FakeRegistry, docker_config: Config, status: int
) -> None:
    server = hosts.registry()
    coded = basic_value(USER, PASSWORD).removeprefix("Basic ")
    docker_config({"auths": {registry.host: {"auth": coded, "identitytoken": IDENTITY}}})
    server.on("POST", "/token", Reply(status))
    server.token_server(credentials=(USER, PASSWORD))
    registry.bearer(realm=f"{server.url}/token")
    assert ask(act, registry) == 0
    assert [seen.method for seen in server.log] == ["POST", "GET"]
    assert IDENTITY not in repr(server.log[1])


def test_cfg_017_docker_config_without_a_file_hides_the_home_file(
    act: Actor, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = act.folder / "home" / ".docker"
    home.mkdir()
    path = home / "config.json"
    path.write_text(json.dumps(login(registry.host)))
    act.given.add(path)
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
    assert ask(act, registry) == 0
    registry.basic(USER, PASSWORD)
    refused(act("RESOLVE", f"{registry.host}/app:2"), "AUTH")
    assert {seen.authorization for seen in registry.log} == {None}


def test_cfg_018_duplicate_host_is_refused(
    act: Actor, registry: FakeRegistry, docker_config: Config
) -> None:
    one = json.dumps(login(registry.host)["auths"])[1:-1]
    other = json.dumps(login(registry.host, user="other")["auths"])[1:-1]
    for second in (one, other):
        path = docker_config(f'{{"auths":{{{one},{second}}}}}'.encode())
        refused(act("PULL", f"{registry.host}/app:1"), "CONFIG", str(path), registry.host)
    assert registry.log == []


def test_cfg_018_exact_host_wins_over_its_url(
    act: Actor, registry: FakeRegistry, docker_config: Config
) -> None:
    wrong = basic_value("wrong", PASSWORD).removeprefix("Basic ")
    right = basic_value(USER, PASSWORD).removeprefix("Basic ")
    url = f"https://{registry.host}/v1/"
    entries = {url: {"auth": wrong}, registry.host: {"auth": right}}
    registry.basic(USER, PASSWORD)
    docker_config({"auths": entries})
    assert ask(act, registry) == 0
    docker_config({"auths": dict(reversed(entries.items()))})
    assert ask(act, registry) == 0


def test_cfg_019_readable_credentials_file_works_with_one_warning(
    act: Actor, registry: FakeRegistry, docker_config: Config
) -> None:
    path = docker_config(login(registry.host))
    path.chmod(0o644)
    before = path.stat()
    registry.basic(USER, PASSWORD)
    outcome = act("PULL", f"{registry.host}/app:1")
    assert outcome.status == 0
    assert outcome.err.count("warning: ") <= 1
    after = path.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
