"""Every document of the catalogue of bad inputs, served by a registry or read from a file.

`tests/core/test_bad_inputs.py` tests the parsers, this file the commands.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.adversarial.actor import Actor, refused
from tests.adversarial.hosts import OCI_INDEX, login
from tests.kit.bad_inputs import CASES, FOLDER, select
from tests.kit.certificates import authority
from tests.kit.images import build_image, from_dict, multi_platform, raw_document
from tests.kit.outcomes import PASSWORD, USER, no_secret
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.adversarial.hosts import Hosts


def names_field(outcome: Any, field: str) -> bool:
    """Return whether an error names the field, in its facts or its text."""
    return field == outcome.failure.get("field") or field in outcome.text


@pytest.mark.parametrize("case", select("manifest", "index", expect="error"))
def test_malformed_document_is_refused_by_class_and_field(
    act: Actor, hosts: Hosts, case: dict[str, Any]
) -> None:
    registry = hosts.registry()
    body = (FOLDER / case["file"]).read_bytes()
    document = raw_document(body, case["serve_content_type"])
    registry.serve("app", "1", document)
    for reference in ("app:1", f"app@{document.digest}"):
        for verb in ("RESOLVE", "INSPECT", "PLATFORMS"):
            outcome = act(verb, f"{registry.host}/{reference}")
            refused(outcome, case["error_class"])
            assert names_field(outcome, case["field"]), outcome
    assert registry.requests(path_contains="/blobs/") == []


@pytest.mark.parametrize("case", select("manifest", expect="accept"))
def test_valid_manifest_is_accepted(act: Actor, hosts: Hosts, case: dict[str, Any]) -> None:
    registry = hosts.registry()
    body = (FOLDER / case["file"]).read_bytes()
    registry.serve("app", "1", raw_document(body, case["serve_content_type"]))
    # The config that it names is not among the files.
    described = json.loads(body)["config"]
    registry.on("GET", f"/v2/app/blobs/{described['digest']}", Reply(404))
    for as_json in (True, False):
        outcome = act("INSPECT", f"{registry.host}/app:1", as_json=as_json)
        missing = outcome.status == 3 and b"no blob" in outcome.stderr
        assert outcome.status == 0 or missing, outcome
        shown = outcome.stdout + outcome.stderr
        for unwanted in case.get("output_must_not_contain_bytes", []):
            assert bytes.fromhex(unwanted) not in shown


def test_annotations_with_control_characters_are_escaped(act: Actor, hosts: Hosts) -> None:
    registry = hosts.registry()
    case = next(each for each in CASES if each["file"].endswith("ok_controls_in_annotations.json"))
    fields = json.loads((FOLDER / case["file"]).read_bytes())
    image = build_image()
    fields["config"], fields["layers"] = (
        json.loads(image.body)["config"],
        json.loads(image.body)["layers"],
    )
    registry.serve("app", "1", from_dict(fields, parts=[image]))
    for words, as_json in (((), False), ((), True), (("--format", "markdown"), False)):
        outcome = act("INSPECT", f"{registry.host}/app:1", *words, as_json=as_json)
        assert outcome.status == 0
        for unwanted in case["output_must_not_contain_bytes"]:
            assert bytes.fromhex(unwanted) not in outcome.stdout
    assert r"\x1b" in act("INSPECT", f"{registry.host}/app:1", as_json=False).out


@pytest.mark.parametrize("case", select("index", expect="accept"))
def test_valid_index_selects_the_expected_entry(
    act: Actor, hosts: Hosts, case: dict[str, Any]
) -> None:
    registry = hosts.registry()
    body = (FOLDER / case["file"]).read_bytes()
    registry.serve("app", "1", raw_document(body, OCI_INDEX))
    assert act("INSPECT", f"{registry.host}/app:1").status == 0
    for platform, digest in case["select"].items():
        outcome = act("RESOLVE", f"{registry.host}/app:1", "-p", platform)
        if digest is None:
            refused(outcome, "PLATFORM")
        else:
            assert outcome.answer["manifest"]["digest"] == digest


@pytest.mark.parametrize("case", select("config"))
def test_config_is_refused_by_class_and_field_or_escaped(
    act: Actor, hosts: Hosts, case: dict[str, Any]
) -> None:
    registry = hosts.registry()
    config = (FOLDER / case["file"]).read_bytes()
    image = build_image("linux/amd64")
    fields = json.loads(image.body)
    digest = f"sha256:{case['sha256']}"
    fields["config"] |= {"digest": digest, "size": case["size"]}
    fields["layers"] *= case["layer_count"]
    registry.serve("app", "1", from_dict(fields, parts=[image], blobs=[config]))
    place = (f"{registry.host}/app:1", "-p", "linux/amd64")
    for verb in ("RESOLVE", "INSPECT"):
        outcome = act(verb, *place)
        if case["expect"] == "accept":
            assert outcome.status == 0, outcome
            continue
        refused(outcome, case["error_class"])
        assert names_field(outcome, case["field"]), outcome
    if case["expect"] == "accept":
        shown = act("INSPECT", *place, as_json=False)
        for unwanted in case.get("output_must_not_contain_bytes", []):
            assert bytes.fromhex(unwanted) not in shown.stdout


@pytest.mark.parametrize("case", select("docker-config"))
def test_login_file_is_used_or_refused_without_its_secrets(
    act: Actor,
    hosts: Hosts,
    docker_config: Callable[[object], Path],
    case: dict[str, Any],
) -> None:
    registry = hosts.registry()
    registry.serve("app", "1", multi_platform("linux/amd64"))
    wanted = case.get("result") or {}
    gate(registry, wanted)
    text = (FOLDER / case["file"]).read_text("utf-8")
    path = docker_config(text.replace(case["lookup_host"], registry.host).encode())
    outcome = act("RESOLVE", f"{registry.host}/app:1", "-p", "linux/amd64")
    no_secret(outcome.stdout + outcome.stderr, "the output")
    if case["expect"] == "accept":
        assert outcome.status == 0, outcome
    else:
        refused(outcome, case["error_class"], str(path))
        field = case["field"].replace(case["lookup_host"], registry.host)
        assert names_field(outcome, field), outcome
        assert registry.log == []
    assert not Path("/tmp/pwned-helper").exists()


def gate(registry: FakeRegistry, wanted: dict[str, str]) -> None:
    """Require the credentials of the file at the registry, or none if the file holds none."""
    if "password" in wanted:
        registry.basic(wanted["username"], wanted["password"])
    elif "identitytoken" in wanted:
        registry.bearer(credentials=("<token>", wanted["identitytoken"]))


@pytest.mark.parametrize("case", select("www-authenticate", expect="error"))
@pytest.mark.parametrize("logged_in", [True, False])
def test_invalid_challenge_is_refused_without_a_request(
    act: Actor,
    hosts: Hosts,
    docker_config: Callable[[object], Path],
    case: dict[str, Any],
    logged_in: bool,
) -> None:
    registry = hosts.registry(authority().good())
    line = (FOLDER / case["file"]).read_text("utf-8")
    registry.on("*", "/v2/app/manifests/1", Reply(401, {"WWW-Authenticate": line}))
    if logged_in:
        docker_config(login(registry.host))
    outcome = act("RESOLVE", f"{registry.host}/app:1", "--ca-file", str(ca_file(act)))
    word = case["error_class"]
    # An address is judged by the one policy for all places; that one is refused as NETWORK.
    metadata = case["reason"] == "link-local address"
    refused(outcome, "NETWORK" if metadata and outcome.status == 5 else word)
    assert names_field(outcome, case["field"]) or metadata or "token server" in outcome.text
    assert all(seen.authorization is None for seen in registry.log)


@pytest.mark.parametrize("case", select("www-authenticate", expect="accept"))
def test_valid_challenge_is_followed_to_its_realm(
    act: Actor, hosts: Hosts, docker_config: Callable[[object], Path], case: dict[str, Any]
) -> None:
    registry, tokens = hosts.registry(authority().good()), hosts.registry(authority().good())
    line = (FOLDER / case["file"]).read_text("utf-8").replace("auth.test", tokens.host)
    image = multi_platform("linux/amd64")
    registry.on("GET", "/v2/app/manifests/1", Reply(401, {"WWW-Authenticate": line}), times=1)
    registry.serve("app", "1", image)
    given = tokens.token_server(credentials=(USER, PASSWORD))
    docker_config(login(registry.host))
    outcome = act(
        "RESOLVE", f"{registry.host}/app:1", "-p", "linux/amd64", "--ca-file", str(ca_file(act))
    )
    assert outcome.status == 0, outcome
    assert given.count == 1
    asked = case.get("requested_scope", "repository:app:pull")
    assert given.scopes[0] == (asked,)


def ca_file(act: Actor) -> Path:
    return authority().ca_file(act.folder)


@pytest.mark.parametrize("case", select("lockfile"))
def test_lock_file_is_read_or_refused_without_side_effects(
    act: Actor, case: dict[str, Any]
) -> None:
    place = str(FOLDER / case["file"])
    # No request is sent: only parsing counts.
    for verb, words in (("LOCKCHECK", ("--offline",)), ("RESOLVE", ("--locked",))):
        outcome = act(verb, *words, "--lock-file", place)
        if case["expect"] == "accept":
            assert outcome.status == 7, outcome
            continue
        # A file of the user's is a question that cannot be read, whatever is wrong with it.
        assert (outcome.failure["class"], outcome.status) == (case["error_class"], 2), outcome
        assert case["field"] in outcome.text or case["reason"] == "alias expansion"
    assert not Path("/tmp/pwned-yaml").exists()
