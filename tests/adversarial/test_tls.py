"""TLS verification of every host (CLI-014 and CLI-015 of the catalogue)."""

from __future__ import annotations

import ssl
import warnings
from typing import TYPE_CHECKING

import pytest

from tests.adversarial.actor import refused
from tests.adversarial.hosts import login
from tests.adversarial.namespace import inside
from tests.kit.certificates import authority, self_signed, unknown_authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.adversarial.actor import Actor
    from tests.adversarial.hosts import Hosts


def test_cli_014_credentials_are_never_sent_unencrypted(act: Actor) -> None:
    inside("tests.adversarial.scenarios:no_plaintext", act.folder)


def only_common_name() -> ssl.SSLContext:
    """Serve with a certificate that has its name in the subject only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().ca.issue_cert(common_name="127.0.0.1").configure_cert(context)
    return context


def old_version() -> ssl.SSLContext:
    """Serve TLS 1.0 and nothing newer."""
    context = authority().good()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


#: What serves, and words of which one must stand in the message.
BAD: dict[str, tuple[Callable[[], ssl.SSLContext], tuple[str, ...]]] = {
    "self-signed": (self_signed, ("self-signed", "certificate", "authority")),
    "unknown authority": (lambda: unknown_authority().good(), ("issuer", "authority", "trusted")),
    "wrong host": (authority().wrong_host, ("name", "host", "valid for")),
    "expired": (authority().expired, ("expired",)),
    "not yet valid": (authority().not_yet_valid, ("not yet valid", "not valid yet", "not yet")),
    "common name only": (only_common_name, ("name", "host", "valid for")),
    "TLS 1.0": (old_version, ("TLS", "protocol", "version")),
}


@pytest.mark.parametrize("kind", BAD)
def test_cli_015_invalid_certificate_stops_before_the_first_request(
    act: Actor, hosts: Hosts, docker_config: Callable[[object], Path], kind: str
) -> None:
    serve, words = BAD[kind]
    registry = hosts.registry(serve())
    docker_config(login(registry.host))
    trusted = str(authority().ca_file(act.folder))
    outcome = act("RESOLVE", f"{registry.host}/app:1", "--ca-file", trusted)
    refused(outcome, "NETWORK")
    assert any(word in outcome.failure["message"] for word in words), outcome
    assert registry.log == []
    assert b"\n" not in outcome.failure["message"].encode()


def test_cli_015_wildcard_matches_one_label(act: Actor) -> None:
    inside("tests.adversarial.scenarios:wildcard_depth", act.folder)


def test_machine_without_ca_certificates_is_reported(act: Actor) -> None:
    inside("tests.adversarial.scenarios:no_authorities", act.folder)
