"""Contract of credential sources: add a row to `CREDENTIALS` and one to `PLANTERS`.

A planter puts a credential for a registry where the source looks, and gives what `CredentialChain`
must be told for it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from resolver.errors import InvalidConfiguration
from resolver.sources.credentials.chain import CREDENTIALS, Credential, CredentialRequest, Secret
from tests.kit.credentials import Machine, pair, revealed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolver.sources.credentials.chain import CredentialSource

    Planter = Callable[[Machine, str, str], dict[str, Any]]

PASSWORD = "S3cr3tPa55"


def _explicit(_machine: Machine, host: str, user: str) -> dict[str, Any]:
    credential = Credential(user, Secret(PASSWORD))
    return {"explicit": credential, "explicit_hosts": frozenset({host})}


def _variable(machine: Machine, host: str, user: str) -> dict[str, Any]:
    machine.environment["DOCKER_AUTH_CONFIG"] = json.dumps(_content(host, user))
    return {}


def _named(machine: Machine, host: str, user: str) -> dict[str, Any]:
    return {"auth_file": machine.write(machine.root / "named.json", _content(host, user))}


def _docker(machine: Machine, host: str, user: str) -> dict[str, Any]:
    machine.configure(_content(host, user))
    return {}


def _runtime(machine: Machine, host: str, user: str) -> dict[str, Any]:
    machine.write(machine.root / "runtime/containers/auth.json", _content(host, user))
    return {}


def _config(machine: Machine, host: str, user: str) -> dict[str, Any]:
    machine.write(machine.home / ".config/containers/auth.json", _content(host, user))
    return {}


def _legacy(machine: Machine, host: str, user: str) -> dict[str, Any]:
    machine.write(machine.home / ".dockercfg", _content(host, user)["auths"])
    return {}


def _content(host: str, user: str) -> dict[str, Any]:
    return {"auths": {host: {"auth": pair(f"{user}:{PASSWORD}")}}}


PLANTERS: dict[str, Planter] = {
    "given explicitly": _explicit,
    "DOCKER_AUTH_CONFIG": _variable,
    "--auth-file, REGISTRY_AUTH_FILE": _named,
    "$DOCKER_CONFIG/config.json, ~/.docker/config.json": _docker,
    "$XDG_RUNTIME_DIR/containers/auth.json": _runtime,
    "$XDG_CONFIG_HOME/containers/auth.json": _config,
    "~/.dockercfg": _legacy,
}

every_source = pytest.mark.parametrize(
    ("name", "source"), CREDENTIALS, ids=[name for name, _ in CREDENTIALS]
)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_every_credential_source_has_a_unique_name_and_a_fixture() -> None:
    assert [name for name, _ in CREDENTIALS] == list(PLANTERS)


@every_source
def test_credential_source_answers_only_for_its_registry(
    name: str, source: CredentialSource, machine: Machine
) -> None:
    chain = machine.chain(**PLANTERS[name](machine, "reg.test:5000", "u5er"))

    def found(registry: str) -> dict[str, str] | None:
        answer = source(CredentialRequest(registry, "team/app", chain))
        return revealed(answer.credential) if answer else None

    assert found("reg.test:5000") == {"username": "u5er", "password": PASSWORD}
    for other in ("reg.test", "reg.test:5001", "a.reg.test:5000", "docker.io", "eg.test:5000"):
        assert found(other) is None


@every_source
def test_credential_source_answers_for_every_docker_hub_name(
    name: str, source: CredentialSource, machine: Machine
) -> None:
    chain = machine.chain(**PLANTERS[name](machine, "docker.io", "u5er"))
    for registry in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        found = source(CredentialRequest(registry, "library/alpine", chain))
        assert found is not None
        assert found.credential is not None


@every_source
def test_empty_credential_source_returns_none_without_warnings(
    name: str, source: CredentialSource, machine: Machine
) -> None:
    assert name
    assert source(CredentialRequest("reg.test", "app", machine.chain())) is None
    assert source(CredentialRequest("reg.test", "", machine.chain(home=None))) is None
    assert machine.events == []


@every_source
def test_credential_source_shows_no_secret_and_changes_no_file(
    name: str, source: CredentialSource, machine: Machine
) -> None:
    chain = machine.chain(**PLANTERS[name](machine, "reg.test", "u5er"))
    before = _snapshot(machine.root)
    found = source(CredentialRequest("reg.test", "app", chain))
    assert _snapshot(machine.root) == before
    shown = f"{found!r} {found} {chain!r} {machine.events}"
    assert PASSWORD not in shown
    assert pair(f"u5er:{PASSWORD}") not in shown


@every_source
def test_chain_returns_and_redacts_what_a_source_finds(
    name: str, source: CredentialSource, machine: Machine
) -> None:
    chain = machine.chain(**PLANTERS[name](machine, "reg.test", "u5er"))
    found = chain.find("reg.test", "app")
    assert found == source(CredentialRequest("reg.test", "app", chain))
    assert found is chain.find("reg.test", "app")
    assert found.source in "".join(str(event) for event in machine.events)
    assert chain.redactor.clean(f"x {PASSWORD}") == "x ***"


@pytest.mark.parametrize("later", range(1, len(CREDENTIALS)))
def test_earlier_credential_source_wins(later: int, machine: Machine) -> None:
    names = list(PLANTERS)
    settings: dict[str, Any] = {}
    for name in names[later - 1 : later + 1]:
        settings |= PLANTERS[name](machine, "reg.test", name.replace(":", ""))
    credential = machine.chain(**settings).find("reg.test", "app").credential
    assert credential is not None
    assert credential.username == names[later - 1]


# Without the first: a credential of the caller's has no text that could be wrong.
@pytest.mark.parametrize(("name", "source"), CREDENTIALS[1:], ids=list(PLANTERS)[1:])
def test_malformed_entry_is_an_error_that_names_its_file(
    name: str, source: CredentialSource, machine: Machine
) -> None:
    chain = machine.chain(**PLANTERS[name](machine, "reg.test", ""))
    with pytest.raises(InvalidConfiguration) as caught:
        source(CredentialRequest("reg.test", "app", chain))
    assert caught.value.place
    assert caught.value.field.endswith("reg.test.auth")
    assert PASSWORD not in str(caught.value)


def test_named_file_replaces_the_default_files(machine: Machine) -> None:
    settings = _named(machine, "other.test", "u5er")
    for name in list(PLANTERS)[3:]:
        PLANTERS[name](machine, "reg.test", "u5er")
    chain = machine.chain(**settings)
    for name, source in CREDENTIALS[3:]:
        assert source(CredentialRequest("reg.test", "app", chain)) is None, name


def _snapshot(root: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return content, mode and time of every file below a folder."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        str(path): (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in files
    }
