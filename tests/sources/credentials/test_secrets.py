"""Secrets cannot be printed or pickled."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import HelperFailed
from resolver.sources.credentials.chain import Credential, CredentialAnswer, Secret

HELD = Credential("u5er", Secret("S3cr3tPa55"), Secret("1DT0KEN"), Secret("T0KEN"))


def test_secret_prints_as_stars_in_every_form() -> None:
    secret = Secret("S3cr3tPa55")
    ways = (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>4}",
        f"{secret:>40}",
        "{}".format(secret),  # noqa: UP032  the old way, on purpose
    )
    assert {way.strip() for way in ways} == {"***"}
    assert secret.reveal() == "S3cr3tPa55"


def test_credential_repr_shows_only_its_user() -> None:
    assert repr(HELD) == "Credential(username='u5er')"
    found = CredentialAnswer(HELD, "/a/path", HelperFailed("broken"))
    assert "S3cr3t" not in repr(found)
    assert [secret.reveal() for secret in HELD.secrets()] == ["S3cr3tPa55", "1DT0KEN", "T0KEN"]
    assert Credential("u5er", Secret("")).secrets() == ()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_secret_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(HELD, protocol)


def test_credential_cannot_be_copied_to_a_dict() -> None:
    for escape in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            escape(HELD.password)
    with pytest.raises(TypeError):
        dataclasses.asdict(HELD)
    assert not hasattr(HELD.password, "__dict__")


@given(st.text(st.characters(), max_size=4), st.text(st.characters(), max_size=4))
def test_secrets_are_equal_when_their_texts_are(first: str, second: str) -> None:
    assert (Secret(first) == Secret(second)) is (first == second)
    assert bool(Secret(first)) is bool(first)
    assert Secret(first) != first
    assert hash(Secret(first)) == hash(Secret(first))
