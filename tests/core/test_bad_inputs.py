"""The catalogue of hostile documents: each is refused for the expected reason, or accepted."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.oci.manifest import parse_config, parse_document
from resolver.core.registry.challenge import choose_challenge, parse_challenge
from resolver.errors import LimitExceeded, ResolverError, UnsupportedChallenge, Untrusted
from tests.kit.bad_inputs import CASES, FOLDER, select

#: A forbidden realm is refused by the address policy, not by the parser.
REALM_REASONS = {"TLS downgrade", "scheme", "link-local address"}


def read(case: dict[str, Any], body: bytes) -> object:
    if case["kind"] == "config":
        return parse_config(body, "the config", case["layer_count"])
    return parse_document(body, case["serve_content_type"], f"the {case['kind']}")


@pytest.mark.parametrize("case", select("manifest", "index", "config", expect="error"))
def test_invalid_document_is_refused_for_the_expected_reason(case: dict[str, Any]) -> None:
    body = (FOLDER / case["file"]).read_bytes()
    if case["error_class"] == "PLATFORM":
        # The document is valid, but lacks what the request needs.
        assert parse_config(body, "the config", case["layer_count"]).platform is None
        return
    with pytest.raises(Untrusted) as caught:
        read(case, body)
    assert caught.value.word == case["error_class"]
    if isinstance(caught.value, LimitExceeded):
        assert f"`{case['field']}`" in str(caught.value)
    else:
        assert caught.value.facts()["field"] == case["field"]


@pytest.mark.parametrize("case", select("manifest", "index", "config", expect="accept"))
def test_valid_document_is_accepted(case: dict[str, Any]) -> None:
    assert read(case, (FOLDER / case["file"]).read_bytes())


@pytest.mark.parametrize("case", select("www-authenticate"))
def test_any_challenge_is_selected_or_refused(case: dict[str, Any]) -> None:
    line = (FOLDER / case["file"]).read_text("utf-8")
    if case["expect"] == "error" and case["reason"] not in REALM_REASONS:
        with pytest.raises(UnsupportedChallenge) as caught:
            choose_challenge(parse_challenge([line]))
        assert caught.value.word == case["error_class"]
        return
    chosen = choose_challenge(parse_challenge([line]))
    wanted = case.get("parsed", {"scheme": "bearer", "realm": line.split('"')[1]})
    assert {"scheme": chosen.scheme, **chosen.parameters}.items() >= wanted.items()


MUTABLE = [case for case in CASES if case["kind"] in {"manifest", "index", "config"}]
PIECES = st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"1e9"])
CHANGES = st.tuples(
    st.integers(0, 1000), st.integers(0, 40), st.one_of(PIECES, st.binary(max_size=6))
)


@given(st.sampled_from(MUTABLE), st.lists(CHANGES, min_size=1, max_size=4))
def test_damaged_document_is_read_or_refused_in_time(
    case: dict[str, Any], changes: list[tuple[int, int, bytes]]
) -> None:
    body = (FOLDER / case["file"]).read_bytes()
    for place, length, piece in changes:
        start = place * len(body) // 1000
        body = body[:start] + piece + body[start + length :]
    began = time.perf_counter()
    error: ResolverError | None = None
    try:
        read(case, body)
    except ResolverError as caught:
        error = caught
    assert error is None or isinstance(error, Untrusted)
    assert len(str(error)) < 2000
    assert time.perf_counter() - began < 2
