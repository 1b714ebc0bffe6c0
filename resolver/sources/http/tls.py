"""Which certificate authorities are believed: the system's, and the user's own."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.results.events import Warned
from resolver.errors import InvalidConfiguration
from resolver.files.read import read_regular
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.registry.endpoints import ClientFiles, HostSettings
    from resolver.core.results.pull_events import Observer

_MAX_BUNDLE = 16 * 1024 * 1024
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe.

    Attributes:
        extra: certificates in PEM form, one each, on top of the system's.
        skip: believe everybody (`--tls-skip-verify`).
        client: to prove oneself by, checked to be usable; None for nothing.

    """

    extra: tuple[bytes, ...] = ()
    skip: bool = False
    client: ClientFiles | None = None


def load_trust(
    ca_file: Path | None, environment: Mapping[str, str], observe: Observer, *, skip: bool
) -> Trust:
    """Collect the user's own authorities.

    Both engines read `SSL_CERT_FILE` and `SSL_CERT_DIR` of the process by themselves. They are
    read here when the caller hands over other values than the process has.

    Raises:
        InvalidConfiguration: `ca_file` cannot be read, or holds no certificate.

    """
    extra: list[bytes] = []
    if ca_file is not None:
        extra += _certificates(ca_file)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        value = environment.get(name)
        if not value:
            continue
        places = [Path(part) for part in value.split(os.pathsep if name.endswith("DIR") else "\0")]
        for place in places:
            extra += _named_by_variable(name, place, observe, own=value != os.environ.get(name))
    return Trust(tuple(dict.fromkeys(extra)), skip)


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """What a file of authorities holds.

    Attributes:
        certificates: how many.
        ends: when the first of its authorities ends, in seconds since 1970; None if none says.
        ended: how many of them have ended by now.

    """

    certificates: int
    ends: float | None
    ended: int


def look_into(file: Path, now: float) -> TrustBundle:
    """Say what a file of authorities holds.

    Raises:
        InvalidConfiguration: it cannot be read, or holds no certificate that can be used.

    """
    blocks = _certificates(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for block in blocks:
        context.load_verify_locations(cadata=block.decode("ascii"))
    # OpenSSL tells of authorities alone; a server's own certificate is trusted without a date.
    dates = [str(each["notAfter"]) for each in context.get_ca_certs() if "notAfter" in each]
    ends = sorted(map(ssl.cert_time_to_seconds, dates))
    return TrustBundle(len(blocks), ends[0] if ends else None, sum(end <= now for end in ends))


def tls_context(trust: Trust) -> ssl.SSLContext:
    """Build the context for httpx's own transport: the system's store plus the extra ones."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if trust.skip:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for pem in trust.extra:
        context.load_verify_locations(cadata=pem.decode("ascii"))
    if trust.client is not None:
        _load_client(context, trust.client)
    return context


def trust_of_host(usual: Trust, settings: HostSettings) -> Trust:
    """Add what one host's settings say to what holds for all.

    Raises:
        InvalidConfiguration: a file cannot be read, or holds no certificate, or no key for it.

    """
    extra = [*usual.extra]
    for name in settings.ca:
        extra += _certificates(Path(name))
    client = settings.clients[0] if settings.clients else None
    if client is not None:
        # Now, and not in the middle of a handshake, where nobody says which file is at fault.
        _load_client(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), client)
    return Trust(tuple(dict.fromkeys(extra)), usual.skip or settings.skip_verify, client)


def identity(client: ClientFiles) -> bytes:
    """Read key and certificate as one text in PEM form."""
    files = [name for name in (client.key, client.certificate) if name]
    return b"\n".join(_read(Path(name)) for name in files)


def _load_client(context: ssl.SSLContext, client: ClientFiles) -> None:
    place = client.certificate
    for name in (client.certificate, client.key):
        if name:
            _read(Path(name))
    try:
        # A key with a passphrase must not stop everything to ask for it.
        context.load_cert_chain(place, client.key or None, password=lambda: b"")
    except (ssl.SSLError, ValueError, OSError) as error:
        raise InvalidConfiguration(
            place, "", "it is no client certificate with its key, or the key has a passphrase"
        ) from error


def _named_by_variable(name: str, place: Path, observe: Observer, *, own: bool) -> list[bytes]:
    """Read what a variable names; a stale variable is worth a word, but breaks nothing."""
    if not place.exists():
        observe(Warned("trust-missing", f"`{name}` names `{place}`, which does not exist"))
        return []
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    if not own:
        # OpenSSL reads them itself, and would wait for a FIFO.
        for file in files:
            if not file.is_dir() and not file.is_file() and file.exists():
                raise InvalidConfiguration(str(file), "", "it is not a regular file")
        return []
    found: list[bytes] = []
    for file in files:
        try:
            found += _certificates(file)
        except InvalidConfiguration:
            # A folder of certificates may hold other files too.
            if not place.is_dir():
                raise
    return found


def _read(file: Path) -> bytes:
    try:
        content, _ = read_regular(file, _MAX_BUNDLE)
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise InvalidConfiguration(str(file), "", reason) from error
    if len(content) > _MAX_BUNDLE:
        raise InvalidConfiguration(str(file), "", f"it is larger than {_MAX_BUNDLE} bytes")
    return content


def _certificates(file: Path) -> list[bytes]:
    content = _read(file)
    blocks: list[bytes] = _BLOCK.findall(content)
    if not blocks:
        raise InvalidConfiguration(str(file), "", "it holds no certificate in PEM form")
    for block in blocks:
        _check(file, block)
    return blocks


def _check(file: Path, block: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=block.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise InvalidConfiguration(str(file), "", "a certificate in it is damaged") from error
