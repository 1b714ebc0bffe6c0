"""The address policy: where a registry may redirect requests."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.errors import AddressRefused, ConnectionFailed
from resolver.sources.http.addresses import (
    AddressPolicy,
    Zone,
    is_loopback,
    look_up,
    zone_of,
)
from resolver.sources.http.urls import BadUrl, Url
from tests.kit.clients import Names

PUBLIC = Url.parse("https://registry.test/v2/")
HOSTS = {
    "public": "8.8.8.8",
    "private": "10.0.0.5",
    "loopback": "127.0.0.1",
}


def check(target: str, registry: str, *, proxied: bool = False) -> tuple[str, ...]:
    """Check a target, URL or address, for a registry in a zone."""
    url = Url.parse(target if "//" in target else f"https://target.test/{target}")
    names = Names(registry=HOSTS[registry], target=target)
    return AddressPolicy(names).check(url, PUBLIC, proxied=proxied, registry_proxied=False)


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("8.8.8.8", Zone.PUBLIC),
        ("2001:4860:4860::8888", Zone.PUBLIC),
        ("10.0.0.5", Zone.PRIVATE),
        ("172.16.0.1", Zone.PRIVATE),
        ("192.168.1.1", Zone.PRIVATE),
        ("100.64.0.1", Zone.PRIVATE),
        ("fd12:3456::1", Zone.PRIVATE),
        ("fec0::1", Zone.PRIVATE),
        ("feff:ffff::1", Zone.PRIVATE),
        ("127.0.0.1", Zone.LOOPBACK),
        ("127.255.255.254", Zone.LOOPBACK),
        ("::1", Zone.LOOPBACK),
        ("0.0.0.0", Zone.FORBIDDEN),
        ("0.1.2.3", Zone.FORBIDDEN),
        ("::", Zone.FORBIDDEN),
        ("169.254.169.254", Zone.FORBIDDEN),
        ("169.254.0.1", Zone.FORBIDDEN),
        ("fe80::1", Zone.FORBIDDEN),
        ("fd00:ec2::254", Zone.FORBIDDEN),
        ("100.100.100.200", Zone.FORBIDDEN),
        ("224.0.0.1", Zone.FORBIDDEN),
        ("ff02::1", Zone.FORBIDDEN),
        ("::ffff:169.254.169.254", Zone.FORBIDDEN),
        ("::ffff:10.0.0.1", Zone.PRIVATE),
        ("::ffff:8.8.8.8", Zone.PUBLIC),
        ("64:ff9b::a9fe:a9fe", Zone.FORBIDDEN),
        ("64:ff9b::a00:1", Zone.PRIVATE),
        ("64:ff9b::808:808", Zone.PUBLIC),
        ("2002:a9fe:a9fe::1", Zone.FORBIDDEN),
        ("2002:7f00:1::", Zone.LOOPBACK),
    ],
)
def test_addresses_are_classified_by_their_numbers(text: str, zone: Zone) -> None:
    assert zone_of(ipaddress.ip_address(text)) is zone


@pytest.mark.parametrize(
    ("registry", "target", "allowed"),
    [
        ("public", "1.1.1.1", True),
        ("public", "10.0.0.5", False),
        ("public", "127.0.0.1", False),
        ("public", "169.254.169.254", False),
        ("public", "fd00::1", False),
        ("public", "::ffff:10.0.0.1", False),
        ("public", "64:ff9b::a00:1", False),
        # On a network with only IPv6 every IPv4 host looks like this.
        ("public", "64:ff9b::808:808", True),
        ("private", "10.0.0.6", True),
        ("private", "127.0.0.1", True),
        ("private", "8.8.8.8", True),
        ("private", "169.254.169.254", False),
        ("private", "fd00:ec2::254", False),
        ("private", "0.0.0.0", False),
        ("loopback", "127.0.0.1", True),
        ("loopback", "10.0.0.6", True),
        ("loopback", "169.254.0.1", False),
        ("loopback", "fe80::1", False),
    ],
)
def test_registry_may_redirect_only_to_allowed_addresses(
    registry: str, target: str, allowed: bool
) -> None:
    if allowed:
        assert check(target, registry) == (target,)
        return
    with pytest.raises(AddressRefused) as caught:
        check(target, registry)
    assert str(ipaddress.ip_address(target)) in str(caught.value)
    assert "registry.test" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://1.1.1.1/", True),
        ("https://10.0.0.5/", False),
        ("http://169.254.169.254/latest/meta-data/", False),
        ("https://[::1]/", False),
        # Such spellings in a URL are suspicious, wherever they lead.
        ("https://[::ffff:8.8.8.8]/", False),
        ("https://[64:ff9b::808:808]/", False),
        ("https://[2002:808:808::1]/", False),
    ],
)
@pytest.mark.parametrize("proxied", [False, True])
def test_addresses_in_urls_are_checked_with_and_without_a_proxy(
    url: str, allowed: bool, proxied: bool
) -> None:
    if allowed:
        assert check(url, "public", proxied=proxied) == ()
    else:
        with pytest.raises(AddressRefused):
            check(url, "public", proxied=proxied)


@pytest.mark.parametrize(
    "host", ["2852039166", "0xa9fea9fe", "169.254.43518", "127.1", "0177.0.0.1", "1.2.3.0x4", "08"]
)
def test_unusual_spellings_of_addresses_are_refused(host: str) -> None:
    with pytest.raises(BadUrl, match="unusual spelling"):
        Url.parse(f"http://{host}/")


def test_one_forbidden_address_refuses_the_host() -> None:
    names = Names(registry="8.8.8.8", target=("1.1.1.1", "10.0.0.1"))
    url = Url.parse("https://target.test/")
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        AddressPolicy(names).check(url, PUBLIC, proxied=False, registry_proxied=False)


def test_one_public_address_makes_a_registry_public() -> None:
    names = Names(registry=("10.0.0.1", "8.8.8.8"), target="10.0.0.2")
    url = Url.parse("https://target.test/")
    with pytest.raises(AddressRefused):
        AddressPolicy(names).check(url, PUBLIC, proxied=False, registry_proxied=False)


def test_registry_without_an_address_is_treated_strictly() -> None:
    url = Url.parse("https://target.test/")
    with pytest.raises(AddressRefused):
        AddressPolicy(Names(target="10.0.0.2")).check(
            url, PUBLIC, proxied=False, registry_proxied=False
        )


def test_names_are_not_looked_up_behind_a_proxy() -> None:
    names = Names()
    url = Url.parse("https://target.test/")
    assert AddressPolicy(names).check(url, PUBLIC, proxied=True, registry_proxied=True) == ()
    assert names.asked == []
    with pytest.raises(AddressRefused):
        AddressPolicy(names).check(
            Url.parse("http://localhost/"), PUBLIC, proxied=True, registry_proxied=True
        )


def test_registry_is_looked_up_once() -> None:
    names = Names(registry="8.8.8.8", target="1.1.1.1")
    policy = AddressPolicy(names)
    for _ in range(3):
        policy.check(
            Url.parse("https://target.test/"), PUBLIC, proxied=False, registry_proxied=False
        )
    assert names.asked.count("registry.test") == 1


def test_host_without_an_address_is_reported() -> None:
    url = Url.parse("https://nowhere.test/")
    with pytest.raises(ConnectionFailed, match=r"nowhere\.test"):
        AddressPolicy(Names(registry="8.8.8.8")).check(
            url, PUBLIC, proxied=False, registry_proxied=False
        )


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
    ],
)
def test_loopback_is_recognised_without_a_lookup(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_addresses_come_from_the_system_resolver() -> None:
    assert "127.0.0.1" in look_up("localhost", 80)
    with pytest.raises(socket.gaierror):
        look_up("no-such-host.invalid", 80)


# --- URLs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://Example.COM/a?sig=1#f", "https://example.com/a"),
        ("https://example.com", "https://example.com/"),
        ("https://example.com?x", "https://example.com/"),
        ("http://example.com:80/", "http://example.com/"),
        ("https://example.com:8443/", "https://example.com:8443/"),
        ("https://[2001:DB8::1]:5000/x", "https://[2001:db8::1]:5000/x"),
        ("https://my_registry:5000/", "https://my_registry:5000/"),
        ("https://example.com:/", "https://example.com/"),
    ],
)
def test_shown_urls_have_no_query(text: str, shown: str) -> None:
    url = Url.parse(text)
    assert str(url) == shown
    assert repr(url) == f"Url({shown!r})"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com",
        "https:/example.com",
        "https:example.com",
        "https://",
        "https:///x",
        "https://u@example.com/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:x/",
        "https://example.com:\uff11/",
        "https://exa mple.com/",
        "https://example.com/\n",
        "https://example.com\\x/",
        "https://.example.com/",
        "https://example.com./",
        "https://a..b/",
        "https://[::1/",
        "https://[::1]x/",
        "https://[fe80::1%eth0]/",
        "https://::1/",
        "https://é.example/",
        "https://" + "a" * 256 + "/",
        "ftp://example.com/",
        "https://example.com/" + "x" * 20_000,
    ],
)
def test_invalid_url_is_refused(text: str) -> None:
    with pytest.raises(BadUrl):
        Url.parse(text)


@given(st.text(max_size=80))
def test_any_text_is_a_url_or_refused_and_joins_safely(text: str) -> None:
    base = Url.parse("https://example.com/v2/a/b?c")
    with suppress(BadUrl):
        joined = base.join(text)
        assert Url.parse(joined.wire) == joined
        assert joined.scheme in ("http", "https")
        assert joined.wire.isascii()
