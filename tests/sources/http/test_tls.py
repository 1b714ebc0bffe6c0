"""TLS trust and its errors, with both engines and real handshakes."""

from __future__ import annotations

import ssl
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from resolver.errors import InvalidConfiguration, TlsFailed
from resolver.sources.credentials.chain import Credential, Secret
from resolver.sources.http.failures import find_reason
from tests.kit.certificates import authority, self_signed, unknown_authority
from tests.kit.clients import FakeClock, chain, source
from tests.kit.images import build_image
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from resolver.core.results.events import Event

IMAGE = build_image()


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    return authority().ca_file(tmp_path)


@contextmanager
def served(tls: ssl.SSLContext) -> Iterator[FakeRegistry]:
    with FakeRegistry(tls=tls) as registry:
        registry.serve("team/app", "1.0", IMAGE)
        yield registry


def over_tls(**more: object) -> dict[str, object]:
    return {"plain_http": False, **more}


def test_named_private_ca_is_trusted(engine: str, ca_file: Path) -> None:
    with (
        served(authority().good()) as registry,
        source(registry.host, engine=engine, options=over_tls(ca_file=ca_file)) as app,
    ):
        assert str(app.document("1.0").descriptor.digest) == IMAGE.digest


def test_ssl_cert_file_of_the_caller_is_honoured(engine: str, ca_file: Path) -> None:
    environment = {"SSL_CERT_FILE": str(ca_file)}
    with (
        served(authority().good()) as registry,
        source(registry.host, engine=engine, options=over_tls(environment=environment)) as app,
    ):
        assert app.resolve("1.0").digest.hex


def test_ssl_cert_dir_of_the_caller_is_honoured(engine: str, ca_file: Path) -> None:
    (ca_file.parent / "README").write_text("not a certificate")
    environment = {"SSL_CERT_DIR": str(ca_file.parent)}
    with (
        served(authority().good()) as registry,
        source(registry.host, engine=engine, options=over_tls(environment=environment)) as app,
    ):
        assert app.resolve("1.0").digest.hex


def test_ssl_cert_file_of_the_process_is_honoured(
    engine: str, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    with (
        served(authority().good()) as registry,
        source(registry.host, engine=engine, options=over_tls()) as app,
    ):
        assert app.resolve("1.0").digest.hex


@pytest.mark.parametrize(
    ("tls", "words", "hint"),
    [
        (lambda: authority().expired(), "has expired", "renew"),
        (lambda: authority().not_yet_valid(), "not valid yet", "clock"),
        (lambda: authority().wrong_host(), "another host name", "name"),
        (lambda: unknown_authority().good(), "not trusted here", "--ca-file"),
    ],
    ids=["expired", "not-yet-valid", "wrong-host", "unknown-authority"],
)
def test_invalid_certificate_is_named_and_nothing_is_sent(
    engine: str, ca_file: Path, tls: Callable[[], ssl.SSLContext], words: str, hint: str
) -> None:
    clock = FakeClock()
    with FakeRegistry(tls=tls()) as registry:
        credentials = chain(Credential("u5er", Secret("S3cr3tPa55")), registry.host)
        options = over_tls(ca_file=ca_file)
        with (
            source(
                registry.host, engine=engine, credentials=credentials, options=options, clock=clock
            ) as app,
            pytest.raises(TlsFailed, match=words) as caught,
        ):
            app.document("1.0")
        assert registry.host in str(caught.value)
        assert any(hint in text for text in caught.value.hints())
        assert registry.log == []
    assert clock.slept == []


def test_self_signed_certificate_is_refused(engine: str) -> None:
    with (
        FakeRegistry(tls=self_signed()) as registry,
        source(registry.host, engine=engine, options=over_tls()) as app,
        pytest.raises(TlsFailed),
    ):
        app.document("1.0")


def test_ca_certificate_used_by_a_server_is_explained() -> None:
    reason = find_reason("invalid peer certificate: other(othererror(causedasendentity))")
    assert "as its own" in reason.sentence
    assert reason.error is TlsFailed


def test_server_with_only_old_tls_is_named(engine: str, ca_file: Path) -> None:
    context = authority().good()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        FakeRegistry(tls=context) as registry,
        source(registry.host, engine=engine, options=over_tls(ca_file=ca_file)) as app,
        pytest.raises(TlsFailed) as caught,
    ):
        app.document("1.0")
    assert registry.host in str(caught.value)


def test_invalid_loopback_certificate_does_not_fall_back_to_plain_http(engine: str) -> None:
    with (
        FakeRegistry(tls=unknown_authority().good()) as registry,
        source(registry.host, engine=engine, options=over_tls()) as app,
    ):
        for _ in range(2):
            with pytest.raises(TlsFailed, match="not trusted"):
                app.document("1.0")
        assert registry.log == []


def test_tls_verification_can_be_skipped(engine: str) -> None:
    with (
        served(unknown_authority().good()) as registry,
        source(registry.host, engine=engine, options=over_tls(tls_skip_verify=True)) as app,
    ):
        assert str(app.document("1.0").descriptor.digest) == IMAGE.digest


def test_plain_http_to_a_tls_server_fails(engine: str) -> None:
    with (
        FakeRegistry(tls=authority().good()) as registry,
        source(registry.host, engine=engine, options={"attempts": 1}) as app,
        pytest.raises(Exception, match=registry.host) as caught,
    ):
        app.document("1.0")
    assert any("--plain-http" in hint for hint in caught.value.hints())  # type: ignore[attr-defined]  # ours


def test_unreadable_ca_file_is_a_configuration_error(tmp_path: Path) -> None:
    with (
        source("registry.example", options=over_tls(ca_file=tmp_path / "none.pem")) as app,
        pytest.raises(InvalidConfiguration, match=r"none\.pem"),
    ):
        app.document("1.0")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"],
    ids=["empty", "text", "damaged"],
)
def test_ca_file_without_a_certificate_is_a_configuration_error(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    with (
        source("registry.example", options=over_tls(ca_file=path)) as app,
        pytest.raises(InvalidConfiguration, match="certificate"),
    ):
        app.document("1.0")


def test_stale_ssl_cert_file_is_a_warning(ca_file: Path) -> None:
    events: list[Event] = []
    options = over_tls(ca_file=ca_file, environment={"SSL_CERT_FILE": "/nowhere/ca.pem"})
    with (
        served(authority().good()) as registry,
        source(registry.host, options=options, events=events) as app,
    ):
        app.resolve("1.0")
    assert any("/nowhere/ca.pem" in str(event) for event in events)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # A server chooses these names; they must not be mistaken for a server without TLS.
        (
            'invalid peer certificate: not valid for name "a"; dnsname("invalidcontenttype")',
            "another host name",
        ),
        ("received corrupt message of type invalidcontenttype", "plain HTTP"),
        ("[ssl: wrong_version_number] wrong version number (_ssl.c:1006)", "plain HTTP"),
        ("received fatal alert: protocolversion", "does not support TLS 1.2"),
        ("received fatal alert: handshakefailure", "handshake"),
        ("tls handshake eof", "during the TLS handshake"),
        ("invalid peer certificate: badencoding", "not acceptable"),
        ("something nobody has seen", "failed"),
    ],
)
def test_tls_errors_of_both_engines_are_recognised(words: str, expected: str) -> None:
    assert expected in find_reason(words).sentence
