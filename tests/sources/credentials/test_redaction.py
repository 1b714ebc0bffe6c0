"""Redaction of learned secrets from text, in any encoding."""

from __future__ import annotations

import base64
import json
import threading
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.sources.credentials.chain import Credential, Secret
from resolver.sources.credentials.secrets import Redactor

ANY_TEXT = st.text(st.characters(), max_size=12)


def cleaned(text: str, *secrets: Secret | Credential | str) -> str:
    redactor = Redactor()
    for secret in secrets:
        redactor.learn(secret)
    return redactor.clean(text)


def test_text_without_secrets_is_unchanged() -> None:
    assert cleaned("nothing to hide") == "nothing to hide"
    assert cleaned("nothing to hide", "S3cr3t") == "nothing to hide"
    assert cleaned("", "S3cr3t") == ""


@pytest.mark.parametrize(
    "form",
    [
        'p:w/+é "x',
        quote('p:w/+é "x', safe=""),
        quote('p:w/+é "x', safe="").lower(),
        quote('p:w/+é "x'),
        quote_plus('p:w/+é "x'),
        json.dumps('p:w/+é "x')[1:-1],
        json.dumps('p:w/+é "x', ensure_ascii=False)[1:-1],
        base64.b64encode('p:w/+é "x'.encode()).decode(),
        base64.b64encode('p:w/+é "x'.encode()).decode().rstrip("="),
        base64.b64encode('u5er:p:w/+é "x'.encode()).decode(),
        base64.urlsafe_b64encode('u5er:p:w/+é "x'.encode()).decode(),
    ],
)
def test_every_usual_form_of_a_password_is_replaced(form: str) -> None:
    credential = Credential("u5er", Secret('p:w/+é "x'))
    assert cleaned(f"<{form}>", credential) == "<***>"


def test_each_kind_of_secret_of_a_credential_is_replaced() -> None:
    credential = Credential("u5er", Secret("S3cr3tPa55"), Secret("1DT0KEN"), Secret("T0KEN-x"))
    text = "u5er S3cr3tPa55 1DT0KEN T0KEN-x"
    assert cleaned(text, credential) == "u5er *** *** ***"


def test_short_secrets_are_redacted_only_in_their_encoded_pair() -> None:
    assert cleaned("a cat sat", "cat", "a", "") == "a cat sat"
    pair = base64.b64encode(b"u5er:cat").decode()
    assert cleaned(f"cat {pair}", Credential("u5er", Secret("cat"))) == "cat ***"
    assert cleaned("u p u:p dTpw", Credential("u", Secret("p"))) == "u p u:p dTpw"


def test_overlapping_secrets_are_redacted_completely() -> None:
    assert cleaned("<abcdefgh>", "abcdef", "defgh") == "<***>"
    assert cleaned("aaaaaaa", "aaaa") == "***"
    assert cleaned("x****y", "****") == "x***y"


def test_secret_is_registered_once_and_empty_text_is_none() -> None:
    redactor = Redactor()
    redactor.learn(None)
    redactor.learn(Secret("S3cr3t"))
    forms = redactor._forms
    redactor.learn("S3cr3t")
    assert redactor._forms is forms
    assert redactor.clean("S3cr3t other") == "*** other"


def test_concurrent_registration_and_redaction_lose_nothing() -> None:
    redactor = Redactor()
    barrier = threading.Barrier(8)

    def learn(number: int) -> None:
        barrier.wait()
        for part in range(20):
            redactor.learn(f"secret-{number}-{part}-")
            redactor.clean("some text")

    threads = [threading.Thread(target=learn, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    names = (f"secret-{number}-{part}-" for number in range(8) for part in range(20))
    assert {redactor.clean(name) for name in names} == {"***"}


@given(before=ANY_TEXT, after=ANY_TEXT, secret=st.text(st.characters(), min_size=4, max_size=12))
def test_secret_is_redacted_in_any_context(before: str, after: str, secret: str) -> None:
    assert secret not in cleaned(before + secret + after, secret) or secret in "***"
    octets = (before + secret + after).encode("utf-8", "surrogatepass")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(octets).decode()
        left = cleaned(text, secret)
        assert left != text
        # At most the two characters at each edge that also hold bits of a neighbour are left.
        kept = len(left.replace("***", "", 1))
        around = len((before + after).encode("utf-8", "surrogatepass"))
        assert kept <= around * 4 / 3 + 6
