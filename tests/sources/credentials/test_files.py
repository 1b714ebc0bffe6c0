"""Credential files of other clients: accepted entries, refused ones, and no values in errors."""

from __future__ import annotations

import base64
import json
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from resolver.errors import HelperFailed, InvalidConfiguration
from resolver.sources.credentials.chain import CredentialChain
from resolver.sources.credentials.files import MAX_FILE
from tests import DATA
from tests.kit.credentials import Machine, pair, revealed

if TYPE_CHECKING:
    from resolver.core.results.events import Event

BAD_INPUTS = DATA / "bad_inputs"
INDEX: list[dict[str, Any]] = json.loads((BAD_INPUTS / "index.json").read_bytes())["files"]
CONFIGURATIONS = [case for case in INDEX if case["kind"] == "docker-config"]
SENTINEL = "S3cr3tPa55"


def refused(machine: Machine, content: object, registry: str = "reg.test") -> InvalidConfiguration:
    """Return the error for the content of a credentials file; no part may repeat the sentinel."""
    path = machine.configure(content)
    with pytest.raises(InvalidConfiguration) as caught:
        machine.chain().find(registry, "app")
    error = caught.value
    assert error.place == str(path)
    hidden = (SENTINEL, base64.b64encode(SENTINEL.encode()).decode())
    assert not any(word in printable(error) for word in hidden)
    return error


def printable(error: BaseException) -> str:
    """Return everything that a logger could print of an error and its causes."""
    parts = ["".join(traceback.format_exception(error))]
    link: BaseException | None = error
    while link is not None:
        parts += (repr(link), repr(link.args), repr(vars(link)), repr(getattr(link, "doc", "")))
        parts.append(repr(getattr(link, "object", "")))
        link = link.__cause__ or link.__context__
    return "\n".join(parts)


def entry(**members: Any) -> dict[str, Any]:
    return {"auths": {"reg.test": members}}


@pytest.mark.parametrize("case", CONFIGURATIONS, ids=lambda case: str(case["file"]))
def test_invalid_credentials_file_is_refused_at_its_field(
    case: dict[str, Any], machine: Machine
) -> None:
    content = (BAD_INPUTS / case["file"]).read_bytes()
    if case["expect"] == "error":
        error = refused(machine, content, case["lookup_host"])
        assert (error.word, error.field) == (case["error_class"], case["field"])
        return
    machine.configure(content)
    opened = revealed(machine.chain().find(case["lookup_host"], "").credential) or {}
    expected = {name.replace("yt", "y_t"): text for name, text in (case["result"] or {}).items()}
    assert {name: opened[name] for name in expected} == expected
    assert bool(opened) == bool(expected)


@pytest.mark.parametrize("content", [b"", b" \r\n\t", b"{}", b'{"auths":null,"credHelpers":null}'])
def test_empty_credentials_file_holds_nothing(content: bytes, machine: Machine) -> None:
    machine.configure(content)
    assert machine.chain().find("reg.test", "").credential is None


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"[]", ""),
        (b"null", ""),
        (b'"S3cr3tPa55"', ""),
        (b'{"auths":{"reg.test":{"auth":"S3cr3tPa55"}}} x', ""),
        (b'{"auths":{"reg.test":{"auth":"S3cr3tPa55', ""),
        (b'\xef\xbb\xbf{"auths":{}}', ""),
        ('{"auths":{"reg.test":{"auth":"S3cr3tPa55"}}}'.encode("utf-16"), ""),
        (b'{"auths":{"reg.test":{"auth":"S3cr3tPa55\xff"}}}', "auths"),
        (b'{"auths", "S3cr3tPa55 \xff', ""),
        (b'{"auths":{"reg.test":{"auth":"a"},"reg.test":{"auth":"b"}}}', "auths.reg.test"),
        (b'{"auths":{}, "auths":{}}', "auths"),
        (b'{"auths":{"reg.test":{"auth":"\\ud800S3cr3tPa55"}}}', "auths.reg.test.auth"),
        (b'{"auths":{"reg.test":{"auth":NaN}}}', "auths.reg.test.auth"),
        (b'{"x":' + b"[" * 200 + b"]" * 200 + b"}", ""),
        (b'{"auths":"S3cr3tPa55"}', "auths"),
        (b'{"credHelpers":["S3cr3tPa55"]}', "credHelpers"),
        (b'{"credHelpers":{"reg.test":{"S3cr3tPa55":1}}}', "credHelpers.reg.test"),
        (b'{"credsStore":["S3cr3tPa55"]}', "credsStore"),
        (b'{"Auths":{"reg.test":{"auth":"S3cr3tPa55"}}}', "Auths"),
        (b'{"CredsStore":"S3cr3tPa55"}', "CredsStore"),
    ],
)
def test_credentials_file_of_another_shape_is_refused(
    content: bytes, field: str, machine: Machine
) -> None:
    assert refused(machine, content).field == field


def test_credentials_file_nesting_is_limited(machine: Machine) -> None:
    error = refused(machine, b'{"x":' + b"[" * 200 + b"]" * 200 + b"}")
    assert error.reason == "it exceeds the limit of 64 levels of nesting"


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"auth": 5}, "auth"),
        ({"auth": [SENTINEL]}, "auth"),
        ({"auth": pair(SENTINEL)}, "auth"),
        ({"auth": pair(f":{SENTINEL}")}, "auth"),
        ({"auth": f"u:{SENTINEL}"}, "auth"),
        ({"auth": pair(f"u:{SENTINEL}") + "===="}, "auth"),
        ({"auth": pair(f"u:{SENTINEL}").replace("T", "-")}, "auth"),
        ({"auth": " " + pair(f"u:{SENTINEL}")}, "auth"),
        ({"auth": base64.b64encode(b"u:" + SENTINEL.encode() + b"\xff").decode()}, "auth"),
        ({"auth": "\u00e9"}, "auth"),
        ({"username": {SENTINEL: 1}}, "username"),
        ({"password": SENTINEL}, "username"),
        ({"username": f"a:{SENTINEL}", "password": "b"}, "username"),
        ({"identitytoken": True}, "identitytoken"),
        ({"registrytoken": f"{SENTINEL}\r\nX: y"}, "registrytoken"),
        ({"Auth": SENTINEL}, "Auth"),
        ({"identityToken": SENTINEL}, "identityToken"),
    ],
)
def test_malformed_entry_is_refused_at_its_field(
    members: dict[str, Any], name: str, machine: Machine
) -> None:
    assert refused(machine, entry(**members)).field == f"auths.reg.test.{name}"


def test_credentials_entry_must_be_an_object(machine: Machine) -> None:
    assert refused(machine, {"auths": {"reg.test": SENTINEL}}).field == "auths.reg.test"


def test_malformed_entry_of_another_registry_is_ignored(machine: Machine) -> None:
    machine.configure({"auths": {"other.test": {"auth": 5}, "reg.test": {"auth": pair("u:p")}}})
    assert machine.chain().find("reg.test", "").credential is not None


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"auth": pair("u:p:w é:中")}, {"username": "u", "password": "p:w é:中"}),
        ({"auth": pair("user:pw").rstrip("=")}, {"username": "user", "password": "pw"}),
        ({"auth": "dXNl\r\ncjpwdw==\n"}, {"username": "user", "password": "pw"}),
        ({"auth": pair("user:pw\0\0")}, {"username": "user", "password": "pw"}),
        ({"auth": pair("user:")}, {"username": "user", "password": ""}),
        (
            {"auth": pair("a:b"), "username": "c", "password": "d"},
            {"username": "a", "password": "b"},
        ),
        ({"auth": "", "username": "c", "password": "d"}, {"username": "c", "password": "d"}),
        (
            {"auth": pair("<token>:"), "identitytoken": "I"},
            {"username": "<token>", "identity_token": "I"},
        ),
        ({"auth": pair(":"), "identitytoken": "I"}, {"identity_token": "I"}),
        ({"registrytoken": "R"}, {"registry_token": "R"}),
        ({"auth": None, "identitytoken": "", "email": 5}, {}),
    ],
)
def test_docker_entry_is_read(
    members: dict[str, Any], expected: dict[str, str], machine: Machine
) -> None:
    machine.configure(entry(**members))
    assert (revealed(machine.chain().find("reg.test", "").credential) or {}) == expected


def test_old_dockercfg_has_entries_at_the_top_level(machine: Machine) -> None:
    path = machine.write(
        machine.home / ".dockercfg",
        {"https://reg.test/v1/": {"auth": pair("u:p")}, "credsStore": {}},
    )
    assert machine.chain().find("reg.test", "").source == str(path)
    machine.write(path, {"reg.test": {"auth": SENTINEL}})
    with pytest.raises(InvalidConfiguration) as caught:
        machine.chain().find("reg.test", "")
    assert caught.value.field == "reg.test.auth"


def test_size_of_a_credentials_file_is_limited(machine: Machine) -> None:
    content = json.dumps(entry(auth=pair("u:p"))).encode()
    machine.configure(content.ljust(MAX_FILE))
    assert machine.chain().find("reg.test", "").credential is not None
    error = refused(machine, content.ljust(MAX_FILE + 1))
    assert str(MAX_FILE) in error.reason
    assert str(MAX_FILE + 1) in error.reason


def test_pipe_is_refused_immediately(machine: Machine) -> None:
    machine.docker_config.parent.mkdir()
    os.mkfifo(machine.docker_config)
    with pytest.raises(InvalidConfiguration, match="not a regular file"):
        machine.chain().find("reg.test", "")


def test_folder_and_device_are_refused(machine: Machine) -> None:
    machine.docker_config.mkdir(parents=True)
    for place in (machine.docker_config, Path("/dev/zero")):
        with pytest.raises(InvalidConfiguration, match="not a regular file"):
            machine.chain(auth_file=place).find("reg.test", "")


def test_credentials_symlink_is_followed_and_a_loop_is_unreadable(machine: Machine) -> None:
    target = machine.write(machine.root / "secret", entry(auth=pair("u:p")))
    machine.docker_config.parent.mkdir()
    machine.docker_config.symlink_to(target)
    assert machine.chain().find("reg.test", "").credential is not None
    machine.docker_config.unlink()
    machine.docker_config.symlink_to(machine.docker_config)
    assert machine.chain().find("reg.test", "").credential is None
    assert [warned.code for warned in machine.warnings] == ["credentials-unreadable"]


def test_invalid_path_is_a_credentials_error(machine: Machine) -> None:
    with pytest.raises(InvalidConfiguration, match="not a path"):
        machine.chain(auth_file=Path("a\0b")).find("reg.test", "")


_SECRETS = st.sampled_from(
    [SENTINEL, f"u:{SENTINEL}", pair(f"u:{SENTINEL}"), f"%{SENTINEL}", f":{SENTINEL}"]
)
_NAMES = st.sampled_from(
    ["auth", "Auth", "username", "password", "identitytoken", "registrytoken", "email", "x"]
)
_LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | _SECRETS
# A name that a helper can have is no secret: it is shown, so that people can install it.
_HELPERS = (
    st.none() | st.integers() | st.sampled_from(["", "ghost", f"%{SENTINEL}", f"u:{SENTINEL}"])
)
_ENTRIES = _LEAVES | st.lists(_LEAVES, max_size=2) | st.dictionaries(_NAMES, _LEAVES, max_size=4)
_HOSTS = st.sampled_from(
    ["reg.test", "https://reg.test/v1/", "reg.test/app", "other.test", "", "x/y/access-token"]
)
_CONFIGURATIONS = st.fixed_dictionaries(
    {},
    optional={
        "auths": st.dictionaries(_HOSTS, _ENTRIES, max_size=4) | _ENTRIES,
        "credHelpers": st.dictionaries(_HOSTS, _HELPERS, max_size=2) | _LEAVES,
        "credsStore": _HELPERS,
        "Auths": _LEAVES,
        "HttpHeaders": _ENTRIES,
    },
)
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner) | st.dictionaries(_HOSTS, inner), max_leaves=8
)


@st.composite
def _files(draw: st.DrawFn) -> bytes:
    """Draw the content of a file: a configuration, other JSON, or either with a defect."""
    content = json.dumps(draw(_CONFIGURATIONS | _JSON), ensure_ascii=draw(st.booleans()))
    body = content.encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 4)))
        # Names stay names: a flaw must not turn a value, the secret, into a name.
        body = (
            body[:start]
            + draw(st.sampled_from([b"", b"\xff", b"{", b"]", b"1", b" "]))
            + body[end:]
        )
    return body


@given(body=_files(), legacy=st.booleans())
@example(body=b'{"auths":{"reg.test":{"auth":"S3cr3tPa55"}}}', legacy=False)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_any_file_gives_a_credentials_error_without_secrets(
    body: bytes, legacy: bool, tmp_path: Path
) -> None:
    events: list[Event] = []
    path = tmp_path / (".dockercfg" if legacy else ".docker/config.json")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body)
    environment = {"PATH": "", "XDG_RUNTIME_DIR": "/nonexistent"}
    message = ""
    try:
        found = CredentialChain(environment, tmp_path, observe=events.append).find(
            "reg.test", "app"
        )
    except (InvalidConfiguration, HelperFailed) as error:
        message = printable(error)
    else:
        username = found.credential.username if found.credential else ""
        message = repr(found).replace(repr(username), "")
    finally:
        path.unlink()
    message += repr(events)
    assert SENTINEL not in message
    assert pair(f"u:{SENTINEL}") not in message


@pytest.mark.parametrize(
    "content",
    [
        {"auths": None, "credHelpers": None, "credsStore": None, "HttpHeaders": None},
        {"auths": {"reg.test": None}},
        {"auths": {"reg.test": {"auth": None, "identitytoken": None}}},
        {"auths": {}, "credHelpers": {"reg.test": None}},
    ],
)
def test_null_in_a_credentials_file_is_an_empty_map(machine: Machine, content: object) -> None:
    machine.configure(content)
    assert machine.chain().find("reg.test", "app").credential is None
