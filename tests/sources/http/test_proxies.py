"""Proxies: which one is used, for which hosts, and what is shown."""

from __future__ import annotations

import base64
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import ConnectionFailed, InvalidConfiguration
from resolver.sources.http.addresses import ProxySettings
from resolver.sources.http.urls import Url
from tests.kit.clients import Names, source
from tests.kit.images import build_image
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.results.events import Event

IMAGE = build_image()
PROXY = "http://proxy.test:3128"


def goes_through(url: str, **environment: str) -> str | None:
    found = ProxySettings.load(environment).find(Url.parse(url))
    return None if found is None else found.url.authority


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({}, "https://a.test/", None),
        ({"HTTPS_PROXY": PROXY}, "https://a.test/", "proxy.test:3128"),
        ({"HTTPS_PROXY": PROXY}, "http://a.test/", None),
        ({"HTTP_PROXY": PROXY}, "http://a.test/", "proxy.test:3128"),
        ({"HTTP_PROXY": PROXY}, "https://a.test/", None),
        ({"ALL_PROXY": PROXY}, "https://a.test/", "proxy.test:3128"),
        ({"all_proxy": PROXY}, "http://a.test/", "proxy.test:3128"),
        ({"ALL_PROXY": PROXY, "HTTPS_PROXY": "http://b:1"}, "https://a.test/", "b:1"),
        ({"HTTPS_PROXY": PROXY, "https_proxy": "http://low:1"}, "https://a.test/", "low:1"),
        ({"HTTPS_PROXY": PROXY, "https_proxy": ""}, "https://a.test/", None),
        ({"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, "http://a.test/", None),
        ({"http_proxy": PROXY, "REQUEST_METHOD": "GET"}, "http://a.test/", "proxy.test:3128"),
        ({"HTTPS_PROXY": "proxy.test:3128"}, "https://a.test/", "proxy.test:3128"),
        ({"HTTPS_PROXY": "https://proxy.test"}, "https://a.test/", "proxy.test"),
        ({"ALL_PROXY": PROXY}, "http://localhost:5000/", None),
        ({"ALL_PROXY": PROXY}, "http://127.8.8.8/", None),
        ({"ALL_PROXY": PROXY}, "http://[::1]:5000/", None),
    ],
)
def test_proxy_variable_matches_the_scheme(
    environment: dict[str, str], url: str, expected: str | None
) -> None:
    assert goes_through(url, **environment) == expected


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", "https://a.test/", True),
        ("a.test", "https://a.test/", True),
        ("a.test", "https://A.TEST/", True),
        ("A.Test", "https://a.test/", True),
        ("a.test", "https://b.a.test/", True),
        ("a.test", "https://ba.test/", False),
        (".a.test", "https://a.test/", False),
        (".a.test", "https://b.a.test/", True),
        ("*.a.test", "https://b.a.test/", True),
        ("*.a.test", "https://a.test/", False),
        ("a.test:5000", "https://a.test:5000/", True),
        ("a.test:5000", "https://a.test/", False),
        ("a.test:443", "https://a.test/", True),
        ("x.test, a.test", "https://a.test/", True),
        ("x.test a.test", "https://a.test/", True),
        (",, ,", "https://a.test/", False),
        ("10.0.0.5", "https://10.0.0.5/", True),
        ("10.0.0.5", "https://10.0.0.50/", False),
        ("10.0.0.5:5000", "https://10.0.0.5:5000/", True),
        ("10.0.0.0/8", "https://10.9.9.9/", True),
        ("10.0.0.0/8", "https://11.0.0.1/", False),
        ("10.0.0.0/8", "https://a.test/", False),
        ("fd00::/8", "https://[fd12::1]/", True),
        ("fd00::/8", "https://[2001:4860::1]/", False),
        ("fd12::1", "https://[fd12:0::1]/", True),
        ("[fd12::1]:5000", "https://[fd12::1]:5000/", True),
        ("[fd12::1]:5000", "https://[fd12::1]/", False),
        ("10.0.0.0/99", "https://10.0.0.1/", False),
        ("/", "https://a.test/", False),
    ],
)
def test_no_proxy_is_matched(no_proxy: str, url: str, direct: bool) -> None:
    found = goes_through(url, ALL_PROXY=PROXY, NO_PROXY=no_proxy)
    assert (found is None) is direct


@pytest.mark.parametrize(
    "value", ["socks5://proxy.test", "http://", "http://u5er:S3cr3t@", "ftp://x", "http://a b"]
)
def test_invalid_proxy_is_a_configuration_error(value: str) -> None:
    with pytest.raises(InvalidConfiguration, match="HTTPS_PROXY") as caught:
        ProxySettings.load({"HTTPS_PROXY": value})
    assert "S3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_conflicting_proxy_variables_are_reported() -> None:
    events: list[Event] = []
    ProxySettings.load({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}, events.append)
    assert "lower-case" in str(events)


def test_proxy_credentials_are_not_shown() -> None:
    settings = ProxySettings.load({"ALL_PROXY": "http://me:p%40ss%3Aw0rd@proxy.test:3128"})
    proxy = settings.find(Url.parse("https://a.test/"))
    assert proxy is not None
    assert proxy.password is not None
    assert (proxy.username, proxy.password.reveal()) == ("me", "p@ss:w0rd")
    assert "w0rd" not in f"{settings} {proxy!r} {proxy.url}"


@given(st.text(max_size=60))
def test_any_no_proxy_value_is_parsed(text: str) -> None:
    settings = ProxySettings.load({"ALL_PROXY": PROXY, "NO_PROXY": text})
    settings.find(Url.parse("https://a.test/"))
    settings.find(Url.parse("https://[fd12::1]:1/"))


# --- over the wire -------------------------------------------------------------------------


def test_plain_http_uses_the_proxy_and_its_credentials(engine: str) -> None:
    with FakeRegistry() as proxy:
        proxy.serve("team/app", "1.0", IMAGE)
        environment = {"http_proxy": f"http://me:pass@{proxy.host}"}
        options = {"environment": environment}
        names = Names()
        with source("registry.test", engine=engine, options=options, lookup=names) as app:
            app.document("1.0")
    seen = proxy.log[0]
    assert seen.raw_target == "http://registry.test/v2/team/app/manifests/1.0"
    expected = "Basic " + base64.b64encode(b"me:pass").decode()
    assert seen.headers["proxy-authorization"] == expected
    assert "authorization" not in seen.headers
    assert names.asked == []


def test_loopback_registry_bypasses_the_proxy(engine: str) -> None:
    with FakeRegistry() as registry, FakeRegistry() as proxy:
        registry.serve("team/app", "1.0", IMAGE)
        options = {"environment": {"http_proxy": proxy.url}}
        with source(registry.host, engine=engine, options=options) as app:
            app.document("1.0")
        assert proxy.log == []


def test_proxy_that_requires_login_is_named_and_not_retried(engine: str) -> None:
    with FakeRegistry() as proxy:
        proxy.on("GET", "/v2/team/app/manifests/1.0", Reply(407))
        options = {"environment": {"http_proxy": proxy.url}}
        with (
            source("registry.test", engine=engine, options=options) as app,
            pytest.raises(ConnectionFailed, match="requires a login") as caught,
        ):
            app.document("1.0")
        assert len(proxy.log) == 1
    assert "HTTPS_PROXY" in caught.value.hints()[0]


@contextmanager
def tunnel(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that answers every CONNECT with the same bytes, and records what it receives."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                with link:
                    seen.append(link.recv(65_536))
                    link.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "login"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "refuses"),
    ],
    ids=["407", "403"],
)
def test_refused_tunnel_is_named(engine: str, answer: bytes, words: str) -> None:
    with tunnel(answer) as (host, seen):
        options = {
            "plain_http": False,
            "attempts": 1,
            "environment": {"https_proxy": f"http://me:S3cr3tPa55@{host}"},
        }
        with (
            source("registry.test", engine=engine, options=options) as app,
            pytest.raises(ConnectionFailed, match=words) as caught,
        ):
            app.document("1.0")
    assert seen[0].startswith(b"CONNECT registry.test:443 ")
    assert b"proxy-authorization: basic" in seen[0].lower()
    assert "S3cr3tPa55" not in f"{caught.value} {caught.value.hints()}"
