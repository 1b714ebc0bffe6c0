"""Which credential a registry gets, from which source, and that no other host gets it."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from resolver.core.results.events import Noted
from resolver.errors import HelperFailed, InvalidConfiguration, ResolverError
from resolver.sources.credentials.chain import Credential, CredentialAnswer, Secret
from tests import DATA
from tests.kit.credentials import NOT_FOUND, Machine, entries, pair, revealed

VECTORS: list[dict[str, Any]] = json.loads((DATA / "vectors" / "credentials.json").read_bytes())
MINE = {"username": "u5er", "password": "S3cr3tPa55"}


def fill(path: Path, machine: Machine, text: str = "u5er:S3cr3tPa55") -> Path:
    return machine.write(path, {"auths": entries(reg_test=text)})


def ask(machine: Machine, registry: str = "reg.test", repository: str = "", **more: Any) -> Any:
    return revealed(machine.chain(**more).find(registry, repository).credential)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["id"]))
def test_shared_vector_has_the_same_answer_as_other_clients(
    vector: dict[str, Any], machine: Machine
) -> None:
    for name, answers in vector["helpers"].items():
        machine.install_answers(name, answers)
    machine.configure(vector["config"])
    machine.environment |= vector.get("env", {})
    expected = vector["expect"]
    try:
        found = machine.chain().find(vector["lookup"], vector.get("repository", ""))
    except ResolverError:
        assert expected == {"error": True}
        return
    if found.problem is not None:
        assert expected == {"error": True}
    elif expected.get("anonymous"):
        assert found.credential is None
    else:
        opened = revealed(found.credential) or {}
        assert {name: opened.get(name) for name in expected} == expected
    assert machine.calls() == vector.get("expect_helper_calls", [])


@pytest.mark.parametrize(
    "key",
    [
        "https://index.docker.io/v1/",
        "https://index.docker.io/v1",
        "index.docker.io",
        "docker.io",
        "registry-1.docker.io",
        "http://index.docker.io",
        "https://docker.io/v2/",
    ],
)
@pytest.mark.parametrize("registry", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_every_name_of_docker_hub_finds_every_key_of_docker_hub(
    key: str, registry: str, machine: Machine
) -> None:
    machine.configure({"auths": {key: {"auth": pair("u5er:S3cr3tPa55")}}})
    assert ask(machine, registry, "library/alpine") == MINE


@pytest.mark.parametrize(
    "key",
    [
        "docker.io:443",
        "https://hub.docker.com/",
        "https://index.docker.io/v1/access-token",
        "https://index.docker.io/v1/refresh-token",
        "index.docker.io/v1/access-token",
        "index.docker.io/v1/",
        "docker.io/vendor",
        "ftp://index.docker.io/v1/",
        "HTTPS://user@index.docker.io/v1/",
    ],
)
def test_similar_keys_are_not_docker_hub(key: str, machine: Machine) -> None:
    machine.configure({"auths": {key: {"auth": pair("u5er:S3cr3tPa55")}}})
    assert ask(machine, "docker.io", "library/alpine") is None


def test_credential_lookup_includes_the_port(machine: Machine) -> None:
    auths = {"reg.test:5000": {"auth": pair("a:a")}, "reg.test": {"auth": pair("b:b")}}
    machine.configure({"auths": auths})
    chain = machine.chain()
    names = [
        revealed(chain.find(registry, "x").credential)
        for registry in ("reg.test:5000", "reg.test", "reg.test:443")
    ]
    a, b = ({"username": name, "password": name} for name in "ab")
    assert names == [a, b, None]


def test_longest_namespace_wins_and_never_serves_its_registry(
    machine: Machine,
) -> None:
    keys = ("reg.test/team/app", "reg.test/team", "https://reg.test/v1/", "reg.test/team/ap")
    machine.configure({"auths": {key: {"auth": pair(f"{key[-3:]}:p")} for key in keys}})
    chain = machine.chain()

    def user(repository: str) -> str | None:
        credential = chain.find("reg.test", repository).credential
        return None if credential is None else credential.username

    assert user("team/app") == "app"
    assert user("team/app/deep") == "app"
    assert user("team/other") == "eam"
    assert user("teams") == "v1/"
    assert user("") == "v1/"


def test_exact_key_wins_over_urls_and_the_first_url_wins(machine: Machine) -> None:
    urls = {f"https://reg.test/{number}": {"auth": pair(f"url{number}:p")} for number in (2, 1)}
    machine.configure({"auths": urls})
    assert ask(machine)["username"] == "url2"
    machine.configure({"auths": urls | entries(reg_test="exact:p")})
    assert ask(machine)["username"] == "exact"


def test_credential_sources_are_tried_in_the_documented_order(machine: Machine) -> None:
    """Each source is removed after it has won, so that the next one is used."""
    config = machine.root / "xdg"
    machine.environment["XDG_CONFIG_HOME"] = str(config)
    machine.environment["DOCKER_AUTH_CONFIG"] = json.dumps({"auths": entries(reg_test="env:p")})
    places = [
        fill(machine.docker_config, machine, "docker:p"),
        fill(machine.root / "runtime" / "containers" / "auth.json", machine, "runtime:p"),
        fill(config / "containers" / "auth.json", machine, "config:p"),
        machine.write(machine.home / ".dockercfg", entries(reg_test="legacy:p")),
    ]
    given: dict[str, Any] = {
        "explicit": Credential("flag", Secret("p")),
        "explicit_hosts": frozenset({"reg.test"}),
    }
    winners = [ask(machine, **given)["username"], ask(machine)["username"]]
    del machine.environment["DOCKER_AUTH_CONFIG"]
    for place in places:
        found = machine.chain().find("reg.test", "")
        assert found.source == str(place)
        winners.append(found.credential.username if found.credential else "")
        place.unlink()
    assert winners == ["flag", "env", "docker", "runtime", "config", "legacy"]
    assert machine.chain().find("reg.test", "") == CredentialAnswer(None, "no source")


def test_source_without_credentials_passes_to_the_next(machine: Machine) -> None:
    machine.install_answers("store", {})
    machine.configure({"credsStore": "store", "auths": entries(reg_test="stale:p")})
    fill(machine.root / "runtime" / "containers" / "auth.json", machine)
    assert ask(machine) == MINE
    assert machine.calls() == [["store", "reg.test"]]


@pytest.mark.parametrize("by_variable", [True, False])
def test_named_file_replaces_every_default_file(by_variable: bool, machine: Machine) -> None:
    fill(machine.docker_config, machine, "docker:p")
    named = machine.write(
        machine.root / "named.json", {"auths": entries(other_test="u5er:S3cr3tPa55")}
    )
    if by_variable:
        machine.environment["REGISTRY_AUTH_FILE"] = str(named)
    chain = machine.chain(auth_file=None if by_variable else named)
    assert chain.find("reg.test", "").credential is None
    assert chain.find("other.test", "").source == str(named)


@pytest.mark.parametrize("by_variable", [True, False])
def test_named_file_must_exist(by_variable: bool, machine: Machine) -> None:
    nowhere = machine.root / "nowhere.json"
    if by_variable:
        machine.environment["REGISTRY_AUTH_FILE"] = str(nowhere)
    chain = machine.chain(auth_file=None if by_variable else nowhere)
    with pytest.raises(InvalidConfiguration, match="no such file") as caught:
        chain.find("reg.test", "")
    assert caught.value.place == str(nowhere)
    assert ("REGISTRY_AUTH_FILE" if by_variable else "--auth-file") in str(caught.value)


def test_auth_file_option_wins_over_the_variable(machine: Machine) -> None:
    machine.environment["REGISTRY_AUTH_FILE"] = str(machine.root / "nowhere.json")
    named = fill(machine.root / "named.json", machine)
    assert ask(machine, auth_file=named) == MINE


def test_missing_docker_config_folder_does_not_fall_back_to_home(machine: Machine) -> None:
    machine.environment["DOCKER_CONFIG"] = "/nonexistent"
    fill(machine.docker_config, machine)
    machine.write(machine.home / ".dockercfg", entries(reg_test="legacy:p"))
    assert ask(machine) is None
    assert machine.warnings == []


def test_docker_config_folder_replaces_the_home_file(machine: Machine) -> None:
    fill(machine.docker_config, machine, "home:p")
    fill(machine.root / "elsewhere" / "config.json", machine)
    machine.environment["DOCKER_CONFIG"] = str(machine.root / "elsewhere")
    assert ask(machine) == MINE
    machine.environment["DOCKER_CONFIG"] = ""
    assert ask(machine)["username"] == "home"


def test_without_a_home_no_home_file_is_read(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_294_967_294)  # nobody's /run/containers/UID
    assert ask(machine, home=None) is None
    assert ask(machine, environment={}, home=None) is None
    assert ask(machine, environment={"XDG_CONFIG_HOME": "", "HOME": ""}, home=Path()) is None


def test_credentials_are_never_read_from_the_working_folder(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(machine.root)
    fill(machine.root / "containers" / "auth.json", machine)
    fill(machine.root / ".docker" / "config.json", machine)
    machine.environment |= {"XDG_RUNTIME_DIR": ".", "XDG_CONFIG_HOME": "."}
    assert ask(machine, home=Path()) is None


def test_explicit_credential_is_sent_only_to_its_registries(
    machine: Machine,
) -> None:
    fill(machine.docker_config, machine, "file:p")
    chain = machine.chain(
        explicit=Credential("u5er", Secret("S3cr3tPa55")),
        explicit_hosts=frozenset({"docker.io", "other.test:5000"}),
    )
    hosts = ("registry-1.docker.io", "other.test:5000", "other.test", "reg.test")
    found = [revealed(chain.find(host, "x").credential) for host in hosts]
    assert found == [MINE, MINE, None, {"username": "file", "password": "p"}]
    nobody = machine.chain(explicit=Credential("u5er", Secret("S3cr3tPa55")))
    assert nobody.find("other.test", "x").credential is None


def test_anonymous_reads_no_file_and_runs_no_helper(machine: Machine) -> None:
    machine.configure(b"{broken")
    machine.environment["REGISTRY_AUTH_FILE"] = "/nonexistent"
    chain = machine.chain(anonymous=True, explicit=Credential("a"), explicit_hosts=frozenset({"r"}))
    chain.check("r", "")
    assert chain.find("r", "").credential is None


def test_missing_helper_is_a_warning_and_a_reason_on_refusal(machine: Machine) -> None:
    path = machine.configure(
        {"credHelpers": {"reg.test": "ghost"}, "auths": entries(reg_test="a:b")}
    )
    chain = machine.chain()
    found = chain.find("reg.test", "app")
    chain.find("reg.test", "other")
    assert found.credential is None
    assert found.source == "docker-credential-ghost"
    assert isinstance(found.problem, HelperFailed)
    assert "docker-credential-ghost" in str(found.problem)
    assert str(path) in str(found.problem)
    assert [warned.code for warned in machine.warnings] == ["helper-missing"]


def test_missing_helper_does_not_hide_the_next_source(machine: Machine) -> None:
    machine.configure({"credsStore": "ghost"})
    fill(machine.root / "runtime" / "containers" / "auth.json", machine)
    assert ask(machine) == MINE


def test_broken_helper_is_an_error_despite_other_sources(machine: Machine) -> None:
    machine.install_answers("broken", {"*": {"stdout": "vault is sealed", "exit": 2}})
    machine.configure({"credsStore": "broken"})
    fill(machine.root / "runtime" / "containers" / "auth.json", machine)
    with pytest.raises(HelperFailed, match=r"docker-credential-broken.*exit status 2"):
        machine.chain().find("reg.test", "")


def test_empty_helper_for_a_registry_selects_the_file_entries(machine: Machine) -> None:
    machine.install_answers("store", {})
    config = {"credsStore": "store", "credHelpers": {"reg.test": ""}}
    machine.configure(config | {"auths": entries(reg_test="u5er:S3cr3tPa55")})
    assert ask(machine) == MINE
    assert machine.calls() == []


def test_docker_hub_helper_is_found_by_any_name_and_called_with_the_old_key(
    machine: Machine,
) -> None:
    answer = {"stdout": '{"Username":"u5er","Secret":"S3cr3tPa55"}', "exit": 0}
    machine.install_answers("hub", {"https://index.docker.io/v1/": answer})
    machine.configure({"credHelpers": {"docker.io": "hub"}})
    assert ask(machine, "docker.io", "library/alpine") == MINE
    assert machine.calls() == [["hub", "https://index.docker.io/v1/"]]


@pytest.mark.parametrize(
    "name", ["../../tmp/evil", "/tmp/evil", "evil;touch x", "a b", "-x", "x\n", "$(id)", "x" * 65]
)
@pytest.mark.parametrize("field", ["credsStore", "credHelpers.reg.test"])
def test_invalid_helper_name_is_refused_before_it_runs(
    name: str, field: str, machine: Machine
) -> None:
    helper = name if field == "credsStore" else {"reg.test": name}
    machine.configure({field.partition(".")[0]: helper})
    for look in (machine.chain().find, machine.chain().check):
        with pytest.raises(InvalidConfiguration) as caught:
            look("reg.test", "")
        assert caught.value.field == field
        assert name not in str(caught.value)
    assert machine.calls() == []


def test_check_finds_what_find_would_refuse_without_a_helper(machine: Machine) -> None:
    machine.install_answers("store", {})
    machine.configure({"credsStore": "store"})
    chain = machine.chain()
    chain.check("reg.test", "app")
    assert machine.calls() == []
    assert chain.find("reg.test", "app").credential is None
    assert machine.calls() == [["store", "reg.test"]]
    machine.configure({"auths": {"reg.test": {"auth": "%%%"}}})
    with pytest.raises(InvalidConfiguration):
        machine.chain().check("reg.test", "app")


def test_auth_variable_accepts_plain_entries_and_warns_of_others(machine: Machine) -> None:
    auths: dict[str, Any] = {
        "reg.test/team": {"auth": pair("a:b"), "email": "x@y.z"},
        "reg.test": {"auth": pair("u5er:S3cr3tPa55")},
        "missing.test": {},
        "quiet.test": {"identitytoken": "1DT0KEN"},
    }
    machine.environment["DOCKER_AUTH_CONFIG"] = json.dumps({"auths": auths, "credsStore": "ghost"})
    chain = machine.chain()
    assert revealed(chain.find("reg.test", "team").credential) == MINE
    assert chain.find("missing.test", "").credential is None
    assert {warned.code for warned in machine.warnings} == {"credentials-ignored"}
    output = " ".join(warned.message for warned in machine.warnings)
    assert all(
        part in output for part in ("credsStore", "auths.reg.test/team", "auths.missing.test")
    )
    assert "quiet.test" not in output  # not requested


@pytest.mark.parametrize("text", ["[]", "null", "{", '{"auths":[]}', "S3cr3tPa55"])
def test_unreadable_auth_variable_error_omits_its_text(text: str, machine: Machine) -> None:
    machine.environment["DOCKER_AUTH_CONFIG"] = text
    with pytest.raises(InvalidConfiguration) as caught:
        machine.chain().find("reg.test", "")
    assert caught.value.place == "DOCKER_AUTH_CONFIG"
    assert "S3cr3t" not in str(caught.value)


def test_empty_auth_variable_is_ignored(machine: Machine) -> None:
    fill(machine.docker_config, machine)
    machine.environment["DOCKER_AUTH_CONFIG"] = " "
    assert ask(machine) == MINE


def test_credential_source_is_logged_once_without_secrets(machine: Machine) -> None:
    path = fill(machine.docker_config, machine)
    chain = machine.chain()
    for repository in ("a", "b", "a"):
        chain.find("reg.test", repository)
    notes = [event for event in machine.events if isinstance(event, Noted)]
    assert notes == [Noted(f"`reg.test`: credential, {path}")]


def test_found_credentials_are_redacted(machine: Machine) -> None:
    fill(machine.docker_config, machine)
    chain = machine.chain(explicit=Credential("x", Secret("0therPa55")))
    assert chain.redactor.clean("0therPa55 S3cr3tPa55") == "*** S3cr3tPa55"
    chain.find("reg.test", "")
    assert chain.redactor.clean("0therPa55 S3cr3tPa55") == "*** ***"


def test_credentials_file_readable_by_others_is_warned_about_once(machine: Machine) -> None:
    path = machine.configure({"auths": entries(reg_test="u:p4ss", other_test="u:p4ss")}, 0o644)
    before = (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode)
    chain = machine.chain()
    for registry in ("nobody.test", "reg.test", "other.test"):
        chain.find(registry, "")
    assert [warned.code for warned in machine.warnings] == ["credentials-readable"]
    assert "p4ss" not in machine.warnings[0].message
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) == before


def test_credentials_file_without_secrets_may_be_readable_by_others(machine: Machine) -> None:
    machine.install_answers("store", {"*": {"stdout": NOT_FOUND, "exit": 1}})
    machine.configure({"credsStore": "store", "auths": {"reg.test": {}}}, 0o644)
    machine.chain().find("reg.test", "")
    assert machine.warnings == []


def test_unreadable_default_file_is_a_warning_and_named_file_an_error(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fill(machine.docker_config, machine)
    fill(machine.root / "runtime" / "containers" / "auth.json", machine)
    real = os.open

    def refuse(name: Any, *rest: Any, **more: Any) -> int:
        if Path(name) == path:  # root may read everything, so the mode would not do
            raise PermissionError(13, "Permission denied")
        return real(name, *rest, **more)

    monkeypatch.setattr("resolver.files.read.os.open", refuse)
    assert ask(machine) == MINE
    assert [warned.code for warned in machine.warnings] == ["credentials-unreadable"]
    assert str(path) in machine.warnings[0].message
    with pytest.raises(InvalidConfiguration, match="Permission denied"):
        machine.chain(auth_file=path).find("reg.test", "")


def test_threads_share_one_answer_and_one_helper_run(machine: Machine) -> None:
    answer = {"stdout": '{"Username":"u5er","Secret":"S3cr3tPa55"}', "exit": 0}
    machine.install_answers("store", {"*": answer})
    machine.configure({"credsStore": "store"})
    chain = machine.chain()
    barrier = threading.Barrier(8)

    def look(number: int) -> dict[str, str] | None:
        barrier.wait()
        return revealed(chain.find("reg.test", f"repository{number % 4}").credential)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(look, range(8))) == [MINE] * 8
    assert machine.calls() == [["store", "reg.test"]]
