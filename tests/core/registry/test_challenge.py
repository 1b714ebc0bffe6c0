"""Parsing of authentication challenges."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.registry.challenge import Challenge, choose_challenge, parse_challenge
from resolver.errors import Denied, UnsupportedChallenge
from tests import DATA

VECTORS: list[dict[str, Any]] = json.loads(
    (DATA / "vectors" / "challenges.json").read_text("utf-8")
)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_challenges_of_known_registries_are_parsed(vector: dict[str, Any]) -> None:
    expected = vector["expect"]
    if isinstance(expected, dict):
        with pytest.raises(UnsupportedChallenge):
            parse_challenge(vector["input"])
        return
    found = parse_challenge(vector["input"])
    assert found == [(item["scheme"], item["params"]) for item in expected]
    assert [item.token68 for item in found] == [item.get("token68") for item in expected]
    if vector.get("select") is None:
        with pytest.raises(UnsupportedChallenge):
            choose_challenge(found)
    else:
        assert choose_challenge(found).scheme == vector["select"]


@pytest.mark.parametrize(
    ("line", "challenges"),
    [
        ('Bearer\trealm="x"', [("bearer", {"realm": "x"})]),
        ('Bearer realm="x";service="y"', [("bearer", {"realm": "x"})]),
        ('Bearer realm="a",realm="b"', [("bearer", {"realm": "b"})]),
        ('Bearer service="y",realm="open', [("bearer", {"service": "y"})]),
        ('Bearer service="y",realm="open\\', [("bearer", {"service": "y"})]),
        ('Bearer realm="a\\"b\\\\", x="1"', [("bearer", {"realm": 'a"b\\', "x": "1"})]),
        ('Bearer a="1",service=,realm="x"', [("bearer", {"a": "1"})]),
        # By the grammar `service=` is a token68 here: the base64 of NTLM looks the same.
        ('Bearer service=,realm="x"', [("bearer", {"realm": "x"})]),
        ('Basic, realm="x"', [("basic", {"realm": "x"})]),
        ("Bearer ;", [("bearer", {})]),
        (
            'Negotiate, Basic realm="x", Bearer realm="y",service="z"',
            [
                ("negotiate", {}),
                ("basic", {"realm": "x"}),
                ("bearer", {"realm": "y", "service": "z"}),
            ],
        ),
        ('Bearer realm="x" , , Basic', [("bearer", {"realm": "x"}), ("basic", {})]),
        ('Bearer realm="caf\u00e9, =;"', [("bearer", {"realm": "caf\u00e9, =;"})]),
    ],
)
def test_challenge_error_keeps_complete_challenges(
    line: str, challenges: list[tuple[str, dict[str, str]]]
) -> None:
    assert parse_challenge([line]) == challenges


@pytest.mark.parametrize("line", ['"Basic" "realm"=/', "realm=x", "Bearer;realm=x", "=", ",,,"])
def test_challenge_line_without_a_scheme_is_refused(line: str) -> None:
    with pytest.raises(UnsupportedChallenge):
        parse_challenge([line])


def test_challenge_error_does_not_affect_the_next_line() -> None:
    found = parse_challenge(['Bearer realm="open', 'Basic realm="x"'])
    assert found == [("bearer", {}), ("basic", {"realm": "x"})]
    assert choose_challenge(found).scheme == "basic"


def test_single_challenge_text_is_one_line() -> None:
    assert parse_challenge("Basic") == [("basic", {})]


def test_first_bearer_challenge_with_a_realm_is_selected() -> None:
    lines = ["Basic", 'Bearer realm=""', 'Bearer realm="one"', 'Bearer realm="two"']
    assert choose_challenge(parse_challenge(lines)).parameters == {"realm": "one"}


def test_challenge_error_names_the_offered_schemes() -> None:
    with pytest.raises(Denied, match=r"`negotiate`, `digest`"):
        choose_challenge(parse_challenge(["Negotiate", 'Digest realm="x"']))


def test_bearer_challenge_without_a_realm_is_refused() -> None:
    with pytest.raises(Denied, match="realm"):
        choose_challenge(parse_challenge(['Bearer service="s"']))


def test_number_of_challenges_is_limited_to_sixteen() -> None:
    assert len(parse_challenge(["Basic"] * 16)) == 16
    with pytest.raises(UnsupportedChallenge, match="16"):
        parse_challenge(["Basic"] * 17)


def test_challenge_header_is_limited_to_16_kib() -> None:
    line = 'Bearer realm="' + "x" * (16_384 - 15) + '"'
    assert len(parse_challenge([line])) == 1
    with pytest.raises(UnsupportedChallenge, match="16384"):
        parse_challenge([line, "B"])


PIECES = st.sampled_from(
    [
        "Bearer",
        "Basic",
        "Negotiate",
        " ",
        "\t",
        ",",
        "=",
        '"',
        "\\",
        ";",
        "realm",
        "abc==",
        "/",
        "é",
    ]
)


@given(st.lists(st.one_of(st.lists(PIECES, max_size=20).map("".join), st.text(max_size=40))))
def test_any_challenge_header_is_parsed_or_refused(lines: list[str]) -> None:
    try:
        found = parse_challenge(lines)
        chosen = choose_challenge(found)
    except UnsupportedChallenge:
        return
    assert chosen in found
    assert all(item.scheme == item.scheme.lower() for item in found)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["bearer", "basic", "x-new"]),
            st.dictionaries(
                st.sampled_from(["realm", "service", "scope"]), st.text(max_size=20), max_size=3
            ),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_challenge_written_by_the_grammar_is_read_back(
    challenges: list[tuple[str, dict[str, str]]],
) -> None:
    def quote(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    line = ", ".join(
        scheme + " " + ", ".join(f"{name}={quote(value)}" for name, value in parameters.items())
        for scheme, parameters in challenges
    )
    assert parse_challenge([line]) == challenges


@pytest.mark.parametrize("piece", ['"', '\\"', "a", "a=", "a ,", 'a="', "a b", "=", " ", "\\"])
def test_long_challenge_headers_are_parsed_quickly(piece: str) -> None:
    start = time.perf_counter()
    for head in ("", "Bearer ", 'Bearer realm="'):
        try:
            parse_challenge([(head + piece * 16_384)[:16_384]])
        except UnsupportedChallenge:
            continue
    assert time.perf_counter() - start < 1


def test_challenge_has_named_fields() -> None:
    challenge = Challenge("negotiate", {}, "abc=")
    assert (challenge.scheme, challenge.parameters, challenge.token68) == ("negotiate", {}, "abc=")
    assert challenge == ("negotiate", {})
