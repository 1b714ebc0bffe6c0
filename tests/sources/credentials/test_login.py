"""Storing and removing logins where Docker keeps them, without other changes."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import HelperFailed, InvalidConfiguration, OutputFault
from resolver.sources.credentials.helpers import Helpers
from resolver.sources.credentials.login import erase, save, writable_file
from resolver.sources.credentials.secrets import Secret
from tests.kit.credentials import NOT_FOUND, Machine, pair, revealed

if TYPE_CHECKING:
    from pathlib import Path

HUB = "https://index.docker.io/v1/"
PASSWORD = Secret("S3cr3tPa55:x")
OTHERS = {
    "proxies": {"default": {"httpProxy": "http://p:1", "n": 1.5, "big": 12345678901}},
    "auths": {"other.test": {"auth": pair("a:b")}, "desktop/access-token": {}},
    "psFormat": "table ümlaut",
    "plugins": {"x": [1, None, True]},
}


def keep(machine: Machine, registry: str = "reg.test:5000") -> str:
    helpers = Helpers(machine.environment)
    return save(machine.docker_config, registry, "me", PASSWORD, helpers)


def forget(machine: Machine, registry: str = "reg.test:5000") -> tuple[str, ...]:
    return erase(machine.docker_config, registry, Helpers(machine.environment))


def content(machine: Machine) -> Any:
    return json.loads(machine.docker_config.read_bytes())


def test_login_is_stored_for_this_user_only_and_found_again(machine: Machine) -> None:
    assert keep(machine) == str(machine.docker_config)

    mode = stat.S_IMODE(machine.docker_config.stat().st_mode)
    found = machine.chain().find("reg.test:5000", "app")
    assert mode == 0o600
    assert stat.S_IMODE(machine.docker_config.parent.stat().st_mode) == 0o700
    assert revealed(found.credential) == {"username": "me", "password": "S3cr3tPa55:x"}
    assert [each.name for each in machine.docker_config.parent.iterdir()] == ["config.json"]


def test_login_keeps_other_entries_in_order(machine: Machine) -> None:
    machine.configure(OTHERS, 0o644)

    keep(machine)
    kept = content(machine)
    forget(machine)

    assert kept["auths"].pop("reg.test:5000") == {"auth": pair("me:S3cr3tPa55:x")}
    assert kept == content(machine) == OTHERS
    assert list(content(machine)) == list(OTHERS)
    assert stat.S_IMODE(machine.docker_config.stat().st_mode) == 0o600


@given(
    st.dictionaries(
        st.text(max_size=8).filter(
            lambda name: name.lower() not in {"auths", "credhelpers", "credsstore"}
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_login_keeps_every_other_setting(
    tmp_path_factory: pytest.TempPathFactory, own: Any
) -> None:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    names = {name.encode("utf-8", "surrogatepass") for name in own}
    machine.configure(json.dumps(own).encode())
    if len({name.lower() for name in names}) < len(own):
        return
    keep(machine)

    assert {name: value for name, value in content(machine).items() if name != "auths"} == own


def test_docker_hub_login_is_stored_and_removed_under_each_name(machine: Machine) -> None:
    machine.configure({"auths": {"docker.io": {"auth": pair("old:old")}}})

    keep(machine, "docker.io")

    assert content(machine)["auths"][HUB] == {"auth": pair("me:S3cr3tPa55:x")}
    assert forget(machine, "docker.io") == (str(machine.docker_config),)
    assert content(machine)["auths"] == {}
    assert forget(machine, "docker.io") == ()


def test_login_with_a_helper_stores_no_secret_in_the_file(machine: Machine) -> None:
    record = machine.root / "told"
    machine.install("vault", f'printf "%s " "$1" >> {record}; cat >> {record}')
    machine.configure({"credHelpers": {"reg.test:5000": "vault"}, "auths": {}})

    assert keep(machine) == "docker-credential-vault"
    assert forget(machine) == ("docker-credential-vault",)

    verb, message = record.read_text().split(" ", 1)
    assert verb == "store"
    assert json.loads(message.partition("}")[0] + "}") == {
        "ServerURL": "reg.test:5000",
        "Username": "me",
        "Secret": "S3cr3tPa55:x",
    }
    assert message.endswith("erase reg.test:5000")
    assert b"S3cr" not in machine.docker_config.read_bytes()
    assert content(machine)["auths"] == {}


def test_logout_accepts_a_helper_without_the_login(machine: Machine) -> None:
    machine.install("vault", f"printf {NOT_FOUND!r}; exit 1")
    machine.configure({"credsStore": "vault"})

    assert forget(machine) == ()


@pytest.mark.parametrize("script", ["echo no; exit 1", None])
def test_failing_helper_is_named_and_nothing_changes(machine: Machine, script: str | None) -> None:
    if script:
        machine.install("vault", script)
    machine.configure({"credsStore": "vault"})
    before = machine.docker_config.read_bytes()

    with pytest.raises(HelperFailed, match="docker-credential-vault") as caught:
        keep(machine)

    assert "S3cr" not in f"{caught.value}{caught.value.hints()}"
    assert machine.docker_config.read_bytes() == before


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"auths": []}', b'{"Auths": {}}', b'{"a":1,"a":2}']
)
def test_malformed_login_file_is_unchanged(machine: Machine, body: bytes) -> None:
    machine.configure(body)

    for do in (keep, forget):
        with pytest.raises(InvalidConfiguration):
            do(machine)

    assert machine.docker_config.read_bytes() == body


def test_login_follows_a_symlinked_config_file(machine: Machine, tmp_path: Path) -> None:
    target = machine.write(tmp_path / "dotfiles" / "docker.json", {"psFormat": "x"})
    machine.docker_config.parent.mkdir()
    machine.docker_config.symlink_to(target)

    keep(machine)

    assert machine.docker_config.is_symlink()
    assert "reg.test:5000" in json.loads(target.read_bytes())["auths"]


def test_unwritable_login_file_is_reported(machine: Machine) -> None:
    machine.docker_config.parent.write_text("a file where a folder should be")

    with pytest.raises(OutputFault, match="cannot write") as caught:
        keep(machine)
    assert caught.value.code == "credentials-not-written"


def test_login_file_is_chosen_as_documented(tmp_path: Path) -> None:
    assert writable_file({}, tmp_path, None) == tmp_path / ".docker" / "config.json"
    assert writable_file({"DOCKER_CONFIG": "/d"}, tmp_path, None).parts[-2:] == ("d", "config.json")
    env = {"DOCKER_CONFIG": "/d", "REGISTRY_AUTH_FILE": "/a.json"}
    assert str(writable_file(env, tmp_path, None)) == "/a.json"
    assert writable_file(env, tmp_path, tmp_path / "x") == tmp_path / "x"
    with pytest.raises(InvalidConfiguration):
        writable_file({}, None, None)
